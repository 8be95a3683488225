"""Sorted runs on disk, through which workers hand on what is too much for the memory of one.

Whoever has found something writes it as runs, files sorted by a key; whoever needs all that is equal reads one part of
the keys from every run. So no process holds more than a run or a part, and parts are more where there are more rows.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bertpipe.core.errors import write_errors

ROWS_PER_RUN = ROWS_PER_PART = 1 << 20
"""Rows that a worker holds at most before it writes them, and about so many that it reads at a time."""
_KEYS = 1 << 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A file of rows, sorted by `key`, which is uint64."""

    path: Path
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A range of keys."""

    first: int
    last: int


def write_run(folder: Path, key: NDArray[np.uint64], **columns: Any) -> Run:  # noqa: ANN401
    """Write rows to a new file in `folder`, which all workers have to see; those with equal keys stay in their order.

    No name is used twice: work that is done again, because its worker was lost, disturbs no reader.

    Raises:
        WriteError: writing failed.
    """
    rows = pa.record_batch({"key": key, **columns}).take(np.argsort(key, kind="stable"))
    path = folder / f"{uuid4().hex}.arrow"
    with write_errors(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return Run(path=path, rows=len(key))


def read_part(run: Run, part: Part) -> pa.RecordBatch:
    """Return the rows of a run whose keys are in a part; nothing else of the file is read."""
    with pa.memory_map(str(run.path)) as source:
        rows = pa.ipc.open_file(source).get_batch(0)
    keys = rows["key"].to_numpy()
    begin = int(np.searchsorted(keys, np.uint64(part.first)))
    end = int(np.searchsorted(keys, np.uint64(part.last), side="right"))
    return rows.slice(begin, end - begin)


def read_run(run: Run) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a run, some at a time."""
    with pa.memory_map(str(run.path)) as source:
        rows = pa.ipc.open_file(source).get_batch(0)
    for begin in range(0, len(rows), 1 << 12):
        yield rows.slice(begin, 1 << 12)


def parts_of(runs: Iterable[Run]) -> Sequence[Part]:
    """Return the parts to read some runs by; their keys are taken to be spread evenly, as hashes are."""
    count = 1 + sum(run.rows for run in runs) // ROWS_PER_PART
    bounds = [number * _KEYS // count for number in range(count + 1)]
    return [Part(first=first, last=end - 1) for first, end in pairwise(bounds)]
