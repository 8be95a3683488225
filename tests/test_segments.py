"""Pairs of packed segments: what A and B are, and that nothing but their words tells whether B follows A."""

import math
from collections import Counter
from collections.abc import Sequence
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertpipe.sources.text.segments import Segments, Sentences, bert_segments

FRAME = 3


def sentences_of(documents: Sequence[Sequence[Sequence[int]]], first_number: int = 0) -> Sentences:
    """Return documents, given as the token ids of each of their sentences."""
    lines = [(first_number + number, line) for number, lines in enumerate(documents) for line in lines]
    return Sentences(
        token_ids=np.array([token for _, line in lines for token in line], dtype=np.int32),
        offsets=np.cumsum([0, *(len(line) for _, line in lines)], dtype=np.int64),
        document=np.array([number for number, _ in lines], dtype=np.int64),
    )


def lengths_of(documents: int, lengths: Sequence[int]) -> Sentences:
    """Return documents whose tokens tell where they are from: 1000 times the document and the place in it."""
    made = []
    for number in range(documents):
        tokens = iter(range(1000 * number, 1000 * number + sum(lengths)))
        made.append([[next(tokens) for _ in range(length)] for length in lengths])
    return sentences_of(made)


def tokens(sentences: Sentences, pairs: Segments) -> list[tuple[list[int], list[int], bool]]:
    ids = sentences.token_ids.tolist()
    return [
        (ids[a:b], ids[c:d], is_next)
        for a, b, c, d, is_next in zip(
            pairs.first_start.tolist(), pairs.first_end.tolist(), pairs.second_start.tolist(),
            pairs.second_end.tolist(), pairs.is_next.tolist(), strict=True,
        )
    ]  # fmt: skip


def drawn(
    sentences: Sentences, *, max_length: int = 13, short_share: float = 0.0, seed: int = 1
) -> tuple[Segments, int]:
    pairs, left_out = bert_segments(sentences, max_length=max_length, short_share=short_share, seed=seed)
    return pairs, len(left_out)


# Runs of sentences


def test_sentences_are_packed_until_there_is_no_more_room() -> None:
    # Room for 10: 4 + 4 + 4 reach it, then 4 + 4 are what is left; every run in two parts.
    sentences = lengths_of(40, [4, 4, 4, 4, 4])
    pairs, left_out = drawn(sentences)
    assert left_out == 0
    true = [(a, b) for a, b, is_next in tokens(sentences, pairs) if is_next]
    assert Counter(len(a) + len(b) for a, b in true).keys() == {12, 8}
    assert {(a[0] % 1000, len(a)) for a, _ in true} == {(0, 4), (0, 8), (12, 4)}
    assert all(b[0] == a[-1] + 1 for a, b in true)
    assert len(pairs.is_next) == 80


def test_a_single_sentence_at_the_end_joins_the_last_run() -> None:
    sentences = lengths_of(30, [5, 5, 5])
    true = [(a, b) for a, b, is_next in tokens(sentences, drawn(sentences)[0]) if is_next]
    assert {len(a) + len(b) for a, b in true} == {15}


def test_a_run_has_two_sentences_even_if_the_first_fills_the_room() -> None:
    sentences = lengths_of(30, [50, 5])
    true = [(a, b) for a, b, is_next in tokens(sentences, drawn(sentences)[0]) if is_next]
    assert {(len(a), len(b)) for a, b in true} == {(50, 5)}


def test_documents_of_one_sentence_have_no_pair() -> None:
    sentences = sentences_of([[[1, 2]], [[3], [4]], [[5]], [[6], [7]]], first_number=10)
    pairs, _ = drawn(sentences)
    assert pairs.document.tolist() == [11, 13]


def test_nothing_gives_nothing() -> None:
    pairs, left_out = drawn(sentences_of([]))
    assert (len(pairs.is_next), left_out) == (0, 0)


