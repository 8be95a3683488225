"""Questions to a model, and its answers."""
