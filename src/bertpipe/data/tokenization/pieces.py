"""How a vocabulary writes text down: the true bytes of each token, and where the words of the tokens begin.

WordPiece marks a piece that continues a word (`##`), byte-level and SentencePiece vocabularies mark the space before a
word (`Ġ`, `▁`), and some BPE vocabularies mark the end of a word (`</w>`).
"""

import json
import re
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import tokenizers

_BYTE_TOKEN = re.compile("<0x([0-9A-F]{2})>")
"""A token of one byte, where a SentencePiece vocabulary falls back to bytes."""
_CHINESE = re.compile("[㐀-鿿豈-﫿\U00020000-\U0003ffff]")
_ASCII_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_CONTINUATION_BYTES = range(0x80, 0xC0)
_LONGEST_CHARACTER = 4
"""Bytes in UTF-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """What the tokens of a tokenizer stand for."""

    prefix: str
    """Of a token that continues a word."""
    suffix: str
    """Of a token that ends a word."""
    space: str | None
    """What stands for a space, in a SentencePiece vocabulary."""
    is_bytes: bool
    """Whether each character of a token stands for a byte."""
    is_words: bool
    """Whether each token is a word."""
    literal: frozenset[str]
    """Added tokens, which stand for themselves."""

    @classmethod
    def of(cls, backend: "tokenizers.Tokenizer") -> "Pieces":
        """Return how a tokenizer's vocabulary writes text down."""
        content = json.loads(backend.to_str())
        model = content.pop("model")
        steps = [step for name in ("normalizer", "pre_tokenizer", "decoder") for step in _steps(content[name])]
        spaces = [step["replacement"] for step in steps if step["type"] == "Metaspace"]
        spaces += [
            step["content"] for step in steps if step["type"] == "Replace" and step["pattern"] == {"String": " "}
        ]
        return cls(
            prefix=model.get("continuing_subword_prefix") or "",
            suffix=model.get("end_of_word_suffix") or "",
            space=next((space for space in spaces if space.strip()), None),
            is_bytes=any(step["type"] == "ByteLevel" for step in steps),
            is_words=model["type"] == "WordLevel",
            literal=frozenset(token["content"] for token in content["added_tokens"]),
        )

    @property
    def marks_words(self) -> bool:
        """Whether the tokens alone tell which of them belong to one word."""
        return bool(self.prefix or self.suffix or self.space or self.is_bytes or self.is_words)

    @property
    def marks_spaces(self) -> bool:
        """Whether a token has the space before it."""
        return not (self.prefix or self.is_words) and (self.is_bytes or self.space is not None)

    def text(self, token: str) -> bytes:
        """Return the bytes that a token stands for, without the marks of the vocabulary."""
        if token in self.literal:
            return token.encode("utf-8")
        token = token.removeprefix(self.prefix).removesuffix(self.suffix)
        if self.is_bytes and all(character in _BYTES for character in token):
            return bytes(_BYTES[character] for character in token)
        if self.space is not None:
            if byte := _BYTE_TOKEN.fullmatch(token):
                return bytes([int(byte[1], 16)])
            token = token.replace(self.space, " ")
        return token.encode("utf-8")

    def joins_text_before(self, token: str) -> bool:
        """Return whether a token's text directly follows the text before it, whatever white space that ends in."""
        return token.startswith(self.prefix) if self.prefix else self.marks_spaces and token not in self.literal

    def continues_word(self, token: str) -> bool:
        """Return whether a token belongs to the same word as the one before it, unless that one ends a word."""
        if self.prefix:
            return token.startswith(self.prefix)
        if self.suffix:
            return True
        if not self.marks_spaces or token in self.literal:
            return False
        first = _first_character(self.text(token))
        return first is None or not _stands_alone(first)

    def ends_word(self, token: str) -> bool:
        """Return whether the token after this one begins a word."""
        if self.suffix:
            return token.endswith(self.suffix)
        if not self.marks_spaces:
            return False
        last = _last_character(self.text(token))
        return last is not None and not last.isspace() and _stands_alone(last)


def piece_tables(
    pieces: Pieces, vocabulary: dict[str, int], size: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the number of bytes of each id, whether it continues a word, and whether it ends one; each [size]."""
    sizes = np.zeros(size, dtype=np.int64)
    continues, ends = np.zeros(size, dtype=np.bool_), np.zeros(size, dtype=np.bool_)
    for token, token_id in vocabulary.items():
        sizes[token_id] = len(pieces.text(token))
        continues[token_id], ends[token_id] = pieces.continues_word(token), pieces.ends_word(token)
    return sizes, continues, ends


def _steps(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the steps of a normalizer, a pre-tokenizer or a decoder, in whatever sequence they stand."""
    if part is None:
        return []
    inner = [step for name in ("normalizers", "pretokenizers", "decoders") for step in part.get(name, ())]
    return [each for step in inner for each in _steps(step)] if inner else [part]


def _first_character(text: bytes) -> str | None:
    """Return the first character; None if the text begins within one.

    Of a character that is cut off, the last one with the same bytes: it is Chinese where most of them are.
    """
    if not text or text[0] in _CONTINUATION_BYTES:
        return None
    for end in range(1, _LONGEST_CHARACTER + 1):
        with suppress(UnicodeDecodeError):
            return text[:end].decode("utf-8")
    return (text[:_LONGEST_CHARACTER] + 3 * b"\xbf").decode("utf-8", errors="replace")[0]


def _last_character(text: bytes) -> str | None:
    """Return the last character; None if it is cut off at either end."""
    for start in range(-1, -_LONGEST_CHARACTER - 1, -1):
        with suppress(UnicodeDecodeError):
            return text[start:].decode("utf-8")[-1:] or None
    return None


def _stands_alone(character: str) -> bool:
    """Return whether a character is not part of a word, as in BERT: white space, punctuation, a Chinese character."""
    return (
        character.isspace()
        or character in _ASCII_PUNCTUATION
        or unicodedata.category(character).startswith("P")
        or _CHINESE.match(character) is not None
    )


def _byte_alphabet() -> dict[str, int]:
    """Return the byte that each character of a byte-level token stands for (GPT-2's `bytes_to_unicode`)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(0x100) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(0x100 + place): byte for place, byte in enumerate(hidden)}


_BYTES = _byte_alphabet()
