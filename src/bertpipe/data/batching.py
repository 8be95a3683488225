"""Rows to batches: the order of an epoch, padding and masks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from bertpipe.artifacts import ROWS_PER_GROUP
from bertpipe.data.dataset import PairDataset
from bertpipe.data.masking import Masking
from bertpipe.data.randomness import random_bits
from bertpipe.data.tokenization import PAD_ID

if TYPE_CHECKING:
    from torch import Tensor

_GROUP_ORDER, _ROW_ORDER, _BATCH_ORDER = range(20, 23)  # streams of randomness, one a kind of choice
_GROUPS_PER_WINDOW = 16
"""Row groups that are shuffled together: what a streaming reader has to hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Padded rows and what to predict of them.

    Shapes: `token_ids` [batch, seq]; `lengths`, `second_segment_start` and `is_next` [batch]; `masked_positions`
    and `masked_labels` [masked], positions counted through the flattened [batch * seq], row after row.
    """

    token_ids: "Tensor"
    lengths: "Tensor"
    second_segment_start: "Tensor"
    is_next: "Tensor"
    masked_positions: "Tensor"
    masked_labels: "Tensor"
    head_positions: "Tensor"
    """Positions that the heads read: `[CLS]`, then the row's supervised ones, filled up with 0; [batch, queries]."""
    head_slots: "Tensor"
    """Where in the flattened `head_positions` each row's `[CLS]` stands, then where each supervised token does; shape
    [batch + masked]."""
    tokens: int
    """Real tokens, padding not counted."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.token_ids.shape[0]

    @property
    def padded(self) -> bool:
        """Whether any row is shorter than the others."""
        return self.tokens < self.token_ids.numel()

    def to(self, device: "torch.device") -> "Batch":
        """Return the batch on a device; on a GPU in one copy that the host does not wait for."""
        if device.type == "cpu":
            return self
        tensors = {name: getattr(self, name) for name in _TENSORS}
        flat = torch.cat([tensor.flatten() for tensor in tensors.values()])
        if device.type == "cuda":
            flat = flat.pin_memory()
        flat = flat.to(device, non_blocking=True)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors.values()])
        moved = {name: part.view(tensors[name].shape) for name, part in zip(tensors, parts, strict=True)}
        return Batch(tokens=self.tokens, **moved)


_TENSORS = (
    "token_ids", "lengths", "second_segment_start", "is_next",
    "masked_positions", "masked_labels", "head_positions", "head_slots",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Batcher:
    """Makes the batches of a data set; `masking` None takes the masks that the data set stores."""

    dataset: PairDataset
    masking: Masking | None
    seed: int

    def epoch(self, epoch: int, *, batch_size: int, first_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of one training epoch, from number `first_batch` on."""
        for rows in epoch_order(self.dataset.lengths, batch_size=batch_size, seed=self.seed, epoch=epoch)[first_batch:]:
            yield self.assemble(rows, epoch=epoch)

    def in_length_order(self, *, batch_size: int) -> Iterator[Batch]:
        """Yield every row once, shortest first: the order with least padding, for evaluation."""
        order = np.argsort(self.dataset.lengths, kind="stable")
        for start in range(0, len(order), batch_size):
            yield self.assemble(order[start : start + batch_size], epoch=0)

    def assemble(self, rows: NDArray[np.intp], *, epoch: int) -> Batch:
        """Return the batch of the given rows, in their order."""
        data = self.dataset
        token_ids, real = _padded(data.token_ids, data.offsets, rows)
        if self.masking is None:
            inputs, positions, labels = _stored_masks(data, rows, token_ids)
        else:
            identity = data.row[rows][:, None]
            columns = np.arange(token_ids.shape[1])[None, :]
            corruption = self.masking.corrupt(token_ids, identity, columns, seed=self.seed, epoch=epoch)
            inputs = corruption.inputs
            positions = np.flatnonzero(corruption.chosen & real)
            labels = token_ids.reshape(-1)[positions]
        head_positions, head_slots = _head_positions(positions, rows=len(rows), seq=token_ids.shape[1])
        return Batch(
            token_ids=torch.from_numpy(inputs.astype(np.int64)),
            lengths=torch.from_numpy(data.lengths[rows]),
            second_segment_start=torch.from_numpy(data.second_segment_start[rows].astype(np.int64)),
            is_next=torch.from_numpy(data.is_next[rows].astype(np.int64)),
            masked_positions=torch.from_numpy(positions.astype(np.int64)),
            masked_labels=torch.from_numpy(labels.astype(np.int64)),
            head_positions=torch.from_numpy(head_positions),
            head_slots=torch.from_numpy(head_slots),
            tokens=int(real.sum()),
        )


