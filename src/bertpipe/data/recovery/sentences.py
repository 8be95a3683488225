"""Texts as the notebook cut them: words of `basic_english`, sentences of words."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from bertpipe.data.tokenization import BASIC_ENGLISH

_SENTENCE_ENDS = (".", "?", "!")
_SHORTEST = 3
"""Words of the shortest sentence that is kept, its end included."""


class Lexicon:
    """Numbers words in the order in which they are first met; such a number is a word's code."""

    def __init__(self) -> None:
        self._codes: defaultdict[str, int] = defaultdict()
        self._codes.default_factory = self._codes.__len__
        self.encode(" ".join(_SENTENCE_ENDS))  # they have the first codes

    def __len__(self) -> int:
        """Return how many words have been met."""
        return len(self._codes)

    def encode(self, text: str) -> list[int]:
        """Return the code of each word of a text."""
        lowered = text.lower()
        for old, new in BASIC_ENGLISH:
            lowered = lowered.replace(old, new)
        return list(map(self._codes.__getitem__, lowered.split()))

    def words(self) -> list[str]:
        """Return the words in the order of their codes."""
        return list(self._codes)


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceTable:
    """The sentences of some texts; sentence s is `codes[starts[s]:starts[s] + lengths[s]]`."""

    codes: NDArray[np.int32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    text: NDArray[np.int64]
    """Number of the text that each sentence belongs to; rising."""


def sentence_table(texts: Sequence[str], lexicon: Lexicon) -> SentenceTable:
    """Return the sentences of texts: each ends with `.`, `?` or `!` or with its text.

    A sentence of two words or fewer is left out, unless the text ends without an end of sentence: its last words are
    kept however few they are.
    """
    encoded = [lexicon.encode(text) for text in texts]
    counts = np.array([len(codes) for codes in encoded], dtype=np.int64)
    codes = np.fromiter(chain.from_iterable(encoded), dtype=np.int32, count=int(counts.sum()))
    text_ends = np.cumsum(counts)
    closes = codes < len(_SENTENCE_ENDS)
    is_last = closes.copy()
    is_last[text_ends[counts > 0] - 1] = True
    ends = np.flatnonzero(is_last)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    lengths = ends - starts + 1
    kept = (lengths >= _SHORTEST) | ~closes[ends]
    return SentenceTable(
        codes=codes,
        starts=starts[kept],
        lengths=lengths[kept],
        text=np.searchsorted(text_ends, starts[kept], side="right"),
    )
