"""Figures of minimal pairs: how often the acceptable sentence of a pair has the higher score."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Scores = NDArray[np.float64]
TIE = 1e-5
"""Scores that differ by at most this share of the larger one are equal: float32 tells no more apart in a sum of
log-probabilities."""


def points(good: _Scores, bad: _Scores) -> _Scores:
    """Return 1 for each pair whose good sentence scores higher, 0.5 for a tie (see `TIE`), else 0; shape [pairs]."""
    tied = np.abs(good - bad) <= TIE * np.maximum(np.abs(good), np.abs(bad))
    return np.where(tied, 0.5, good > bad)


def mean_log_frequencies(sentences: Sequence[Sequence[int]], counts: NDArray[np.int64]) -> _Scores:
    """Return the mean log frequency of each sentence's tokens, with one added to each of the counts [vocab]."""
    log_frequency = np.log((counts + 1.0) / (counts.sum() + len(counts)))
    return np.array([log_frequency[list(ids)].mean() for ids in sentences])


def pair_figures(
    groups: Sequence[str], of_predictors: Mapping[str, _Scores | None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the figures of each predictor over all pairs, and the accuracies in each group, sorted by its name.

    Args:
        groups: the group of each pair.
        of_predictors: by the predictor's name, its `points`; None where it cannot be asked.
    """
    names, number = np.unique(np.array(groups, dtype=object), return_inverse=True)
    pairs = np.bincount(number)
    by_group = {
        name: None if found is None else np.bincount(number, weights=found) / pairs
        for name, found in of_predictors.items()
    }
    overall = {
        name: None
        if found is None
        else {
            "accuracy": float(found.mean()),
            "group_mean_accuracy": float(np.mean(by_group[name])),  # type: ignore[arg-type]
            "ties": int(((found > 0) & (found < 1)).sum()),
        }
        for name, found in of_predictors.items()
    }
    of_groups = {
        group: {
            "pairs": int(pairs[index]),
            **{name: None if means is None else float(means[index]) for name, means in by_group.items()},
        }
        for index, group in enumerate(names)
    }
    return overall, of_groups