def test_short_pairs_come_at_their_rate_and_of_every_length() -> None:
    sentences = lengths_of(3000, [1] * 10)
    room = drawn(sentences, short_share=0.25)[0].room
    begins = room[np.r_[True, np.diff(drawn(sentences, short_share=0.25)[0].document) > 0]]
    short = int((begins < 10).sum())  # of each document's first run; a tenth of the short ones draw 10
    expected = 3000 * 0.25 * 8 / 9
    assert abs(short - expected) < 4 * math.sqrt(expected)
    assert set(begins.tolist()) == set(range(2, 11))


def test_no_pair_is_short_at_a_rate_of_zero_and_all_are_at_one() -> None:
    sentences = lengths_of(100, [1] * 10)
    assert set(drawn(sentences)[0].room.tolist()) == {10}
    assert len(set(drawn(sentences, short_share=1.0)[0].room.tolist())) == 9


# Foreign B


def test_false_pairs_exchange_their_b_and_nothing_is_lost() -> None:
    sentences = lengths_of(50, [3, 4, 5, 2, 6, 3])
    pairs, left_out = drawn(sentences)
    assert left_out == 0
    own = set(zip(pairs.first_end.tolist(), pairs.document.tolist(), strict=True))
    document = sentences.token_ids[pairs.second_start] // 1000
    for start, home in zip(pairs.second_start.tolist(), document.tolist(), strict=True):
        assert (start, home) in own  # B begins where some A of its document ends
    assert np.array_equal(document == pairs.document, pairs.is_next)


def test_a_b_that_begins_like_the_true_next_is_not_taken() -> None:
    # All documents but the last go on with the sentence [7].
    same = [[[100 + number], [7]] for number in range(9)]
    sentences = sentences_of([*same, [[200], [9]]])
    for seed in range(30):
        for first, second, is_next in tokens(sentences, drawn(sentences, seed=seed)[0]):
            true_next = [9] if first == [200] else [7]
            assert is_next == (second == true_next)


def test_where_no_false_pair_has_another_b_that_of_a_true_pair_is_taken() -> None:
    sentences = sentences_of([[[1], [2]], [[3], [4]]])
    labels = set()
    for seed in range(20):
        pairs, left_out = drawn(sentences, max_length=8, seed=seed)
        assert left_out == 0
        assert [second for _, second, _ in tokens(sentences, pairs)] == [
            [2] if pairs.is_next[0] else [4],
            [4] if pairs.is_next[1] else [2],
        ]
        labels.add(tuple(pairs.is_next.tolist()))
    assert len(labels) == 4


def test_pairs_without_another_b_are_left_out_and_counted() -> None:
    sentences = sentences_of([[[1], [2], [3], [4]], [[5]]])
    for seed in range(20):
        pairs, left_out = drawn(sentences, max_length=8, seed=seed)
        assert pairs.is_next.all()
        assert len(pairs.is_next) + left_out == 1


def varied() -> Sentences:
    """Return documents of 2 to 14 sentences of 1 to 9 tokens, all different."""
    chance = np.random.default_rng(1)
    tokens = iter(range(10**6))
    documents = [
        [[next(tokens) for _ in range(chance.integers(1, 10))] for _ in range(chance.integers(2, 15))]
        for _ in range(2000)
    ]
    return sentences_of(documents)


VARIED = varied()


# Sentences that many documents share


def with_common_ends(documents: int, share: float, *, ends: int = 1, sentences: int = 2) -> Sentences:
    """Return documents of which a share ends with one of a few sentences of 5 tokens, of which each is below 99."""
    chance = np.random.default_rng(2)
    tokens = iter(range(100, 10**7))
    made = [
        [[next(tokens) for _ in range(chance.integers(2, 12))] for _ in range(chance.integers(2, sentences + 1))]
        for _ in range(documents)
    ]
    for lines in made:
        if chance.random() < share:
            lines[-1] = [int(chance.integers(ends))] * 5
    return sentences_of(made)


