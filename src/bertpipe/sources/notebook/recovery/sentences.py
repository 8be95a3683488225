"""Texts as the notebook cut them: words of `basic_english`, sentences of words."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from bertpipe.data.tokenization.tokenizer import BASIC_ENGLISH
from bertpipe.sources.notebook.sentence_pairs import SENTENCE_ENDS, notebook_sentences

_END_CODES = np.arange(len(SENTENCE_ENDS), dtype=np.int32)
"""Codes of the words that end a sentence: they are the first words of every lexicon."""


class Lexicon(dict[str, int]):
    """Numbers words in the order in which they are first met; such a number is a word's code."""

    def __init__(self) -> None:
        super().__init__()
        self.encode(" ".join(SENTENCE_ENDS))

    def __missing__(self, word: str) -> int:
        """Return the code of a new word."""
        code = self[word] = len(self)
        return code

    def encode(self, text: str) -> list[int]:
        """Return the code of each word of a text."""
        lowered = text.lower()
        for old, new in BASIC_ENGLISH:
            lowered = lowered.replace(old, new)
        return list(map(self.__getitem__, lowered.split()))

    def words(self) -> list[str]:
        """Return the words in the order of their codes."""
        return list(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceTable:
    """The sentences of some texts; sentence s is `codes[starts[s]:starts[s] + lengths[s]]`."""

    codes: NDArray[np.int32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    text: NDArray[np.int64]
    """Number of the text that each sentence belongs to; ascending."""


def sentence_table(texts: Sequence[str], lexicon: Lexicon) -> SentenceTable:
    """Return the sentences of texts."""
    encoded = [lexicon.encode(text) for text in texts]
    counts = np.array([len(codes) for codes in encoded], dtype=np.int64)
    codes = np.fromiter(chain.from_iterable(encoded), dtype=np.int32, count=int(counts.sum()))
    starts, ends, text = notebook_sentences(codes, np.concatenate([[0], np.cumsum(counts)]), _END_CODES)
    return SentenceTable(codes=codes, starts=starts, lengths=ends - starts, text=text)
