"""MLM masking: which tokens are chosen, and what the model reads in their place."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bertpipe.core.params import MaskingUnit
from bertpipe.data.masking import Corruption, Masking
from bertpipe.data.tokenization.tokenizer import MASK_ID, SPECIAL_TOKENS, Tokenizer, word_level_tokenizer
from datasets import word_piece_tokenizer
from defaults import DEFAULTS

ALMOST_ONE = 1 - 1e-12
VOCAB = 23
UNITS: tuple[MaskingUnit, ...] = ("token", "word", "span")
PIECES = word_piece_tokenizer(
    [*SPECIAL_TOKENS, *(f"w{i}" for i in range(5, 15)), *(f"##p{i}" for i in range(15, VOCAB))]
)
"""Ids 5 to 14 begin words, 15 to 22 continue them."""


def rule(
    rate: float = 0.15,
    mask_share: float = 0.8,
    random_share: float = 0.1,
    vocab: int = VOCAB,
    *,
    unit: MaskingUnit = "token",
    span_p: float = 0.2,
    span_max: int = 10,
    tokenizer: Tokenizer | None = None,
) -> Masking:
    params = replace(DEFAULTS.masking,
        mode="auto", unit=unit, rate=rate, mask_share=mask_share, random_share=random_share,
        span_p=span_p, span_max=span_max,
    )  # fmt: skip
    words = word_level_tokenizer([*SPECIAL_TOKENS, *(f"w{i}" for i in range(5, vocab))])
    return Masking.of(params, tokenizer or words)


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


def test_masks_of_tokens_are_those_of_the_committed_results() -> None:
    # Values of the first release. Whoever changes them changes every result ever committed.
    done = rule(0.5, 0.5, 0.3).corrupt(tokens(24), np.array(41), np.arange(24), seed=7, epoch=3)
    assert np.flatnonzero(done.chosen).tolist() == [1, 5, 9, 10, 12, 13, 14, 15, 21, 22, 23]
    assert done.inputs.tolist() == [
        5, 6, 7, 8, 9, 10, 11, 12, 13, 13, 3, 16, 17, 18, 3, 3, 21, 22, 5, 6, 7, 8, 21, 10
    ]  # fmt: skip


# Words and spans

PIECED = np.array([1, 5, 15, 16, 6, 2, 17, 18, 7, 4, 19, 8, 20, 2, 0, 0], dtype=np.int32)
"""`[CLS] w5 ##p ##p w6 [SEP] ##p ##p w7 [UNK] ##p w8 ##p [SEP] [PAD] [PAD]`"""
WORDS_OF_PIECED = ((1, 2, 3), (4,), (6, 7), (8,), (10,), (11, 12))
"""Positions of its words; a piece that has no word before it begins one."""


def many(
    masking: Masking, ids: NDArray[np.int32] = PIECED, count: int = 40_000, *, seed: int = 3, epoch: int = 1
) -> Corruption:
    """Return the masks of many rows of the same tokens."""
    tiled = np.tile(ids, (count, 1))
    return masking.corrupt(tiled, np.arange(count)[:, None], np.arange(len(ids))[None, :], seed=seed, epoch=epoch)


def fates(done: Corruption, ids: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return 0 where a chosen token is masked, 1 where it stays, 2 where it is another one, -1 where none is chosen."""
    fate = np.where(done.inputs == MASK_ID, 0, np.where(done.inputs == ids, 1, 2))
    return np.where(done.chosen, fate, -1)


@pytest.mark.parametrize("unit", UNITS)
def test_every_word_and_no_special_token_is_masked_at_a_rate_near_one(unit: MaskingUnit) -> None:
    done = rule(ALMOST_ONE, 1.0, 0.0, unit=unit, tokenizer=PIECES).corrupt(
        PIECED, np.array(0), np.arange(16), seed=1, epoch=0
    )
    assert np.flatnonzero(done.chosen).tolist() == [at for word in WORDS_OF_PIECED for at in word]
    assert done.inputs.tolist() == [1, 3, 3, 3, 3, 2, 3, 3, 3, 4, 3, 3, 3, 2, 0, 0]


