"""Batches made on a device: a window's tokens are sent there once, then masked and batched there.

The host only knows the rows' lengths and their numbers of supervised tokens. The batches have the rows and masks of
`Batcher`, filled up to a few fixed shapes.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertpipe.data.batching import IGNORE_INDEX, Batch, Batcher
from bertpipe.data.device.fixed_batch import FixedBatch, ShapeBudget, bucket_length
from bertpipe.data.device.masking import DeviceMasking
from bertpipe.data.exchange import WindowShare
from bertpipe.data.masking import Masking
from bertpipe.data.pair_dataset import PairDataset
from bertpipe.data.sampling import SINGLE, DataParallelRank
from bertpipe.data.tokenization.tokenizer import PAD_ID

_Plan = TypeVar("_Plan")
_Rows = TypeVar("_Rows")

_STORED_RATE = 0.2
"""Share of the tokens that the notebook's stored masks supervise; others supervise fewer, but a guess is enough."""
_TOKENS_PER_CHOICE = {"token": 1.0, "word": 2.0, "span": 8.0}
"""Tokens chosen together by each unit of masking: enough for words of two pieces and spans of four words."""
_TOKENS_AT_ONCE = 2**20
"""Tokens masked together; each takes about a hundred bytes meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceBatcher:
    """Makes the training batches of a `Batcher` on a device.

    With dynamic masks the host waits for the device once per window, to learn how many tokens of each row were chosen;
    within a window it never waits.
    """

    host: Batcher
    device: torch.device
    max_positions: int
    """Positions of the model: no batch is padded to more."""

    def steps(self, epoch: int, *, batch_size: int) -> int:
        """Return how many batches one training epoch has."""
        return self.host.steps(epoch, batch_size=batch_size)

    def epoch(
        self, epoch: int, *, batch_size: int, first_batch: int = 0, dp: DataParallelRank = SINGLE
    ) -> Iterator[Batch]:
        """Yield the batches of one training epoch, from number `first_batch` on; of each, the rows of one process."""
        plans = self.host.plans(epoch, batch_size=batch_size, first_batch=first_batch)
        for share in prefetch(lambda plan: self.host.share(plan, dp), plans):
            batches = self._batches(share, epoch, -(-batch_size // dp.size))
            del share  # `batches` alone holds it, so it is freed before the window after the next is read
            yield from batches

    def _batches(self, share: WindowShare, epoch: int, rows_per_process: int) -> Iterator[Batch]:
        dealt = share.dealt
        rows = DeviceRows.of(
            share.data.take(np.concatenate(dealt.batches)), self.host.masking,
            seed=self.host.seed, epoch=epoch, device=self.device,
        )  # fmt: skip
        del share
        first = 0
        for sent, is_filler in zip(dealt.batches, dealt.is_filler, strict=True):
            batch = rows.batch(first, len(sent), filled_to=rows_per_process, limit=self.max_positions)
            yield batch.without_targets() if is_filler else batch
            first += len(sent)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRows:
    """Rows on a device, one after the other, with the masks of an epoch."""

    inputs: Tensor
    """What the model reads; int32, [tokens]."""
    labels: Tensor
    """What it should predict, or IGNORE_INDEX; int32, [tokens]."""
    offsets: Tensor
    """Row r's tokens are `inputs[offsets[r]:offsets[r + 1]]`; [rows + 1]."""
    second_segment_start: Tensor
    is_next: Tensor
    lengths: NDArray[np.int64]
    """As the host knows them; [rows]."""
    supervised: NDArray[np.int64]
    """How many supervised tokens each row has, as the host knows it; [rows]."""
    budget: ShapeBudget

    @classmethod
    def of(
        cls, data: PairDataset, masking: Masking | None, *, seed: int, epoch: int, device: torch.device
    ) -> "DeviceRows":
        """Return rows on a device, with dynamic masks; without `masking`, with the masks that the data store."""
        token_ids, offsets = _sent(data.token_ids, device), _sent(data.offsets, device)
        if masking is None:
            budget = ShapeBudget(rate=_STORED_RATE, tokens_per_choice=1.0)
            inputs, labels, supervised = _stored_masks(data, token_ids)
        else:
            budget = ShapeBudget(rate=masking.rate, tokens_per_choice=_TOKENS_PER_CHOICE[masking.unit])
            inputs, labels = _masked(DeviceMasking.of(masking, device), data, token_ids, seed=seed, epoch=epoch)
            counted = torch.cumsum(labels != IGNORE_INDEX, 0)
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
            budget=budget,
        )

    def batch(self, first: int, count: int, *, filled_to: int, limit: int) -> FixedBatch:
        """Return some rows as a batch of `filled_to` rows, of which those beyond `count` have no targets.

        `limit` is the number of the model's positions.
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
        return FixedBatch.from_labels(
            token_ids=torch.where(is_token, self.inputs[index], PAD_ID).long(),
            labels=torch.where(is_token & is_real[:, None], self.labels[index], IGNORE_INDEX).long(),
            lengths=ends - starts,
            second_segment_start=self.second_segment_start[rows],
            is_next=torch.where(is_real, self.is_next[rows], IGNORE_INDEX),
            supervised=np.pad(self.supervised[numbers], (0, filled_to - count)),
            real_lengths=np.pad(lengths, (0, filled_to - count)),
            budget=self.budget,
            # Only the longest bucket goes without a mask: rows cut to the limit fill it. In the others this would
            # double the number of shapes for a few batches.
            full=seq == limit and int(lengths.min()) == seq,
        )


def batches_on_device(device: torch.device) -> bool:
    """Return whether batches for training on a device are made there, in fixed shapes.

    They are on a GPU. On a CPU the host's batches are faster: they are padded to the longest row only, and masks cost
    work for the chosen tokens only.
    """
    return device.type != "cpu"


def batcher_for(host: Batcher, device: torch.device, *, max_positions: int) -> Batcher | DeviceBatcher:
    """Return the batcher for training on a device."""
    return DeviceBatcher(host=host, device=device, max_positions=max_positions) if batches_on_device(device) else host


def _masked(
    masking: DeviceMasking, data: PairDataset, token_ids: Tensor, *, seed: int, epoch: int
) -> tuple[Tensor, Tensor]:
    """Return inputs and labels under dynamic masks, made for some whole rows at a time."""
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
        parts.append((inputs, torch.where(chosen, true, IGNORE_INDEX)))
    return torch.cat([inputs for inputs, _ in parts]), torch.cat([labels for _, labels in parts])


def _stored_masks(data: PairDataset, token_ids: Tensor) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Return inputs, labels and each row's number of supervised tokens under the masks that the data store."""
    counts = np.diff(data.masked_offsets)
    row = np.repeat(np.arange(len(data)), counts)
    places = _sent(data.offsets[row] + data.masked_positions, token_ids.device)
    stored_labels = np.where(data.masked_labels != 0, data.masked_labels, IGNORE_INDEX).astype(np.int32)
    inputs = token_ids.scatter(0, places, _sent(data.masked_inputs, token_ids.device))
    labels = torch.full_like(token_ids, IGNORE_INDEX).scatter_(0, places, _sent(stored_labels, token_ids.device))
    return inputs, labels, np.bincount(row[data.masked_labels != 0], minlength=len(data))


def _sent(values: NDArray[Any], device: torch.device) -> Tensor:
    """Return an array on a device; the host does not wait for the copy to a GPU."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def prefetch(read: Callable[[_Plan], _Rows], plans: Iterable[_Plan]) -> Iterator[_Rows]:
    """Yield what is read of each window, and read the next one meanwhile.

    At most two windows are in memory if the caller releases one before it takes the next.

    Raises:
        DataError: a window cannot be read; the windows before it were yielded.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader") as reader:
        coming: deque[Future[_Rows]] = deque()
        for plan in plans:
            coming.append(reader.submit(read, plan))
            if len(coming) > 1:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
