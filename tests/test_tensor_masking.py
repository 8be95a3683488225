"""Masks made from tensors are those of the NumPy arrays, bit by bit, without an operation whose shape they decide."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bertpipe.core import randomness
from bertpipe.core.params import MaskingUnit
from bertpipe.data.device import masking as device_masking
from bertpipe.data.device.masking import DeviceMasking
from bertpipe.data.masking import Masking
from bertpipe.data.ragged import places_within
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer
from datasets import word_piece_tokenizer
from defaults import DEFAULTS
from vocabularies import TEXTS, byte_level, with_word_ends

CPU = torch.device("cpu")
INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)
PIECES = word_piece_tokenizer([*SPECIAL_TOKENS, *(f"w{i}" for i in range(5, 15)), *(f"##p{i}" for i in range(15, 23))])
"""Ids 0 to 4 are special, 5 to 14 begin words, 15 to 22 continue them."""
ROWS = st.lists(st.lists(st.sampled_from([0, 1, 2, 3, 4, 4, *range(5, 23)]), min_size=1, max_size=40), max_size=6)
"""Any ids in any order: several special tokens in a row, [UNK] inside words, rows that open with a piece."""


def rule(
    unit: MaskingUnit,
    rate: float,
    mask_share: float = 0.5,
    span_p: float = 0.2,
    span_max: int = 10,
    tokenizer: Tokenizer = PIECES,
) -> Masking:
    params = replace(
        DEFAULTS.masking,
        mode="dynamic",
        unit=unit,
        rate=rate,
        mask_share=mask_share,
        random_share=0.3,
        span_p=span_p,
        span_max=span_max,
    )
    return Masking.of(params, tokenizer)


def both(
    masking: Masking, rows: list[list[int]], *, first_row: int = 0, seed: int = 1, epoch: int = 1
) -> list[tuple[NDArray[np.bool_], NDArray[np.int32]]]:
    """Return chosen tokens and inputs, by arrays and by tensors."""
    token_ids = np.array([token for row in rows for token in row], dtype=np.int32)
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    row, position = first_row + np.repeat(np.arange(len(rows)), lengths), places_within(lengths)
    expected = masking.corrupt(token_ids, row, position, seed=seed, epoch=epoch)
    tensors = (torch.from_numpy(values) for values in (token_ids, row, position))
    chosen, inputs = DeviceMasking.of(masking, CPU).corrupt(*tensors, seed=seed, epoch=epoch)
    return [(expected.chosen, expected.inputs), (chosen.numpy(), inputs.numpy())]


@given(st.lists(INT64, min_size=1, max_size=3), st.lists(INT64, min_size=1, max_size=3))
def test_random_bits_are_those_of_numpy(keys: list[int], counters: list[int]) -> None:
    tensors = [torch.tensor([counter]) for counter in counters]
    assert device_masking.random_bits(tuple(keys), *tensors).tolist() == (
        randomness.random_bits(*keys, *counters).tolist()
    )


@pytest.mark.parametrize("limit", [1, 7, 100_687])
def test_draws_are_those_of_numpy_for_counters_that_broadcast(limit: int) -> None:
    rows, columns = np.arange(1000)[:, None] + 2**40, np.arange(128)[None, :]
    tensors = torch.from_numpy(rows), torch.from_numpy(columns)
    expected = randomness.uniform(3, 11, -5, rows, columns)
    assert np.array_equal(device_masking.uniform((3, 11, -5), *tensors).numpy(), expected)
    expected_integers = randomness.below(limit, 3, 11, -5, rows, columns)
    assert np.array_equal(device_masking.below(limit, (3, 11, -5), *tensors).numpy(), expected_integers)


@given(
    ROWS,
    st.sampled_from(["token", "word", "span"]),
    st.floats(0.01, 0.95),
    st.sampled_from([0.0, 0.5, 0.7]),
    st.floats(0.05, 1.0),
    st.integers(1, 12),
    st.integers(0, 2**31),
    st.integers(0, 5),
    st.integers(0, 2**40),
)
def test_masks_are_those_of_the_arrays(
    rows: list[list[int]],
    unit: MaskingUnit,
    rate: float,
    mask_share: float,
    span_p: float,
    span_max: int,
    seed: int,
    epoch: int,
    first_row: int,
) -> None:
    masking = rule(unit, rate, mask_share, span_p, span_max)
    expected, found = both(masking, rows, first_row=first_row, seed=seed, epoch=epoch)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])


@pytest.mark.parametrize("ends", [([1], [2]), ([], [])], ids=["within special tokens", "bare"])
@pytest.mark.parametrize(("unit", "rate"), list(itertools.product(("token", "word", "span"), (0.01, 0.15, 0.5, 0.9))))
def test_masks_of_many_rows_are_those_of_the_arrays(
    unit: MaskingUnit, rate: float, ends: tuple[list[int], list[int]]
) -> None:
    """Rows without special tokens at their ends too: no span reaches from one into the next."""
    rng = np.random.default_rng(5)
    ids, shares = np.arange(23), np.array([0.02] * 5 + [0.06] * 10 + [0.0375] * 8)
    rows = [[*ends[0], *rng.choice(ids, size=size, p=shares).tolist(), *ends[1]] for size in rng.integers(1, 60, 600)]
    expected, found = both(rule(unit, rate), rows)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])
    assert expected[0].sum() > 50


@pytest.mark.parametrize("unit", ["word", "span"])
@pytest.mark.parametrize("make", [byte_level, with_word_ends])
def test_words_without_a_prefix_are_masked_alike(unit: MaskingUnit, make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    _, cls_id, sep_id, _, _ = tokenizer.special_ids
    rows = [[cls_id, *tokenizer.encode(text), sep_id, *tokenizer.encode(TEXTS[0]), sep_id] for text in TEXTS * 20]
    (chosen, inputs), (chosen_there, inputs_there) = both(rule(unit, 0.3, tokenizer=tokenizer), rows)
    assert np.array_equal(chosen, chosen_there)
    assert np.array_equal(inputs, inputs_there)
    ids = np.array([token for row in rows for token in row])
    joined = tokenizer.continues_word[ids[1:]] & ~tokenizer.ends_word[ids[:-1]]
    assert joined.sum() > 100
    assert np.array_equal(chosen[1:][joined], chosen[:-1][joined])
