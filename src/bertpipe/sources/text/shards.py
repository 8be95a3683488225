"""What is done with one shard of text: pure functions of the shard and the params, for any engine to map."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bertpipe.core.artifacts import DOCUMENTS, file_sha256, shard_name
from bertpipe.core.atomic import atomic_file
from bertpipe.core.params import MaskingParams, PrepareParams
from bertpipe.data.parquet_writer import DocumentWriter, PairWriter
from bertpipe.data.records import FileRecord
from bertpipe.data.tokenization.vocabulary import WordCounts, word_counts
from bertpipe.sources.engines.processes import ordered_map
from bertpipe.sources.text.chunks import Counts, Preparation, chunks
from bertpipe.sources.text.corpus import AssignedShard, CorpusStats, SplitDocument, split_documents
from bertpipe.sources.text.duplicates import places_in
from bertpipe.sources.text.spill import ROWS_PER_RUN, Part, Run, read_part, read_run, write_run


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedShard:
    """What a vocabulary is made of."""

    runs: tuple[Run, ...]
    """The words of the training documents and how often each stands there, by a hash of the word."""
    words: int
    """How many these are, repeated ones each time."""
    rest: WordCounts
    """All else that was counted."""
    documents: dict[str, int]
    """By split; of a test split that is the corpus's own, 1 stands for any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenShard:
    """What was written of a shard."""

    stats: CorpusStats
    counts: dict[str, Counts]
    """By split."""
    sha256: dict[str, str]
    """Of the file of each table."""
    files: dict[str, FileRecord]
    """By split."""


def count_shard(
    prepare: PrepareParams, folder: Path, duplicates: Sequence[Run] | None, shard: AssignedShard
) -> CountedShard:
    """Write to `folder` how often each word stands in the training documents of a shard, and return where.

    Of a test split that is the corpus's own, only what shows that it has a document is read.

    Raises:
        DataError: see `split_documents`.
        WriteError: writing failed.
    """
    shard = _without_duplicates(shard, duplicates)
    documents = dict.fromkeys(prepare.splits, 0)

    def training_texts() -> Iterator[str]:
        for document in split_documents(shard, CorpusStats(), prepare):
            documents[document.split] += 1
            if document.split == "train":
                yield document.plain
            elif prepare.test_share == "source" and document.split == "test" and documents["train"]:
                break

    runs, rest, total = list[Run](), WordCounts(), 0
    for counts in word_counts(
        training_texts(),
        as_words=prepare.tokenizer == "words",
        lowercase=prepare.lowercase,
        strip_accents=prepare.strip_accents,
        most_strings=ROWS_PER_RUN,
    ):
        words, times = counts.words, np.fromiter(counts.words.values(), dtype=np.int64)
        runs.append(write_run(folder, _hashes(words), word=pa.array(words, pa.string()), count=times))
        total += int(times.sum())
        rest.merge(replace(counts, words=Counter()))
    return CountedShard(runs=tuple(runs), words=total, rest=rest, documents=documents)


def merge_words(folder: Path, runs: Sequence[Run], least: int, part: Part) -> Run:
    """Add up the counts of the words of one part, and write those of at least `least` to a new run in `folder`.

    Raises:
        WriteError: writing failed.
    """
    counted = pa.Table.from_batches([read_part(run, part).select(["word", "count"]) for run in runs])
    together = counted.group_by("word").aggregate([("count", "sum")])
    kept = together.filter(pc.greater_equal(together["count_sum"], least))
    unsorted = np.zeros(len(kept), dtype=np.uint64)  # all of it is read
    return write_run(folder, unsorted, word=kept["word"].combine_chunks(), count=kept["count_sum"].to_numpy())


def read_words(run: Run) -> Iterator[tuple[str, int]]:
    """Yield the words of a run and their counts."""
    for rows in read_run(run):
        yield from zip(rows["word"].to_pylist(), rows["count"].to_pylist(), strict=True)


def _hashes(words: Iterable[str]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(blake2b(word.encode(), digest_size=8).digest() for word in words), dtype=np.uint64)


def write_shard(
    prepare: PrepareParams,
    masking: MaskingParams,
    tokenizer: str,
    out: Path,
    duplicates: Sequence[Run] | None,
    processes: int,
    shard: AssignedShard,
) -> WrittenShard:
    """Write the rows and documents of a shard below `out`, each file whole, and return what is in them.

    Args:
        prepare: what is made of the text.
        masking: the rule of the static masks.
        tokenizer: the text of a `tokenizer.json`.
        out: gets a file of each of `prepare.tables`, or a directory with one where the shard has a number.
        duplicates: where the documents are that an earlier one equals, of all shards; None to find those of this one.
        processes: how many work on the chunks of the shard.
        shard: what is read.

    Raises:
        DataError: see `split_documents`.
        WriteError: writing failed.
    """
    shard = _without_duplicates(shard, duplicates)
    suffix = ".parquet" if shard.number is None else f"/{shard_name(shard.number)}"
    paths = {table: out / f"{table}{suffix}" for table in prepare.tables}
    stats, counts = CorpusStats(), {split: Counts() for split in prepare.splits}
    with ExitStack() as stack:
        files = {table: stack.enter_context(atomic_file(path)) for table, path in paths.items()}
        rows = {split: stack.enter_context(PairWriter(files[split])) for split in prepare.splits}
        texts = stack.enter_context(DocumentWriter(files[DOCUMENTS]))

        def recorded() -> Iterator[SplitDocument]:
            for document in split_documents(shard, stats, prepare):
                texts.add(document.number, document.split, document.text.encode("utf-8"))
                yield document

        work = partial(Preparation, prepare, masking, tokenizer)
        for prepared in ordered_map(work, chunks(recorded()), processes=processes):
            counts[prepared.split].merge(prepared.counts)
            for part in prepared.parts:
                rows[prepared.split].add(part)
    sha256 = {table: file_sha256(path) for table, path in paths.items()}
    records = {
        split: FileRecord(rows=counts[split].rows, bytes=paths[split].stat().st_size, sha256=sha256[split])
        for split in prepare.splits
    }
    return WrittenShard(stats=stats, counts=counts, sha256=sha256, files=records)


def _without_duplicates(shard: AssignedShard, duplicates: Sequence[Run] | None) -> AssignedShard:
    """Return the shard with the places of its documents that are dropped, where they have been found."""
    if duplicates is None:
        return shard
    assert shard.number is not None
    return replace(shard, duplicates=places_in(shard.number, duplicates))
