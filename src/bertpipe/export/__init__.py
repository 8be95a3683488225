"""A model on its way out: Hugging Face's format, its card, the hub."""
