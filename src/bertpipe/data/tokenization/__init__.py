"""Text to ids, and ids to text."""

from bertpipe.data.tokenization.tokenizer import load_tokenizer

__all__ = ["load_tokenizer"]
