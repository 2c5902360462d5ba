"""`lockgate up`: the small supervisor of the three processes, and the demo that is made with it."""
