"""Makes environments: what they are made of, how, and why it did not work."""
