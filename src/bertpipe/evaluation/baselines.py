"""Simple predictors on the rows that a model is evaluated on: what a table of counts gets, too, proves nothing.

Both splits are read one row group at a time. What a predictor holds in memory beyond counts of the vocabulary's size,
its docstring says.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertpipe.data.cooccurrence import CooccurrenceCounts
from bertpipe.data.pair_dataset import PairDataset, PairSource, in_row_groups, label_counts
from bertpipe.data.tokenization.tokenizer import Tokenizer

_Ids = NDArray[np.int64]
_UNSEEN = -1

Figures = Mapping[str, float | None]
"""What a predictor gets, None where there is nothing to count; names as in the model's own figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """What a predictor counts, and what it is tested on."""

    train: PairSource
    test: PairSource
    tokenizer: Tokenizer
    vocab_size: int
    """Of the model, which may have more ids than its tokenizer."""


def constant(splits: Splits) -> Figures:
    """Return what the frequencies of the training labels, with one added to each count, get on the test labels.

    The loss is in nats per supervised token; no constant prediction has a lower one in expectation.
    """
    seen, asked = (label_counts(split, splits.vocab_size) for split in (splits.train, splits.test))
    tokens = int(asked.sum())
    if not tokens:
        return {"loss": None, "top1_accuracy": None, "top5_accuracy": None}
    log_probability = np.log((seen + 1.0) / (seen.sum() + splits.vocab_size))
    best = np.argsort(-seen, kind="stable")[:5]
    return {
        "loss": float(-(asked * log_probability).sum() / tokens),
        "top1_accuracy": float(asked[best[0]] / tokens),
        "top5_accuracy": float(asked[best].sum() / tokens),
    }


def two_neighbours(splits: Splits) -> Figures:
    """Return the top-1 accuracy of counting which token stands between two neighbours.

    Where the pair of neighbours was not seen in training, or one of them is masked, the left neighbour alone decides,
    then the right one, then the most frequent token.

    Of left neighbours, right neighbours and both it holds 8 bytes for each distinct one that a supervised test token
    has, and 16 to 32 for each distinct token that training has beside it: at most 24 bytes per supervised test token
    and 96 per training token, on real text far fewer. Adding counts up takes five times as many for a moment.
    """
    train, test, tokenizer = splits.train, splits.test, splits.tokenizer
    asked = _asked_neighbours(test, tokenizer)
    if not len(asked[0]):
        return {"top1_accuracy": None}
    best, tokens = _best_between(train, asked, tokenizer)
    if not tokens.any():
        return {"top1_accuracy": None}
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
    return {"top1_accuracy": right / supervised}


def sentence_b_alone(splits: Splits) -> Figures:
    """Return the NSP accuracy of naive Bayes over the words of sentence B, which has not seen sentence A."""
    train, test, tokenizer = splits.train, splits.test, splits.tokenizer
    counts, next_rows = np.ones((2, tokenizer.vocab_size)), 0
    for part in in_row_groups(train):
        rows = _rows(part, tokenizer)
        words, labels = rows.visible[rows.is_second], part.is_next[rows.row[rows.is_second]]
        for label in (0, 1):
            counts[label] += np.bincount(words[labels == label], minlength=tokenizer.vocab_size)
        next_rows += int(part.is_next.sum())
    log_ratio = np.log(counts[1] / counts[1].sum()) - np.log(counts[0] / counts[0].sum())
    share = (next_rows + 1) / (train.layout.rows + 2)

    def is_next(part: PairDataset) -> NDArray[np.bool_]:
        rows = _rows(part, tokenizer)
        weights = log_ratio[rows.visible[rows.is_second]]
        score = np.bincount(rows.row[rows.is_second], weights=weights, minlength=len(part))
        return math.log(share / (1 - share)) + score > 0

    return _nsp_accuracy(test, is_next)