@pytest.mark.parametrize("unit", UNITS)
def test_nothing_changes_at_a_rate_near_zero_or_where_all_is_special(unit: MaskingUnit) -> None:
    for rate, ids in ((1e-12, PIECED), (ALMOST_ONE, np.array([1, 2, 4, 2, 0], dtype=np.int32))):
        done = rule(rate, 1.0, 0.0, unit=unit, tokenizer=PIECES).corrupt(
            ids, np.array(0), np.arange(len(ids)), seed=1, epoch=0
        )
        assert not done.chosen.any()
        assert done.inputs.tolist() == ids.tolist()


def test_words_are_tokens_where_the_vocabulary_has_no_pieces() -> None:
    ids = np.random.default_rng(1).integers(0, VOCAB, (40, 31)).astype(np.int32)
    token, word = (
        rule(0.4, 0.5, 0.3, unit=unit).corrupt(ids, np.arange(40)[:, None], np.arange(31)[None, :], seed=1, epoch=2)
        for unit in ("token", "word")
    )
    assert np.array_equal(token.chosen, word.chosen)
    assert np.array_equal(token.inputs, word.inputs)


def test_a_word_is_chosen_where_its_first_piece_would_be() -> None:
    token, word = (many(rule(0.3, unit=unit, tokenizer=PIECES), count=500).chosen for unit in ("token", "word"))
    for pieces in WORDS_OF_PIECED:
        for piece in pieces:
            assert np.array_equal(word[:, piece], token[:, pieces[0]])
    assert not word[:, [0, 5, 9, 13, 14, 15]].any()


def test_spans_of_one_word_are_the_words() -> None:
    word, span = (
        many(rule(0.3, unit=unit, span_max=1, tokenizer=PIECES), count=2000).chosen for unit in ("word", "span")
    )
    assert np.array_equal(word, span)


def test_spans_split_no_word() -> None:
    chosen = many(rule(0.3, unit="span", tokenizer=PIECES), count=2000).chosen
    for pieces in WORDS_OF_PIECED:
        assert (chosen[:, pieces] == chosen[:, [pieces[0]]]).all()
        assert 0 < chosen[:, pieces[0]].sum() < 2000


def test_the_next_row_continues_no_word_even_without_special_tokens() -> None:
    ids = np.array([5, 15, 15, 16, 6, 15], dtype=np.int32)  # two rows: w ##p ##p, then ##p w ##p
    rows, positions = np.array([4, 4, 4, 9, 9, 9]), np.array([0, 1, 2, 0, 1, 2])
    for unit in ("word", "span"):
        masking = rule(0.4, unit=unit, tokenizer=PIECES)
        both = [masking.corrupt(ids, rows, positions, seed=seed, epoch=0) for seed in range(200)]
        one, other = (
            [masking.corrupt(ids[row], rows[row], positions[row], seed=seed, epoch=0) for seed in range(200)]
            for row in (slice(3), slice(3, 6))
        )
        for whole, first, second in zip(both, one, other, strict=True):
            assert whole.inputs.tolist() == [*first.inputs.tolist(), *second.inputs.tolist()]
            assert whole.chosen.tolist() == [*first.chosen.tolist(), *second.chosen.tolist()]
            assert second.chosen[1] == second.chosen[2]
        assert sum(done.chosen[2] != done.chosen[3] for done in both) > 0


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.5, 0.8])
@pytest.mark.parametrize(("span_p", "span_max"), [(0.2, 10), (0.5, 3)])
@pytest.mark.parametrize("unit", ["word", "span"])
def test_every_word_of_a_row_is_chosen_at_the_rate(
    unit: MaskingUnit, rate: float, span_p: float, span_max: int
) -> None:
    # [CLS], 3 words, [SEP], 14 words, [SEP]: at the ends and in the middle alike.
    ids = np.array([1, 5, 6, 15, 7, 2, *range(5, 14), 15, 15, *range(5, 10), 2], dtype=np.int32)
    count = 40_000
    done = many(rule(rate, unit=unit, span_p=span_p, span_max=span_max, tokenizer=PIECES), ids, count)
    found = done.chosen.mean(axis=0)
    is_special = PIECES.is_special[ids]
    assert (found[is_special] == 0).all()
    assert np.abs(found[~is_special] - rate).max() < 4.5 * math.sqrt(rate * (1 - rate) / count)