@pytest.mark.parametrize(
    ("share", "ends", "sentences"), [(0.95, 1, 2), (0.9, 3, 2), (0.3, 1, 2), (0.3, 1, 7), (1.0, 1, 7), (0.95, 90, 2)]
)
def test_a_sentence_of_many_documents_does_not_tell_the_label(share: float, ends: int, sentences: int) -> None:
    documents = with_common_ends(4000, share, ends=ends, sentences=sentences)
    pairs, left_out = drawn(documents, max_length=33)
    assert (left_out > 0) == (share / ends > 0.05)
    token = documents.token_ids[pairs.second_start]
    is_common = token < 9
    for chosen in (is_common, ~is_common):
        if chosen.any():
            off = abs(float(pairs.is_next[chosen].mean()) - 0.5)
            assert off < 4 * math.sqrt(0.25 / chosen.sum())
    texts = Counter(tuple(second) for _, second, is_next in tokens(documents, pairs) if not is_next)
    assert all(count == 1 for second, count in texts.items() if second[0] >= 100)  # each B is given away once
    assert texts.most_common(1)[0][1] < 0.1 * texts.total()
    home = documents.document[np.searchsorted(documents.offsets, pairs.second_start)]
    assert np.array_equal(home == pairs.document, pairs.is_next)


def test_lengths_agree_where_many_documents_end_alike() -> None:
    documents = with_common_ends(6000, 0.3)
    pairs, _ = drawn(documents, max_length=19)
    total = np.minimum(pairs.first_end - pairs.first_start + pairs.second_end - pairs.second_start, pairs.room)
    for low, high in ((0, 8), (8, 12), (12, 16), (16, 17)):
        off, chance = share_of_next((total >= low) & (total < high), pairs)
        assert off < chance, low


def test_the_documents_of_pairs_that_are_left_out_are_told() -> None:
    sentences = sentences_of([[[10 + number], [7]] for number in range(90)] + [[[1], [2]], [[3], [4]]], first_number=5)
    pairs, left_out = bert_segments(sentences, max_length=8, short_share=0.0, seed=1)
    assert sorted([*pairs.document.tolist(), *left_out.tolist()]) == list(range(5, 97))
    assert len(left_out) >= 88


def test_one_large_document_does_not_tell_the_label() -> None:
    tokens = iter(range(10**6))
    book, *letters = ([[next(tokens) for _ in range(5)] for _ in range(count)] for count in (3000, *[4] * 200))
    documents = sentences_of([book, *letters])
    pairs, left_out = drawn(documents, max_length=13)
    is_of_book = documents.document[np.searchsorted(documents.offsets, pairs.second_start)] == 0
    assert left_out > 1000
    for chosen in (is_of_book, ~is_of_book):
        off, chance = share_of_next(chosen, pairs)
        assert off < chance


def test_pairs_that_begin_alike_take_time_in_proportion() -> None:
    def seconds(count: int) -> float:
        documents = with_common_ends(count, 0.45, sentences=7)
        started_at = perf_counter()
        drawn(documents, max_length=33)
        return perf_counter() - started_at

    assert min(seconds(12_000) for _ in range(3)) < 8 * min(seconds(3_000) for _ in range(3))


def share_of_next(chosen: "np.typing.NDArray[np.bool_]", pairs: Segments) -> tuple[float, float]:
    """Return how far the chosen pairs are from one half being next, and four deviations of chance."""
    count = int(chosen.sum())
    assert count > 100
    return abs(float(pairs.is_next[chosen].mean()) - 0.5), 4 * math.sqrt(0.25 / count)


def test_half_of_the_pairs_are_next_within_four_deviations() -> None:
    pairs, _ = drawn(VARIED, max_length=33, short_share=0.1)
    off, chance = share_of_next(np.ones(len(pairs.is_next), dtype=np.bool_), pairs)
    assert off < chance


@pytest.mark.parametrize("what", ["place of B", "length of B", "length of A", "length of both", "sentences after B"])
def test_neither_place_nor_length_tells_the_label(what: str) -> None:
    pairs, _ = drawn(VARIED, max_length=53, short_share=0.1)
    first, second = pairs.first_end - pairs.first_start, pairs.second_end - pairs.second_start
    begin, end = (np.searchsorted(VARIED.offsets, offset) for offset in (pairs.second_start, pairs.second_end))
    values = {
        "place of B": VARIED.place[begin],
        "length of B": second,
        "length of A": first,
        "length of both": np.minimum(first + second, pairs.room) // 4,
        "sentences after B": VARIED.bounds[1:][VARIED.document[begin]] - end,
    }[what]
    common = [value for value, count in Counter(values.tolist()).items() if count > 100]
    assert len(common) > 2
    for value in common:
        off, chance = share_of_next(values == value, pairs)
        assert off < chance, value
    assert (VARIED.place[begin] > 0).all()  # a document's first sentence is never B


