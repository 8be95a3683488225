"""The notebook's recipe: its sentences, its draws, and the label noise that is part of it."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertpipe.sources.text import notebook_pairs
from bertpipe.sources.text.notebook_pairs import notebook_segments
from bertpipe.sources.text.segments import Segments

END = 9
"""The token that ends a sentence."""


def drawn(documents: Sequence[Sequence[int]], *, seed: int = 1, first_number: int = 0) -> Segments:
    return notebook_segments(
        np.array([token for document in documents for token in document], dtype=np.int32),
        np.cumsum([0, *map(len, documents)], dtype=np.int64),
        first_number + np.arange(len(documents)),
        sentence_ends=np.array([END], dtype=np.int32),
        max_length=23,
        seed=seed,
    )


def stretches(pairs: Segments) -> list[tuple[tuple[int, int], tuple[int, int], bool]]:
    first = zip(pairs.first_start.tolist(), pairs.first_end.tolist(), strict=True)
    second = zip(pairs.second_start.tolist(), pairs.second_end.tolist(), strict=True)
    return list(zip(first, second, pairs.is_next.tolist(), strict=True))


def sentences(count: int) -> list[int]:
    """Return a document of sentences of three tokens, two words and an end."""
    return [1, 2, END] * count


def test_a_sentence_needs_three_tokens_and_a_tail_only_one() -> None:
    # 1 2 . | 3 . | . | 4 5 6 . | 7
    document = [1, 2, END, 3, END, END, 4, 5, 6, END, 7]
    found = {stretch for seed in range(20) for *pair, _ in stretches(drawn([document], seed=seed)) for stretch in pair}
    assert found == {(0, 3), (6, 10), (10, 11)}


def test_a_document_that_ends_with_an_end_has_no_tail() -> None:
    found = {
        stretch for seed in range(20) for *pair, _ in stretches(drawn([sentences(2)], seed=seed)) for stretch in pair
    }
    assert found == {(0, 3), (3, 6)}


def test_sentences_do_not_cross_documents() -> None:
    # The first document ends without an end: what follows in the next is a sentence of its own.
    found = stretches(drawn([[1, 2, END, 3], [4, 5, END, 6, 7, END]], first_number=7))
    assert all({*first, *second} <= {0, 3, 4} or {*first, *second} <= {4, 7, 10} for first, second, _ in found)
    assert drawn([[1, 2, END, 3], [4, 5, END, 6, 7, END]], first_number=7).document.tolist() == [7, 8]


def test_a_true_pair_is_a_sentence_and_the_one_after_it() -> None:
    for seed in range(30):
        for first, second, is_next in stretches(drawn([sentences(7)], seed=seed)):
            assert first != second
            if is_next:
                assert second[0] == first[1]


def test_a_false_pair_may_follow_all_the_same() -> None:
    pairs = [pair for seed in range(100) for pair in stretches(drawn([sentences(4)], seed=seed))]
    false = [(first, second) for first, second, is_next in pairs if not is_next]
    assert any(second[0] == first[1] for first, second in false)
    assert any(first[0] == second[1] for first, second in false)
    assert any(abs(first[0] - second[0]) > 3 for first, second in false)


def test_of_two_sentences_a_false_pair_takes_either_first() -> None:
    found = Counter(pair for seed in range(200) for pair in stretches(drawn([sentences(2)], seed=seed)))
    assert found.keys() == {((0, 3), (3, 6), True), ((0, 3), (3, 6), False), ((3, 6), (0, 3), False)}
    assert abs(found[(0, 3), (3, 6), True] - 100) < 4 * math.sqrt(50)


def test_the_second_of_a_true_pair_may_have_been_used_before() -> None:
    # Of five sentences the true pair of the second step sometimes takes one that the first has taken.
    reused = 0
    for seed in range(300):
        pairs = stretches(drawn([sentences(5)], seed=seed))
        places = [stretch for first, second, _ in pairs for stretch in (first, second)]
        reused += len(places) != len(set(places))
        assert all(first not in places[: 2 * at] for at, (first, _, _) in enumerate(pairs))
    assert reused > 10


def test_pairs_are_half_true_within_four_deviations() -> None:
    labels = drawn([sentences(8)] * 1000).is_next
    assert len(labels) >= 4000
    assert abs(int(labels.sum()) - len(labels) / 2) < 4 * math.sqrt(len(labels) / 4)


def test_a_sentence_also_ends_where_a_piece_ends() -> None:
    def drawn_of(seed: int) -> Segments:
        return notebook_segments(
            np.array([1, 2, END, 3, 4, 5, END, 6], dtype=np.int32),
            np.array([0, 4, 5, 5, 7, 8]),  # 1 2 . 3 | 4 | | 5 . | 6
            np.array([3, 3, 3, 8, 8]),
            sentence_ends=np.array([END], dtype=np.int32),
            max_length=23,
            seed=seed,
        )

    found = {(number, stretch) for seed in range(30) for number, stretch in owned(drawn_of(seed))}
    assert found == {(3, (0, 3)), (3, (3, 4)), (3, (4, 5))}  # of document 8, "5 ." is too short, and "6" alone


def owned(pairs: Segments) -> list[tuple[int, tuple[int, int]]]:
    numbers = pairs.document.tolist()
    return [(number, each) for number, (a, b, _) in zip(numbers, stretches(pairs), strict=True) for each in (a, b)]


@given(st.integers(0, 700), st.integers(0, 2**32))
def test_draws_are_those_from_a_list_of_what_is_left(count: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    coins, firsts, seconds = chance.random((3, count)).tolist()
    left, expected = list(range(count)), []
    for coin, first_draw, second_draw in zip(coins, firsts, seconds, strict=True):
        if len(left) < 2:
            break
        if coin < 0.5:
            first = left[int(first_draw * (len(left) - 1))]
            second = first + 1
        else:
            first = left[int(first_draw * len(left))]
            second = [each for each in left if each != first][int(second_draw * (len(left) - 1))]
        left = [each for each in left if each not in {first, second}]
        expected.append((first, second, coin < 0.5))
    assert list(notebook_pairs._drawn(count, coins, firsts, seconds)) == expected


@pytest.mark.parametrize("document", [[], [1], [1, 2, END], [END, END], [1, 2, END, 3, END]])
def test_a_document_of_one_sentence_or_none_has_no_pair(document: list[int]) -> None:
    assert len(drawn([document, document]).is_next) == 0


@given(st.lists(st.lists(st.sampled_from([1, 2, END]), max_size=20), max_size=5), st.integers(0, 2**40))
def test_draws_of_a_document_depend_on_its_number_and_the_seed_alone(documents: list[list[int]], seed: int) -> None:
    together = drawn(documents, seed=seed, first_number=4)
    assert set(together.room.tolist()) <= {20}
    at = 0
    for number, document in enumerate(documents):
        alone = drawn([document], seed=seed, first_number=4 + number)
        mine = together.select(np.flatnonzero(together.document == 4 + number))
        assert np.array_equal(alone.first_start + at, mine.first_start)
        assert np.array_equal(alone.second_end + at, mine.second_end)
        assert np.array_equal(alone.identity, mine.identity)
        at += len(document)
