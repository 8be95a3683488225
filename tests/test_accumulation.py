"""A step in several passes is the step in one, up to rounding."""

import dataclasses
from pathlib import Path

import pytest
import torch

from bertpipe.core.params import Params
from bertpipe.data.batching import Batch
from bertpipe.data.pair_dataset import read_dataset
from bertpipe.model.bert import Bert
from bertpipe.training.loop import _backward
from bertpipe.training.objective import PretrainingObjective
from datasets import Pair, batch_of
from models import tiny_bert
from runs import train

CPU = torch.device("cpu")
PAIRS = (
    Pair(first=[5], second=[6], masks={1: (3, 5)}),
    Pair(first=[7, 8], second=[9, 10], masks={1: (3, 7), 4: (3, 9), 5: (3, 10)}),
    Pair(first=[6, 7], second=[8], masks={}),
    Pair(first=[9], second=[9], masks={}),
    Pair(first=[10, 5, 6], second=[7, 8], masks={3: (5, 6), 5: (3, 7)}),
)


def gradients(bert: Bert, params: Params, batch: Batch, rows: int | str) -> tuple[list[torch.Tensor], list[float]]:
    section = dataclasses.replace(params.train, micro_batch_size=rows, nsp_weight=0.7)
    mlm, nsp = _backward(PretrainingObjective(bert), batch, batch.counts, section, CPU)
    grads = [parameter.grad for parameter in bert.parameters()]
    for parameter in bert.parameters():
        parameter.grad = None
    return [grad for grad in grads if grad is not None], [mlm.item(), nsp.item()]


@pytest.mark.parametrize("architecture", ["bert", "notebook"])
@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_gradients_and_losses_are_those_of_one_pass(tiny: Params, architecture: str, rows: int) -> None:
    """In float64; two rows have nothing to predict, and passes of one and two rows are made of them alone."""
    bert = tiny_bert(architecture, vocab_size=11, dropout=0.0).double().train()
    batch = batch_of(*PAIRS)
    expected, losses = gradients(bert, tiny, batch, "all")
    found, parts = gradients(bert, tiny, batch, rows)
    assert len(expected) == len(found) > 10
    for ours, whole in zip(found, expected, strict=True):
        assert torch.allclose(ours, whole, rtol=1e-11, atol=1e-14)
    assert parts == pytest.approx(losses, rel=1e-12)


@pytest.mark.parametrize("rows", [5, 6, 1000])
def test_as_many_rows_as_the_batch_has_are_one_pass(rows: int) -> None:
    batch = batch_of(*PAIRS)
    assert list(batch.parts(rows)) == [batch]


def test_parts_hold_the_rows_of_the_batch_in_order() -> None:
    batch = batch_of(*PAIRS)
    parts = list(batch.parts(2))
    assert [part.rows for part in parts] == [2, 2, 1]
    for name in ("token_ids", "lengths", "second_segment_start", "is_next", "masked_labels"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
    assert sum(part.tokens for part in parts) == batch.tokens
    whole = batch.token_ids.flatten()
    again = [whole[2 * number * batch.token_ids.shape[1] :][part.masked_positions] for number, part in enumerate(parts)]
    assert torch.equal(torch.cat(again), whole[batch.masked_positions])
    for part in parts:  # slots point at [CLS] of each row, then at each supervised position
        seq = part.token_ids.shape[1]
        positions = part.query_positions.flatten()[part.query_flat_index]
        assert positions[: part.rows].tolist() == [0] * part.rows
        assert positions[part.rows :].tolist() == (part.masked_positions % seq).tolist()


def test_a_run_in_small_passes_follows_the_one_in_whole_batches(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    once = train(tiny, tmp_path / "once", parquet, model={"dropout": 0.0})
    in_parts = train(tiny, tmp_path / "parts", parquet, model={"dropout": 0.0}, micro_batch_size=5)
    assert in_parts["steps"] == once["steps"]
    assert in_parts["test_mlm_loss"] == pytest.approx(once["test_mlm_loss"], rel=1e-3)
    assert in_parts["test_nsp_loss"] == pytest.approx(once["test_nsp_loss"], rel=1e-3)
    assert len(read_dataset(parquet / "train.parquet")) % 16  # the last batch of an epoch is smaller, and so its parts
