"""What is done with one shard of text: pure functions of the shard and of what was decided, for any engine to map."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import SPLITS, TABLES, check_number, file_sha256, shard_name
from bertpipe.core.atomic import atomic_file
from bertpipe.core.errors import DataError
from bertpipe.core.params import MaskingParams, PrepareParams
from bertpipe.data.parquet_writer import DocumentWriter, PairWriter
from bertpipe.data.tokenization.tokenizer import parse_tokenizer
from bertpipe.data.tokenization.vocabulary import WordCounts, count_words
from bertpipe.sources.text.chunks import Counts, Preparation, chunks
from bertpipe.sources.text.corpus import DIGEST_BYTES, Found, Kept, split_bound, text_digest
from bertpipe.sources.text.documents import TextShard
from bertpipe.sources.text.sentences import without_line_break_tags

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledShard:
    """A shard, and what becomes of its documents."""

    number: int
    text: TextShard
    fates: Fates


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenShard:
    """What became of a shard."""

    counts: dict[str, Counts]
    """By split."""
    sha256: dict[str, str]
    """Of the file in each of `TABLES`."""


def survey_shard(seed: int, shard: TextShard) -> Survey:
    """Return the digests of a shard's documents.

    Raises:
        DataError: the file cannot be read as text.
    """
    read, digests = 0, []
    for document in shard.documents():
        read += 1
        digest = text_digest(without_line_break_tags(document.text), document.origin, seed=seed)
        if digest is not None:
            digests.append(digest)
    halves = np.frombuffer(b"".join(digests), dtype=f">u{DIGEST_BYTES // 2}").reshape(-1, 2)
    return Survey(read=read, empty=read - len(digests), digests=halves.astype(np.uint64))


def count_shard(prepare: PrepareParams, shard: SettledShard) -> WordCounts:
    """Return how often each word and character stands in the training documents of a shard.

    Raises:
        DataError: the file is not as it was when it was surveyed.
    """
    train = SPLITS.index("train")
    texts = (plain for _, plain, fate in _documents(shard) if fate == train)
    as_words = prepare.tokenizer == "words"
    return count_words(texts, as_words=as_words, lowercase=prepare.lowercase, strip_accents=prepare.strip_accents)


def write_shard(
    prepare: PrepareParams, masking: MaskingParams, tokenizer: str, out: Path, shard: SettledShard
) -> WrittenShard:
    """Write the rows and documents of a shard below `out`, each file whole, and return what is in them.

    Args:
        prepare: what is made of the text.
        masking: the rule of the static masks.
        tokenizer: the text of a `tokenizer.json`.
        out: has, or gets, the directories of `TABLES`.
        shard: what is read; its number names the files.

    Raises:
        DataError: the file is not as it was when it was surveyed.
        WriteError: the disk refuses.
    """
    paths = {name: out / name / shard_name(shard.number) for name in TABLES}
    counts = {split: Counts() for split in SPLITS}
    preparation = Preparation(prepare, masking, parse_tokenizer(tokenizer, prepare.tokenizer))
    with ExitStack() as stack:
        partial = {name: stack.enter_context(atomic_file(path)) for name, path in paths.items()}
        rows = {split: stack.enter_context(PairWriter(partial[split])) for split in SPLITS}
        documents = stack.enter_context(DocumentWriter(partial["documents"]))
        for chunk in chunks(_recorded(shard, documents)):
            prepared = preparation(chunk)
            counts[prepared.split].merge(prepared.counts)
            for part in prepared.parts:
                rows[prepared.split].add(part)
    return WrittenShard(counts=counts, sha256={name: file_sha256(path) for name, path in paths.items()})


def _recorded(shard: SettledShard, file: DocumentWriter) -> Iterator[Kept]:
    """Yield the documents that stay, and write them."""
    number = shard.fates.first_number
    for text, plain, fate in _documents(shard):
        if fate != DROPPED:
            split = SPLITS[fate]
            file.add(number, split, text.encode("utf-8"))
            yield Kept(number=number, split=split, text=text, plain=plain)
            number += 1


def _documents(shard: SettledShard) -> Iterator[tuple[str, str, int]]:
    """Yield text, plain text and fate of the documents that have a word."""
    fates = iter(shard.fates.fates.tolist())
    for document in shard.text.documents():
        plain = without_line_break_tags(document.text)
        if plain.strip():
            fate = next(fates, None)
            if fate is None:
                raise _changed(shard)
            yield document.text, plain, fate
    if next(fates, None) is not None:
        raise _changed(shard)


def _changed(shard: SettledShard) -> DataError:
    return DataError(f"{shard.text.origin} was changed while it was read: let it rest, and run again")


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
