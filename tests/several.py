"""The same small trainings in any number of processes: a program for each of them, and a function for one."""

import dataclasses
import itertools
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from bertpipe.core.params import Parallel
from bertpipe.core.params_file import load_params
from bertpipe.data import pair_dataset as pair_dataset_module
from bertpipe.data.batching import Batcher
from bertpipe.data.pair_dataset import PairDataset, PairFile
from bertpipe.data.parquet_writer import table_of
from bertpipe.evaluation.evaluate import Evaluation, evaluate
from bertpipe.model.bert import Bert
from bertpipe.model.store import weights_sha256
from bertpipe.training.distributed.world import ALONE, World, init_distributed
from bertpipe.training.loop import StepReport, train_steps
from bertpipe.training.objective import PretrainingObjective
from bertpipe.training.optim import make_optimizer
from bertpipe.training.parallel import gather_network, wrap_parallel
from datasets import Pair, pair_dataset
from models import tiny_bert

VOCAB = 31
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One small training."""

    parallel: Parallel
    dtype: str = "float64"
    tied: bool = True
    architecture: str = "bert"
    optimizer: Literal["adamw", "muon"] = "adamw"
    micro_batch_size: int | str = "all"
    precision: str = "float32"

    @property
    def name(self) -> str:
        """What a test says it is."""
        return "-".join(str(value) for value in dataclasses.asdict(self).values())


CASES = [
    *(Case(parallel=parallel, dtype=dtype) for parallel in ("ddp", "fsdp") for dtype in ("float64", "float32")),
    *(Case(parallel=parallel, micro_batch_size=rows) for parallel in ("ddp", "fsdp") for rows in (1, 2)),
    *(Case(parallel=parallel, tied=False, architecture="notebook") for parallel in ("ddp", "fsdp")),
    *(Case(parallel=parallel, architecture="modern", optimizer="muon") for parallel in ("ddp", "fsdp")),
    *(Case(parallel=parallel, dtype="float32", precision="bfloat16") for parallel in ("ddp", "fsdp")),
]

IN_TWO_PARTS = [Case(parallel="ddp", dtype="float32"), Case(parallel="fsdp", dtype="float32")]


def rows() -> PairDataset:
    """Return rows of many lengths; of some batches of six, a process of several gets rows without any label."""
    pairs = []
    for number in range(26):  # the last batch has two rows: of four processes, two have none
        first = [5 + (number + at) % (VOCAB - 5) for at in range(1 + number % 5)]
        second = [5 + (3 * number + at) % (VOCAB - 5) for at in range(1 + number % 4)]
        masks = {1: (4, first[0]), len(first) + 2: (4, second[0])} if number % 3 == 0 else {}
        pairs.append(Pair(first=first, second=second, is_next=number % 2 == 0, masks=masks))
    return pair_dataset(pairs)


def write_rows(path: Path) -> Path:
    """Write enough rows for several windows of eight row groups of two rows, and return the path."""
    many = rows().take(np.arange(52) % 26)
    pq.write_table(table_of(dataclasses.replace(many, row=np.arange(52))), path, row_group_size=2)
    return path


def run(case: Case, world: World = ALONE, *, stop_after: int | None = None) -> dict[str, Any]:
    """Return what a case comes to: figures of each step, the evaluation after it, and a digest of the weights.

    After step `stop_after` all but weights and the optimizer's memory is made again.
    """
    train = dataclasses.replace(
        load_params(Path(__file__).parent.parent / "params" / "tiny.yaml").train,
        epochs=2, batch_size=6, learning_rate=2e-3, max_grad_norm=0.5, nsp_weight=0.7,
        micro_batch_size=case.micro_batch_size, precision=case.precision,
        optimizer=case.optimizer,
    )  # fmt: skip
    batcher = Batcher(dataset=rows(), masking=None, seed=3)
    bert = network(case)
    objective = wrap_parallel(PretrainingObjective(bert), world, case.parallel)
    optimizer = make_optimizer(objective, train)
    steps = []
    for report in train_steps(objective, optimizer, batcher, train, device=CPU, world=world):
        steps.append(figures(report))
        if report.step == stop_after:
            break
    if stop_after is not None:
        bert = network(case)
        bert.load_state_dict(gather_network(objective).state_dict())
        remembered = optimizer.tensors()
        objective = wrap_parallel(PretrainingObjective(bert), world, case.parallel)
        optimizer = make_optimizer(objective, train)
        optimizer.restore(remembered, world)
        rest = train_steps(objective, optimizer, batcher, train, device=CPU, world=world, steps_done=stop_after)
        steps += [figures(report) for report in rest]
    whole = gather_network(objective)
    sizes = np.arange(VOCAB) % 4
    sums = evaluate(whole, batcher, batch_size=4, device=CPU, token_bytes=sizes, dp=world.dp)
    evaluation = dataclasses.asdict(Evaluation.of(sums.reduced(world.all_reduce_sum)))
    confusion = [list(counts) for counts in evaluation.pop("nsp_confusion")]
    return {"steps": steps, "evaluation": evaluation, "confusion": confusion, "weights": weights_sha256(whole)}


def network(case: Case) -> Bert:
    """Return the network that a case begins with."""
    bert = tiny_bert(case.architecture, vocab_size=VOCAB, tied=case.tied, dropout=0.0)
    return bert.to(getattr(torch, case.dtype))


def figures(report: StepReport) -> list[float]:
    """Return the numbers of a step."""
    losses = report.losses
    counts = (losses.mlm_tokens, losses.nsp_rows, report.tokens, report.flops)
    return [figure.item() for figure in (losses.mlm, losses.nsp, report.gradient_norm, *counts)]


def counted_reads(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count from now on, by file name, the bytes of the columns of the row groups that this process reads."""
    counts: dict[str, int] = {}
    opened = pair_dataset_module.opened_parquet

    class Counting:
        def __init__(self, path: Path, file: pq.ParquetFile) -> None:
            self.path, self.file, self.metadata, self.schema_arrow = path, file, file.metadata, file.schema_arrow

        def read_row_group(self, group: int, **options: Any) -> pa.Table:  # noqa: ANN401
            columns = self.metadata.row_group(group)
            size = sum(columns.column(number).total_compressed_size for number in range(columns.num_columns))
            counts[self.path.name] = counts.get(self.path.name, 0) + size
            return self.file.read_row_group(group, **options)

    @contextmanager
    def counting(path: Path) -> Iterator[Any]:
        with opened(path) as file:
            yield Counting(path, file)

    monkeypatch.setattr(pair_dataset_module, "opened_parquet", counting)
    return counts


