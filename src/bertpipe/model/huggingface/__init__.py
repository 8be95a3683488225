"""Hugging Face models: their files, their tensors, and reading them."""
