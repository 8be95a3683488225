"""Spans of words for masking: how often they start, how far they reach, and which words they cover together."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanLaw:
    """How many words a span covers from a word on, decided by one number drawn for that word.

    Both arrays have one element for each number of words that a span may have, and fall from one to the next.
    """

    inner: NDArray[np.float64]
    """Element n: the probability that a span starts at a word and covers more than n words from there on."""
    opening: NDArray[np.float64]
    """The same for the first word of a text, where the spans count too that would have begun before it."""

    @classmethod
    def of(cls, *, rate: float, p: float, longest: int) -> "SpanLaw":
        """Return the law under which spans cover each word of a text with probability `rate`.

        A span of n words has a probability in proportion to (1 - p)^(n - 1), n from 1 to `longest`: the geometric
        distribution, cut off (Joshi et al. 2020, SpanBERT, section 3.1). Spans start at every word alike, and overlap;
        a word stays free if of the spans that could start at it or before it none reaches it, each start on its own.

        Args:
            rate: share of the words that is covered, above 0 and below 1.
            p: parameter of the geometric distribution, above 0 and at most 1.
            longest: most words of a span.
        """
        weights = [(1 - p) ** n for n in range(longest)]
        sums = list(itertools.accumulate(reversed(weights)))[::-1]
        longer_than = [tail / sums[0] for tail in sums]
        start = _start_probability(rate, longer_than)
        inner = [start * share for share in longer_than]
        free = itertools.accumulate((1 - share for share in reversed(inner)), lambda product, share: product * share)
        return cls(inner=np.array(inner), opening=1 - np.array(list(free)[::-1]))

    def runs(
        self, draws: NDArray[np.float64], is_word: NDArray[np.bool_], opens_row: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the index of the first word of each covered run, and the index after its last; each of shape [runs].

        A run is what spans cover that overlap or touch. It ends before a token that is no word and at the end of its
        row; the word after that opens a text.

        Args:
            draws: a number in [0, 1) for each word; shape [words].
            is_word: whether it is a word, and not a special token in the place of one; shape [words].
            opens_row: whether it is the first of its row; shape [words].
        """
        begin = np.flatnonzero(is_word & (draws < self.opening[0]))
        opens = opens_row[begin] | ~is_word[begin - 1]
        words = np.where(opens, _elements_above(self.opening, draws[begin]), _elements_above(self.inner, draws[begin]))
        begin, opens, words = begin[words > 0], opens[words > 0], words[words > 0]
        borders = np.append(np.flatnonzero(~is_word | opens_row), len(draws))
        end = np.minimum(begin + words, borders[np.searchsorted(borders, begin, side="right")])
        furthest = np.maximum.accumulate(end)
        is_new = opens | (begin > np.concatenate([[-1], furthest])[:-1])
        is_last = np.append(is_new, True)[1:]
        return begin[is_new], furthest[is_last]


def _start_probability(rate: float, longer_than: list[float]) -> float:
    """Return how probable a span's start at a word is where spans cover the share `rate` of the words, by bisection."""
    low, high = 0.0, rate  # spans of one word start with probability `rate`; longer ones have to start more seldom
    while low < (middle := (low + high) / 2) < high:
        covered = 1 - math.prod(1 - middle * share for share in longer_than)
        low, high = (middle, high) if covered < rate else (low, middle)
    return high


def _elements_above(falling: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return how many elements of `falling` are above each value."""
    return len(falling) - np.searchsorted(falling[::-1], values, side="right")
