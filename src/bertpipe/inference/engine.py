"""Rows of any length through a network: sorted by length, in batches, each computed only where it is asked for.

Shapes in this file: batch (rows), seq (tokens, with padding), needed (positions asked for, of all rows), hidden.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertpipe.data.ragged import pad_rows
from bertpipe.model.bert import Bert
from bertpipe.model.encoder import QueryPositions

_TOKENS_PER_BATCH = 4096
"""With padding; more fit no better into a processor's caches."""
_MAX_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the network reads, and the positions where its output is needed."""

    token_ids: tuple[int, ...]
    """With `[CLS]` and `[SEP]`, without padding."""
    second_segment_start: int
    """Position of B's first token; the length if there is no B."""
    positions: tuple[int, ...] = (0,)
    """At least one."""


def states_at(bert: Bert, rows: Sequence[Row]) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
    """Yield, batch by batch, which rows it holds and the hidden states [needed, hidden] at their positions.

    The states are in the order of the rows yielded, each row's in the order of its positions.
    """
    device = _device(bert)
    values, offsets = _concatenated([row.positions for row in rows])
    for chosen, inputs in _batches(bert, rows):
        positions, real = pad_rows(values, offsets, chosen)
        queries = QueryPositions(
            positions=torch.from_numpy(positions).to(device),
            flat_index=torch.from_numpy(np.flatnonzero(real)).to(device),
        )
        with torch.inference_mode():
            yield chosen, bert(*inputs, queries)


def all_states(bert: Bert, rows: Sequence[Row]) -> Iterator[tuple[NDArray[np.intp], Tensor, Tensor]]:
    """Yield, batch by batch, which rows it holds, their hidden states [batch, seq, hidden] and lengths [batch]."""
    for chosen, (token_ids, lengths, starts) in _batches(bert, rows):
        with torch.inference_mode():
            yield chosen, bert(token_ids, lengths, starts), lengths


def _device(bert: Bert) -> torch.device:
    return bert.embeddings.token.weight.device


def _batches(bert: Bert, rows: Sequence[Row]) -> Iterator[tuple[NDArray[np.intp], tuple[Tensor, Tensor, Tensor]]]:
    """Yield the indices of each batch's rows, shortest first, with their token ids, lengths and segment starts."""
    device = _device(bert)
    values, offsets = _concatenated([row.token_ids for row in rows])
    starts, lengths = np.array([row.second_segment_start for row in rows]), np.diff(offsets)
    order = np.argsort(lengths, kind="stable")
    first = 0
    while first < len(order):
        end = first + 1
        while (
            end < len(order)
            and end - first < _MAX_ROWS
            and (end + 1 - first) * lengths[order[end]] <= _TOKENS_PER_BATCH
        ):
            end += 1
        chosen, first = order[first:end], end
        batch = (pad_rows(values, offsets, chosen)[0], lengths[chosen], starts[chosen])
        token_ids, batch_lengths, batch_starts = (torch.from_numpy(array).to(device) for array in batch)
        yield chosen, (token_ids, batch_lengths, batch_starts)


def _concatenated(lists: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the values of all lists, list after list, and the offset of each."""
    values = np.fromiter(chain.from_iterable(lists), dtype=np.int64)
    return values, np.cumsum([0, *map(len, lists)], dtype=np.int64)
