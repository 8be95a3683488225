"""Text to ids, and ids to text."""

from bertpipe.data.tokenization.tokenizer import Tokenizer, load_tokenizer

__all__ = ["Tokenizer", "load_tokenizer"]