def test_words_beside_a_chosen_one_are_chosen_as_spans_want_it() -> None:
    # Both of two neighbours are free where the first is (1 - rate) and no span starts at the second (1 - start).
    masking, ids, rate, count = rule(0.15, unit="span"), tokens(18), 0.15, 40_000
    done = many(masking, ids, count)
    both = 1 - (1 - rate) * (1 + masking.spans.inner[0])
    assert both == pytest.approx(0.1141, abs=1e-4)  # a token's two neighbours, on their own: 0.0225
    found = (done.chosen[:, 1:] & done.chosen[:, :-1]).mean(axis=0)
    assert np.abs(found - both).max() < 4.5 * math.sqrt(both * (1 - both) / count)


def test_lengths_of_lone_spans_follow_the_geometric_law_cut_off() -> None:
    # At so low a rate that hardly two spans meet; those that touch an end of the row may be cut there.
    count, length = 200_000, 40
    chosen = many(rule(0.01, unit="span"), tokens(length), count).chosen
    begins = chosen[:, 1:] & ~chosen[:, :-1]
    ends = ~chosen[:, 1:] & chosen[:, :-1]
    alone = (begins.sum(axis=1) == 1) & (ends.sum(axis=1) == 1) & ~chosen[:, 0] & ~chosen[:, length - 1]
    alone &= begins.argmax(axis=1) < length - 11  # where the longest would fit
    lengths = chosen[alone].sum(axis=1)
    found = np.bincount(lengths, minlength=11)[1:11] / len(lengths)
    expected = 0.8 ** np.arange(10) * 0.2 / (1 - 0.8**10)
    assert lengths.max() <= 20
    assert len(lengths) > 10_000
    # Two spans that met make up to 0.01 of the runs: the bias that is allowed beside four deviations.
    assert (np.abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / len(lengths)) + 0.005).all()


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(("mask_share", "random_share"), [(0.8, 0.1), (0.3, 0.5)])
def test_chosen_tokens_have_their_fates_by_the_shares(
    unit: MaskingUnit, mask_share: float, random_share: float
) -> None:
    vocabulary = word_piece_tokenizer(
        [*SPECIAL_TOKENS, *(f"w{i}" for i in range(4000)), *(f"##{i}" for i in range(999))]
    )
    ids = np.array([1, *range(5, 5 + 12), 4005, 4006, 2], dtype=np.int32)
    done = many(rule(0.15, mask_share, random_share, unit=unit, tokenizer=vocabulary), ids, 60_000)
    fate = fates(done, ids)
    # Tokens of one span are one draw: a row has about three.
    draws = int((fate >= 0).sum()) if unit != "span" else int((fate >= 0).any(axis=1).sum())
    for value, share in enumerate((mask_share, 1 - mask_share - random_share, random_share)):
        found = (fate == value).sum() / (fate >= 0).sum()
        assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / draws)


def test_pieces_of_a_word_have_fates_of_their_own() -> None:
    fate = fates(many(rule(0.5, 0.5, 0.0, unit="word", tokenizer=PIECES)), PIECED)[:, [1, 2, 3]]
    fate = fate[fate[:, 0] >= 0]
    masked = fate == 0
    for one, other in ((0, 1), (0, 2), (1, 2)):
        agree = (masked[:, one] == masked[:, other]).mean()
        assert abs(agree - 0.5) < 4 * math.sqrt(0.25 / len(fate))


def test_a_run_of_chosen_words_has_one_fate_and_draws_words_token_by_token() -> None:
    ids = tokens(60, 5_003)
    done = many(rule(0.4, 0.4, 0.4, 5_003, unit="span"), ids, 500)
    fate = fates(done, ids)
    neighbours = (fate[:, 1:] >= 0) & (fate[:, :-1] >= 0)
    # A drawn word is, once in 4,998, the one that stands there.
    differ = neighbours & (fate[:, 1:] != fate[:, :-1])
    assert differ.sum() < 10
    assert all({1, 2} == {int(fate[row, at]), int(fate[row, at + 1])} for row, at in np.argwhere(differ))
    assert {int(value) for value in np.unique(fate)} == {-1, 0, 1, 2}
    drawn_twice = neighbours & (fate[:, 1:] == 2) & (fate[:, :-1] == 2)
    assert drawn_twice.sum() > 1000
    assert (done.inputs[:, 1:] == done.inputs[:, :-1])[drawn_twice].mean() < 0.01


