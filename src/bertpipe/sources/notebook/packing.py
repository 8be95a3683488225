"""Checked rows as the columns of the Parquet contract: cut to the longest length, their masks as sparse lists."""

import numpy as np
from numpy.typing import NDArray

from bertpipe.data.pair_dataset import PairDataset
from bertpipe.data.ragged import places_within
from bertpipe.data.tokenization.fitting import kept_lengths
from bertpipe.data.tokenization.tokenizer import MASK_ID
from bertpipe.sources.notebook.columns import RowColumns


def pack(
    rows: RowColumns,
    tokens: NDArray[np.int32],
    labels: NDArray[np.int32],
    documents: NDArray[np.int32],
    *,
    max_length: int,
) -> tuple[PairDataset, NDArray[np.int64]]:
    """Return rows as they are stored, numbered from 0, and how many tokens each has lost, shape [rows].

    A row longer than `max_length` loses tokens from the end of its longer half, of B where both are as long.

    Args:
        rows: the rows; a position is masked where it has a label or reads `[MASK]`.
        tokens: the tokens to store, true ones where they are known; shape [tokens].
        labels: the labels to store; shape [tokens].
        documents: the document of each row; shape [rows].
        max_length: tokens of the longest row, `[CLS]` and both `[SEP]` included.
    """
    lengths = rows.lengths
    row = np.repeat(np.arange(len(rows)), lengths)
    position = places_within(lengths)
    is_masked = (rows.labels != 0) | (rows.inputs == MASK_ID)
    second_start = rows.second_segment_start.astype(np.int64)
    if len(rows) and lengths.max() > max_length:
        first_kept, second_kept = kept_lengths(second_start - 2, lengths - second_start - 1, max_length - 3)
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
    packed = PairDataset(
        token_ids=tokens[kept],
        offsets=offsets,
        row=np.arange(len(rows)),
        second_segment_start=second_start.astype(np.int32),
        is_next=rows.is_next,
        document=documents,
        masked_positions=(masked - offsets[new_row[masked]]).astype(np.int32),
        masked_inputs=rows.inputs[kept][masked],
        masked_labels=labels[kept][masked],
        masked_offsets=np.concatenate([[0], np.cumsum(masked_counts)]),
    )
    return packed, lengths - new_lengths
