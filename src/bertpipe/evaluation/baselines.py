"""What simple predictors get on the rows a model is judged on: a figure that a count table reaches proves nothing.

Both splits are read one row group at a time. What a predictor holds beyond counts of the vocabulary's size, it says.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertpipe.data.pair_dataset import PairDataset, PairSource, in_row_groups, label_counts
from bertpipe.data.tokenization.tokenizer import Tokenizer

_Ids = NDArray[np.int64]
_UNSEEN = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantPredictor:
    """Predicts every masked token by the frequencies of the training labels."""

    loss: float | None
    """Nats a supervised token, with one added to each count; no constant does better in expectation."""
    top1_accuracy: float | None
    top5_accuracy: float | None


def constant_predictor(train: PairSource, test: PairSource, *, vocab_size: int) -> ConstantPredictor:
    """Return what the frequencies of the training labels get on the test labels."""
    seen, asked = label_counts(train, vocab_size), label_counts(test, vocab_size)
    tokens = int(asked.sum())
    if not tokens:
        return ConstantPredictor(loss=None, top1_accuracy=None, top5_accuracy=None)
    log_probability = np.log((seen + 1.0) / (seen.sum() + vocab_size))
    best = np.argsort(-seen, kind="stable")[:5]
    return ConstantPredictor(
        loss=float(-(asked * log_probability).sum() / tokens),
        top1_accuracy=float(asked[best[0]] / tokens),
        top5_accuracy=float(asked[best].sum() / tokens),
    )


def two_neighbour_accuracy(train: PairSource, test: PairSource, tokenizer: Tokenizer) -> float | None:
    """Return the top-1 accuracy of counting which token stands between two neighbours.

    Where the pair of neighbours was not seen in training, or one of them is masked, the left neighbour alone decides,
    then the right one, then the commonest token.

    Of left neighbours, right neighbours and both it holds 8 bytes for each distinct one that a supervised test token
    has, and 16 to 32 for each distinct token that training has beside it: at most 24 bytes a supervised test token and
    96 a training token, on real text far fewer. Adding counts up takes five times as many for a moment.
    """
    asked = _asked_neighbours(test, tokenizer)
    if not len(asked[0]):
        return None
    best, tokens = _best_between(train, asked, tokenizer)
    if not tokens.any():
        return None
    right = supervised = 0
    for part in in_row_groups(test):
        rows = _rows(part, tokenizer)
        prediction = np.full(len(rows.labels), tokens.argmax())
        neighbours = _neighbours(rows.visible, rows.supervised, tokenizer)
        for (keys, known), all_keys, all_best in zip(neighbours, asked, best, strict=True):
            token = all_best[np.searchsorted(all_keys, keys)]
            prediction = np.where(known & (token != _UNSEEN), token, prediction)
        right += int((prediction == rows.labels).sum())
        supervised += len(rows.labels)
    return right / supervised


def second_sentence_accuracy(train: PairSource, test: PairSource, tokenizer: Tokenizer) -> float | None:
    """Return the NSP accuracy of naive Bayes over the words of sentence B, which has not seen sentence A."""
    if not len(test.lengths):
        return None
    counts, next_rows = np.ones((2, tokenizer.vocab_size)), 0
    for part in in_row_groups(train):
        rows = _rows(part, tokenizer)
        words, labels = rows.visible[rows.is_second], part.is_next[rows.row[rows.is_second]]
        for label in (0, 1):
            counts[label] += np.bincount(words[labels == label], minlength=tokenizer.vocab_size)
        next_rows += int(part.is_next.sum())
    log_ratio = np.log(counts[1] / counts[1].sum()) - np.log(counts[0] / counts[0].sum())
    share = (next_rows + 1) / (len(train.lengths) + 2)
    right = 0
    for part in in_row_groups(test):
        rows = _rows(part, tokenizer)
        score = math.log(share / (1 - share)) + np.bincount(
            rows.row[rows.is_second], weights=log_ratio[rows.visible[rows.is_second]], minlength=len(part)
        )
        right += int(((score > 0) == part.is_next).sum())
    return right / len(test.lengths)


def word_overlap_accuracy(train: PairSource, test: PairSource, tokenizer: Tokenizer) -> float | None:
    """Return the NSP accuracy of a threshold on the words that A and B share.

    A shared word counts by its inverse document frequency among the training sentences; the threshold is the one
    that does best on the training rows.

    Holds 9 bytes a training row, and about 60 for a moment where the threshold is looked for.
    """
    if not len(test.lengths):
        return None
    sentences = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    for part in in_row_groups(train):
        sentences += _sentences_with(_rows(part, tokenizer), tokenizer.vocab_size)
    weight = np.log((2 * len(train.lengths) + 1.0) / (sentences + 1.0))
    weight[tokenizer.is_special] = 0.0
    overlap, is_next = [np.zeros(0)], [np.zeros(0, dtype=np.bool_)]
    for part in in_row_groups(train):
        overlap.append(_overlap(_rows(part, tokenizer), weight, len(part)))
        is_next.append(part.is_next)
    threshold = _best_threshold(np.concatenate(overlap), np.concatenate(is_next))
    right = 0
    for part in in_row_groups(test):
        right += int(((_overlap(_rows(part, tokenizer), weight, len(part)) > threshold) == part.is_next).sum())
    return right / len(test.lengths)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Flat tokens of a data set with what stands beside each of them."""

    visible: _Ids
    """What a model reads: stored masks applied; shape [tokens]."""
    known: _Ids
    """The token that is known to stand there, the mask id where none is; shape [tokens]."""
    row: _Ids
    """Number of each token's row."""
    is_second: NDArray[np.bool_]
    """Whether the token belongs to sentence B."""
    supervised: _Ids
    """Indices of tokens with a label."""
    labels: _Ids
    """Those labels."""