def test_a_full_row_takes_a_b_that_fills_it_but_for_the_longest() -> None:
    # Of every document A and B have 10 tokens together, which is all the room there is.
    tokens = iter(range(10**4))
    lengths = [(10 - second, second) for second in (2, 4, 6, 8)] * 3
    documents = [[[next(tokens) for _ in range(length)] for length in pair] for pair in lengths]
    for seed in range(30):
        pairs, _ = drawn(sentences_of(documents), seed=seed)
        total = pairs.first_end - pairs.first_start + pairs.second_end - pairs.second_start
        assert (total < 10).sum() <= 1


def test_a_row_that_is_not_full_takes_a_longer_and_a_shorter_b_alike() -> None:
    tokens = iter(range(10**4))
    documents = [[[next(tokens)], [next(tokens) for _ in range(length)]] for length in range(1, 31)]
    sentences = sentences_of(documents)
    differences = []
    for seed in range(40):
        pairs, _ = drawn(sentences, max_length=64, seed=seed)
        difference = pairs.second_end - pairs.second_start - (pairs.document + 1)
        differences += difference[~pairs.is_next].tolist()
    longer = sum(difference > 0 for difference in differences)
    assert 0 not in differences
    assert abs(longer - len(differences) / 2) < 4 * math.sqrt(len(differences) / 4)


def test_another_seed_gives_other_pairs() -> None:
    one, other = (drawn(VARIED, seed=seed)[0] for seed in (1, 2))
    assert one.is_next.tolist() != other.is_next.tolist()


@settings(max_examples=150)
@given(
    st.lists(st.lists(st.lists(st.integers(5, 7), min_size=1, max_size=6), max_size=6), max_size=7),
    st.integers(8, 16),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.integers(0, 2**40),
)
def test_what_holds_for_all_documents(
    documents: list[list[list[int]]], max_length: int, short_share: float, seed: int
) -> None:
    sentences = sentences_of(documents, first_number=3)
    pairs, left_out = drawn(sentences, max_length=max_length, short_share=short_share, seed=seed)
    offsets = sentences.offsets.tolist()
    home = dict(zip(offsets, sentences.document.tolist(), strict=False))
    openings = {
        offsets[at]: sentences.token_ids[offsets[at] : offsets[at + 1]].tolist() for at in range(len(offsets) - 1)
    }
    for at in range(len(pairs.is_next)):
        first, after = int(pairs.first_start[at]), int(pairs.first_end[at])
        second, end = int(pairs.second_start[at]), int(pairs.second_end[at])
        # Whole sentences, at least one each, A and B within one document each.
        assert first < after
        assert second < end
        assert {first, after, second, end} <= set(offsets)
        assert home[first] == home[after] == pairs.document[at]
        assert len({home[offset] for offset in offsets if second <= offset < end}) == 1
        assert (second == after) == bool(pairs.is_next[at])
        if not pairs.is_next[at]:
            assert home[second] != pairs.document[at]
            assert openings[second] != openings[after]
        assert 2 <= pairs.room[at] <= max_length - FRAME
    # All sentences of documents with two or more are in some pair's run.
    assert len(np.unique(pairs.identity)) == len(pairs.identity)
    assert set(pairs.document.tolist()) <= {3 + n for n, lines in enumerate(documents) if len(lines) > 1}
    if not left_out:
        assert set(pairs.document.tolist()) == {3 + n for n, lines in enumerate(documents) if len(lines) > 1}
    again, _ = drawn(sentences, max_length=max_length, short_share=short_share, seed=seed)
    assert all(np.array_equal(getattr(pairs, name), getattr(again, name)) for name in Segments.__slots__)
