"""Which documents of all shards stay, decided from their digests alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import SPLITS, check_number
from bertpipe.sources.text.corpus import Found, split_bound

DROPPED = len(SPLITS)
"""The fate of a duplicate; that of other documents is the place of their split in `SPLITS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found in a shard."""

    read: int
    empty: int
    """Documents without a word."""
    digests: NDArray[np.uint64]
    """Two halves of the digest of each other document, the random number of its split first; shape [documents, 2]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fates:
    """What becomes of the documents of a shard."""

    first_number: int
    """Number of the first one that stays."""
    fates: NDArray[np.int8]
    """Place of each document's split in `SPLITS`, or `DROPPED`; those without a word are not among them."""


def decide(surveys: Sequence[Survey], *, test_share: float) -> tuple[list[Fates], Found]:
    """Return the fates of each shard's documents, and what was found in all shards: as `Corpus` does in one pass.

    Of equal documents the first stays, in the order of the shards; equal ones have the same split, which depends on
    their words. A document takes 16 bytes of memory, and while they are sorted about four times that.

    Raises:
        DataError: more documents stay than the data set can number.
    """
    digests = np.concatenate([np.zeros((0, 2), dtype=np.uint64), *(survey.digests for survey in surveys)])
    fates = np.where(digests[:, 0] < np.uint64(split_bound(test_share)), SPLITS.index("test"), SPLITS.index("train"))
    fates = fates.astype(np.int8)
    fates[_repeats(digests)] = DROPPED
    stays = fates != DROPPED
    count = int(stays.sum())
    check_number(count)
    ends = np.cumsum([len(survey.digests) for survey in surveys])[:-1]
    per_shard = np.split(fates, ends)
    kept = np.cumsum([0, *(int((part != DROPPED).sum()) for part in per_shard)]).tolist()
    found = Found(
        read=sum(survey.read for survey in surveys),
        empty=sum(survey.empty for survey in surveys),
        duplicates=len(fates) - count,
    )
    return [Fates(first_number=first, fates=part) for first, part in zip(kept[:-1], per_shard, strict=True)], found


def count_splits(fates: Sequence[Fates]) -> dict[str, int]:
    """Return how many documents of all shards each split has."""
    counts = np.bincount(np.concatenate([each.fates for each in fates]), minlength=DROPPED + 1)
    return {split: int(counts[place]) for place, split in enumerate(SPLITS)}


def _repeats(digests: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the places of digests that also stand at an earlier place."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: among equal ones the first stays the first
    in_order = digests[order]
    repeats: NDArray[np.int64] = order[1:][(in_order[1:] == in_order[:-1]).all(axis=1)]
    return repeats
