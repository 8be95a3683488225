"""Which documents of a corpus stay, in which split, and under which number: without duplicates, shard by shard."""

import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import SPLITS, VALIDATION
from bertpipe.core.errors import DataError
from bertpipe.core.params import PrepareParams
from bertpipe.sources.text.documents import TextShard
from bertpipe.sources.text.sentences import without_line_break_tags

DIGEST_BYTES = 16
SPLIT_BYTES = 8
CHECKSUM_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitDocument:
    """A document of the data set."""

    number: int
    split: str
    text: str
    """As it was found."""
    plain: str
    """With newlines in place of HTML's line breaks: the text that pairs are made of."""


@dataclass(slots=True, kw_only=True)
class CorpusStats:
    """How many documents were read, and how many of them were dropped, and why."""

    read: int = 0
    empty: int = 0
    duplicates: int = 0
    """Documents equal to an earlier one of their split but for white space and the form of Unicode, dropped."""
    test_documents_in_train: int = 0
    """Documents that the corpus has in both splits, dropped from the test split."""

    def merge(self, other: "CorpusStats") -> None:
        """Add the counts of another shard."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignedShard:
    """A shard, and what the shards before it mean for its documents."""

    text: TextShard
    number: int | None = None
    """Its place among the shards; None where it is not one of several."""
    first_document: int = 0
    """Number of its first document that stays."""
    duplicates: NDArray[np.int64] | None = None
    """Places of its documents that an earlier one equals, counted without empty ones, which rise; None where they are
    found as it is read."""
    expected: CorpusStats | None = None
    """What reading it gave before, where it was read before."""
    checksum: bytes | None = None
    """Of the digests that its documents had then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestedDocument:
    """A document as it was found."""

    text: str
    plain: str
    """With newlines in place of HTML's line breaks."""
    own_split: str | None
    """The corpus's own, where that is asked for."""
    digest: bytes | None
    """None if it has no word."""


def digested_documents(shard: AssignedShard, prepare: PrepareParams) -> Iterator[DigestedDocument]:
    """Yield the documents of a shard, in order; with splits of its own, its training split first.

    Raises:
        DataError: a document has no split where the corpus's own are asked for, or holds half a surrogate pair; or the
            file cannot be read as text.
    """
    # Of the corpus's own splits, the training split has to be known when the test split is read.
    for own_split in SPLITS if prepare.test_share == "source" else (None,):
        for document in shard.text.documents(own_split):
            if own_split and document.split is None:
                raise DataError(
                    f"{document.origin} belongs to no split, but prepare.test_share is source: "
                    "write the share of the documents that is to be the test split, such as 0.1"
                )
            plain = without_line_break_tags(document.text)
            digest = text_digest(plain, document.origin, seed=prepare.seed)
            yield DigestedDocument(text=document.text, plain=plain, own_split=own_split, digest=digest)


def split_documents(shard: AssignedShard, stats: CorpusStats, prepare: PrepareParams) -> Iterator[SplitDocument]:
    """Yield the documents of a shard that stay, in order; with splits of its own, its training split first.

    The split of a document depends on the seed and its own words alone, so that it stays the same when the corpus
    grows; with `test_share` `source` it is the corpus's own, whose training documents alone make a validation split.

    Args:
        shard: what is read.
        stats: counts what is read.
        prepare: the shares of the splits, and their seed.

    Raises:
        DataError: a document has no split where the corpus's own are asked for, or holds half a surrogate pair; or the
            file is not as it was when it was read before.
    """
    seen: dict[str, set[bytes]] = {split: set() for split in prepare.splits}
    number, place, passed = shard.first_document, 0, 0
    checksum = blake2b(digest_size=CHECKSUM_BYTES)
    for document in digested_documents(shard, prepare):
        stats.read += 1
        digest = document.digest
        if digest is None:
            stats.empty += 1
            continue
        split = _split(digest, document.own_split, prepare)
        if shard.duplicates is not None:
            checksum.update(digest)
            is_duplicate = passed < len(shard.duplicates) and shard.duplicates[passed] == place
            passed, place = passed + is_duplicate, place + 1
        else:
            is_duplicate = digest in seen[split]
        if is_duplicate:
            stats.duplicates += 1
            continue
        if shard.duplicates is None:
            if split == "test" and any(digest in seen[other] for other in prepare.splits):
                stats.test_documents_in_train += 1
                continue
            seen[split].add(digest)
        yield SplitDocument(number=number, split=split, text=document.text, plain=document.plain)
        number += 1
    if shard.expected is not None and (shard.expected, shard.checksum) != (stats, checksum.digest()):
        raise DataError(f"{shard.text.path} was changed while it was read: run the command again when it is complete")


def _split(digest: bytes, own_split: str | None, prepare: PrepareParams) -> str:
    """Return a document's split: its own, or one by chance; of training documents some are for validation."""
    draw = int.from_bytes(digest[:SPLIT_BYTES])
    test_share = 0.0 if prepare.test_share == "source" else prepare.test_share
    if own_split == "test" or draw < split_bound(test_share):
        return "test"
    share = test_share + (1 - test_share) * prepare.validation_share
    return VALIDATION if prepare.validation_share and draw < split_bound(share) else "train"


def text_digest(plain: str, origin: str, *, seed: int) -> bytes | None:
    """Return a digest of the words of a text, of `DIGEST_BYTES`; None if it has none.

    Its first `SPLIT_BYTES` are a random number that decides the split.

    Raises:
        DataError: the text holds half of a surrogate pair.
    """
    words = comparable(plain)
    if not words:
        return None
    try:
        content = words.encode("utf-8")
    except UnicodeEncodeError as error:
        at = max(0, error.start - 20)
        raise DataError(
            f"{origin} holds half of a surrogate pair, which is not a character, after "
            f"{words[at : error.start]!r}: correct the file"
        ) from error
    return blake2b(content, digest_size=DIGEST_BYTES, key=seed.to_bytes(8)).digest()


def comparable(text: str) -> str:
    """Return what is equal for texts that differ in white space, or in how Unicode composes their letters, alone."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def split_bound(share: float) -> int:
    """Return the number below which the random ones of that share of the documents are."""
    return math.ceil(share * 2.0 ** (8 * SPLIT_BYTES))