def epoch_order(lengths: NDArray[np.int64], *, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.intp]]:
    """Return the rows of each batch of an epoch: a pure function of the lengths, the seed and the epoch.

    Row groups are permuted and read in windows. Within a window the rows are shuffled, sorted by length (so that a
    batch holds rows of about equal length, with little padding), cut into batches, and the batches shuffled.

    Args:
        lengths: tokens of each row, shape [rows].
        batch_size: rows a batch; the last batch of a window may have fewer.
        seed: seed of the order.
        epoch: number of the epoch; another epoch has another order.
    """
    groups = np.arange(-(-len(lengths) // ROWS_PER_GROUP))
    groups = groups[np.argsort(random_bits(seed, _GROUP_ORDER, epoch, groups), kind="stable")]
    batches: list[NDArray[np.intp]] = []
    for start in range(0, len(groups), _GROUPS_PER_WINDOW):
        window = groups[start : start + _GROUPS_PER_WINDOW]
        rows = np.concatenate(
            [np.arange(g * ROWS_PER_GROUP, min((g + 1) * ROWS_PER_GROUP, len(lengths))) for g in window]
        )
        rows = rows[np.argsort(random_bits(seed, _ROW_ORDER, epoch, rows), kind="stable")]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        cut = [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
        order = np.argsort(random_bits(seed, _BATCH_ORDER, epoch, start, np.arange(len(cut))), kind="stable")
        batches.extend(cut[index] for index in order)
    return batches


def _padded(
    values: NDArray[np.int32], offsets: NDArray[np.int64], rows: NDArray[np.intp]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the rows' values as a [batch, seq] matrix filled up with `[PAD]`, and which of its cells are real."""
    starts, lengths = offsets[rows], offsets[rows + 1] - offsets[rows]
    columns = np.arange(int(lengths.max()))
    real = columns[None, :] < lengths[:, None]
    padded = np.full(real.shape, PAD_ID, dtype=np.int32)
    padded[real] = values[(starts[:, None] + columns[None, :])[real]]
    return padded, real


def _head_positions(
    masked_positions: NDArray[np.int64], *, rows: int, seq: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return `head_positions` and `head_slots` of a `Batch`."""
    row, position = np.divmod(masked_positions, seq)
    counts = np.bincount(row, minlength=rows)
    rank = 1 + np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    positions = np.zeros((rows, 1 + int(counts.max())), dtype=np.int64)
    positions[row, rank] = position
    cls_slots = np.arange(rows) * positions.shape[1]
    return positions, np.concatenate([cls_slots, cls_slots[row] + rank])


def _stored_masks(
    data: PairDataset, rows: NDArray[np.intp], token_ids: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
    """Return inputs [batch, seq], supervised flat positions [masked] and labels [masked] from the stored masks."""
    counts = data.masked_offsets[rows + 1] - data.masked_offsets[rows]
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    source = np.repeat(data.masked_offsets[rows], counts) + within
    flat = np.repeat(np.arange(len(rows)) * token_ids.shape[1], counts) + data.masked_positions[source]
    inputs = token_ids.copy()
    inputs.reshape(-1)[flat] = data.masked_inputs[source]
    labels = data.masked_labels[source]
    return inputs, flat[labels != 0], labels[labels != 0]
