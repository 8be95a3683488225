"""What is done with one shard of text: pure functions of the shard and the params, for any engine to map."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bertpipe.core.artifacts import DOCUMENTS, file_sha256, shard_name
from bertpipe.core.atomic import atomic_file
from bertpipe.core.params import MaskingParams, PrepareParams
from bertpipe.data.parquet_writer import DocumentWriter, PairWriter
from bertpipe.data.records import FileRecord
from bertpipe.data.tokenization.vocabulary import WordCounts, count_words
from bertpipe.sources.engines.processes import ordered_map
from bertpipe.sources.text.chunks import Counts, Preparation, chunks
from bertpipe.sources.text.corpus import AssignedShard, CorpusStats, SplitDocument, split_documents


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedShard:
    """What a vocabulary is made of."""

    words: WordCounts
    """Of the training documents."""
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


def count_shard(prepare: PrepareParams, shard: AssignedShard) -> CountedShard:
    """Return how often each word and character stands in the training documents of a shard.

    Of a test split that is the corpus's own, only what shows that it has a document is read.

    Raises:
        DataError: see `split_documents`.
    """
    documents = dict.fromkeys(prepare.splits, 0)

    def training_texts() -> Iterator[str]:
        for document in split_documents(shard, CorpusStats(), prepare):
            documents[document.split] += 1
            if document.split == "train":
                yield document.plain
            elif prepare.test_share == "source" and document.split == "test" and documents["train"]:
                break

    as_words = prepare.tokenizer == "words"
    words = count_words(
        training_texts(), as_words=as_words, lowercase=prepare.lowercase, strip_accents=prepare.strip_accents
    )
    return CountedShard(words=words, documents=documents)


def write_shard(
    prepare: PrepareParams, masking: MaskingParams, tokenizer: str, out: Path, processes: int, shard: AssignedShard
) -> WrittenShard:
    """Write the rows and documents of a shard below `out`, each file whole, and return what is in them.

    Args:
        prepare: what is made of the text.
        masking: the rule of the static masks.
        tokenizer: the text of a `tokenizer.json`.
        out: gets a file of each of `prepare.tables`, or a directory with one where the shard has a number.
        processes: how many work on the chunks of the shard.
        shard: what is read.

    Raises:
        DataError: see `split_documents`.
        WriteError: writing failed.
    """
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
