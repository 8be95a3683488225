"""Evaluation, worked by hand with a fake model: sums over tokens and rows divided by their counts."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bertpipe.data.batching import Batcher
from bertpipe.evaluation.evaluate import Evaluation, evaluate
from bertpipe.model.encoder import QueryPositions
from datasets import Pair, pair_dataset, pair_file
from models import tiny_bert

CPU = torch.device("cpu")
VOCAB = 16


class SureOfWhatItReads:
    """Gives the token it reads half of the probability, the rest in equal parts; all alike where it reads `[MASK]`.

    It says "next" where the first word is even, with probability 3/4.
    """

    vocab_size = VOCAB
    training = True

    def __init__(self) -> None:
        self.modes: list[bool] = []

    def train(self, mode: bool = True) -> None:
        self.training = mode

    def eval(self) -> None:
        self.training = False

    def __call__(
        self, token_ids: Tensor, lengths: Tensor, second_segment_start: Tensor, wanted: QueryPositions
    ) -> Tensor:
        self.modes.append(self.training)
        assert lengths.shape == second_segment_start.shape
        first_word = token_ids[:, 1:2].expand_as(token_ids)
        hidden = torch.stack([token_ids, first_word], dim=-1).double()
        return hidden[torch.arange(len(hidden))[:, None], wanted.positions].flatten(0, 1)[wanted.flat_index]

    def mlm_logits(self, hidden: Tensor) -> Tensor:
        read = hidden[..., 0].long()
        table = torch.full((VOCAB, VOCAB), math.log(0.5 / (VOCAB - 1)), dtype=torch.float64)
        table.fill_diagonal_(math.log(0.5))
        table[3] = -math.log(VOCAB)
        return table[read] + 7  # a constant changes no probability

    def nsp_logits(self, hidden: Tensor) -> Tensor:
        is_even = hidden[:, 0, 1].long() % 2 == 0
        share = torch.where(is_even, 0.75, 0.25).double()
        return torch.stack([torch.log(1 - share), torch.log(share)], dim=-1)


PAIRS = (
    Pair(first=[6], second=[7], is_next=True, masks={1: (6, 6)}),  # right
    Pair(first=[7], second=[8, 9, 10], is_next=True, masks={3: (3, 8), 4: (3, 9), 5: (3, 3)}),  # all alike
    Pair(first=[8, 9], second=[10], is_next=False, masks={2: (11, 9)}),  # wrong
    Pair(first=[9, 5], second=[5], is_next=False),  # without labels
    Pair(first=[5, 5, 5, 5, 5, 5, 5], second=[5], is_next=False, masks={2: (3, 0)}),  # a mask without label
    Pair(first=[9], second=[5], is_next=True),
)


def judge(
    pairs: tuple[Pair, ...] | list[Pair],
    batch_size: int = 2,
    bert: Any = None,  # noqa: ANN401
    token_bytes: list[int] | None = None,
) -> Evaluation:
    batcher = Batcher(dataset=pair_dataset(pairs), masking=None, seed=1)
    sizes = None if token_bytes is None else np.array(token_bytes)
    bert = bert or SureOfWhatItReads()
    return Evaluation.of(evaluate(bert, batcher, batch_size=batch_size, device=CPU, token_bytes=sizes))


def test_every_figure_by_hand() -> None:
    result = judge(PAIRS)
    right, alike, wrong = -math.log(0.5), math.log(16), -math.log(0.5 / 15)
    assert (result.rows, result.mlm_tokens) == (6, 5)
    assert result.mlm_loss == pytest.approx((right + 3 * alike + wrong) / 5, rel=1e-12)
    assert result.mlm_perplexity == pytest.approx(math.exp((right + 3 * alike + wrong) / 5), rel=1e-12)
    # NSP: row 0 (even, next), 1 and 5 (odd, next), 2 (even, not), 3 and 4 (odd, not).
    assert result.nsp_loss == pytest.approx(-(3 * math.log(0.75) + 3 * math.log(0.25)) / 6, rel=1e-12)
    assert result.nsp_accuracy == 3 / 6
    assert result.nsp_confusion == ((2, 1), (2, 1))


def test_bits_per_byte_are_those_of_tokens_whose_text_is_known() -> None:
    # Labels 6 (ln 2), 8, 9 and 3 (ln 16 each) and 9 (wrong); the texts of 6, 8 and 9 have 2, 5 and 1 bytes.
    result = judge(PAIRS, token_bytes=[0, 0, 0, 0, 0, 7, 2, 7, 5, 1])
    bits = 1 + 4 + 4 - math.log2(0.5 / 15)
    assert result.mlm_bits_per_byte == pytest.approx(bits / (2 + 5 + 1 + 1), rel=1e-12)
    assert judge(PAIRS, token_bytes=[0] * 10).mlm_bits_per_byte is None
    assert judge(PAIRS).mlm_bits_per_byte is None


def test_the_mlm_loss_is_weighted_by_tokens_not_by_batches() -> None:
    pairs = (
        Pair(first=[6], second=[7], masks={1: (6, 6)}),  # one token, ln 2
        Pair(first=[7], second=[8, 9, 10], masks={3: (3, 8), 4: (3, 9), 5: (3, 10)}),  # three tokens, ln 16
    )
    assert judge(pairs, batch_size=1).mlm_loss == pytest.approx((1 + 3 * 4) / 4 * math.log(2), rel=1e-12)


def test_accuracies_count_the_first_guess_and_the_first_five() -> None:
    labels = {5: 1, 6: 2, 10: 6}  # what it should say, by its rank in the fake's order

    class Descending(SureOfWhatItReads):
        def mlm_logits(self, hidden: Tensor) -> Tensor:
            ranks = torch.tensor([-100.0] * 5 + [-float(rank) for rank in range(11)])
            return ranks.expand(len(hidden), -1)

    pairs = [Pair(first=[9], second=[9], masks={1: (3, label)}) for label in labels]
    result = judge(pairs, bert=Descending())
    assert result.mlm_top1_accuracy == pytest.approx(1 / 3)
    assert result.mlm_top5_accuracy == pytest.approx(2 / 3)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 100])
def test_the_result_does_not_depend_on_the_batch_size(batch_size: int) -> None:
    expected = judge(PAIRS, batch_size=4)
    result = judge(PAIRS, batch_size=batch_size)
    assert result.nsp_confusion == expected.nsp_confusion
    assert result.mlm_loss == pytest.approx(expected.mlm_loss, rel=1e-12)
    assert result.nsp_loss == pytest.approx(expected.nsp_loss, rel=1e-12)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_real_network_is_judged_the_same_in_any_batch(batch_size: int) -> None:
    bert = tiny_bert(vocab_size=VOCAB).double()
    expected, result = judge(PAIRS, 2, bert), judge(PAIRS, batch_size, bert)
    assert result.mlm_loss == pytest.approx(expected.mlm_loss, rel=1e-12)
    assert result.nsp_loss == pytest.approx(expected.nsp_loss, rel=1e-12)


def test_the_whole_set_is_covered() -> None:
    pairs = [Pair(first=[5] * (1 + i % 7), second=[6], masks={1: (3, 5)}) for i in range(101)]
    result = judge(pairs, batch_size=8)
    assert (result.rows, result.mlm_tokens) == (101, 101)


@pytest.mark.parametrize("rows_per_group", [1, 4, 50])
def test_a_set_read_window_by_window_is_judged_as_one_in_memory(tmp_path: Path, rows_per_group: int) -> None:
    pairs = [Pair(first=[5 + i % 3] * (1 + i % 7), second=[6], masks={1: (5 + i % 4, 5)}) for i in range(101)]
    file = pair_file(tmp_path / "test.parquet", pair_dataset(pairs), rows_per_group=rows_per_group, groups_per_window=2)
    batcher = Batcher(dataset=file, masking=None, seed=1)
    result = Evaluation.of(evaluate(SureOfWhatItReads(), batcher, batch_size=8, device=CPU))  # type: ignore[arg-type]
    expected = judge(pairs, batch_size=8)
    assert (result.rows, result.mlm_tokens, result.nsp_confusion) == (101, 101, expected.nsp_confusion)
    assert result.mlm_top1_accuracy == expected.mlm_top1_accuracy
    assert result.mlm_loss == pytest.approx(expected.mlm_loss, rel=1e-12)
    assert result.nsp_loss == pytest.approx(expected.nsp_loss, rel=1e-12)


def test_rows_without_labels_have_no_mlm_figures_but_nsp_ones() -> None:
    result = judge([PAIRS[3]])
    assert (result.mlm_tokens, result.mlm_loss, result.mlm_perplexity) == (0, None, None)
    assert (result.mlm_top1_accuracy, result.mlm_top5_accuracy) == (None, None)
    assert result.nsp_accuracy == 1.0


def test_no_rows_have_no_figures_at_all() -> None:
    result = judge([])
    assert result == Evaluation(
        rows=0, mlm_tokens=0, mlm_loss=None, mlm_perplexity=None, mlm_bits_per_byte=None,
        mlm_top1_accuracy=None, mlm_top5_accuracy=None,
        nsp_loss=None, nsp_accuracy=None, nsp_confusion=((0, 0), (0, 0)),
    )  # fmt: skip


def test_a_loss_beyond_the_exponentials_range_has_an_infinite_perplexity() -> None:
    class Hopeless(SureOfWhatItReads):
        def mlm_logits(self, hidden: Tensor) -> Tensor:
            logits = torch.zeros(len(hidden), VOCAB, dtype=torch.float64)
            logits[:, 0] = 5000.0
            return logits

    result = judge(PAIRS, bert=Hopeless())
    assert result.mlm_loss == pytest.approx(5000)
    assert result.mlm_perplexity == math.inf


def test_dropout_is_off_and_the_mode_comes_back() -> None:
    for mode in (True, False):
        bert = SureOfWhatItReads()
        bert.train(mode)
        judge(PAIRS, bert=bert)
        assert set(bert.modes) == {False}
        assert bert.training is mode


def test_no_gradient_is_kept() -> None:
    bert = tiny_bert(vocab_size=VOCAB)
    judge(PAIRS, bert=bert)
    assert all(parameter.grad is None for parameter in bert.parameters())


def test_a_vocabulary_of_fewer_than_five_tokens_has_a_top_five_of_all() -> None:
    class Small(SureOfWhatItReads):
        vocab_size = 4

        def mlm_logits(self, hidden: Tensor) -> Tensor:
            return torch.zeros(len(hidden), 4)

    assert judge([Pair(first=[6], second=[7], masks={1: (3, 2)})], bert=Small()).mlm_top5_accuracy == 1.0
