"""Counter-based random numbers: pure functions of their counters, and evenly spread."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertpipe.core.randomness import below, random_bits, uniform

INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)
WORD = 2**64


def splitmix(*counters: int) -> int:
    """Return the same bits in Python's own integers, written down from Steele, Lea and Flood (2014)."""
    state = 0
    for counter in counters:
        bits = (state * 0x9E3779B97F4A7C15 + counter + 0x9E3779B97F4A7C15) % WORD
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) % WORD
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) % WORD
        state = bits ^ (bits >> 31)
    return state


@given(st.lists(INT64, min_size=1, max_size=5))
def test_bits_are_those_of_the_published_finaliser(counters: list[int]) -> None:
    (bits,) = random_bits(*counters).tolist()
    assert bits % WORD == splitmix(*counters)


def test_the_first_output_of_splitmix64_from_seed_zero() -> None:
    # Vigna's splitmix64.c with state 0 gives this number first.
    assert int(random_bits(0)[0]) % WORD == 0xE220A8397B1DCDAF


@given(INT64, INT64)
def test_counters_broadcast_and_keep_their_order(one: int, other: int) -> None:
    rows, columns = np.array([[one], [other]]), np.array([3, 5, 7])
    table = random_bits(11, rows, columns)
    assert table.shape == (2, 3)
    assert table[1, 2] == random_bits(11, other, 7)[0]
    if one != other:
        assert random_bits(one, other)[0] != random_bits(other, one)[0]


def test_uniform_numbers_lie_in_the_unit_interval_and_use_53_bits() -> None:
    drawn = uniform(3, np.arange(100_000))
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert np.array_equal(drawn * 2.0**53, np.floor(drawn * 2.0**53))
    assert [uniform(3, 8)[0]] == [(splitmix(3, 8) >> 11) / 2**53]


def test_uniform_numbers_are_spread_evenly() -> None:
    count = 200_000
    drawn = uniform(5, 1, np.arange(count))
    assert abs(drawn.mean() - 0.5) < 4 * math.sqrt(1 / 12 / count)
    counts = np.bincount((drawn * 20).astype(int), minlength=20)
    # Chi-square with 19 degrees of freedom: mean 19, deviation sqrt(38).
    assert ((counts - count / 20) ** 2 / (count / 20)).sum() < 19 + 4 * math.sqrt(38)


def test_neighbouring_counters_are_not_correlated() -> None:
    count = 200_000
    drawn = uniform(5, np.arange(count + 1)) - 0.5
    assert abs((drawn[:-1] * drawn[1:]).mean() * 12) < 4 / math.sqrt(count)
    streams = [uniform(seed, np.arange(count)) - 0.5 for seed in (0, 1)]
    assert abs((streams[0] * streams[1]).mean() * 12) < 4 / math.sqrt(count)


@pytest.mark.parametrize("limit", [1, 2, 7, 100_687])
def test_integers_are_below_their_limit_and_reach_it(limit: int) -> None:
    drawn = below(limit, 9, np.arange(50_000))
    assert drawn.min() >= 0
    assert drawn.max() < limit
    assert abs(drawn.mean() - (limit - 1) / 2) <= 4 * limit / math.sqrt(12 * 50_000)
    if limit < 10:
        assert set(drawn.tolist()) == set(range(limit))


def test_torchs_integers_wrap_alike() -> None:
    counters = np.arange(-50, 50)
    state = torch.zeros(1, dtype=torch.int64)
    gamma, first, second = (
        c - WORD if c >= WORD // 2 else c for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
    )
    for counter in (torch.tensor(17), torch.from_numpy(counters)):
        bits = state * gamma + counter + gamma
        bits = (bits ^ ((bits >> 30) & ((1 << 34) - 1))) * first
        bits = (bits ^ ((bits >> 27) & ((1 << 37) - 1))) * second
        state = bits ^ ((bits >> 31) & ((1 << 33) - 1))
    assert np.array_equal(state.numpy(), random_bits(17, counters))
