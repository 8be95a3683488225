"""The law of spans: how long they are, how often they start, and which words they cover together."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bertpipe.data.masking import SpanDistribution

# Spans of one word or two, half as many of two. A word is free if none starts at it, 0.7, and none of two words at the
# word before it, 0.9: spans cover 1 - 0.7 * 0.9 = 0.37 of the words.
BY_HAND = SpanDistribution.of(rate=0.37, p=0.5, longest=2)
NONE, LAST, ONE, TWO = 0.5, 0.35, 0.2, 0.05
"""Draws: for no span, for one that began before the text, for a span of one word, for one of two."""


def runs(draws: list[float], specials: tuple[int, ...] = (), row_starts: tuple[int, ...] = (0,)) -> list[list[int]]:
    """Return the indices of each run of covered words."""
    at = np.arange(len(draws))
    begin, end = BY_HAND.runs(np.array(draws), ~np.isin(at, specials), np.isin(at, row_starts))
    return [list(range(*pair)) for pair in zip(begin.tolist(), end.tolist(), strict=True)]


def test_a_law_worked_by_hand() -> None:
    assert BY_HAND.inner.tolist() == pytest.approx([0.3, 0.1], abs=1e-15)
    assert BY_HAND.opening.tolist() == pytest.approx([0.37, 0.1], abs=1e-15)


@pytest.mark.parametrize(("p", "longest"), [(0.2, 1), (1.0, 3)])
def test_spans_of_one_word_start_with_the_probability_of_a_word(p: float, longest: int) -> None:
    law = SpanDistribution.of(rate=0.15, p=p, longest=longest)
    for shares in (law.inner, law.opening):
        assert shares.tolist() == pytest.approx([0.15, 0.0, 0.0][:longest], abs=1e-15)


@given(st.floats(1e-6, 1 - 1e-12), st.floats(1e-6, 1), st.integers(1, 40))
def test_a_word_anywhere_is_covered_with_the_probability_asked(rate: float, p: float, longest: int) -> None:
    law = SpanDistribution.of(rate=rate, p=p, longest=longest)
    for before in range(longest + 2):  # words of the text before this one
        free = (1 - law.opening[before]) if before < longest else 1.0
        for back in range(min(before, longest)):
            free *= 1 - law.inner[back]
        assert 1 - free == pytest.approx(rate, rel=1e-9, abs=1e-15)


def test_lengths_follow_the_geometric_law_cut_off_and_scaled_up() -> None:
    # SpanBERT's own: p 0.2, at most 10 words, 3.8 on average.
    law = SpanDistribution.of(rate=0.15, p=0.2, longest=10)
    starts, rest = 200_000, 11
    draws = np.full((starts, 1 + rest), 0.999)
    draws[:, 1] = (np.arange(starts) + 0.5) / starts * law.inner[0]  # every start there is, evenly
    opens = np.zeros(draws.shape, dtype=np.bool_)
    opens[:, 0] = True
    begin, end = law.runs(draws.reshape(-1), np.ones(draws.size, dtype=np.bool_), opens.reshape(-1))
    assert np.array_equal(begin, 1 + np.arange(starts) * (1 + rest))
    found = np.bincount(end - begin, minlength=11)[1:] / starts
    expected = np.array([0.8 ** (words - 1) * 0.2 / (1 - 0.8**10) for words in range(1, 11)])
    assert found == pytest.approx(expected, abs=2 / starts)
    assert found @ np.arange(1, 11) == pytest.approx(3.797, abs=1e-3)


def test_a_text_begins_as_if_it_went_on_from_an_earlier_one() -> None:
    # Words that spans cover from a text's first on, against spans drawn one by one at that word and nine before it.
    law = SpanDistribution.of(rate=0.4, p=0.2, longest=10)
    rng, texts = np.random.default_rng(3), 200_000
    covered = np.zeros(texts, dtype=np.int64)
    shares = 0.8 ** np.arange(10) / (0.8 ** np.arange(10)).sum()
    for before in range(10):
        words = rng.choice(np.arange(1, 11), size=texts, p=shares) * (rng.random(texts) < law.inner[0])
        covered = np.maximum(covered, words - before)
    for words, probability in enumerate(law.opening):
        deviation = math.sqrt(probability * (1 - probability) / texts)
        assert abs((covered > words).mean() - probability) < 4 * deviation


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        ([NONE, NONE, NONE], []),
        ([NONE, ONE, NONE, NONE], [[1]]),
        ([NONE, TWO, NONE, NONE], [[1, 2]]),
        ([NONE, TWO, ONE, NONE], [[1, 2]]),  # the second within the first
        ([NONE, TWO, TWO, NONE, NONE], [[1, 2, 3]]),  # they overlap
        ([NONE, ONE, ONE, NONE], [[1, 2]]),  # they touch
        ([NONE, ONE, NONE, TWO, NONE], [[1], [3, 4]]),
        ([NONE, NONE, TWO], [[2]]),  # the row ends
        ([LAST, NONE, NONE], [[0]]),  # the end of a span that began before
        ([NONE, LAST, NONE], []),  # such a draw says nothing elsewhere
        ([LAST, TWO, NONE, NONE], [[0, 1, 2]]),
        ([TWO, NONE, NONE], [[0, 1]]),
    ],
)
def test_runs_worked_by_hand(draws: list[float], expected: list[list[int]]) -> None:
    assert runs(draws) == expected


def test_a_run_ends_before_a_special_token_and_a_text_begins_after_it() -> None:
    draws = [TWO, NONE, TWO, TWO, LAST, LAST, NONE]
    assert runs(draws, specials=(0, 3)) == [[2], [4]]


def test_a_run_ends_with_its_row_even_without_a_special_token() -> None:
    assert runs([NONE, NONE, TWO, LAST, NONE, TWO], row_starts=(0, 3)) == [[2], [3], [5]]


def test_no_draw_reaches_a_length_that_has_no_probability() -> None:
    law = SpanDistribution.of(rate=0.15, p=1.0, longest=3)
    begin, end = law.runs(np.array([0.999, 0.0, 0.999]), np.ones(3, dtype=np.bool_), np.array([True, False, False]))
    assert (begin.tolist(), end.tolist()) == ([1], [2])


def test_no_words_have_no_runs() -> None:
    assert runs([TWO, TWO], specials=(0, 1)) == []


def covered_one_by_one(
    law: SpanDistribution, draws: NDArray[np.float64], is_word: NDArray[np.bool_], opens_row: NDArray[np.bool_]
) -> list[list[int]]:
    """Return the runs as the rules say, word after word."""
    found: list[list[int]] = []
    left, in_run = 0, False
    for at in range(len(draws)):
        opens = bool(opens_row[at]) or not is_word[at - 1]
        if opens or not is_word[at]:
            left, in_run = 0, False
        if is_word[at]:
            left = max(left, sum(draws[at] < share for share in (law.opening if opens else law.inner)))
        if left:
            found = [*found[:-1], [*found[-1], at]] if in_run else [*found, [at]]
        left, in_run = max(left - 1, 0), left > 0
    return found


@given(st.integers(0, 2**32), st.floats(0.01, 0.9), st.floats(0.05, 1.0), st.integers(1, 8), st.integers(1, 60))
def test_runs_are_those_of_the_rules_word_after_word(seed: int, rate: float, p: float, longest: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    draws, is_word, opens_row = rng.random(size), rng.random(size) < 0.85, rng.random(size) < 0.1
    opens_row[0] = True
    law = SpanDistribution.of(rate=rate, p=p, longest=longest)
    begin, end = law.runs(draws, is_word, opens_row)
    expected = covered_one_by_one(law, draws, is_word, opens_row)
    assert [list(range(*pair)) for pair in zip(begin.tolist(), end.tolist(), strict=True)] == expected
