"""Checked rows as the columns of the Parquet contract: cut to the longest length, their masks as sparse lists."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bertpipe.artifacts import pair_schema
from bertpipe.data.columns import RowColumns
from bertpipe.data.tokenization import MASK_ID

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRows:
    """Rows as they are stored; the flat arrays have one entry a token, or one a masked position."""

    token_ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    second_segment_start: NDArray[np.int32]
    is_next: NDArray[np.bool_]
    masked_positions: NDArray[np.int32]
    masked_inputs: NDArray[np.int32]
    masked_labels: NDArray[np.int32]
    masked_offsets: NDArray[np.int64]
    tokens_cut: NDArray[np.int64]
    """Tokens that each row has lost; shape [rows]."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.is_next)

    def table(self, *, first_row: int, documents: NDArray[np.int32]) -> "pa.Table":
        """Return the rows as an Arrow table of `pair_schema`, numbered from `first_row` on."""
        import pyarrow as pa  # noqa: PLC0415

        masked = self.masked_offsets.astype(np.int32)
        arrays = [
            _array(np.arange(first_row, first_row + len(self)), pa.int64()),
            _array(np.diff(self.offsets).astype(np.int32), pa.int32()),
            _lists(self.token_ids, self.offsets.astype(np.int32)),
            _array(self.second_segment_start, pa.int32()),
            _array(self.is_next.astype(np.uint8), pa.uint8()).cast(pa.bool_()),
            _array(documents, pa.int32()),
            *(_lists(part, masked) for part in (self.masked_positions, self.masked_inputs, self.masked_labels)),
        ]
        return pa.Table.from_arrays(arrays, schema=pair_schema())


def pack(rows: RowColumns, tokens: NDArray[np.int32], labels: NDArray[np.int32], *, max_length: int) -> PackedRows:
    """Return rows as they are stored.

    A row longer than `max_length` loses tokens from the end of its longer half, of B where both are as long.

    Args:
        rows: the rows; a position is masked where it has a label or reads `[MASK]`.
        tokens: the tokens to store, true ones where they are known; shape [tokens].
        labels: the labels to store; shape [tokens].
        max_length: tokens of the longest row, `[CLS]` and both `[SEP]` included.
    """
    lengths, starts = rows.lengths, rows.offsets[:-1]
    row = np.repeat(np.arange(len(rows)), lengths)
    position = np.arange(len(row)) - starts[row]
    is_masked = (rows.labels != 0) | (rows.inputs == MASK_ID)
    second_start = rows.second_segment_start.astype(np.int64)
    if len(rows) and lengths.max() > max_length:
        first_kept, second_kept = _kept(second_start - 2, lengths - second_start - 1, max_length - 3)
        in_first = position < second_start[row] - 1
        kept = np.where(
            in_first, position <= first_kept[row], position < (second_start + second_kept)[row]
        )  # the kept tokens of each half
        kept |= (position == second_start[row] - 1) | (position == lengths[row] - 1)  # and both [SEP]
        second_start = first_kept + 2
    else:
        kept = np.ones(len(row), dtype=np.bool_)
    new_lengths = np.bincount(row[kept], minlength=len(rows))
    offsets = np.concatenate([[0], np.cumsum(new_lengths)])
    masked = np.flatnonzero(is_masked[kept])
    new_row = row[kept]
    masked_counts = np.bincount(new_row[masked], minlength=len(rows))
    return PackedRows(
        token_ids=tokens[kept],
        offsets=offsets,
        second_segment_start=second_start.astype(np.int32),
        is_next=rows.is_next,
        masked_positions=(masked - offsets[new_row[masked]]).astype(np.int32),
        masked_inputs=rows.inputs[kept][masked],
        masked_labels=labels[kept][masked],
        masked_offsets=np.concatenate([[0], np.cumsum(masked_counts)]),
        tokens_cut=lengths - new_lengths,
    )


def _kept(
    first: NDArray[np.int64], second: NDArray[np.int64], room: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many tokens of A and of B stay if the longer one gives way until both fit into `room`."""
    fits = first + second <= room
    first_kept = np.where(fits, first, np.minimum(first, np.maximum(room - second, -(-room // 2))))
    return first_kept, np.where(fits, second, room - first_kept)


def _array(values: NDArray[np.generic], kind: "pa.DataType") -> "pa.Array":
    import pyarrow as pa  # noqa: PLC0415

    # pa.array would import pandas to see whether it has been given something of its.
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def _lists(values: NDArray[np.int32], offsets: NDArray[np.int32]) -> "pa.Array":
    import pyarrow as pa  # noqa: PLC0415

    return pa.ListArray.from_arrays(_array(offsets, pa.int32()), _array(values, pa.int32()))