def word_overlap(splits: Splits) -> Figures:
    """Return the NSP accuracy of a threshold on the words that A and B share.

    A shared word counts by its inverse document frequency among the training sentences; the threshold is the one
    that does best on the training rows.

    It holds 9 bytes per training row, and for a moment about 60 while it looks for the threshold.
    """
    train, test, tokenizer = splits.train, splits.test, splits.tokenizer
    sentences = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    for part in in_row_groups(train):
        sentences += _sentences_with(_rows(part, tokenizer), tokenizer.vocab_size)
    weight = np.log((2 * train.layout.rows + 1.0) / (sentences + 1.0))
    weight[tokenizer.is_special] = 0.0
    overlap, is_next = [np.zeros(0)], [np.zeros(0, dtype=np.bool_)]
    for part in in_row_groups(train):
        overlap.append(_overlap(_rows(part, tokenizer), weight, len(part)))
        is_next.append(part.is_next)
    threshold = _best_threshold(np.concatenate(overlap), np.concatenate(is_next))
    return _nsp_accuracy(test, lambda part: _overlap(_rows(part, tokenizer), weight, len(part)) > threshold)


def _nsp_accuracy(test: PairSource, is_next: Callable[[PairDataset], NDArray[np.bool_]]) -> Figures:
    """Return the share of rows for which `is_next` answers rightly; None where there is no row."""
    right = sum(int((is_next(part) == part.is_next).sum()) for part in in_row_groups(test))
    return {"accuracy": right / test.layout.rows if test.layout.rows else None}


def token_counts(pairs: PairSource, tokenizer: Tokenizer) -> _Ids:
    """Return how often each id stands in some rows, special tokens left out; shape [vocab]."""
    counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    for part in in_row_groups(pairs):
        counts += np.bincount(_rows(part, tokenizer).known, minlength=tokenizer.vocab_size)
    return np.where(tokenizer.is_special, 0, counts)


PREDICTORS: Mapping[str, Mapping[str, Callable[[Splits], Figures]]] = {
    "mlm": {"constant": constant, "two_neighbours": two_neighbours},
    "nsp": {"sentence_b_alone": sentence_b_alone, "word_overlap": word_overlap},
}
"""By task and by name, in the order of the tables and of `metrics.json`."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """The tokens of some rows, one after the other."""

    visible: _Ids
    """What a model reads, with the stored masks; shape [tokens]."""
    known: _Ids
    """The true token, the mask id where it is unknown; shape [tokens]."""
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
    """Return the neighbours of some positions, as one number per position, and whether all of them are known.

    First the right neighbour, then the left one, then both: each is trusted more than the one before.
    """
    left, right = tokens[at - 1], tokens[at + 1]
    left_known, right_known = left != tokenizer.mask_id, right != tokenizer.mask_id
    both = left * tokenizer.vocab_size + right
    return [(right, right_known), (left, left_known), (both, left_known & right_known)]


def _asked_neighbours(test: PairSource, tokenizer: Tokenizer) -> list[_Ids]:
    """Return the neighbours of all supervised tokens, of each kind the distinct ones in ascending order."""
    size, seen = tokenizer.vocab_size, [CooccurrenceCounts() for _ in range(3)]
    for part in in_row_groups(test):
        rows = _rows(part, tokenizer)
        for counts, (keys, _) in zip(seen, _neighbours(rows.visible, rows.supervised, tokenizer), strict=True):
            counts.add(keys // size, keys % size)
    return [left * size + right for left, right, _ in (counts.pairs() for counts in seen)]


def _best_between(train: PairSource, asked: Sequence[_Ids], tokenizer: Tokenizer) -> tuple[list[_Ids], _Ids]:
    """Return the token most often seen beside each of the asked neighbours, kind by kind, and all tokens' counts."""
    seen, tokens = [CooccurrenceCounts() for _ in asked], np.zeros(tokenizer.vocab_size, dtype=np.int64)
    for part in in_row_groups(train):
        known = _rows(part, tokenizer).known
        inner = np.flatnonzero(~tokenizer.is_special[known])
        middle = known[inner]
        tokens += np.bincount(middle, minlength=tokenizer.vocab_size)
        for counts, (keys, _), wanted in zip(seen, _neighbours(known, inner, tokenizer), asked, strict=True):
            place = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
            found = wanted[place] == keys
            counts.add(place[found], middle[found])
    return [_most_frequent(counts, len(wanted)) for counts, wanted in zip(seen, asked, strict=True)], tokens


def _most_frequent(seen: CooccurrenceCounts, places: int) -> _Ids:
    """Return the token seen most often at each place, the lowest id among equals; `_UNSEEN` where there is none."""
    place, token, counts = seen.pairs()
    order = np.lexsort((token, -counts, place))
    found, first = np.unique(place[order], return_index=True)
    best = np.full(places, _UNSEEN)
    best[found] = token[order][first]
    return best


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
