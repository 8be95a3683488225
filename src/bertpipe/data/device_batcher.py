"""Rows that stay on the device: a window's tokens are sent there once, masked there, and batched there.

The host's part of a step is to know its rows' lengths and its counts of supervised tokens. The batches are those of
`Batcher`, row by row and mask by mask, filled up to a few fixed shapes.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertpipe.data.batching import IGNORED, Batch, Batcher, Batches
from bertpipe.data.device_masking import TensorMasking
from bertpipe.data.fixed_batch import FixedBatch, Room, bucket_length
from bertpipe.data.masking import Masking
from bertpipe.data.pair_dataset import PairDataset, PairSource
from bertpipe.data.sampling import SINGLE, DataParallelRank, Window
from bertpipe.data.tokenization.tokenizer import PAD_ID

_STORED_RATE = 0.2
"""The share of the tokens that stored masks supervise: the notebook's; ours are fewer. See `Room`: a guess will do."""
_TOGETHER = {"token": 1.0, "word": 2.0, "span": 8.0}
"""Tokens that are chosen at a time, by the unit of masking: ample, for words of two pieces and spans of four words."""
_TOKENS_AT_ONCE = 2**20
"""Tokens masked together; each takes about a hundred bytes while that lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidentBatcher:
    """Makes the training batches of a `Batcher` on a device.

    Where masks are dynamic the host waits for the device once a window, to learn how many tokens of each row were
    chosen; within a window it never does.
    """

    host: Batcher
    device: torch.device
    max_positions: int
    """Of the model: no batch is padded beyond it."""

    def steps(self, epoch: int, *, batch_size: int) -> int:
        """Return how many batches one training epoch has."""
        return self.host.steps(epoch, batch_size=batch_size)

    def epoch(
        self, epoch: int, *, batch_size: int, first_batch: int = 0, dp: DataParallelRank = SINGLE
    ) -> Iterator[Batch]:
        """Yield the batches of one training epoch, from number `first_batch` on; of each, the rows of one process."""
        windows = self.host.windows(epoch, batch_size=batch_size, first_batch=first_batch)
        for window, data in prefetch(self.host.dataset, windows):
            batches = self._batches(window, data, epoch, batch_size, dp)
            del data  # theirs alone, so that it is gone before the next but one is read
            yield from batches

    def _batches(
        self, window: Window, data: PairDataset, epoch: int, batch_size: int, dp: DataParallelRank
    ) -> Iterator[Batch]:
        lengths = data.lengths
        mine = [rows[dp.of_rows(lengths[rows])] for rows in window.batches]
        taken = [own if len(own) else rows[:1] for own, rows in zip(mine, window.batches, strict=True)]
        rows = ResidentRows.of(
            data.take(np.concatenate(taken)), self.host.masking, seed=self.host.seed, epoch=epoch, device=self.device
        )
        del data
        most = -(-batch_size // dp.size)  # rows of one process
        first = 0
        for own, sent in zip(mine, taken, strict=True):
            batch = rows.batch(first, len(sent), filled_to=most, limit=self.max_positions)
            yield batch if len(own) else batch.idle()
            first += len(sent)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidentRows:
    """Rows on a device, one after the other, with the masks of an epoch."""

    inputs: Tensor
    """What the model reads; int32, [tokens]."""
    labels: Tensor
    """What it should say, or IGNORED; int32, [tokens]."""
    offsets: Tensor
    """Row r's tokens are `inputs[offsets[r]:offsets[r + 1]]`; [rows + 1]."""
    second_segment_start: Tensor
    is_next: Tensor
    lengths: NDArray[np.int64]
    """As the host knows them; [rows]."""
    supervised: NDArray[np.int64]
    """How many supervised tokens each row has, as the host knows it; [rows]."""
    room: Room

    @classmethod
    def of(
        cls, data: PairDataset, masking: Masking | None, *, seed: int, epoch: int, device: torch.device
    ) -> "ResidentRows":
        """Return rows on a device, masked by a rule, or as they are stored where it is None."""
        token_ids, offsets = _sent(data.token_ids, device), _sent(data.offsets, device)
        if masking is None:
            room = Room(rate=_STORED_RATE, together=1.0)
            inputs, labels, supervised = _stored_masks(data, token_ids)
        else:
            room = Room(rate=masking.rate, together=_TOGETHER[masking.unit])
            inputs, labels = _masked(TensorMasking.of(masking, device), data, token_ids, seed=seed, epoch=epoch)
            counted = torch.cumsum(labels != IGNORED, 0)
            before = torch.cat([counted.new_zeros(1), counted])[offsets]
            supervised = before.diff().cpu().numpy()  # the one wait of a window
        return cls(
            inputs=inputs,
            labels=labels,
            offsets=offsets,
            second_segment_start=_sent(data.second_segment_start.astype(np.int64), device),
            is_next=_sent(data.is_next.astype(np.int64), device),
            lengths=data.lengths,
            supervised=supervised,
            room=room,
        )

    def batch(self, first: int, count: int, *, filled_to: int, limit: int) -> FixedBatch:
        """Return some rows as a batch.

        Args:
            first: number of the first row.
            count: how many rows.
            filled_to: how many the batch is to have; the others repeat the first one, and nothing is asked of them.
            limit: most positions of a batch.
        """
        device, numbers = self.inputs.device, slice(first, first + count)
        lengths = self.lengths[numbers]
        seq = bucket_length(int(lengths.max()), limit=limit)
        place = torch.arange(filled_to, device=device)
        is_real = place < count
        rows = first + torch.where(is_real, place, 0)
        starts, ends = self.offsets[rows], self.offsets[rows + 1]
        columns = torch.arange(seq, device=device)
        is_token = columns < (ends - starts)[:, None]
        index = (starts[:, None] + columns).clamp(max=len(self.inputs) - 1)
        return FixedBatch.of(
            token_ids=torch.where(is_token, self.inputs[index], PAD_ID).long(),
            labels=torch.where(is_token & is_real[:, None], self.labels[index], IGNORED).long(),
            lengths=ends - starts,
            second_segment_start=self.second_segment_start[rows],
            is_next=torch.where(is_real, self.is_next[rows], IGNORED),
            supervised=_filled(self.supervised[numbers], filled_to),
            real_lengths=_filled(lengths, filled_to),
            room=self.room,
            # Only the longest bucket is ever without a mask: rows cut to the limit fill it. Elsewhere it would double
            # the number of shapes for a few batches.
            full=seq == limit and int(lengths.min()) == seq,
        )


