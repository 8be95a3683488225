"""How often each id was read where a text has a certain word."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertpipe.sources.notebook.recovery.matching import Known

_SHIFT = 32
_MERGE_AT = 1 << 20
"""Votes that are gathered before they are counted."""


class Votes:
    """Counts of pairs of an id and a word's code."""

    def __init__(self) -> None:
        self._pairs = np.empty(0, dtype=np.int64)
        self._counts = np.empty(0, dtype=np.int64)
        self._waiting: list[NDArray[np.int64]] = []
        self._waiting_votes = 0

    def add(self, ids: NDArray[np.int32], codes: NDArray[np.int64]) -> None:
        """Count one vote for each id and code."""
        self._waiting.append((ids.astype(np.int64) << _SHIFT) | codes)
        self._waiting_votes += len(ids)
        if self._waiting_votes >= _MERGE_AT:
            self._merge()

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return ids, codes and how often each pair was seen; by id, then code."""
        self._merge()
        return self._pairs >> _SHIFT, self._pairs & ((1 << _SHIFT) - 1), self._counts

    def _merge(self) -> None:
        if not self._waiting:
            return
        pairs, counts = np.unique(np.concatenate(self._waiting), return_counts=True)
        everything = np.concatenate([self._pairs, pairs])
        self._pairs, place = np.unique(everything, return_inverse=True)
        weights = np.concatenate([self._counts, counts])
        self._counts = np.bincount(place, weights=weights, minlength=len(self._pairs)).astype(np.int64)
        self._waiting, self._waiting_votes = [], 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The words that votes give to ids."""

    known: Known
    votes: NDArray[np.int64]
    """Votes for each id's word; shape [ids]."""
    share: NDArray[np.float64]
    """Share of the votes that agrees; shape [ids]."""


def agreed(votes: Votes, *, ids: int, codes: int, least: int, share: float) -> Agreement:
    """Return the words that belong to ids: each is the other's partner in most of the votes.

    Args:
        votes: the votes.
        ids: size of the table of ids.
        codes: size of the table of words.
        least: votes below which nothing is said.
        share: share of the votes of both that has to be exceeded; 0.5 or more, so that a partner is the only one.
    """
    voted, words, counts = votes.pairs()
    by_id = np.bincount(voted, weights=counts, minlength=ids)
    by_word = np.bincount(words, weights=counts, minlength=codes)
    agreement = counts / np.maximum(by_id[voted], by_word[words])
    kept = (agreement > share) & (counts >= least)
    voted, words = voted[kept], words[kept]
    known = Known(id_of_code=np.full(codes, -1), code_of_id=np.full(ids, -1))
    known.id_of_code[words], known.code_of_id[voted] = voted, words
    total, shares = np.zeros(ids, dtype=np.int64), np.zeros(ids)
    total[voted], shares[voted] = counts[kept], agreement[kept]
    return Agreement(known=known, votes=total, share=shares)
