"""Batches made on the device: the host's rows and masks in a few fixed shapes, and no word to the host in between."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from bertpipe.core.params import MaskingUnit, Params, TrainParams
from bertpipe.data.batching import IGNORE_INDEX, Batch, Batcher
from bertpipe.data.device.batcher import DeviceBatcher, DeviceRows, batcher_for
from bertpipe.data.device.fixed_batch import FixedBatch, ShapeBudget, bucket_length
from bertpipe.data.masking import Masking
from bertpipe.data.pair_dataset import PairDataset
from bertpipe.data.sampling import SINGLE, DataParallelRank
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS
from bertpipe.model.flops import training_flops
from bertpipe.training.loop import StepReport, _backward, train_steps
from bertpipe.training.objective import PretrainingObjective
from bertpipe.training.optim import make_optimizer
from datasets import Pair, pair_dataset, word_piece_tokenizer
from defaults import DEFAULTS
from models import tiny_bert

pytestmark = pytest.mark.thorough

CPU = torch.device("cpu")
VOCAB, POSITIONS = 40, 61
UNITS: tuple[MaskingUnit, ...] = ("token", "word", "span")
TOKENIZER = word_piece_tokenizer([*SPECIAL_TOKENS, *(f"{'##' * (i % 5 == 1)}w{i}" for i in range(5, VOCAB))])
"""6, 11, 16, ... continue a word."""


def masking(unit: MaskingUnit = "token", rate: float = 0.15) -> Masking:
    params = replace(
        DEFAULTS.masking,
        mode="dynamic",
        unit=unit,
        rate=rate,
        mask_share=0.8,
        random_share=0.1,
        span_p=0.2,
        span_max=10,
    )
    return Masking.of(params, TOKENIZER)


def pairs(count: int, *, seed: int = 3, longest: int = 29) -> PairDataset:
    """Return rows of 5 to 2 * `longest` + 3 tokens with stored masks, every seventh without any."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        first, second = (rng.integers(4, VOCAB, size=rng.integers(1, longest + 1)).tolist() for _ in range(2))
        places = [*range(1, len(first) + 1), *range(len(first) + 2, len(first) + len(second) + 2)]
        chosen = sorted(rng.choice(places, size=len(places) // 5, replace=False).tolist()) if number % 7 else []
        masks = {at: (3 if at % 2 else 9, int(rng.integers(0, VOCAB))) for at in chosen}
        made.append(Pair(first=first, second=second, is_next=bool(rng.integers(2)), masks=masks))
    return pair_dataset(made, first_row=1000)


ROWS = pairs(67)


def batchers(rule: Masking | None, data: PairDataset = ROWS) -> tuple[Batcher, DeviceBatcher]:
    host = Batcher(dataset=data, masking=rule, seed=5)
    return host, DeviceBatcher(host=host, device=CPU, max_positions=POSITIONS)


def asked(batch: Batch) -> list[tuple[Any, ...]]:
    """Return of each row that is no filler its inputs, labels by position, B's start, and whether it is next."""
    labels: list[dict[int, int]] = [{} for _ in range(batch.rows)]
    for flat, label in zip(batch.masked_positions.tolist(), batch.masked_labels.tolist(), strict=True):
        if label != IGNORE_INDEX:
            labels[flat // batch.token_ids.shape[1]][flat % batch.token_ids.shape[1]] = label
    columns = (batch.token_ids, batch.lengths.tolist(), labels, batch.second_segment_start.tolist(), batch.is_next)
    return [
        (ids[:length].tolist(), found, start, int(is_next))
        for ids, length, found, start, is_next in zip(*columns, strict=True)
        if is_next != IGNORE_INDEX
    ]


def shapes(batch: Batch) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor that a step takes."""
    return {
        name: tuple(getattr(batch, name).shape) for name in Batch.__slots__ if torch.is_tensor(getattr(batch, name))
    }


# The same batches


@pytest.mark.parametrize("rule", [None, *map(masking, UNITS)], ids=["stored", *UNITS])
@pytest.mark.parametrize("dp", [SINGLE, *(DataParallelRank(rank=rank, size=3) for rank in range(3))], ids=repr)
def test_rows_and_masks_are_those_of_the_host(rule: Masking | None, dp: DataParallelRank) -> None:
    host, resident = batchers(rule)
    for epoch, batch_size in ((1, 8), (2, 13)):
        expected = list(host.epoch(epoch, batch_size=batch_size, dp=dp))
        found = list(resident.epoch(epoch, batch_size=batch_size, dp=dp))
        assert len(found) == len(expected) == resident.steps(epoch, batch_size=batch_size)
        for ours, theirs in zip(found, expected, strict=True):
            assert asked(ours) == asked(theirs)
            assert ours.counts.tolist() == theirs.counts.tolist()
            assert ours.tokens == theirs.tokens


@pytest.mark.parametrize("first_batch", [1, 4, 8, 9])
def test_an_epoch_goes_on_from_any_batch_with_equal_tensors(first_batch: int) -> None:
    """To the bit and in its shapes, the last batch of a window included: a resumed run rounds as one not stopped."""
    _, resident = batchers(masking())
    whole = list(resident.epoch(2, batch_size=8))
    rest = list(resident.epoch(2, batch_size=8, first_batch=first_batch))
    assert len(rest) == 9 - first_batch
    for ours, theirs in zip(rest, whole[first_batch:], strict=True):
        assert all(torch.equal(getattr(ours, name), getattr(theirs, name)) for name in shapes(ours))


def test_what_the_heads_read_is_cls_and_each_supervised_token() -> None:
    for batch in batchers(masking("span", 0.3))[1].epoch(1, batch_size=8):
        seq, queries = batch.token_ids.shape[1], batch.query_positions.shape[1]
        rows = batch.query_flat_index // queries
        flat = rows * seq + batch.query_positions.flatten()[batch.query_flat_index]
        assert flat[: batch.rows].tolist() == [row * seq for row in range(batch.rows)]
        supervised = batch.masked_labels != IGNORE_INDEX
        assert flat[batch.rows :][supervised].tolist() == batch.masked_positions[supervised].tolist()
        assert batch.query_flat_index.max() < batch.query_positions.numel()


def test_floating_point_operations_are_counted_alike() -> None:
    bert = tiny_bert("bert", vocab_size=VOCAB)
    host, resident = batchers(masking())
    for ours, theirs in zip(resident.epoch(1, batch_size=8), host.epoch(1, batch_size=8), strict=True):
        found, expected = (training_flops(bert.params, VOCAB, batch).item() for batch in (ours, theirs))
        assert found == pytest.approx(expected, rel=1e-12)


def test_tokens_are_masked_in_several_goes_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [asked(batch) for batch in batchers(masking("span"))[1].epoch(1, batch_size=8)]
    monkeypatch.setattr("bertpipe.data.device.batcher._TOKENS_AT_ONCE", 100)  # rows have up to 61
    assert [asked(batch) for batch in batchers(masking("span"))[1].epoch(1, batch_size=8)] == whole


# Fixed shapes


@pytest.mark.parametrize(
    ("longest", "limit", "bucket"),
    [(3, 512, 16), (16, 512, 16), (17, 512, 32), (128, 512, 128), (129, 512, 160), (257, 512, 320), (500, 512, 512),
     (60, 61, 61), (5, 12, 12)],
)  # fmt: skip
def test_buckets_worked_by_hand(longest: int, limit: int, bucket: int) -> None:
    assert bucket_length(longest, limit=limit) == bucket


def test_rows_of_five_hundred_have_sixteen_buckets() -> None:
    buckets = {bucket_length(longest, limit=512) for longest in range(3, 513)}
    assert len(buckets) == 16
    assert all(longest > 0.8 * bucket_length(longest, limit=512) for longest in range(65, 513))


@pytest.mark.parametrize("unit", UNITS)
def test_a_bucket_has_one_shape_whatever_the_masks(unit: MaskingUnit) -> None:
    _, resident = batchers(masking(unit), pairs(300))
    found = {
        (batch.token_ids.shape, tuple(sorted(shapes(batch).items())))
        for epoch in range(1, 6)
        for batch in resident.epoch(epoch, batch_size=16)
    }
    assert {tuple(shape) for shape, _ in found} <= {(16, seq) for seq in (16, 32, 48, 61)}
    assert len(found) == len({shape for shape, _ in found})  # to each shape of the tokens, one of all tensors


def test_places_are_the_expected_ones_and_six_deviations_more() -> None:
    budget = ShapeBudget(rate=0.15, tokens_per_choice=1.0)
    # 256 rows of 128 tokens: 4915.2 + 6 * sqrt(4915.2) = 5335.8, in steps of 64.
    assert budget.masked(rows=256, seq=128, needed=4900) == 5376
    # 19.2 + 6 * sqrt(19.2) = 45.5, in steps of 8, and [CLS].
    assert budget.queries(seq=128, needed=20) == 49


def test_a_batch_that_needs_more_gets_twice_as_many_places_up_to_all() -> None:
    budget = ShapeBudget(rate=0.15, tokens_per_choice=1.0)
    assert budget.masked(rows=256, seq=128, needed=5376) == 5376
    assert budget.masked(rows=256, seq=128, needed=5377) == 10752
    assert budget.masked(rows=256, seq=128, needed=32768) == 32768
    assert [budget.queries(seq=128, needed=needed) for needed in (48, 49, 96, 97)] == [49, 97, 97, 129]


@given(st.floats(1e-9, 1.0), st.sampled_from([1.0, 8.0]), st.integers(1, 40), st.integers(3, 130), st.data())
def test_there_is_always_room(rate: float, tokens_per_choice: float, rows: int, seq: int, data: st.DataObject) -> None:
    needed = data.draw(st.integers(0, rows * seq))
    budget = ShapeBudget(rate=rate, tokens_per_choice=tokens_per_choice)
    assert needed <= budget.masked(rows=rows, seq=seq, needed=needed) <= rows * seq
    assert min(needed, seq) < budget.queries(seq=seq, needed=min(needed, seq)) <= seq + 1


def test_no_supervised_token_is_ever_left_out() -> None:
    """Stored masks on every token, five times what they are expected to be, and dynamic ones on nearly every one."""
    words = list(range(5, 19))
    masks = dict.fromkeys([*range(1, 15), *range(16, 30)], (3, 7))
    full = pair_dataset([Pair(first=words, second=words, masks=masks)] * 5)
    for rule in (None, masking("span", 1 - 1e-9)):
        for batch in batchers(rule, full)[1].epoch(1, batch_size=4):
            real = int((batch.is_next != IGNORE_INDEX).sum())
            assert (batch.masked_labels != IGNORE_INDEX).sum() == 28 * real
            assert {len(labels) for _, labels, _, _ in asked(batch)} == {28}


@pytest.mark.parametrize("rule", [None, *map(masking, UNITS)], ids=["stored", *UNITS])
def test_the_host_knows_how_many_tokens_of_each_row_are_supervised(rule: Masking | None) -> None:
    rows = DeviceRows.of(ROWS, rule, seed=5, epoch=2, device=CPU)
    for number in range(len(ROWS)):
        batch = batchers(rule)[0].assemble(ROWS, np.array([number]), epoch=2)
        assert rows.supervised[number] == len(batch.masked_labels)


def test_fillers_repeat_a_row_and_count_nowhere() -> None:
    *_, last = batchers(masking(), pairs(5))[1].epoch(1, batch_size=4)
    short = min(batchers(masking(), pairs(5))[1].epoch(1, batch_size=4), key=lambda batch: batch.tokens)
    assert short.rows == last.rows == 4
    assert short.is_next.tolist()[1:] == [IGNORE_INDEX] * 3
    assert short.counts.tolist()[1:] == [1, short.tokens]
    assert (short.token_ids == short.token_ids[0]).all()
    assert short.masked_positions.max() < short.token_ids.shape[1]


def test_a_mask_is_left_out_where_rows_fill_the_longest_bucket_alone() -> None:
    word = [Pair(first=[5] * 10, second=[7] * size) for size in (3, 19)]  # rows of 16 and of 32 tokens
    for size, padded in ((0, True), (1, False)):
        host = Batcher(dataset=pair_dataset([word[size]] * 4), masking=masking(), seed=1)
        for batch in DeviceBatcher(host=host, device=CPU, max_positions=32).epoch(1, batch_size=3):
            assert int(batch.lengths.min()) == batch.token_ids.shape[1]
            assert batch.padded == padded


def test_a_cpu_takes_the_hosts_batches_and_any_other_device_its_own() -> None:
    host, _ = batchers(masking())
    assert batcher_for(host, CPU, max_positions=POSITIONS) is host
    made = batcher_for(host, torch.device("cuda", 1), max_positions=POSITIONS)
    assert made == DeviceBatcher(host=host, device=torch.device("cuda", 1), max_positions=POSITIONS)


# The same training


def settings(tiny: Params, **changes: Any) -> TrainParams:  # noqa: ANN401
    return dataclasses.replace(tiny.train, **({"epochs": 2, "batch_size": 8, "learning_rate": 3e-3} | changes))


def trained(
    batcher: Batcher | DeviceBatcher, train: TrainParams, *, dtype: torch.dtype, architecture: str = "bert"
) -> list[StepReport]:
    bert = tiny_bert(architecture, vocab_size=VOCAB, dropout=0.0, max_positions=POSITIONS, embedding_dim=12).to(dtype)
    objective = PretrainingObjective(bert)
    return list(train_steps(objective, make_optimizer(objective, train), batcher, train, device=CPU))


def differences(ours: list[StepReport], theirs: list[StepReport]) -> list[float]:
    """Return by how much the losses differ at each step, relative to them, after seeing that all else is equal."""
    assert [(r.step, r.epoch, r.ends_epoch) for r in ours] == [(r.step, r.epoch, r.ends_epoch) for r in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.tokens == other.tokens
        assert one.losses.mlm_tokens == other.losses.mlm_tokens
    values = [[(r.losses.mlm.item(), r.losses.nsp.item()) for r in reports] for reports in (ours, theirs)]
    return [
        max(abs(a - b) / max(abs(b), 1e-30) for a, b in zip(one, other, strict=True))
        for one, other in zip(*values, strict=True)
    ]


@pytest.mark.parametrize("rule", [None, *map(masking, UNITS)], ids=["stored", *UNITS])
@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("architecture", ["bert", "notebook"])
def test_losses_are_those_of_the_hosts_batches(
    tiny: Params, architecture: str, dtype: torch.dtype, most: float, rule: Masking | None
) -> None:
    train = settings(tiny)
    theirs, ours = (trained(batcher, train, dtype=dtype, architecture=architecture) for batcher in batchers(rule))
    assert len(ours) == 18
    assert max(differences(ours, theirs)) < most


@pytest.mark.parametrize("micro_batch_size", [1, 3, 5])
def test_a_step_in_several_passes_is_the_hosts_too(tiny: Params, micro_batch_size: int) -> None:
    host, resident = batchers(masking())
    ours = trained(resident, settings(tiny, micro_batch_size=micro_batch_size), dtype=torch.float64)
    theirs = trained(host, settings(tiny), dtype=torch.float64)
    assert max(differences(ours, theirs)) < 1e-12


def test_in_bfloat16_losses_are_those_of_the_host_within_its_rounding(tiny: Params) -> None:
    """A number has 8 bits there, and the CPU's own vocabulary loss is in float32: losses differ by half a percent."""
    train = settings(tiny, precision="bfloat16")
    theirs, ours = (trained(batcher, train, dtype=torch.float32) for batcher in batchers(masking()))
    exact = trained(batchers(masking())[0], settings(tiny), dtype=torch.float32)
    assert max(differences(ours, theirs)) < 2e-2
    assert max(differences(theirs, exact)) > 1e-4  # it was on


@pytest.mark.parametrize("size", [2, 5])
def test_shares_add_up_to_the_whole_step(tiny: Params, size: int) -> None:
    """With five processes, of a batch of three rows two have none."""
    train = settings(tiny)
    bert = tiny_bert("bert", vocab_size=VOCAB, dropout=0.0, max_positions=POSITIONS).double().train()
    objective = PretrainingObjective(bert)
    host, resident = batchers(masking())
    shared = zip(
        *(resident.epoch(1, batch_size=8, dp=DataParallelRank(rank=r, size=size)) for r in range(size)),
        strict=True,
    )
    for whole, parts in zip(host.epoch(1, batch_size=8), shared, strict=True):
        assert sum(part.counts for part in parts).tolist() == whole.counts.tolist()  # type: ignore[union-attr]
        found = [torch.stack(_backward(objective, part, whole.counts.double(), train, CPU)) for part in parts]
        ours = taken_gradients(bert)
        expected = torch.stack(_backward(objective, whole, whole.counts.double(), train, CPU))
        theirs = taken_gradients(bert)
        assert torch.allclose(torch.stack(found).sum(dim=0), expected, rtol=1e-6)
        for one, other in zip(ours, theirs, strict=True):
            assert torch.allclose(one, other, rtol=1e-9, atol=1e-13)


def taken_gradients(bert: torch.nn.Module) -> list[torch.Tensor]:
    gradients = [p.grad.to_dense() if p.grad.is_sparse else p.grad for p in bert.parameters() if p.grad is not None]
    for parameter in bert.parameters():
        parameter.grad = None
    return gradients


# No word to the host


class NoAnswers(TorchDispatchMode):
    """Refuses what tells the host a number, or makes a shape depend on one."""

    REFUSED = (
        "_local_scalar_dense", "item", "nonzero", "nonzero_static", "masked_select", "bincount", "is_nonzero", "equal",
        "_unique", "_unique2", "unique_dim", "unique_consecutive", "histc",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        name = func._schema.name.removeprefix("aten::")
        assert name not in self.REFUSED, name
        if name == "repeat_interleave":
            assert (kwargs or {}).get("output_size") is not None, name
        if name.startswith(("index", "_index")):
            indices = [index for index in torch.utils._pytree.tree_leaves(args[1:]) if torch.is_tensor(index)]
            assert all(index.dtype not in {torch.bool, torch.uint8} for index in indices[:1]), f"{name} by a mask"
        self.operations += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("rule", [None, *map(masking, UNITS)], ids=["stored", *UNITS])
def test_batches_are_made_without_asking_the_device(rule: Masking | None) -> None:
    batches = batchers(rule)[1].epoch(1, batch_size=8)
    first = next(batches)  # with it the window comes, for which the host waits once
    with NoAnswers() as watch:
        rest = list(batches)
        for batch in (first, *rest):
            batch.without_targets()
            list(batch.parts(3))
    assert len(rest) == 8
    assert watch.operations > 1000


@pytest.mark.parametrize("rule", [None, *map(masking, UNITS)], ids=["stored", *UNITS])
def test_masks_are_made_without_asking_the_device_but_for_their_numbers(rule: Masking | None) -> None:
    with NoAnswers() as watch:
        DeviceRows.of(ROWS, rule, seed=1, epoch=1, device=CPU)
    assert watch.operations > 5


def test_the_watch_sees_a_question() -> None:
    values = torch.arange(4)
    for ask in (
        lambda: int(values[2]),
        values.nonzero,
        lambda: values[values > 1],
        lambda: values.repeat_interleave(values),
    ):
        with NoAnswers(), pytest.raises(AssertionError):
            ask()


META = torch.device("meta")
"""A device whose tensors have no numbers at all: whatever asks for one fails."""


def on_meta(rows: DeviceRows) -> DeviceRows:
    tensors = {name: value.to(META) for name in DeviceRows.__slots__ if torch.is_tensor(value := getattr(rows, name))}
    return dataclasses.replace(rows, **tensors)


class Given:
    """Batches that are there already."""

    def __init__(self, batches: list[FixedBatch]) -> None:
        self.batches = batches

    def steps(self, epoch: int, *, batch_size: int) -> int:
        return len(self.batches)

    def epoch(
        self, epoch: int, *, batch_size: int, first_batch: int = 0, dp: DataParallelRank = SINGLE
    ) -> Iterator[Batch]:
        yield from self.batches


@pytest.mark.parametrize("micro_batch_size", ["all", 3])
@pytest.mark.parametrize("architecture", ["bert", "notebook"])
def test_whole_steps_are_taken_on_a_device_that_answers_nothing(
    tiny: Params, architecture: str, micro_batch_size: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch, losses, gradients and optimizer, with dropout, by the branches that a GPU takes and a CPU does not."""
    # Three things do not know such a device; what PyTorch's own kernels do within them is not for this test to see.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *given, **_: clip(*given, foreach=False))
    monkeypatch.setattr(import_module("torch.optim.adam"), "_device_dtype_check_for_fused", lambda *_: None)
    rows = on_meta(DeviceRows.of(ROWS, masking(), seed=1, epoch=1, device=CPU))
    batches = [rows.batch(first, 8, filled_to=8, limit=POSITIONS) for first in range(0, 24, 8)]
    train = settings(tiny, epochs=1, micro_batch_size=micro_batch_size)
    bert = tiny_bert(architecture, vocab_size=VOCAB, dropout=0.1, max_positions=POSITIONS).to(META)
    objective = PretrainingObjective(bert)
    reports = list(train_steps(objective, make_optimizer(objective, train), Given(batches), train, device=META))
    assert len(reports) == 3
    assert all(report.losses.mlm.is_meta and report.gradient_norm.is_meta for report in reports)
    with pytest.raises(RuntimeError):
        math.isfinite(reports[0].losses.mlm)


def test_a_step_on_the_cpu_asks_nothing_but_what_its_own_optimizer_does(tiny: Params) -> None:
    bert = tiny_bert("bert", vocab_size=VOCAB, dropout=0.0, max_positions=POSITIONS)
    objective = PretrainingObjective(bert).train()
    batch = next(batchers(masking())[1].epoch(1, batch_size=8))
    with NoAnswers() as watch:
        for part_rows in ("all", 3):
            _backward(objective, batch, batch.counts.double(), settings(tiny, micro_batch_size=part_rows), CPU)
        training_flops(bert.params, VOCAB, batch)
    assert watch.operations > 100


def test_the_shares_of_a_batch_have_equally_many_rows_fillers_among_them() -> None:
    """Also where rows are of very different lengths, and their number is odd."""
    long, short = Pair(first=[5] * 29, second=[6] * 29), Pair(first=[5], second=[6])
    data = pair_dataset([long, *[short] * 14])
    host = Batcher(dataset=data, masking=None, seed=5)
    resident = DeviceBatcher(host=host, device=CPU, max_positions=POSITIONS)
    batches = [list(resident.epoch(1, batch_size=15, dp=DataParallelRank(rank=rank, size=2))) for rank in range(2)]
    rows = sorted(batch.rows for batch in itertools.chain(*batches))
    real = sorted(int((batch.is_next != IGNORE_INDEX).sum()) for batch in itertools.chain(*batches))
    assert real == [7, 8]
    assert rows == [8, 8]
