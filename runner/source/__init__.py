"""Where code comes from: Git, and what Git says when it fails."""
