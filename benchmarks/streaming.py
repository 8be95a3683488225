"""A corpus larger than memory: ten copies of the IMDB training split, in processes that may take only so much memory.

The limit is Linux's RLIMIT_DATA, set once PyTorch is loaded and its threads have started. It counts the memory that a
process may write to and shares with nobody; an allocation beyond it fails, in NumPy, Arrow and PyTorch alike. RLIMIT_AS
counts libraries and address space that nobody touches as well, and RLIMIT_RSS has no effect.
"""

import itertools
import multiprocessing
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from benchmarks.measure import set_up
from benchmarks.rows import IMDB_VOCAB
from benchmarks.workers import peak_bytes
from bertpipe.core.artifacts import ROWS_PER_GROUP
from bertpipe.core.atomic import atomic_file
from bertpipe.core.params_file import load_params
from bertpipe.data.batching import Batch, Batcher
from bertpipe.data.layout import GROUPS_PER_WINDOW
from bertpipe.data.pair_dataset import PairDataset, PairFile, label_counts, read_dataset
from bertpipe.data.sampling import SINGLE, DataParallelRank
from bertpipe.model.bert import Bert
from bertpipe.training.loop import train_steps
from bertpipe.training.objective import PretrainingObjective
from bertpipe.training.optim import make_optimizer

COPIES = 10
LIMIT_BYTES = 5 << 28
PARAMS = Path(__file__).parent.parent / "params" / "imdb.yaml"
STEPS, STEPS_IN_FIRST_WINDOW = 300, 150


def larger_than_memory(work: Path) -> list[dict[str, Any]]:
    """Return what each way of reading takes for one copy of the corpus and for ten, and whether the limit lets it."""
    paths = {1: work / "full" / "parquet" / "train.parquet", COPIES: work / "streaming" / "train.parquet"}
    if not paths[COPIES].is_file():
        write_copies(paths[1], paths[COPIES], COPIES)
    tasks = {"an epoch of batches": WholeEpoch, f"{STEPS} training steps": Training, "all rows in memory": InMemory}
    return [
        {"work": name, "copies": copies, **limited(task(path), LIMIT_BYTES)}
        for name, task in tasks.items()
        for copies, path in paths.items()
    ]


def write_copies(path: Path, out: Path, copies: int) -> None:
    """Write a split so many times over as one file, `row` and `document` numbered on from copy to copy."""
    with pq.ParquetFile(path) as file:
        table = file.read(use_threads=False)
    waiting = table.slice(0, 0)
    with atomic_file(out) as temporary, pq.ParquetWriter(temporary, table.schema, compression="zstd") as writer:
        for copy in range(copies):
            waiting = pa.concat_tables([waiting, _renumbered(table, copy)])
            rows = len(waiting) if copy == copies - 1 else len(waiting) // ROWS_PER_GROUP * ROWS_PER_GROUP
            if rows:
                writer.write_table(waiting.slice(0, rows), row_group_size=ROWS_PER_GROUP)
            waiting = waiting.slice(rows)


def _renumbered(table: pa.Table, copy: int) -> pa.Table:
    for name in ("row", "document"):
        column, field = table.column(name), table.schema.field(name)
        first = copy * (pc.max(column).as_py() + 1)
        moved = pc.add(column, pa.scalar(first, field.type))
        table = table.set_column(table.schema.get_field_index(name), field, moved)
    return table


@dataclass(frozen=True, kw_only=True)
class CountingBatcher(Batcher):
    """A batcher that counts how often it gives each row."""

    times: NDArray[np.uint8]

    def assemble(self, data: PairDataset, rows: NDArray[np.intp], *, epoch: int) -> Batch:
        """Return the batch, after counting its rows."""
        np.add.at(self.times, data.row[rows], 1)
        return super().assemble(data, rows, epoch=epoch)


@dataclass(frozen=True)
class WholeEpoch:
    """Makes all batches of an epoch; every row has to come once."""

    path: Path

    def __call__(self) -> dict[str, Any]:
        """Return how many rows and tokens came."""
        file = PairFile(self.path)
        times = np.zeros(file.layout.rows, dtype=np.uint8)
        batcher = CountingBatcher(dataset=file, masking=None, seed=1, times=times)
        tokens = sum(batch.tokens for batch in batcher.epoch(1, batch_size=load_params(PARAMS).train.batch_size))
        if not (times == 1).all() or tokens != file.lengths.sum():
            raise AssertionError(f"of {len(times)} rows {(times == 1).sum()} came once; {tokens} tokens came")
        return {"rows": len(times), "tokens": tokens}


@dataclass(frozen=True, kw_only=True)
class LateBatcher(Batcher):
    """A batcher whose epochs begin shortly before the end of their first window."""

    def epoch(
        self, epoch: int, *, batch_size: int, first_batch: int = 0, dp: DataParallelRank = SINGLE
    ) -> Iterator[Batch]:
        """Yield the batches from there on."""
        passed_over = ROWS_PER_GROUP * GROUPS_PER_WINDOW // batch_size - STEPS_IN_FIRST_WINDOW
        return super().epoch(epoch, batch_size=batch_size, first_batch=first_batch + passed_over, dp=dp)


@dataclass(frozen=True)
class Training:
    """Takes steps as `params/imdb.yaml` has them, from one window into the next."""

    path: Path

    def __call__(self) -> dict[str, Any]:
        """Return how many rows and tokens were trained on."""
        params, file = load_params(PARAMS), PairFile(self.path)
        torch.manual_seed(params.train.seed)
        bert = Bert(params.model, IMDB_VOCAB)
        bert.init_mlm_bias(torch.from_numpy(label_counts(file, IMDB_VOCAB)))
        steps = train_steps(
            PretrainingObjective(bert),
            make_optimizer(bert, params.train),
            LateBatcher(dataset=file, masking=None, seed=params.train.seed),
            params.train,
            device=torch.device("cpu"),
        )
        reports = list(itertools.islice(steps, STEPS))
        return {
            "rows": sum(int(report.losses.nsp_rows) for report in reports),
            "tokens": sum(int(report.tokens) for report in reports),
        }


@dataclass(frozen=True)
class InMemory:
    """Reads the whole split into memory, which is what training once began with."""

    path: Path

    def __call__(self) -> dict[str, Any]:
        """Return how many rows and tokens were read."""
        data = read_dataset(self.path)
        return {"rows": len(data), "tokens": len(data.token_ids)}


def limited(task: Callable[[], dict[str, Any]], limit_bytes: int) -> dict[str, Any]:
    """Return what a task returns in a process of its own, how the process ended, and its memory in MB.

    `start_mb` is its peak before the task and the limit. A task that runs out of memory returns nothing.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(task, limit_bytes, theirs))
    process.start()
    theirs.close()
    try:
        result: dict[str, Any] = ours.recv()
    except EOFError:
        process.join()
        raise SystemExit(f"{task} ended with exit code {process.exitcode}") from None
    process.join()
    return result


def _run(task: Callable[[], dict[str, Any]], limit_bytes: int, connection: Connection) -> None:
    set_up()
    torch.randn(512, 512) @ torch.randn(512, 512)  # starts the threads: their stacks are not the task's
    start = peak_bytes()
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
    try:
        returned, ended = task(), "well"
    except MemoryError as error:
        returned, ended = {"rows": 0, "tokens": 0}, type(error).__name__
    memory = {"limit_mb": limit_bytes / 1e6, "start_mb": start / 1e6, "peak_mb": peak_bytes() / 1e6}
    connection.send({"ended": ended, **returned, **memory})
