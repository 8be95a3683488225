"""Batches of a few fixed shapes, made on a device without ever asking it for a number.

`torch.compile` and CUDA graphs prepare a step for one shape of every tensor. So the shapes here follow from what the
host knows: the rows' lengths, and how many supervised tokens each has.

Shapes in this file: batch (rows, fillers included), seq (the bucket's length), queries, masked (places for supervised
tokens of the batch).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertpipe.data.batching import IGNORED, Batch

_STEP = 16
"""Rows are padded to a multiple of it. A GPU's matrix units want multiples of 8; these are half as many shapes, each of
which costs a compilation."""
_STEPS_TO_DOUBLE = 8
"""Beyond 8 steps the multiples grow with the rows: less than a fifth of a row is padding, and rows of up to 512 tokens
have 16 lengths."""
_DEVIATIONS = 6
_MASKED_STEP, _QUERIES_STEP = 64, 8


def bucket_length(longest: int, *, limit: int) -> int:
    """Return the length that a batch is padded to.

    Args:
        longest: tokens of its longest row.
        limit: most positions of the model.
    """
    step: int = max(_STEP, 2 ** (longest - 1).bit_length() // _STEPS_TO_DOUBLE)
    return min(step * math.ceil(longest / step), limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many places for supervised tokens a batch of some shape gets, so that almost all get the same number.

    The usual number is the expected one and six deviations more. A batch that needs more gets twice that, or four
    times: no supervised token is ever left out, and the rare batch has a shape of its own. The number follows from the
    batch alone, not from those before it: a run that goes on after a stop has the shapes of one that was not stopped.
    """

    rate: float
    """The share of the tokens that is supervised."""
    together: float
    """How many tokens are chosen at a time: the variance of their number by that of tokens chosen one by one."""

    def masked(self, *, rows: int, seq: int, needed: int) -> int:
        """Return the places of a batch, at least `needed`."""
        return self._places(rows * seq, needed, step=_MASKED_STEP)

    def queries(self, *, seq: int, needed: int) -> int:
        """Return the queries of a row: for `[CLS]` and for at least `needed` supervised tokens."""
        return 1 + self._places(seq, needed, step=_QUERIES_STEP)

    def _places(self, tokens: int, needed: int, *, step: int) -> int:
        expected = self.rate * tokens
        usual = expected + _DEVIATIONS * math.sqrt(self.together * expected)
        places = min(step * math.ceil(math.ceil(usual) / step), tokens)
        while places < needed:
            places = min(2 * places, tokens)
        return places


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedBatch(Batch):
    """A batch filled up to fixed shapes with rows and places that count in no loss."""

    labels: Tensor
    """What to predict at each position, or IGNORED; [batch, seq]."""
    supervised: NDArray[np.int64]
    """How many supervised tokens each row has, as the host knows it; [batch]."""
    real_lengths: NDArray[np.int64]
    """Tokens of each row, 0 of a filler, as the host knows it; [batch]."""
    room: Room
    full: bool
    """Whether the host knows that no row has padding."""

    @classmethod
    def of(
        cls,
        *,
        token_ids: Tensor,
        labels: Tensor,
        lengths: Tensor,
        second_segment_start: Tensor,
        is_next: Tensor,
        supervised: NDArray[np.int64],
        real_lengths: NDArray[np.int64],
        room: Room,
        full: bool,
    ) -> "FixedBatch":
        """Return the batch of some rows, fillers among them: each counts in a loss as its labels and `is_next` say."""
        rows, seq = token_ids.shape
        queries = room.queries(seq=seq, needed=int(supervised.max()))
        places = room.masked(rows=rows, seq=seq, needed=int(supervised.sum()))
        head_positions, head_slots, masked_positions, masked_labels = _heads(labels, queries=queries, places=places)
        return cls(
            token_ids=token_ids,
            lengths=lengths,
            second_segment_start=second_segment_start,
            is_next=is_next,
            masked_positions=masked_positions,
            masked_labels=masked_labels,
            head_positions=head_positions,
            head_slots=head_slots,
            tokens=int(real_lengths.sum()),
            labels=labels,
            supervised=supervised,
            real_lengths=real_lengths,
            room=room,
            full=full,
        )

    @property
    def padded(self) -> bool:
        """Whether attention has to leave padding out, for all that the host knows."""
        return not self.full

    @property
    def filled_up(self) -> bool:
        """Whether some of `masked_labels` may be IGNORED."""
        return True

    def idle(self) -> "FixedBatch":
        """Return these rows with nothing asked of them."""
        return FixedBatch.of(
            token_ids=self.token_ids,
            labels=torch.full_like(self.labels, IGNORED),
            lengths=self.lengths,
            second_segment_start=self.second_segment_start,
            is_next=torch.full_like(self.is_next, IGNORED),
            supervised=np.zeros_like(self.supervised),
            real_lengths=np.zeros_like(self.real_lengths),
            room=self.room,
            full=self.full,
        )

    def parts(self, rows: int) -> Iterator[Batch]:
        """Yield the batch in parts of at most `rows` rows, in order; parts of as many rows have one shape."""
        if rows >= self.rows:
            yield self
            return
        for start in range(0, self.rows, rows):
            part = slice(start, start + rows)
            yield FixedBatch.of(
                token_ids=self.token_ids[part],
                labels=self.labels[part],
                lengths=self.lengths[part],
                second_segment_start=self.second_segment_start[part],
                is_next=self.is_next[part],
                supervised=self.supervised[part],
                real_lengths=self.real_lengths[part],
                room=self.room,
                full=self.full,
            )

    def to(self, device: torch.device) -> "FixedBatch":
        """Return the batch, which was made on its device."""
        assert self.token_ids.device.type == device.type
        return self


def _heads(labels: Tensor, *, queries: int, places: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return `head_positions`, `head_slots`, `masked_positions` and `masked_labels` of a `Batch`.

    Places that are left over have the label IGNORED; their slots are spread, because a GPU adds up the gradients of
    equal ones one after the other. Each supervised token's place is a running count; the other tokens are all written
    to one place more, which is cut off.

    Args:
        labels: what to predict at each position, or IGNORED; [batch, seq].
        queries: positions a row that the heads read, enough for `[CLS]` and the row's supervised tokens.
        places: enough for all supervised tokens.
    """
    rows, seq = labels.shape
    device = labels.device
    chosen = labels != IGNORED
    rank = torch.cumsum(chosen, 1)
    columns = torch.arange(seq, device=device).expand(rows, -1)
    positions = torch.zeros(rows, queries + 1, dtype=torch.int64, device=device)
    positions = positions.scatter_(1, torch.where(chosen, rank, queries), columns)[:, :queries].contiguous()
    cls_slots = torch.arange(rows, device=device) * queries
    place = torch.where(chosen.flatten(), torch.cumsum(chosen.flatten(), 0) - 1, places)

    def placed(values: Tensor, rest: Tensor) -> Tensor:
        return rest.scatter(0, place, values.flatten())[:places]

    none = torch.zeros(places + 1, dtype=torch.int64, device=device)
    slots = placed(cls_slots[:, None] + rank, torch.arange(places + 1, device=device) % positions.numel())
    flat_positions = placed(torch.arange(rows * seq, device=device), none)
    return positions, torch.cat([cls_slots, slots]), flat_positions, placed(labels, none + IGNORED)
