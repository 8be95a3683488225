"""Rows as they are stored: cut to the longest length, masks as sparse lists."""

import io

import numpy as np
import pytest

from bertpipe.data.pair_dataset import PairDataset
from bertpipe.data.parquet_writer import table_of
from bertpipe.sources.notebook.columns import RowColumns, read_block
from bertpipe.sources.notebook.conversion import pack
from bertpipe.sources.notebook.csv_reader import MemberReader
from datasets import GOOD, Fields, csv_text, row_fields


def read(rows: list[Fields]) -> RowColumns:
    (block,) = MemberReader(io.BytesIO(csv_text(rows).encode("utf-8")), "some.csv").blocks()
    found, faults = read_block(block, None)
    assert not faults
    return found


def long_row(first: int, second: int) -> list[str]:
    """Return a row of words 5, 6, ... and 100, 101, ..., all of them masked and labelled with themselves."""
    words_a, words_b = list(range(5, 5 + first)), list(range(100, 100 + second))
    return row_fields(
        [1, *[3] * first, 2, *[3] * second, 2],
        [0, *words_a, 0, *words_b, 0],
        [1] * (first + 2) + [2] * (second + 1),
    )


def packed(rows: list[Fields], max_length: int) -> tuple[PairDataset, list[int]]:
    """Return rows packed with their labels in the place of masked tokens, and how many tokens each has lost."""
    found = read(rows)
    tokens = np.where(found.labels > 0, found.labels, found.inputs)
    dataset, lost = pack(found, tokens, found.labels, np.arange(len(rows), dtype=np.int32), max_length=max_length)
    return dataset, lost.tolist()


@pytest.mark.parametrize(
    ("first", "second", "limit", "kept"),
    [
        (9, 3, 12, (6, 3)),  # only the longer half loses
        (3, 9, 12, (3, 6)),
        (9, 7, 13, (5, 5)),  # both, once they are equal
        (9, 7, 12, (5, 4)),  # of equals B loses first
        (5, 5, 13, (5, 5)),  # fits exactly
        (1, 50, 8, (1, 4)),
    ],
)
def test_a_long_row_loses_the_end_of_its_longer_half_and_masks_move_along(
    first: int, second: int, limit: int, kept: tuple[int, int]
) -> None:
    rows, lost = packed([long_row(2, 1), long_row(first, second), long_row(1, 2)], limit)
    (row,) = table_of(rows).slice(1, 1).to_pylist()
    words_a, words_b = list(range(5, 5 + kept[0])), list(range(100, 100 + kept[1]))
    assert (row["row"], row["document"]) == (1, 1)
    assert row["token_ids"] == [1, *words_a, 2, *words_b, 2]
    assert row["length"] == sum(kept) + 3 <= limit
    assert row["second_segment_start"] == kept[0] + 2
    assert row["masked_labels"] == [*words_a, *words_b]
    assert row["masked_inputs"] == [3] * sum(kept)
    assert row["masked_positions"] == [*range(1, kept[0] + 1), *range(kept[0] + 2, kept[0] + 2 + kept[1])]
    assert lost == [0, first + second - sum(kept), 0]


def test_a_mask_without_label_is_kept_unsupervised_and_a_row_may_have_no_label_at_all() -> None:
    unlabelled = row_fields([1, 5, 3, 2, 6, 2], [0] * 6, [1, 1, 1, 1, 2, 2])
    plain = row_fields([1, 5, 2, 6, 2], [0] * 5, [1, 1, 1, 2, 2])
    rows, _ = packed([unlabelled, plain, GOOD], 64)
    assert rows.masked_positions.tolist() == [2, 2]
    assert rows.masked_labels.tolist() == [0, 7]
    assert rows.masked_offsets.tolist() == [0, 1, 1, 2]
