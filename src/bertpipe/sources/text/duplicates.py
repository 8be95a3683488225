"""Documents that an earlier one equals, in any number of shards: found part by part, by many workers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import check_number
from bertpipe.core.params import PrepareParams
from bertpipe.sources.text.corpus import CHECKSUM_BYTES, DIGEST_BYTES, AssignedShard, CorpusStats, digested_documents
from bertpipe.sources.text.spill import ROWS_PER_RUN, Part, Run, read_part, write_run

_HALF = f">u{DIGEST_BYTES // 2}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestedShard:
    """What is known of a shard when its documents have been read once."""

    stats: CorpusStats
    """Of each document: whether it is empty."""
    checksum: bytes
    """Of the digests of its documents."""
    runs: tuple[Run, ...]
    """A row for each document that is not empty, by the first half of its digest."""

    @property
    def documents(self) -> int:
        """How many are not empty."""
        return self.stats.read - self.stats.empty


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDuplicates:
    """Those among the documents whose digests are in one part."""

    run: Run
    """A row for each, by the number of its shard."""
    per_shard: NDArray[np.int64]
    """How many there are in each shard; shape [shards]."""


def digest_shard(prepare: PrepareParams, folder: Path, shard: AssignedShard) -> DigestedShard:
    """Write the digests of a shard's documents to `folder`, and return where they are.

    Raises:
        DataError: the file cannot be read as text.
        WriteError: writing failed.
    """
    stats, checksum, runs = CorpusStats(), blake2b(digest_size=CHECKSUM_BYTES), list[Run]()
    waiting, first = bytearray(), 0

    def write() -> None:
        halves = np.frombuffer(bytes(waiting), dtype=_HALF).reshape(-1, 2).astype(np.uint64)
        places = np.arange(first, first + len(halves))
        runs.append(write_run(folder, halves[:, 0], rest=halves[:, 1], place=places))

    for document in digested_documents(shard, prepare):
        stats.read += 1
        if document.digest is None:
            stats.empty += 1
            continue
        checksum.update(document.digest)
        waiting += document.digest
        if len(waiting) == DIGEST_BYTES * ROWS_PER_RUN:
            write()
            waiting, first = bytearray(), first + ROWS_PER_RUN
    write()
    return DigestedShard(stats=stats, checksum=checksum.digest(), runs=tuple(runs))


def find_duplicates(folder: Path, shards: Sequence[Sequence[Run]], part: Part) -> FoundDuplicates:
    """Write to `folder` which of the documents of one part equal an earlier one, and return how many they are.

    Args:
        folder: gets a run.
        shards: the digests of each shard.
        part: which of them are looked at.
    """
    tables = [(number, read_part(run, part)) for number, runs in enumerate(shards) for run in runs]
    shard = np.repeat([number for number, _ in tables], [len(rows) for _, rows in tables])
    key, rest, place = (
        np.concatenate([rows[name].to_numpy() for _, rows in tables]) for name in ("key", "rest", "place")
    )
    order = np.lexsort((place, shard, rest, key))
    again = (key[order][1:] == key[order][:-1]) & (rest[order][1:] == rest[order][:-1])
    found = order[1:][again]
    run = write_run(folder, shard[found].astype(np.uint64), place=place[found])
    return FoundDuplicates(run=run, per_shard=np.bincount(shard[found], minlength=len(shards)))


def assign(
    shards: Sequence[AssignedShard], digested: Sequence[DigestedShard], duplicates: NDArray[np.int64]
) -> list[AssignedShard]:
    """Return the shards such that their documents, one shard after the other, are those of one corpus.

    Args:
        shards: in their order.
        digested: what is known of each.
        duplicates: how many each has; shape [shards].

    Raises:
        DataError: more documents stay than the data set can number.
    """
    assigned, number = list[AssignedShard](), 0
    for shard, each, dropped in zip(shards, digested, duplicates.tolist(), strict=True):
        expected = replace(each.stats, duplicates=dropped)
        assigned.append(replace(shard, first_document=number, expected=expected, checksum=each.checksum))
        number += each.documents - dropped
    check_number(number)
    return assigned


def places_in(number: int, runs: Sequence[Run]) -> NDArray[np.int64]:
    """Return the places of a shard's duplicates, which rise."""
    found = [read_part(run, Part(first=number, last=number))["place"].to_numpy() for run in runs]
    return np.sort(np.concatenate(found))
