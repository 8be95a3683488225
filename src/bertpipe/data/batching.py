"""Rows as padded batches with masks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from bertpipe.data.exchange import Dealt, Exchange, WindowShare, read_share
from bertpipe.data.masking import Masking
from bertpipe.data.pair_dataset import PairDataset, PairSource
from bertpipe.data.ragged import flat_indices, pad_rows, places_within
from bertpipe.data.sampling import SINGLE, DataParallelRank, WindowPlan, epoch_plans, length_plans, steps_of_epoch

if TYPE_CHECKING:
    from torch import Tensor

IGNORE_INDEX = -100
"""The label of a row or token that only fills a batch up and counts in no loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Padded rows and what to predict in them.

    Shapes: `token_ids` [batch, seq]; `lengths`, `second_segment_start` and `is_next` [batch]; `masked_positions`
    and `masked_labels` [masked], positions in the flattened [batch * seq], row after row.
    """

    token_ids: "Tensor"
    lengths: "Tensor"
    second_segment_start: "Tensor"
    is_next: "Tensor"
    masked_positions: "Tensor"
    masked_labels: "Tensor"
    query_positions: "Tensor"
    """Positions that the heads read: `[CLS]`, then the row's supervised ones, filled up with 0; [batch, queries]."""
    query_flat_index: "Tensor"
    """Where each row's `[CLS]`, then each supervised token, is in the flattened `query_positions`; [batch + masked]."""
    tokens: int
    """Real tokens, without padding."""

    @classmethod
    def of(cls, token_ids: "Tensor", *, masked_positions: "Tensor", tokens: int, **others: "Tensor") -> "Batch":
        """Return the batch of some rows on the CPU; the positions that the heads read follow from the masked ones."""
        rows, seq = token_ids.shape
        row, position = np.divmod(masked_positions.numpy(), seq)
        counts = np.bincount(row, minlength=rows)
        rank = 1 + places_within(counts)
        queries = np.zeros((rows, 1 + int(counts.max())), dtype=np.int64)
        queries[row, rank] = position
        cls_index = np.arange(rows) * queries.shape[1]
        return cls(
            token_ids=token_ids,
            masked_positions=masked_positions,
            query_positions=torch.from_numpy(queries),
            query_flat_index=torch.from_numpy(np.concatenate([cls_index, cls_index[row] + rank])),
            tokens=tokens,
            **others,
        )

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.token_ids.shape[0]

    @property
    def counts(self) -> "Tensor":
        """Numbers of supervised tokens, rows and tokens, without those that fill the batch up; int64, shape [3]."""
        counted = self.is_next != IGNORE_INDEX
        return torch.stack([(self.masked_labels != IGNORE_INDEX).sum(), counted.sum(), (self.lengths * counted).sum()])

    def without_targets(self) -> "Batch":
        """Return these rows without anything to predict, for a process that has no rows of its own in a pass."""
        return Batch.of(
            self.token_ids,
            lengths=self.lengths,
            second_segment_start=self.second_segment_start,
            is_next=torch.full_like(self.is_next, IGNORE_INDEX),
            masked_positions=self.masked_positions[:0],
            masked_labels=self.masked_labels[:0],
            tokens=0,
        )

    @property
    def padded(self) -> bool:
        """Whether any row is shorter than the others."""
        return self.tokens < self.token_ids.numel()

    @property
    def some_ignored(self) -> bool:
        """Whether some of `masked_labels` may be IGNORE_INDEX."""
        return False

    def parts(self, rows: int) -> Iterator["Batch"]:
        """Yield the batch, which is on the CPU, in parts of at most `rows` rows, in order."""
        if rows >= self.rows:
            yield self
            return
        seq = self.token_ids.shape[1]
        for start in range(0, self.rows, rows):
            end = min(start + rows, self.rows)
            first, last = torch.searchsorted(self.masked_positions, torch.tensor([start * seq, end * seq])).tolist()
            yield Batch.of(
                self.token_ids[start:end],
                lengths=self.lengths[start:end],
                second_segment_start=self.second_segment_start[start:end],
                is_next=self.is_next[start:end],
                masked_positions=self.masked_positions[first:last] - start * seq,
                masked_labels=self.masked_labels[first:last],
                tokens=int(self.lengths[start:end].sum()),
            )

    def to(self, device: "torch.device") -> "Batch":
        """Return the batch on a device; to a GPU it goes in one copy, for which the host does not wait."""
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
    "masked_positions", "masked_labels", "query_positions", "query_flat_index",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Batcher:
    """Makes the batches of a data set, with one window of it in memory at a time.

    Without `masking` the masks are those stored in the data set.
    """

    dataset: PairSource
    masking: Masking | None
    seed: int
    exchange: Exchange | None = None
    """How several processes share the reading; None: each reads all rows."""

    def steps(self, epoch: int, *, batch_size: int) -> int:
        """Return how many batches one training epoch has."""
        return steps_of_epoch(self.dataset.layout, batch_size=batch_size, seed=self.seed, epoch=epoch)

    def epoch(
        self, epoch: int, *, batch_size: int, first_batch: int = 0, dp: DataParallelRank = SINGLE
    ) -> Iterator[Batch]:
        """Yield the batches of one training epoch, from number `first_batch` on; of each, one process's rows.

        A process without rows in a batch gets one row of it, without targets.
        """
        for plan in self.plans(epoch, batch_size=batch_size, first_batch=first_batch):
            yield from self._batches(self.share(plan, dp), epoch)

    def plans(self, epoch: int, *, batch_size: int, first_batch: int = 0) -> Iterator[WindowPlan]:
        """Yield the windows of a training epoch, before their rows are read."""
        return epoch_plans(
            self.dataset.layout, batch_size=batch_size, seed=self.seed, epoch=epoch, first_batch=first_batch
        )

    def share(self, plan: WindowPlan, dp: DataParallelRank) -> WindowShare:
        """Return what one process has of a window of a training epoch."""

        def deal(batches: list[NDArray[np.intp]], lengths: NDArray[np.int64]) -> Callable[[int], Dealt]:
            takers = [dp.takers(lengths[rows]) for rows in batches]

            def of_rank(rank: int) -> Dealt:
                own = [rows[of == rank] for rows, of in zip(batches, takers, strict=True)]
                filled = [mine if len(mine) else rows[:1] for mine, rows in zip(own, batches, strict=True)]
                return Dealt(batches=filled, is_filler=[not len(mine) for mine in own])

            return of_rank

        return read_share(self.dataset, plan, deal, dp.rank, self.exchange)

    def in_length_order(self, *, batch_size: int, dp: DataParallelRank = SINGLE) -> Iterator[Batch]:
        """Yield every row once, for evaluation: shortest first within each window, which needs the least padding.

        Each of several processes gets every `size`-th batch.
        """
        done = 0

        def deal(batches: list[NDArray[np.intp]], _: NDArray[np.int64]) -> Callable[[int], Dealt]:
            def of_rank(rank: int) -> Dealt:
                own = batches[(rank - done) % dp.size :: dp.size]
                return Dealt(batches=own, is_filler=[False] * len(own))

            return of_rank

        layout = self.dataset.layout
        for plan in length_plans(layout, batch_size=batch_size):
            yield from self._batches(read_share(self.dataset, plan, deal, dp.rank, self.exchange), 0)
            done += -(-layout.count(plan.groups) // batch_size)

    def _batches(self, share: WindowShare, epoch: int) -> Iterator[Batch]:
        for rows, is_filler in zip(share.dealt.batches, share.dealt.is_filler, strict=True):
            batch = self.assemble(share.data, rows, epoch=epoch)
            yield batch.without_targets() if is_filler else batch

    def assemble(self, data: PairDataset, rows: NDArray[np.intp], *, epoch: int) -> Batch:
        """Return the batch of some rows of a window, in the order given."""
        token_ids, real = pad_rows(data.token_ids, data.offsets, rows)
        if self.masking is None:
            inputs, positions, labels = _stored_masks(data, rows, token_ids)
        else:
            identity = data.row[rows][:, None]
            columns = np.arange(token_ids.shape[1])[None, :]
            corruption = self.masking.corrupt(token_ids, identity, columns, seed=self.seed, epoch=epoch)
            inputs = corruption.inputs
            positions = np.flatnonzero(corruption.chosen & real)
            labels = token_ids.reshape(-1)[positions]
        return Batch.of(
            torch.from_numpy(inputs.astype(np.int64)),
            lengths=torch.from_numpy(data.lengths[rows]),
            second_segment_start=torch.from_numpy(data.second_segment_start[rows].astype(np.int64)),
            is_next=torch.from_numpy(data.is_next[rows].astype(np.int64)),
            masked_positions=torch.from_numpy(positions.astype(np.int64)),
            masked_labels=torch.from_numpy(labels.astype(np.int64)),
            tokens=int(real.sum()),
        )


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
