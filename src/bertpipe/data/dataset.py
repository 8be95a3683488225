"""Sentence pairs in memory: ragged arrays, read from a Parquet split."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertpipe.artifacts import pair_schema, require
from bertpipe.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class PairDataset:
    """All rows of a split; row r's tokens are `token_ids[offsets[r]:offsets[r + 1]]`, its masks likewise."""

    token_ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    row: NDArray[np.int64]
    second_segment_start: NDArray[np.int32]
    is_next: NDArray[np.bool_]
    document: NDArray[np.int32]
    masked_offsets: NDArray[np.int64]
    masked_positions: NDArray[np.int32]
    masked_inputs: NDArray[np.int32]
    masked_labels: NDArray[np.int32]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.row)

    def label_counts(self, vocab_size: int) -> NDArray[np.int64]:
        """Return how often each id is a label of the stored masks; shape [vocab]."""
        return np.bincount(self.masked_labels[self.masked_labels != 0], minlength=vocab_size)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row; shape [rows]."""
        return np.diff(self.offsets)


def read_dataset(path: Path) -> PairDataset:
    """Return a split of the Parquet contract.

    Raises:
        MissingInputError: there is no such file.
        DataError: the file is not Parquet, or its columns are not those of the contract.
    """
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    require(path, made_by="bertpipe convert")
    try:
        with pq.ParquetFile(path) as file:  # read_table loads a data-set library that one file has no need of
            table = file.read(use_threads=False)  # its threads keep twice the memory, and gain little
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}; run `bertpipe convert` again") from error
    if not table.schema.equals(pair_schema()):
        raise DataError(f"{path} has columns {table.schema.names}, expected {pair_schema().names} of their types")
    columns = {name: table.column(name).combine_chunks() for name in table.schema.names}
    token_ids, offsets = _ragged(columns["token_ids"])
    masked_positions, masked_offsets = _ragged(columns["masked_positions"])
    return PairDataset(
        token_ids=token_ids,
        offsets=offsets,
        row=_values(columns["row"]),
        second_segment_start=_values(columns["second_segment_start"]),
        is_next=_values(columns["is_next"].cast(pa.uint8())).view(np.bool_),
        document=_values(columns["document"]),
        masked_offsets=masked_offsets,
        masked_positions=masked_positions,
        masked_inputs=_ragged(columns["masked_inputs"])[0],
        masked_labels=_ragged(columns["masked_labels"])[0],
    )


def _ragged(column: "object") -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    offsets = _values(column.offsets).astype(np.int64)  # type: ignore[attr-defined]
    values = _values(column.values)[offsets[0] : offsets[-1]]  # type: ignore[attr-defined]
    return values, offsets - offsets[0]


def _values(column: "object") -> NDArray[Any]:
    return np.from_dlpack(column)  # type: ignore[arg-type]  # Arrow's own to_numpy imports pandas
