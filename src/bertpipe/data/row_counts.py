"""Counts of rows, tokens and labels, which can be added up."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from bertpipe.data.pair_dataset import PairDataset
from bertpipe.data.records import FileRecord, SplitRecord

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_PERCENTILES = (50, 99)


def _sum(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sum of two histograms, of which one may be longer."""
    total = np.zeros(max(len(one), len(other)), dtype=np.int64)
    total[: len(one)] += one
    total[: len(other)] += other
    return total


@dataclass(slots=True, kw_only=True)
class RowCounts:
    """Counts of the rows of one split; subclasses count more."""

    rows: int = 0
    tokens: int = 0
    rows_cut: int = 0
    tokens_cut: int = 0
    rows_without_labels: int = 0
    supervised_tokens: int = 0
    next_rows: int = 0
    lengths: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64), metadata={"merge": _sum})
    """How many rows have each length."""
    label_counts: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(0, dtype=np.int64), metadata={"merge": _sum}
    )
    """How often each id is a label."""

    def add_rows(self, rows: PairDataset) -> None:
        """Count rows."""
        supervised = np.concatenate([[0], np.cumsum(rows.masked_labels != 0)])[rows.masked_offsets]
        self.rows += len(rows)
        self.tokens += len(rows.token_ids)
        self.rows_without_labels += int((np.diff(supervised) == 0).sum())
        self.supervised_tokens += int(supervised[-1])
        self.next_rows += int(rows.is_next.sum())
        self.lengths = _sum(self.lengths, np.bincount(rows.lengths))
        self.label_counts = _sum(self.label_counts, np.bincount(rows.masked_labels[rows.masked_labels != 0]))

    def add_cuts(self, tokens_cut: NDArray[np.int64]) -> None:
        """Count the tokens that were cut from each row."""
        self.rows_cut += int((tokens_cut > 0).sum())
        self.tokens_cut += int(tokens_cut.sum())

    def merge(self, other: Self) -> None:
        """Add what was counted elsewhere."""
        merge_counts(self, other)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts by name, the lengths as the median, the 99th percentile and the longest."""
        counts = {
            each.name: getattr(self, each.name) for each in fields(self) if each.metadata.get("merge") is not _sum
        }
        up_to = np.cumsum(self.lengths)
        below = {f"length_p{share}": int(np.searchsorted(up_to, share / 100 * self.rows)) for share in _PERCENTILES}
        return counts | below | {"longest_row": self.longest_row}

    @property
    def longest_row(self) -> int:
        """Tokens of the longest row."""
        return max(len(self.lengths) - 1, 0)

    def record(self, files: Sequence[FileRecord]) -> SplitRecord:
        """Return the record of the files with these rows."""
        return SplitRecord(files=tuple(files), longest_row=self.longest_row, label_counts=self.label_counts)


def merge_counts(counts: "DataclassInstance", other: "DataclassInstance") -> None:
    """Add the fields of other counts of the same class; `merge` in a field's metadata says how, if not by `+`."""
    for each in fields(counts):
        merge = each.metadata.get("merge", operator.add)
        setattr(counts, each.name, merge(getattr(counts, each.name), getattr(other, each.name)))