def shared_run(data: Path, world: World = ALONE) -> dict[str, Any]:
    """Return the losses of two epochs over many windows, the evaluation, and the bytes that this process reads."""
    train = dataclasses.replace(
        load_params(Path(__file__).parent.parent / "params" / "tiny.yaml").train, epochs=2, batch_size=6
    )
    with pytest.MonkeyPatch.context() as patch:
        counts = counted_reads(patch)
        file = PairFile(data, rows_per_group=2, groups_per_window=8)
        batcher = Batcher(dataset=file, masking=None, seed=3, exchange=world.exchange())
        case = Case(parallel="ddp")
        objective = wrap_parallel(PretrainingObjective(network(case)), world, case.parallel)
        optimizer = make_optimizer(objective, train)
        half = train_steps(objective, optimizer, batcher, train, device=CPU, world=world)
        steps = [figures(report) for report in itertools.islice(half, 9)]
        read = counts[data.name]
        rest = train_steps(objective, optimizer, batcher, train, device=CPU, world=world, steps_done=9)
        steps += [figures(report) for report in rest]  # begins in the midst of a window
        sums = evaluate(gather_network(objective), batcher, batch_size=4, device=CPU, dp=world.dp)
        evaluation = dataclasses.asdict(Evaluation.of(sums.reduced(world.all_reduce_sum)))
    return {"steps": steps, "loss": evaluation["mlm_loss"], "rows": evaluation["rows"], "bytes": read}


def main() -> None:
    """Run all cases in several processes, and write what each process has found."""
    torch.set_num_threads(1)
    with init_distributed("cpu", timeout_s=60) as world:
        found = {case.name: run(case, world) for case in CASES}
        found |= {f"{case.name} in two parts": run(case, world, stop_after=7) for case in IN_TWO_PARTS}
        found["shared"] = shared_run(Path(sys.argv[2]), world)
        everyone = world._gathered(found)
    if world.is_main:
        Path(sys.argv[1]).write_text(json.dumps(everyone), encoding="utf-8")


if __name__ == "__main__":
    main()
