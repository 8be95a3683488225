"""Many texts to token ids, each word tokenized once; and how two sentences are truncated to fit in a row."""

import json
import re
from array import array
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer, word_level_tokenizer

_WORDS_KEPT = 1 << 17
"""Words whose ids are kept; a further one clears the cache."""
_LONGEST_WORD_KEPT = 64
"""Characters of the longest word whose ids are kept."""
# Python splits words at these; BERT's normalizer removes them as control characters.
BERT_JOINS_AT = re.compile("[\x0b\x0c\x1c-\x1f\x85]")
# `basic_english` makes white space of `<br />` and removes `"`, so that the tag is found across white space.
WORDS_JOIN_AT = re.compile("<")
_ASCII_PIECES = re.compile("[0-9A-Za-z]+|[^0-9A-Za-z]")


class Encoder:
    """Encodes texts as `Tokenizer.encode` does, except that `[MASK]` and other special tokens in a text are plain text.

    With BERT's or `basic_english`'s preparation of text, a word's ids do not depend on what is beyond its white space;
    such a tokenizer is called once for each word. Any other tokenizer gets all text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        backend = type(tokenizer.backend).from_str(tokenizer.backend.to_str())  # a copy, for the settings below
        backend.encode_special_tokens = True
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._unknown_id = tokenizer.unknown_id
        self._is_hidden = tokenizer.is_special.copy()
        self._is_hidden[tokenizer.unknown_id] = False
        kind = _kind(json.loads(backend.to_str()))
        self._joins_at = {"bert": BERT_JOINS_AT, "words": WORDS_JOIN_AT}.get(kind)
        self._longest_word = getattr(backend.model, "max_input_chars_per_word", None)
        pieces = _Cache(self._tokenize_piece)
        self._words = _Cache(lambda word: _by_pieces(word, pieces) if kind == "bert" else self._tokenize(word))

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return all texts' ids, text after text, without `[CLS]` and `[SEP]`; and the number of tokens of each."""
        if self._joins_at is None:
            ids = [encoding.ids for encoding in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]
            counts = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
            return self._real(np.fromiter(chain.from_iterable(ids), dtype=np.int32)), counts
        packed = [self._packed(text) for text in texts]
        counts = np.fromiter(map(len, packed), dtype=np.int64, count=len(packed)) // _ID_BYTES
        return self._real(np.frombuffer(b"".join(packed), dtype=np.int32)), counts

    def _packed(self, text: str) -> bytes:
        assert self._joins_at is not None
        if self._joins_at.search(text):
            return self._tokenize(text)
        return b"".join(map(self._words.__getitem__, text.split()))

    def _tokenize(self, text: str) -> bytes:
        return array("i", self._backend.encode(text, add_special_tokens=False).ids).tobytes()

    def _tokenize_piece(self, piece: str) -> bytes:
        """Return the ids of what BERT looks for pieces in, or of a whole word that is not ASCII."""
        if self._longest_word and len(piece) > self._longest_word and piece.isascii() and piece.isalnum():
            return array("i", [self._unknown_id]).tobytes()  # a picture in hexadecimal digits may have millions
        return self._tokenize(piece)

    def _real(self, token_ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the ids, with `[UNK]` in place of a special token that the text itself spells."""
        return np.where(self._is_hidden[token_ids], np.int32(self._unknown_id), token_ids)


_ID_BYTES = 4


class _Cache(dict[str, bytes]):
    """A cache of each word's packed ids."""

    def __init__(self, make: Callable[[str], bytes]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, word: str) -> bytes:
        made = self._make(word)
        if len(word) <= _LONGEST_WORD_KEPT:
            if len(self) >= _WORDS_KEPT:
                self.clear()
            self[word] = made
        return made


def _by_pieces(word: str, pieces: _Cache) -> bytes:
    """Return a word's ids; an ASCII word is first split, as BERT does it, at each punctuation mark."""
    if not (word.isascii() and word.isprintable()):
        return pieces[word]
    return b"".join(map(pieces.__getitem__, _ASCII_PIECES.findall(word)))


def _kind(content: dict[str, Any]) -> str:
    """Return how a `tokenizer.json` splits text: as `bert`, as our `words`, or in an `other` way."""
    if any(not token["special"] for token in content["added_tokens"]):
        return "other"
    if content["model"]["type"] not in {"WordPiece", "WordLevel"}:
        return "other"
    parts = {name: content[name] for name in ("normalizer", "pre_tokenizer")}
    if [part and part["type"] for part in parts.values()] == ["BertNormalizer", "BertPreTokenizer"]:
        return "bert"
    for composed in (False, True):
        ours = json.loads(word_level_tokenizer(SPECIAL_TOKENS, composed=composed).backend.to_str())
        if all(ours[name] == part for name, part in parts.items()):
            return "words"
    return "other"


def truncate_longest_first(
    first: NDArray[np.int64] | int, second: NDArray[np.int64] | int, room: NDArray[np.int64] | int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many tokens of A and B are kept if the longer, or B, is cut until both fit; [pairs] or numbers."""
    fits = np.asarray(first) + second <= room
    first_kept = np.where(fits, first, np.minimum(first, np.maximum(np.subtract(room, second), (np.add(room, 1)) // 2)))
    return first_kept, np.where(fits, second, room - first_kept)
