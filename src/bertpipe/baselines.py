"""What simple predictors get on the rows a model is judged on: a figure that a count table reaches proves nothing."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertpipe.data.dataset import PairDataset
from bertpipe.data.tokenization import Tokenizer

_Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantPredictor:
    """Predicts every masked token by the frequencies of the training labels."""

    loss: float | None
    """Nats a supervised token, with one added to each count; no constant does better in expectation."""
    top1_accuracy: float | None
    top5_accuracy: float | None


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


def constant_predictor(train: PairDataset, test: PairDataset, *, vocab_size: int) -> ConstantPredictor:
    """Return what the frequencies of the training labels get on the test labels."""
    counts = train.label_counts(vocab_size)
    labels = test.masked_labels[test.masked_labels != 0]
    if not len(labels):
        return ConstantPredictor(loss=None, top1_accuracy=None, top5_accuracy=None)
    log_probability = np.log((counts + 1.0) / (counts.sum() + vocab_size))
    best = np.argsort(-counts, kind="stable")[:5]
    return ConstantPredictor(
        loss=float(-log_probability[labels].mean()),
        top1_accuracy=float((labels == best[0]).mean()),
        top5_accuracy=float(np.isin(labels, best).mean()),
    )


def two_neighbour_accuracy(train: PairDataset, test: PairDataset, tokenizer: Tokenizer) -> float | None:
    """Return the top-1 accuracy of counting which token stands between two neighbours.

    Where the pair of neighbours was not seen in training, or one of them is masked, the left neighbour alone decides,
    then the right one, then the commonest token.
    """
    seen, asked = _rows(train, tokenizer), _rows(test, tokenizer)
    inner = np.flatnonzero(~tokenizer.is_special[seen.known])
    left, middle, right = seen.known[inner - 1], seen.known[inner], seen.known[inner + 1]
    if not len(asked.supervised) or not len(middle):
        return None
    size = tokenizer.vocab_size
    asked_left, asked_right = asked.visible[asked.supervised - 1], asked.visible[asked.supervised + 1]
    prediction = np.full(len(asked.supervised), np.bincount(middle).argmax())
    for seen_key, asked_key, usable in (
        (right, asked_right, asked_right != tokenizer.mask_id),
        (left, asked_left, asked_left != tokenizer.mask_id),
        (
            left * size + right,
            asked_left * size + asked_right,
            (asked_left != tokenizer.mask_id) & (asked_right != tokenizer.mask_id),
        ),
    ):
        found, value = _commonest(seen_key, middle, asked_key, size)
        prediction = np.where(found & usable, value, prediction)
    return float((prediction == asked.labels).mean())


def second_sentence_accuracy(train: PairDataset, test: PairDataset, tokenizer: Tokenizer) -> float | None:
    """Return the NSP accuracy of naive Bayes over the words of sentence B, which has not seen sentence A."""
    if not len(test):
        return None
    seen, asked = _rows(train, tokenizer), _rows(test, tokenizer)
    size = tokenizer.vocab_size
    words, labels = seen.visible[seen.is_second], train.is_next[seen.row[seen.is_second]]
    counts = np.stack([np.bincount(words[labels == label], minlength=size) + 1.0 for label in (False, True)])
    log_ratio = np.log(counts[1] / counts[1].sum()) - np.log(counts[0] / counts[0].sum())
    share = (train.is_next.sum() + 1) / (len(train) + 2)
    score = math.log(share / (1 - share)) + np.bincount(
        asked.row[asked.is_second], weights=log_ratio[asked.visible[asked.is_second]], minlength=len(test)
    )
    return float(((score > 0) == test.is_next).mean())


def word_overlap_accuracy(train: PairDataset, test: PairDataset, tokenizer: Tokenizer) -> float | None:
    """Return the NSP accuracy of a threshold on the words that A and B share.

    A shared word counts by its inverse document frequency among the training sentences; the threshold is the one
    that does best on the training rows.
    """
    if not len(test):
        return None
    seen, asked = _rows(train, tokenizer), _rows(test, tokenizer)
    size = tokenizer.vocab_size
    sentences = np.unique((2 * seen.row + seen.is_second) * size + seen.visible) % size
    weight = np.log((2 * len(train) + 1.0) / (np.bincount(sentences, minlength=size) + 1.0))
    weight[tokenizer.is_special] = 0.0
    train_overlap, test_overlap = _overlap(seen, weight, len(train)), _overlap(asked, weight, len(test))
    threshold = _best_threshold(train_overlap, train.is_next)
    return float(((test_overlap > threshold) == test.is_next).mean())


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


def _commonest(seen_key: _Ids, middle: _Ids, asked_key: _Ids, size: int) -> tuple[NDArray[np.bool_], _Ids]:
    """Return for each asked key whether it was seen, and the token most often seen with it (ties: the lowest id)."""
    pairs, counts = np.unique(seen_key * size + middle, return_counts=True)
    order = np.lexsort((pairs, -counts, pairs // size))
    keys, first = np.unique(pairs[order] // size, return_index=True)
    best = pairs[order][first] % size
    place = np.minimum(np.searchsorted(keys, asked_key), len(keys) - 1)
    return keys[place] == asked_key, best[place]


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