def is_resident(device: torch.device) -> bool:
    """Return whether training on a device has its batches made there, in fixed shapes.

    A GPU does. On a CPU the host's own are faster: they are padded no further than the longest row, and masks cost work
    for the chosen tokens alone.
    """
    return device.type != "cpu"


def batcher_for(host: Batcher, device: torch.device, *, max_positions: int) -> Batches:
    """Return what makes the batches of `host` for training on a device."""
    return ResidentBatcher(host=host, device=device, max_positions=max_positions) if is_resident(device) else host


def _masked(
    masking: TensorMasking, data: PairDataset, token_ids: Tensor, *, seed: int, epoch: int
) -> tuple[Tensor, Tensor]:
    """Return inputs and labels under dynamic masks, some whole rows after the other."""
    device, lengths = token_ids.device, data.lengths
    cuts = np.unique(
        [*np.searchsorted(data.offsets, np.arange(0, len(token_ids), _TOKENS_AT_ONCE)), len(data)]
    ).tolist()
    parts = []
    for first, last in itertools.pairwise(cuts):
        begin, end = int(data.offsets[first]), int(data.offsets[last])
        counts = _sent(lengths[first:last], device)
        rows, starts = (
            _sent(values, device).repeat_interleave(counts, output_size=end - begin)
            for values in (data.row[first:last], data.offsets[first:last])
        )
        true = token_ids[begin:end]
        positions = torch.arange(begin, end, device=device) - starts
        chosen, inputs = masking.corrupt(true, rows, positions, seed=seed, epoch=epoch)
        parts.append((inputs, torch.where(chosen, true, IGNORED)))
    return torch.cat([inputs for inputs, _ in parts]), torch.cat([labels for _, labels in parts])


def _stored_masks(data: PairDataset, token_ids: Tensor) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Return inputs, labels and each row's number of supervised tokens under the masks that the data store."""
    counts = np.diff(data.masked_offsets)
    row = np.repeat(np.arange(len(data)), counts)
    places = _sent(data.offsets[row] + data.masked_positions, token_ids.device)
    stored_labels = np.where(data.masked_labels != 0, data.masked_labels, IGNORED).astype(np.int32)
    inputs = token_ids.scatter(0, places, _sent(data.masked_inputs, token_ids.device))
    labels = torch.full_like(token_ids, IGNORED).scatter_(0, places, _sent(stored_labels, token_ids.device))
    return inputs, labels, np.bincount(row[data.masked_labels != 0], minlength=len(data))


def _sent(values: NDArray[Any], device: torch.device) -> Tensor:
    """Return an array on a device; on a GPU by a copy that the host does not wait for."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _filled(values: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return np.concatenate([values, np.zeros(count - len(values), dtype=np.int64)])


def prefetch(source: PairSource, windows: Iterable[Window]) -> Iterator[tuple[Window, PairDataset]]:
    """Yield each window with its rows; two windows are in memory at most, if the caller lets go of one for the next.

    Raises:
        DataError: a window cannot be read; those before it were yielded.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader") as reader:
        coming: deque[tuple[Window, Future[PairDataset]]] = deque()
        for window in windows:
            coming.append((window, reader.submit(source.read, window.groups)))
            if len(coming) > 1:
                yield _arrived(*coming.popleft())
        while coming:
            yield _arrived(*coming.popleft())


def _arrived(window: Window, rows: Future[PairDataset]) -> tuple[Window, PairDataset]:
    return window, rows.result()
