"""Zips to the tables of the Parquet contract: one by itself, or each of several as a shard."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

from bertpipe.core.artifacts import (
    SPLITS,
    TABLES,
    check_number,
    file_sha256,
    shards_sha256,
)
from bertpipe.core.params import ConvertParams
from bertpipe.core.progress import Progress
from bertpipe.data.tokenization.tokenizer import (
    Tokenizer,
)
from bertpipe.sources.engines.engine import Engine, with_progress
from bertpipe.sources.notebook.archive import common_facts, open_archive, zip_files
from bertpipe.sources.notebook.columns import RowColumns
from bertpipe.sources.notebook.conversion import (
    Converted,
    Words,
    ZipShard,
    convert_archive,
    convert_shard,
    count_documents,
    merged,
)
from bertpipe.sources.notebook.recovery.vocabulary import learn_vocabulary
from bertpipe.sources.notebook.valid_rows import ValidRows


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedZips:
    """What was written, and of what."""

    tokenizer: Tokenizer | None
    """That of the zips, where they bring one."""
    words: Words
    found: Converted
    sha256: Mapping[str, str]
    """Of the file or the shards of each table."""
    source_sha256: str
    generated: bool


def convert_one(
    convert: ConvertParams, zip_file: Path, staging: Path, on_progress: Callable[[Progress], None]
) -> ConvertedZips:
    """Write the rows and documents of a zip to `staging`, one file each.

    Raises:
        DataError: see `run_convert`.
    """
    paths = {table: staging / f"{table}.parquet" for table in TABLES}
    with open_archive(zip_file) as archive:
        tokenizer = archive.tokenizer()
        words = _words(convert, tokenizer, archive.labels_are_true(), [zip_file], on_progress)
        found = convert_archive(convert, archive, words, paths, on_progress=on_progress)
        generated = archive.is_generated()
    return ConvertedZips(
        tokenizer=tokenizer,
        words=words,
        found=found,
        sha256={path.name: file_sha256(path) for path in paths.values()},
        source_sha256=file_sha256(zip_file),
        generated=generated,
    )


def convert_shards(
    convert: ConvertParams, folder: Path, staging: Path, engine: Engine, on_progress: Callable[[Progress], None]
) -> ConvertedZips:
    """Write the rows and documents of each zip of a folder to `staging` as a shard.

    Raises:
        DataError: see `run_convert`.
    """
    zips = zip_files(folder)
    sizes = [path.stat().st_size for path in zips]
    facts = common_facts(zips)
    words = _words(convert, facts.tokenizer, facts.labels_are_true, zips, on_progress)
    with engine.session():
        counted = engine.map(partial(count_documents, convert, words.vocab_size), zips)
        documents = [*with_progress(counted, sizes, "counting texts", on_progress)]
        check_number(sum(documents))
        firsts = accumulate(documents, initial=0)
        shards = [
            ZipShard(number=number, path=path, first_document=first)
            for number, (path, first) in enumerate(zip(zips, firsts, strict=False))
        ]
        converted = engine.map(partial(convert_shard, convert, words, staging), shards)
        done = [*with_progress(converted, sizes, "converting", on_progress)]
    lines = (f"{each.source_sha256}  {path.name}\n" for each, path in zip(done, zips, strict=True))
    return ConvertedZips(
        tokenizer=facts.tokenizer,
        words=words,
        found=merged(each.converted for each in done),
        sha256={table: shards_sha256([each.sha256[table] for each in done]) for table in TABLES},
        source_sha256=hashlib.sha256("".join(lines).encode("utf-8")).hexdigest(),
        generated=facts.generated,
    )


def _words(
    convert: ConvertParams,
    tokenizer: Tokenizer | None,
    labels_are_true: bool,
    zips: Sequence[Path],
    on_progress: Callable[[Progress], None],
) -> Words:
    """Return what is known of the ids; what no zip tells is learned from the rows, if that is asked for."""
    learns = tokenizer is None and convert.recover != "nothing"
    return Words(
        vocab_size=None if tokenizer is None else tokenizer.vocab_size,
        labels_are_true=labels_are_true,
        recovered=learn_vocabulary(_all_rows(zips, on_progress)) if learns else None,
    )


def _all_rows(zips: Sequence[Path], on_progress: Callable[[Progress], None]) -> Iterator[tuple[str, RowColumns]]:
    """Yield all rows of the zips with their split, whatever subset is converted."""
    for path in zips:
        with open_archive(path) as archive:
            rows = ValidRows(
                archive=archive, subset="full", vocab_size=None, on_progress=on_progress, label="reading words: "
            )
            for split in SPLITS:
                for block in rows.of(split):
                    yield split, block
