"""Rows to batches: padding and masks."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bertpipe.data.masking import Masking
from bertpipe.data.pair_dataset import PairDataset, PairSource
from bertpipe.data.ragged import flat_indices, places_within
from bertpipe.data.sampling import SINGLE, DataParallelRank, Window, epoch_order, length_order, steps_of_epoch
from bertpipe.data.tokenization.tokenizer import PAD_ID

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
"""The label of a row, or of a place for a token, that fills a batch up and counts in no loss."""


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
    def counts(self) -> "Tensor":
        """How many supervised tokens, rows and tokens the batch has, fillers left out; int64, shape [3]."""
        counted = self.is_next != IGNORED
        return torch.stack([(self.masked_labels != IGNORED).sum(), counted.sum(), (self.lengths * counted).sum()])

    def idle(self) -> "Batch":
        """Return these rows with nothing asked of them: for a process that has to take part in a pass without work."""
        none = self.masked_positions[:0]
        head_positions, head_slots = _head_positions(none.numpy(), rows=self.rows, seq=self.token_ids.shape[1])
        return replace(
            self,
            tokens=0,
            is_next=torch.full_like(self.is_next, IGNORED),
            masked_positions=none,
            masked_labels=self.masked_labels[:0],
            head_positions=torch.from_numpy(head_positions),
            head_slots=torch.from_numpy(head_slots),
        )

    @property
    def padded(self) -> bool:
        """Whether any row is shorter than the others."""
        return self.tokens < self.token_ids.numel()

    @property
    def filled_up(self) -> bool:
        """Whether some of `masked_labels` may be IGNORED."""
        return False

    def parts(self, rows: int) -> Iterator["Batch"]:
        """Yield the batch in parts of at most `rows` rows, in order; all of it is on the CPU."""
        if rows >= self.rows:
            yield self
            return
        seq = self.token_ids.shape[1]
        for start in range(0, self.rows, rows):
            end = min(start + rows, self.rows)
            first, last = torch.searchsorted(self.masked_positions, torch.tensor([start * seq, end * seq])).tolist()
            positions = self.masked_positions[first:last] - start * seq
            head_positions, head_slots = _head_positions(positions.numpy(), rows=end - start, seq=seq)
            yield Batch(
                token_ids=self.token_ids[start:end],
                lengths=self.lengths[start:end],
                second_segment_start=self.second_segment_start[start:end],
                is_next=self.is_next[start:end],
                masked_positions=positions,
                masked_labels=self.masked_labels[first:last],
                head_positions=torch.from_numpy(head_positions),
                head_slots=torch.from_numpy(head_slots),
                tokens=int(self.lengths[start:end].sum()),
            )

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


class Batches(Protocol):
    """What training takes its batches from."""

    def steps(self, epoch: int, *, batch_size: int) -> int:
        """Return how many batches one training epoch has."""
        ...

    def epoch(
        self, epoch: int, *, batch_size: int, first_batch: int = 0, dp: DataParallelRank = SINGLE
    ) -> Iterator[Batch]:
        """Yield the batches of one training epoch, from number `first_batch` on; of each, the rows of one process."""
        ...


_TENSORS = (
    "token_ids", "lengths", "second_segment_start", "is_next",
    "masked_positions", "masked_labels", "head_positions", "head_slots",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Batcher:
    """Makes the batches of a data set, a window of it in memory at a time.

    `masking` None takes the masks that the data set stores.
    """

    dataset: PairSource
    masking: Masking | None
    seed: int

    def steps(self, epoch: int, *, batch_size: int) -> int:
        """Return how many batches one training epoch has."""
        return steps_of_epoch(self.dataset.layout, batch_size=batch_size, seed=self.seed, epoch=epoch)

    def epoch(
        self, epoch: int, *, batch_size: int, first_batch: int = 0, dp: DataParallelRank = SINGLE
    ) -> Iterator[Batch]:
        """Yield the batches of one training epoch, from number `first_batch` on; of each, the rows of one process.

        A process without rows in a batch gets one row of it that nothing is asked of.
        """
        for window in self.windows(epoch, batch_size=batch_size, first_batch=first_batch):
            yield from self._batches(window, epoch, dp)

    def windows(self, epoch: int, *, batch_size: int, first_batch: int = 0) -> Iterator[Window]:
        """Yield what is in memory together in a training epoch, and the rows of its batches."""
        data = self.dataset
        return epoch_order(
            data.lengths, data.layout, batch_size=batch_size, seed=self.seed, epoch=epoch, first_batch=first_batch
        )

    def in_length_order(self, *, batch_size: int, dp: DataParallelRank = SINGLE) -> Iterator[Batch]:
        """Yield every row once, shortest first within each window: the order with least padding, for evaluation.

        Each process gets whole batches: every `size`-th one.
        """
        number = 0
        for window in length_order(self.dataset.lengths, self.dataset.layout, batch_size=batch_size):
            first = (dp.rank - number) % dp.size
            number += len(window.batches)
            yield from self._batches(replace(window, batches=window.batches[first :: dp.size]), 0, SINGLE)

    def _batches(self, window: Window, epoch: int, dp: DataParallelRank) -> Iterator[Batch]:
        data = self.dataset.read(window.groups)  # gone before the next window comes: it ends with this function
        lengths = data.lengths
        for rows in window.batches:
            mine = rows[dp.of_rows(lengths[rows])]
            if len(mine):
                yield self.assemble(data, mine, epoch=epoch)
            else:
                yield self.assemble(data, rows[:1], epoch=epoch).idle()

    def assemble(self, data: PairDataset, rows: NDArray[np.intp], *, epoch: int) -> Batch:
        """Return the batch of the given rows of a window, in their order."""
        token_ids, real = padded(data.token_ids, data.offsets, rows)
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


def padded(
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
    rank = 1 + places_within(counts)
    positions = np.zeros((rows, 1 + int(counts.max())), dtype=np.int64)
    positions[row, rank] = position
    cls_slots = np.arange(rows) * positions.shape[1]
    return positions, np.concatenate([cls_slots, cls_slots[row] + rank])


def _stored_masks(
    data: PairDataset, rows: NDArray[np.intp], token_ids: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
    """Return inputs [batch, seq], supervised flat positions [masked] and labels [masked] from the stored masks."""
    source, offsets = flat_indices(data.masked_offsets, rows)
    flat = np.repeat(np.arange(len(rows)) * token_ids.shape[1], np.diff(offsets)) + data.masked_positions[source]
    inputs = token_ids.copy()
    inputs.reshape(-1)[flat] = data.masked_inputs[source]
    labels = data.masked_labels[source]
    return inputs, flat[labels != 0], labels[labels != 0]