def test_the_texts_of_a_row_have_spans_and_fates_of_their_own() -> None:
    # A span ends at [SEP]: what happens behind it says nothing of what happens before it.
    ids = np.array([1, *range(5, 15), 2, *range(5, 15), 2], dtype=np.int32)
    done = many(rule(0.5, 0.5, 0.0, unit="span"), ids)
    before, after = done.chosen[:, 10], done.chosen[:, 12]
    assert abs((before & after).mean() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / len(before))
    masked = done.inputs[before & after] == MASK_ID
    assert abs((masked[:, 10] == masked[:, 12]).mean() - 0.5) < 4 * math.sqrt(0.25 / len(masked))


@given(st.data(), st.sampled_from(UNITS), st.integers(0, 2**31), st.integers(0, 9))
def test_a_rows_masks_depend_on_neither_its_neighbours_nor_its_padding(
    data: st.DataObject, unit: MaskingUnit, seed: int, epoch: int
) -> None:
    words = st.lists(st.integers(4, VOCAB - 1), min_size=1, max_size=12)
    rows = [
        np.array([1, *data.draw(words), 2, *data.draw(words), 2], dtype=np.int32)
        for _ in range(data.draw(st.integers(1, 6)))
    ]
    names = np.array(data.draw(st.lists(st.integers(0, 2**40), min_size=len(rows), max_size=len(rows))))
    masking = rule(0.4, 0.4, 0.4, unit=unit, tokenizer=PIECES)
    lengths = np.array([len(row) for row in rows])
    padded = np.zeros((len(rows), lengths.max() + data.draw(st.integers(0, 3))), dtype=np.int32)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    batch = masking.corrupt(padded, names[:, None], np.arange(padded.shape[1])[None, :], seed=seed, epoch=epoch)
    flat = masking.corrupt(
        np.concatenate(rows),
        np.repeat(names, lengths),
        np.concatenate([np.arange(length) for length in lengths]),
        seed=seed,
        epoch=epoch,
    )
    ends = np.cumsum(lengths)
    for number, (row, end) in enumerate(zip(rows, ends, strict=True)):
        alone = masking.corrupt(row, names[number], np.arange(len(row)), seed=seed, epoch=epoch)
        for found in (batch.chosen[number, : len(row)], flat.chosen[end - len(row) : end]):
            assert np.array_equal(found, alone.chosen)
        for read in (batch.inputs[number, : len(row)], flat.inputs[end - len(row) : end]):
            assert np.array_equal(read, alone.inputs)


@pytest.mark.parametrize("unit", ["word", "span"])
def test_another_seed_epoch_or_row_chooses_other_words(unit: MaskingUnit) -> None:
    masking, ids, positions = rule(0.5, unit=unit, tokenizer=PIECES), tokens(400), np.arange(400)
    base = masking.corrupt(ids, np.array(1), positions, seed=1, epoch=1)
    again = masking.corrupt(ids, np.array(1), positions, seed=1, epoch=1)
    assert np.array_equal(base.inputs, again.inputs)
    for row, seed, epoch in ((1, 2, 1), (1, 1, 2), (2, 1, 1)):
        other = masking.corrupt(ids, np.array(row), positions, seed=seed, epoch=epoch)
        assert 100 < (other.chosen != base.chosen).sum() < 300  # 200 expected


@pytest.mark.parametrize("unit", UNITS)
def test_berts_own_ids_are_masked_likewise(unit: MaskingUnit) -> None:
    # As in bert-base-uncased: [PAD] 0, [UNK] 100, [CLS] 101, [SEP] 102, [MASK] 103.
    unused = [f"[unused{i}]" for i in range(99)]
    words = [f"w{i}" for i in range(104, 130)]
    bert = word_piece_tokenizer(["[PAD]", *unused, "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, "##p", "##q"])
    ids = np.array([101, 104, 130, 131, 5, 102, 4, 100, 3, 130, 102, 0], dtype=np.int32)
    masked = rule(ALMOST_ONE, 1.0, 0.0, unit=unit, tokenizer=bert)
    assert masked.corrupt(ids, np.array(0), np.arange(12), seed=1, epoch=0).inputs.tolist() == [
        101, 103, 103, 103, 103, 102, 103, 100, 103, 103, 102, 0
    ]  # fmt: skip
    drawn = many(rule(ALMOST_ONE, 0.0, 1.0, unit=unit, tokenizer=bert), ids, 4000)
    is_special = np.isin(ids, [0, 100, 101, 102, 103])
    assert drawn.chosen.all(axis=0).tolist() == (~is_special).tolist()
    assert set(np.unique(drawn.inputs[:, ~is_special])) == set(range(132)) - {0, 100, 101, 102, 103}
