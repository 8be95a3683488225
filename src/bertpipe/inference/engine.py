"""Rows of any length through a network: sorted by length, a batch at a time, each computed where it is asked alone.

Shapes in this file: batch (rows), seq (tokens, padding included), wanted (positions asked, of all rows), hidden.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertpipe.data.tokenization.tokenizer import PAD_ID
from bertpipe.model.bert import Bert, Wanted

_TOKENS_A_BATCH = 4096
"""Padding included; more fit no better into a processor's caches."""
_MOST_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the network reads, and where its output is wanted."""

    token_ids: tuple[int, ...]
    """With `[CLS]` and `[SEP]`, without padding."""
    second_segment_start: int
    """Position of B's first token; the length where there is no B."""
    positions: tuple[int, ...] = (0,)
    """At least one."""


def states_at(bert: Bert, rows: Sequence[Row]) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
    """Yield, a batch at a time, which rows it holds and the hidden states [wanted, hidden] at their positions.

    The states stand in the order of the rows yielded, each row's in the order of its positions.
    """
    device = _device(bert)
    for chosen in _batches(rows):
        batch = [rows[index] for index in chosen]
        counts = [len(row.positions) for row in batch]
        positions = np.zeros((len(batch), max(counts)), dtype=np.int64)
        for number, row in enumerate(batch):
            positions[number, : counts[number]] = row.positions
        slots = np.flatnonzero(np.arange(max(counts)) < np.array(counts)[:, None])
        wanted = Wanted(positions=torch.from_numpy(positions).to(device), slots=torch.from_numpy(slots).to(device))
        with torch.inference_mode():
            yield chosen, bert(*_tensors(batch, device), wanted)


def all_states(bert: Bert, rows: Sequence[Row]) -> Iterator[tuple[NDArray[np.intp], Tensor, Tensor]]:
    """Yield, a batch at a time, which rows it holds, their hidden states [batch, seq, hidden] and lengths [batch]."""
    device = _device(bert)
    for chosen in _batches(rows):
        token_ids, lengths, starts = _tensors([rows[index] for index in chosen], device)
        with torch.inference_mode():
            yield chosen, bert(token_ids, lengths, starts), lengths


def _device(bert: Bert) -> torch.device:
    return bert.embeddings.token.weight.device


def _batches(rows: Sequence[Row]) -> Iterator[NDArray[np.intp]]:
    """Yield the indices of each batch, the shortest rows first."""
    lengths = np.array([len(row.token_ids) for row in rows], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        end = start + 1
        while (
            end < len(order) and end - start < _MOST_ROWS and (end + 1 - start) * lengths[order[end]] <= _TOKENS_A_BATCH
        ):
            end += 1
        yield order[start:end]
        start = end


def _tensors(batch: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return token ids [batch, seq], lengths [batch] and second segment starts [batch]."""
    lengths = [len(row.token_ids) for row in batch]
    token_ids = np.full((len(batch), max(lengths)), PAD_ID, dtype=np.int64)
    for number, row in enumerate(batch):
        token_ids[number, : lengths[number]] = row.token_ids
    starts = [row.second_segment_start for row in batch]
    return (
        torch.from_numpy(token_ids).to(device),
        torch.tensor(lengths, device=device),
        torch.tensor(starts, device=device),
    )