def _rows(data: PairDataset, tokenizer: Tokenizer) -> _Rows:
    lengths = data.lengths
    row = np.repeat(np.arange(len(data)), lengths)
    position = np.arange(len(data.token_ids)) - data.offsets[row]
    counts = np.diff(data.masked_offsets)
    masked = np.repeat(data.offsets[:-1], counts) + data.masked_positions
    visible = data.token_ids.astype(np.int64)
    visible[masked] = data.masked_inputs
    known = data.token_ids.astype(np.int64)
    return _Rows(
        visible=visible,
        known=np.where(known < tokenizer.vocab_size, known, tokenizer.mask_id),
        row=row,
        is_second=position >= data.second_segment_start[row],
        supervised=masked[data.masked_labels != 0],
        labels=data.masked_labels[data.masked_labels != 0].astype(np.int64),
    )


def _neighbours(tokens: _Ids, at: _Ids, tokenizer: Tokenizer) -> list[tuple[_Ids, NDArray[np.bool_]]]:
    """Return what stands beside some positions, as one number a position, and whether all of it is known.

    The right neighbour comes first, then the left one, then both: each is trusted more than the one before.
    """
    left, right = tokens[at - 1], tokens[at + 1]
    left_known, right_known = left != tokenizer.mask_id, right != tokenizer.mask_id
    both = left * tokenizer.vocab_size + right
    return [(right, right_known), (left, left_known), (both, left_known & right_known)]


def _asked_neighbours(test: PairSource, tokenizer: Tokenizer) -> list[_Ids]:
    """Return the neighbours of all supervised tokens, of each kind the distinct ones in ascending order."""
    tallies = (_Tally(), _Tally(), _Tally())
    for part in in_row_groups(test):
        rows = _rows(part, tokenizer)
        for tally, (keys, _) in zip(tallies, _neighbours(rows.visible, rows.supervised, tokenizer), strict=True):
            tally.add(keys)
    return [tally.counts()[0] for tally in tallies]


def _best_between(train: PairSource, asked: Sequence[_Ids], tokenizer: Tokenizer) -> tuple[list[_Ids], _Ids]:
    """Return the token most often seen beside each of the asked neighbours, kind by kind, and all tokens' counts."""
    size = tokenizer.vocab_size
    tallies, tokens = (_Tally(), _Tally(), _Tally()), np.zeros(size, dtype=np.int64)
    for part in in_row_groups(train):
        known = _rows(part, tokenizer).known
        inner = np.flatnonzero(~tokenizer.is_special[known])
        middle = known[inner]
        tokens += np.bincount(middle, minlength=size)
        for tally, (keys, _), wanted in zip(tallies, _neighbours(known, inner, tokenizer), asked, strict=True):
            place = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
            found = wanted[place] == keys
            tally.add(place[found] * size + middle[found])
    return [_commonest(tally, len(wanted), size) for tally, wanted in zip(tallies, asked, strict=True)], tokens


def _commonest(tally: "_Tally", places: int, size: int) -> _Ids:
    """Return the token most often tallied at each place, the lowest id among equals; `_UNSEEN` where there is none."""
    numbers, counts = tally.counts()
    order = np.lexsort((numbers, -counts, numbers // size))
    seen, first = np.unique(numbers[order] // size, return_index=True)
    best = np.full(places, _UNSEEN)
    best[seen] = numbers[order][first] % size
    return best


class _Tally:
    """How often each number, none negative, was added.

    It is kept in sorted runs, each at least twice as long as the next, so that adding up costs little.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[_Ids, _Ids]] = []

    def add(self, numbers: _Ids) -> None:
        """Count some numbers."""
        self._runs.append(np.unique(numbers, return_counts=True))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            self._merge()

    def counts(self) -> tuple[_Ids, _Ids]:
        """Return the distinct numbers in ascending order, and how often each was added."""
        while len(self._runs) > 1:
            self._merge()
        return self._runs[0] if self._runs else (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))

    def _merge(self) -> None:
        runs = self._runs.pop(), self._runs.pop()
        numbers, counts = (np.concatenate(columns) for columns in zip(*runs, strict=True))
        order = np.argsort(numbers, kind="stable")
        numbers, counts = numbers[order], counts[order]
        first = np.flatnonzero(np.diff(numbers, prepend=-1))
        self._runs.append((numbers[first], np.add.reduceat(counts, first) if len(first) else counts))


def _sentences_with(rows: _Rows, size: int) -> _Ids:
    """Return in how many sentences each word stands; shape [vocab]."""
    return np.bincount(np.unique((2 * rows.row + rows.is_second) * size + rows.visible) % size, minlength=size)


def _overlap(rows: _Rows, weight: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    size = len(weight)
    in_first, in_second = (
        np.unique((rows.row * size + rows.visible)[side]) for side in (~rows.is_second, rows.is_second)
    )
    shared = np.intersect1d(in_first, in_second, assume_unique=True)
    return np.bincount(shared // size, weights=weight[shared % size], minlength=count).astype(np.float64)


def _best_threshold(score: NDArray[np.float64], label: NDArray[np.bool_]) -> float:
    """Return the threshold above which calling a row true is most often right."""
    order = np.argsort(score, kind="stable")
    ordered, right = score[order], label[order]
    # Threshold after the first k rows: those k are called false, the others true.
    correct = np.concatenate([[0], np.cumsum(~right)]) + right.sum() - np.concatenate([[0], np.cumsum(right)])
    possible = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])
    best = int(np.argmax(np.where(possible, correct, -1)))
    if best == 0:
        return -math.inf
    return float(ordered[-1]) if best == len(ordered) else float((ordered[best - 1] + ordered[best]) / 2)
