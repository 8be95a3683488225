"""Questions to one model."""
