"""MLM masking: which tokens are chosen, and what the model reads in their place."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bertpipe.data.masking import Masking
from bertpipe.data.tokenization import MASK_ID, SPECIAL_TOKENS, word_level_tokenizer
from bertpipe.params import MaskingParams

ALMOST_ONE = 1 - 1e-12
VOCAB = 23


def rule(rate: float = 0.15, mask_share: float = 0.8, random_share: float = 0.1, vocab: int = VOCAB) -> Masking:
    tokenizer = word_level_tokenizer([*SPECIAL_TOKENS, *(f"w{i}" for i in range(5, vocab))])
    params = MaskingParams(mode="auto", rate=rate, mask_share=mask_share, random_share=random_share)
    return Masking.of(params, tokenizer)


def tokens(count: int, vocab: int = VOCAB) -> NDArray[np.int32]:
    return (5 + np.arange(count) % (vocab - 5)).astype(np.int32)


SENTENCE = np.array([1, 5, 6, 7, 2, 8, 4, 9, 2, 0, 0], dtype=np.int32)
"""`[CLS] w5 w6 w7 [SEP] w8 [UNK] w9 [SEP] [PAD] [PAD]`"""
WORDS = [False, True, True, True, False, True, False, True, False, False, False]


def test_a_rate_near_one_with_all_masked_masks_each_word_and_nothing_else() -> None:
    done = rule(ALMOST_ONE, 1.0, 0.0).corrupt(SENTENCE, np.array(0), np.arange(11), seed=1, epoch=0)
    assert done.chosen.tolist() == WORDS
    assert done.inputs.tolist() == [1, 3, 3, 3, 2, 3, 4, 3, 2, 0, 0]


def test_a_rate_near_zero_changes_nothing() -> None:
    done = rule(1e-12, 1.0, 0.0).corrupt(SENTENCE, np.array(0), np.arange(11), seed=1, epoch=0)
    assert not done.chosen.any()
    assert done.inputs.tolist() == SENTENCE.tolist()


def test_without_masks_and_random_words_chosen_tokens_stay_and_are_predicted() -> None:
    done = rule(ALMOST_ONE, 0.0, 0.0).corrupt(SENTENCE, np.array(0), np.arange(11), seed=1, epoch=0)
    assert done.chosen.tolist() == WORDS
    assert done.inputs.tolist() == SENTENCE.tolist()


def test_a_random_share_of_one_draws_words_evenly_and_never_a_special_token() -> None:
    count = 90_000
    done = rule(ALMOST_ONE, 0.0, 1.0).corrupt(tokens(count), np.array(0), np.arange(count), seed=1, epoch=0)
    counts = np.bincount(done.inputs, minlength=VOCAB)
    assert done.chosen.all()
    assert counts[:5].tolist() == [0] * 5
    share = 1 / (VOCAB - 5)
    assert np.abs(counts[5:] - count * share).max() < 4.5 * math.sqrt(count * share * (1 - share))


def test_tokens_given_are_not_changed_in_place() -> None:
    given_ids = SENTENCE.copy()
    rule(ALMOST_ONE, 1.0, 0.0).corrupt(given_ids, np.array(0), np.arange(11), seed=1, epoch=0)
    assert given_ids.tolist() == SENTENCE.tolist()


@pytest.mark.parametrize(("rate", "mask_share", "random_share"), [(0.15, 0.8, 0.1), (0.3, 0.5, 0.25)])
def test_shares_are_those_asked_within_four_deviations(rate: float, mask_share: float, random_share: float) -> None:
    count, vocab = 400_000, 5_003
    ids = tokens(count, vocab)
    done = rule(rate, mask_share, random_share, vocab).corrupt(
        ids, np.arange(count) // 100, np.arange(count) % 100, seed=7, epoch=3
    )
    chosen = int(done.chosen.sum())
    assert abs(chosen - count * rate) < 4 * math.sqrt(count * rate * (1 - rate))
    assert np.array_equal(done.inputs[~done.chosen], ids[~done.chosen])
    masked = int((done.inputs == MASK_ID).sum())
    kept = int((done.inputs[done.chosen] == ids[done.chosen]).sum())
    # A drawn word is, once in 4,998, the word that stands there.
    expected_kept = (1 - mask_share - random_share) + random_share / (vocab - 5)
    for found, share in ((masked, mask_share), (kept, expected_kept)):
        assert abs(found - chosen * share) < 4 * math.sqrt(chosen * share * (1 - share))


@given(
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 9),
    order=st.permutations(range(7)),
    start=st.integers(0, 2**40),
)
def test_each_decision_depends_on_seed_epoch_row_and_position_alone(
    seed: int, epoch: int, order: list[int], start: int
) -> None:
    masking = rule(0.5, 0.5, 0.3)
    ids = np.stack([tokens(13) for _ in order])
    rows = start + np.arange(7)[:, None]
    whole = masking.corrupt(ids, rows, np.arange(13)[None, :], seed=seed, epoch=epoch)
    mixed = masking.corrupt(ids[order], rows[order], np.arange(13)[None, :], seed=seed, epoch=epoch)
    assert np.array_equal(mixed.inputs, whole.inputs[order])
    assert np.array_equal(mixed.chosen, whole.chosen[order])
    one = masking.corrupt(ids[3, 5:9], rows[3], np.arange(5, 9), seed=seed, epoch=epoch)
    assert np.array_equal(one.inputs, whole.inputs[3, 5:9])


def test_another_seed_epoch_row_or_position_gives_other_masks() -> None:
    masking, ids, positions = rule(0.5), tokens(200), np.arange(200)
    base = masking.corrupt(ids, np.array(1), positions, seed=1, epoch=1).chosen
    others = (
        masking.corrupt(ids, np.array(1), positions, seed=2, epoch=1),
        masking.corrupt(ids, np.array(1), positions, seed=1, epoch=2),
        masking.corrupt(ids, np.array(2), positions, seed=1, epoch=1),
        masking.corrupt(ids, np.array(1), positions + 1, seed=1, epoch=1),
    )
    for other in others:
        assert 60 < (other.chosen != base).sum() < 140  # 100 expected, deviation 7


def test_what_becomes_of_a_token_does_not_depend_on_the_rate() -> None:
    # The choice and the fate have streams of their own: a token chosen at both rates reads the same.
    ids, positions = tokens(500), np.arange(500)
    low, high = (rule(rate).corrupt(ids, np.array(1), positions, seed=1, epoch=1) for rate in (0.2, 0.6))
    assert low.chosen.sum() < high.chosen.sum()
    assert not (low.chosen & ~high.chosen).any()
    assert np.array_equal(low.inputs[low.chosen], high.inputs[low.chosen])


def test_a_vocabulary_with_its_special_tokens_elsewhere_is_masked_likewise() -> None:
    masking = Masking(
        rate=ALMOST_ONE,
        mask_share=1.0,
        random_share=0.0,
        mask_id=103,
        is_special=np.isin(np.arange(110), [0, 100, 101, 102, 103]),
        words=np.array([7], dtype=np.int32),
    )
    ids = np.array([101, 7, 5, 102, 4, 102, 0], dtype=np.int32)
    assert masking.corrupt(ids, np.array(0), np.arange(7), seed=1, epoch=0).inputs.tolist() == [
        101, 103, 103, 102, 103, 102, 0
    ]  # fmt: skip
