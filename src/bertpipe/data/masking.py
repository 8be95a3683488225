"""Masked-language modelling: which tokens are predicted, and what the model reads in their place.

`data.device.masking` makes the same decisions on a GPU.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.errors import ParamsError
from bertpipe.core.params import MaskingParams, MaskingUnit
from bertpipe.core.randomness import below, uniform
from bertpipe.data.tokenization.tokenizer import Tokenizer

CHOICE, CORRUPTION, WORD = range(10, 13)  # streams of randomness, one per kind of choice


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanDistribution:
    """The distribution of span lengths: one number drawn for a word decides how many words a span from there covers.

    Both arrays have one element for each possible length, in falling order.
    """

    inner: NDArray[np.float64]
    """Element n: the probability that a span starts at a word and covers more than n words."""
    opening: NDArray[np.float64]
    """The same for the first word of a text, where spans that would have started before it count too."""

    @classmethod
    def of(cls, *, rate: float, p: float, longest: int) -> "SpanDistribution":
        """Return the distribution with which spans cover each word of a text with probability `rate`.

        A span of n words has a probability proportional to (1 - p)^(n - 1), n from 1 to `longest`: the truncated
        geometric distribution (Joshi et al. 2020, SpanBERT, section 3.1). Spans start independently and with equal
        probability at every word, and may overlap; a word that no span reaches is not covered.

        Args:
            rate: share of the words that is covered, in (0, 1).
            p: parameter of the geometric distribution, in (0, 1].
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

        `draws` has a number in [0, 1) for each word. `is_word` is false for special tokens.

        A run is the union of spans that overlap or touch. It ends before a token that is not a word and at the end of
        its row; the word after that opens a text.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Corruption:
    """Masked token ids; each array has the shape of the tokens."""

    chosen: NDArray[np.bool_]
    """Which positions the model predicts."""
    inputs: NDArray[np.int32]
    """What the model reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Masking:
    """The masking rule for one vocabulary.

    `unit` says what is chosen together, and what shares a fate: to become `[MASK]`, a random word, or to stay.

    - `token`: each token is chosen, and has its fate, independently (Devlin et al. 2018, section 3.1, task 1).
    - `word`: the pieces of a word are chosen together; each has its own fate, as in BERT's whole-word masking, which
      changes only the choice (`create_pretraining_data.py` in its repository, 2019).
    - `span`: several whole words in a row are chosen together and share their fate; tokens that become random words
      draw one each (Joshi et al. 2020, SpanBERT, section 3.1). Spans that overlap or touch are one, whose fate is the
      number drawn for its first token. A span ends before a special token: after `[SEP]` there may be another
      document, and `[UNK]` cannot be predicted. Between two special tokens is a text of its own: spans reach into it
      as if it had started earlier, so its first words are chosen as often as others.

    A word is a token and the pieces that continue it (`Tokenizer.continues_word`). A piece at a row's start, after a
    special token or after the end of a word starts a word.
    """

    unit: MaskingUnit
    rate: float
    mask_share: float
    random_share: float
    mask_id: int
    is_special: NDArray[np.bool_]
    """Ids that are never masked and never used as a random word; shape [vocab]."""
    continues_word: NDArray[np.bool_]
    """Ids of the pieces that belong to the same word as the token before them; shape [vocab]."""
    ends_word: NDArray[np.bool_]
    """Ids after which a word begins, special tokens among them; shape [vocab]."""
    words: NDArray[np.int32]
    """Ids of random words."""
    spans: SpanDistribution
    """For `span`."""

    @classmethod
    def of(cls, params: MaskingParams, tokenizer: Tokenizer) -> "Masking":
        """Return the rule of `params` for a tokenizer's vocabulary.

        Raises:
            ParamsError: words are masked, and the vocabulary does not mark them.
        """
        if params.unit != "token" and not tokenizer.pieces.marks_words:
            raise ParamsError(
                f"masking.unit is {params.unit}, and the tokens of this tokenizer do not show where words begin (they "
                f"have no mark such as ##, Ġ, ▁ or </w>): set masking.unit to token, or take another tokenizer"
            )
        return cls(
            unit=params.unit,
            rate=params.rate,
            mask_share=params.mask_share,
            random_share=params.random_share,
            mask_id=tokenizer.mask_id,
            is_special=tokenizer.is_special,
            continues_word=tokenizer.continues_word,
            ends_word=tokenizer.ends_word,
            words=np.flatnonzero(~tokenizer.is_special).astype(np.int32),
            spans=SpanDistribution.of(rate=params.rate, p=params.span_p, longest=params.span_max),
        )

    def corrupt(
        self,
        token_ids: NDArray[np.int32],
        rows: NDArray[np.int64],
        positions: NDArray[np.int64],
        *,
        seed: int,
        epoch: int,
    ) -> Corruption:
        """Choose and corrupt tokens, each word with probability `rate`, and say which.

        Every decision about a token is a pure function of (seed, epoch, row, position), and where the unit is not
        `token`, of the tokens of its row.

        Args:
            token_ids: true tokens, any shape; complete rows, row after row, unless the unit is `token`.
            rows: identity of each token's row, broadcastable to that shape.
            positions: position of each token in its row, likewise.
            seed: seed of all decisions.
            epoch: number of the epoch, which has masks of its own.
        """
        draws = np.broadcast_to(uniform(seed, CHOICE, epoch, rows, positions), token_ids.shape)
        chosen, since_first = self._choose(token_ids, np.broadcast_to(positions == 0, token_ids.shape), draws)
        at = np.nonzero(chosen)  # only these need the rest
        row, position = (np.broadcast_to(counter, token_ids.shape)[at] for counter in (rows, positions))
        fate = uniform(seed, CORRUPTION, epoch, row, position - since_first)
        drawn = self.words[below(len(self.words), seed, WORD, epoch, row, position)]
        inputs = token_ids.copy()
        drawn_or_true = np.where(fate < self.mask_share + self.random_share, drawn, token_ids[at])
        inputs[at] = np.where(fate < self.mask_share, self.mask_id, drawn_or_true)
        return Corruption(chosen=chosen, inputs=inputs)

    def _choose(
        self, token_ids: NDArray[np.int32], opens_row: NDArray[np.bool_], draws: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.intp] | int]:
        """Return which tokens are chosen, and how far each chosen one is from the one whose fate it shares."""
        special = self.is_special[token_ids]
        if self.unit == "token":
            return (draws < self.rate) & ~special, 0
        special, opens_row, draws = special.reshape(-1), opens_row.reshape(-1), draws.reshape(-1)
        begins = self._word_begins(token_ids.reshape(-1), opens_row)
        first = begins[:-1]
        if self.unit == "word":
            chosen = np.repeat((draws[first] < self.rate) & ~special[first], np.diff(begins))
            return chosen.reshape(token_ids.shape), 0
        first_word, end_word = self.spans.runs(draws[first], ~special[first], opens_row[first])
        counts = begins[end_word] - begins[first_word]
        since_first = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        chosen = np.zeros(token_ids.size, dtype=np.bool_)
        chosen[np.repeat(begins[first_word], counts) + since_first] = True
        return chosen.reshape(token_ids.shape), since_first

    def _word_begins(self, token_ids: NDArray[np.int32], opens_row: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Return the index of each word's first token, then the number of tokens; a special token counts as a word."""
        continues = self.continues_word[token_ids] & ~opens_row
        continues[1:] &= ~self.ends_word[token_ids[:-1]]
        return np.append(np.flatnonzero(~continues), len(token_ids))


def _start_probability(rate: float, longer_than: list[float]) -> float:
    """Return, by bisection, the probability of a span's start with which spans cover the share `rate` of the words."""
    low, high = 0.0, rate  # spans of one word start with probability `rate`, longer ones less often
    while low < (middle := (low + high) / 2) < high:
        covered = 1 - math.prod(1 - middle * share for share in longer_than)
        low, high = (middle, high) if covered < rate else (low, middle)
    return high


def _elements_above(falling: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return how many elements of `falling` are above each value."""
    return len(falling) - np.searchsorted(falling[::-1], values, side="right")
