"""Batches of a few fixed shapes, made on a device without reading a number back from it.

`torch.compile` and CUDA graphs prepare a step for one shape of every tensor. So the shapes here follow from what the
host knows: the rows' lengths, and how many supervised tokens each has.

Shapes in this file: batch (rows, with those that fill it up), seq (the bucket's length), queries, masked (places for
supervised tokens of the batch).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertpipe.data.batching import IGNORE_INDEX, Batch

_STEP = 16
"""Rows are padded to a multiple of it. A GPU's matrix units want multiples of 8; with 16 there are half as many shapes,
and each shape costs a compilation."""
_STEPS_TO_DOUBLE = 8
"""Beyond 8 steps the multiples grow with the rows: less than a fifth of a row is padding, and rows of up to 512 tokens
have 16 lengths."""
_DEVIATIONS = 6
_MASKED_STEP, _QUERIES_STEP = 64, 8


def bucket_length(longest: int, *, limit: int) -> int:
    """Return the length to which a batch with a longest row of `longest` tokens is padded, at most `limit`."""
    step: int = max(_STEP, 2 ** (longest - 1).bit_length() // _STEPS_TO_DOUBLE)
    return min(step * math.ceil(longest / step), limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeBudget:
    """How many places for supervised tokens each batch gets, so that almost all batches of a size get the same number.

    The usual number is the expected one plus six standard deviations. A batch that needs more gets twice that, or four
    times: no supervised token is left out, and the rare batch has a shape of its own. The number depends on the batch
    alone, so a resumed run has the shapes of an uninterrupted one.
    """

    rate: float
    """Share of the tokens that is supervised."""
    tokens_per_choice: float
    """How many tokens are chosen together; the variance of their number grows with it."""

    def masked(self, *, rows: int, seq: int, needed: int) -> int:
        """Return the places of a batch, at least `needed`."""
        return self._places(rows * seq, needed, step=_MASKED_STEP)

    def queries(self, *, seq: int, needed: int) -> int:
        """Return the queries of a row: for `[CLS]` and for at least `needed` supervised tokens."""
        return 1 + self._places(seq, needed, step=_QUERIES_STEP)

    def _places(self, tokens: int, needed: int, *, step: int) -> int:
        expected = self.rate * tokens
        usual = expected + _DEVIATIONS * math.sqrt(self.tokens_per_choice * expected)
        places = min(step * math.ceil(math.ceil(usual) / step), tokens)
        while places < needed:
            places = min(2 * places, tokens)
        return places


_PER_ROW = (
    "token_ids", "labels", "lengths", "second_segment_start", "is_next", "supervised", "real_lengths"
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedBatch(Batch):
    """A batch filled up to a fixed shape with rows and places that count in no loss."""

    labels: Tensor
    """What to predict at each position, or IGNORE_INDEX; [batch, seq]."""
    supervised: NDArray[np.int64]
    """How many supervised tokens each row has, as the host knows it; [batch]."""
    real_lengths: NDArray[np.int64]
    """Tokens of each row as the host knows them, 0 for a row that fills the batch up; [batch]."""
    budget: ShapeBudget
    full: bool
    """Whether the host knows that no row has padding."""

    @classmethod
    def from_labels(
        cls,
        *,
        token_ids: Tensor,
        labels: Tensor,
        supervised: NDArray[np.int64],
        real_lengths: NDArray[np.int64],
        budget: ShapeBudget,
        **others: Any,  # noqa: ANN401
    ) -> "FixedBatch":
        """Return the batch of some rows; what counts in a loss follows from `labels` and `is_next`."""
        rows, seq = token_ids.shape
        queries = budget.queries(seq=seq, needed=int(supervised.max()))
        places = budget.masked(rows=rows, seq=seq, needed=int(supervised.sum()))
        query_positions, query_flat_index, masked_positions, masked_labels = _heads(
            labels, queries=queries, places=places
        )
        return cls(
            token_ids=token_ids,
            masked_positions=masked_positions,
            masked_labels=masked_labels,
            query_positions=query_positions,
            query_flat_index=query_flat_index,
            tokens=int(real_lengths.sum()),
            labels=labels,
            supervised=supervised,
            real_lengths=real_lengths,
            budget=budget,
            **others,
        )

    @property
    def padded(self) -> bool:
        """Whether attention has to mask padding, as far as the host knows."""
        return not self.full

    @property
    def some_ignored(self) -> bool:
        """Whether some of `masked_labels` may be IGNORE_INDEX."""
        return True

    def without_targets(self) -> "FixedBatch":
        """Return these rows without anything to predict."""
        return self._with(
            labels=torch.full_like(self.labels, IGNORE_INDEX),
            is_next=torch.full_like(self.is_next, IGNORE_INDEX),
            supervised=np.zeros_like(self.supervised),
            real_lengths=np.zeros_like(self.real_lengths),
        )

    def parts(self, rows: int) -> Iterator[Batch]:
        """Yield the batch in parts of at most `rows` rows, in order; parts with equally many rows have one shape."""
        if rows >= self.rows:
            yield self
            return
        for start in range(0, self.rows, rows):
            yield self._with(**{name: getattr(self, name)[start : start + rows] for name in _PER_ROW})

    def to(self, device: torch.device) -> "FixedBatch":
        """Return the batch, which was made on its device."""
        assert self.token_ids.device.type == device.type
        return self

    def _with(self, **changes: Any) -> "FixedBatch":  # noqa: ANN401
        given = {name: getattr(self, name) for name in (*_PER_ROW, "budget", "full")}
        return FixedBatch.from_labels(**(given | changes))


def _heads(labels: Tensor, *, queries: int, places: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return `query_positions`, `query_flat_index`, `masked_positions` and `masked_labels` of a `Batch`.

    Places that are left over have the label IGNORE_INDEX. Their flat indices are all different, because a GPU adds up
    the gradients of equal ones one after the other. Each supervised token's place is a running count; all other tokens
    are written to one extra place, which is cut off.
    """
    rows, seq = labels.shape
    device = labels.device
    chosen = labels != IGNORE_INDEX
    rank = torch.cumsum(chosen, 1)
    columns = torch.arange(seq, device=device).expand(rows, -1)
    positions = torch.zeros(rows, queries + 1, dtype=torch.int64, device=device)
    positions = positions.scatter_(1, torch.where(chosen, rank, queries), columns)[:, :queries].contiguous()
    cls_index = torch.arange(rows, device=device) * queries
    place = torch.where(chosen.flatten(), torch.cumsum(chosen.flatten(), 0) - 1, places)

    def placed(values: Tensor, rest: Tensor) -> Tensor:
        return rest.scatter(0, place, values.flatten())[:places]

    none = torch.zeros(places + 1, dtype=torch.int64, device=device)
    index = placed(cls_index[:, None] + rank, torch.arange(places + 1, device=device) % positions.numel())
    flat_positions = placed(torch.arange(rows * seq, device=device), none)
    return positions, torch.cat([cls_index, index]), flat_positions, placed(labels, none + IGNORE_INDEX)
