"""An app's YAML: its grammar, its model, and what Streamlit is told."""
