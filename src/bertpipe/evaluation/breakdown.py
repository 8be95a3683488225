"""Where a model is right and wrong on a split: each guess of its own, and figures of parts of them.

Shapes in this file: tokens (supervised tokens of the split), rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertpipe.data.batching import Batcher
from bertpipe.data.pair_dataset import PairDataset, PairSource
from bertpipe.data.sampling import length_plans
from bertpipe.model.bert import Bert
from bertpipe.model.encoder import QueryPositions

_MAX_LOGITS = 2**22
"""Logits in memory at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGuesses:
    """The first guess for each supervised token, in the order of the rows; arrays of shape [tokens]."""

    row: NDArray[np.int64]
    """The row's number in the split, counted from 0."""
    position: NDArray[np.int64]
    """In the row; `[CLS]` is 0."""
    label: NDArray[np.int64]
    guess: NDArray[np.int64]
    probability: NDArray[np.float64]
    """Of the guess."""
    label_probability: NDArray[np.float64]

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """Whether the guess is the label."""
        return np.equal(self.guess, self.label)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairVerdicts:
    """The verdict on each row, in the order of the rows; arrays of shape [rows]."""

    is_next: NDArray[np.bool_]
    probability_next: NDArray[np.float64]

    @property
    def called_next(self) -> NDArray[np.bool_]:
        """Whether the model calls the pair next."""
        return np.greater(self.probability_next, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Some supervised tokens, and how many of them the model guesses."""

    first: int
    """The smallest value in the bucket."""
    last: int | None
    """The largest one; None if there is no limit."""
    tokens: int
    right: int

    @property
    def accuracy(self) -> float:
        """The share of the tokens that the model guesses."""
        return self.right / self.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class NspCell:
    """The rows of one true class that the model puts in one class."""

    is_next: bool
    called_next: bool
    rows: int
    surest: tuple[int, ...]
    """Numbers of the rows with the most confident verdicts."""


def guesses(
    bert: Bert, split: PairSource, *, batch_size: int, device: torch.device
) -> tuple[TokenGuesses, PairVerdicts]:
    """Return a model's answers on all rows, with the masks they store, as `evaluate` reads them.

    It holds 48 bytes per supervised token and 9 per row.

    Args:
        bert: the model, in evaluation mode.
        split: the rows.
        batch_size: rows per forward pass.
        device: where the model is.
    """
    batcher = Batcher(dataset=split, masking=None, seed=0)
    windows = [np.zeros((6, 0))]
    rows = split.layout.rows
    is_next, probability_next = np.zeros(rows, dtype=np.bool_), np.zeros(rows)
    for plan in length_plans(split.layout, batch_size=batch_size):
        data, numbers = split.read(plan.groups), split.layout.rows_of(plan.groups)
        # Of one piece: many small arrays between the large ones of each batch would keep a gigabyte of gaps.
        columns, done = np.empty((6, int((data.masked_labels != 0).sum()))), 0
        for chosen in plan.batches(data.lengths):
            batch = batcher.assemble(data, chosen, epoch=0).to(device)
            queries = QueryPositions(positions=batch.query_positions, flat_index=batch.query_flat_index)
            with torch.inference_mode():
                hidden = bert(batch.token_ids, batch.lengths, batch.second_segment_start, queries)
                next_chances = bert.nsp_logits(hidden[: batch.rows, None]).double().softmax(dim=-1)
            row, position = np.divmod(batch.masked_positions.cpu().numpy(), batch.token_ids.shape[1])
            found = (batch.masked_labels, *_first_guesses(bert, hidden[batch.rows :], batch.masked_labels))
            columns[:2, done : done + len(row)] = numbers[chosen][row], position
            columns[2:, done : done + len(row)] = [tensor.cpu().numpy() for tensor in found]
            done += len(row)
            is_next[numbers[chosen]] = batch.is_next.cpu().numpy().astype(np.bool_)
            probability_next[numbers[chosen]] = next_chances[:, 1].cpu().numpy()
        windows.append(columns)
    columns = np.concatenate(windows, axis=1)
    order = np.lexsort((columns[1], columns[0]))
    row, position, label, guess = columns[:4, order].astype(np.int64)
    return (
        TokenGuesses(
            row=row,
            position=position,
            label=label,
            guess=guess,
            probability=columns[4][order],
            label_probability=columns[5][order],
        ),
        PairVerdicts(is_next=is_next, probability_next=probability_next),
    )


def _first_guesses(bert: Bert, hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return, for hidden states [masked, hidden], the first guess, its probability and that of the label; [masked]."""
    guess, chances = torch.empty_like(labels), hidden.new_empty(2, len(labels), dtype=torch.float64)
    size = max(_MAX_LOGITS // bert.vocab_size, 1)
    for places in torch.split(torch.arange(len(labels), device=labels.device), size):
        with torch.inference_mode():
            logits = bert.mlm_logits(hidden[places])
        best, total = logits.max(dim=-1), logits.logsumexp(dim=-1).double()
        guess[places] = best.indices
        of_label = logits.gather(1, labels[places, None])[:, 0]
        for chance, values in zip(chances, (best.values, of_label), strict=True):
            chance[places] = (values.double() - total).exp()
    return guess, *chances


def by_value(values: NDArray[np.int64], is_right: NDArray[np.bool_], firsts: Sequence[int]) -> list[Bucket]:
    """Return the figures of the tokens in each range of a value, without the ranges that have none.

    Args:
        values: of each token, at least the first of `firsts`; shape [tokens].
        is_right: whether each was guessed; shape [tokens].
        firsts: the smallest value of each range, in ascending order; the last range has no end.
    """
    place = np.searchsorted(np.asarray(firsts), values, side="right") - 1
    counts = np.bincount(place, minlength=len(firsts)).tolist()
    right = np.bincount(place[is_right], minlength=len(firsts)).tolist()
    lasts = [following - 1 for following in firsts[1:]]
    return [
        Bucket(first=first, last=last, tokens=tokens, right=hits)
        for first, last, tokens, hits in zip(firsts, [*lasts, None], counts, right, strict=True)
        if tokens
    ]


def confident_mistakes(found: TokenGuesses, most: int) -> NDArray[np.int64]:
    """Return which wrong guesses have the highest probability, that one first; indices into the tokens."""
    wrong = np.flatnonzero(~found.is_right)
    return wrong[np.argsort(-found.probability[wrong], kind="stable")][:most]


def nsp_cells(verdicts: PairVerdicts, most: int) -> list[NspCell]:
    """Return the four cells of the confusion matrix, each with at most `most` of its surest rows."""
    cells = []
    for is_next in (True, False):
        for called_next in (True, False):
            rows = np.flatnonzero((verdicts.is_next == is_next) & (verdicts.called_next == called_next))
            surest = rows[np.argsort(-np.abs(verdicts.probability_next[rows] - 0.5), kind="stable")][:most]
            cells.append(
                NspCell(is_next=is_next, called_next=called_next, rows=len(rows), surest=tuple(surest.tolist()))
            )
    return cells


def row_at(split: PairSource, number: int) -> PairDataset:
    """Return one row of a split by its number, counted from 0."""
    group = int(np.searchsorted(split.layout.offsets, number, side="right")) - 1
    return split.read(np.array([group])).take(np.array([number - split.layout.offsets[group]]))
