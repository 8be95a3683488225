"""How two sentences share the room of a row."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bertpipe.data.tokenization.encoder import truncate_longest_first


def one_by_one(first: int, second: int, room: int) -> tuple[int, int]:
    """Return the lengths that are left when the longer half gives one token at a time, B where both are equal."""
    while first + second > room:
        if first > second:
            first -= 1
        else:
            second -= 1
    return first, second


LENGTHS = st.integers(0, 60)


@given(st.lists(st.tuples(LENGTHS, LENGTHS, st.integers(0, 70)), min_size=1, max_size=9))
def test_the_longer_half_gives_its_tokens_away(pairs: list[tuple[int, int, int]]) -> None:
    first, second = truncate_longest_first(*np.array(pairs).T)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [one_by_one(*pair) for pair in pairs]


@given(LENGTHS, LENGTHS, st.integers(0, 70))
def test_a_single_pair_is_cut_alike(first: int, second: int, room: int) -> None:
    kept = truncate_longest_first(first, second, room)
    assert (int(kept[0]), int(kept[1])) == one_by_one(first, second, room)
