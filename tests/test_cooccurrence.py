"""Counts of pairs, and the pairs that are each other's most frequent partner."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bertpipe.data.cooccurrence import CooccurrenceCounts
from bertpipe.sources.notebook.recovery.vocabulary import mutual_best_pairs

NUMBER = st.integers(0, 4) | st.sampled_from([2**31 - 2, 2**31 - 1])


@given(st.lists(st.lists(st.tuples(NUMBER, NUMBER))))
def test_pairs_count_as_if_all_came_at_once(parts: list[list[tuple[int, int]]]) -> None:
    counts = CooccurrenceCounts()
    for part in parts:
        first, second = np.array(part, dtype=np.int64).reshape(-1, 2).T
        counts.add(first, second)
    expected = sorted(Counter(pair for part in parts for pair in part).items())
    found = zip(*(column.tolist() for column in counts.pairs()), strict=True)
    assert [((first, second), count) for first, second, count in found] == expected


def test_an_id_needs_most_of_the_votes_and_so_does_its_word() -> None:
    seen = CooccurrenceCounts()
    seen.add(np.array([7, 7, 7, 8, 8, 9], dtype=np.int32), np.array([1, 1, 2, 3, 4, 1]))
    found = mutual_best_pairs(seen, ids=10, codes=5, least=1, share=0.5)
    assert found.known.code_of_id.tolist() == [-1] * 7 + [1, -1, -1]
    assert found.known.id_of_code.tolist() == [-1, 7, -1, -1, -1]
    assert (found.votes[7], found.share[7]) == (2, 2 / 3)
    assert not mutual_best_pairs(seen, ids=10, codes=5, least=3, share=0.5).known.any
