"""Sentence pairs in memory: ragged arrays, read from a Parquet split."""

from dataclasses import dataclass
from pathlib import Path

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
        table = pq.read_table(path)
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
        row=columns["row"].to_numpy(),
        second_segment_start=columns["second_segment_start"].to_numpy(),
        is_next=columns["is_next"].to_numpy(zero_copy_only=False),
        document=columns["document"].to_numpy(),
        masked_offsets=masked_offsets,
        masked_positions=masked_positions,
        masked_inputs=_ragged(columns["masked_inputs"])[0],
        masked_labels=_ragged(columns["masked_labels"])[0],
    )


def _ragged(column: "object") -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    offsets = column.offsets.to_numpy().astype(np.int64)  # type: ignore[attr-defined]
    values = column.values.to_numpy()[offsets[0] : offsets[-1]]  # type: ignore[attr-defined]
    return values, offsets - offsets[0]
