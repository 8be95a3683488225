"""Zips to the tables of the Parquet contract: each becomes a shard, and one zip alone is the only shard."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path

from bertpipe.core.artifacts import SPLITS, TABLES, check_number, shard_name, shards_sha256
from bertpipe.core.file_kinds import shown
from bertpipe.core.params import ConvertParams
from bertpipe.core.progress import Progress, ignore_progress
from bertpipe.data.records import FileRecord, SplitRecord
from bertpipe.sources.engines.engine import Engine, with_progress
from bertpipe.sources.notebook.archive import ZipFacts, common_facts, member_name, open_archive, zip_files
from bertpipe.sources.notebook.columns import RowColumns
from bertpipe.sources.notebook.conversion import (
    Conversion,
    ConversionStats,
    ZipShard,
    convert_zip,
    renumber_documents,
    renumbered,
)
from bertpipe.sources.notebook.recovery.vocabulary import RecoveredVocabulary, learn_vocabulary
from bertpipe.sources.notebook.valid_rows import valid_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedZips:
    """What was found in all zips, and what was written."""

    facts: ZipFacts
    recovered: RecoveredVocabulary | None
    found: ConversionStats
    source_sha256: str
    sha256: Mapping[str, str]
    """Of the file or the shards of each table."""
    records: Mapping[str, SplitRecord]
    """By split."""


def convert_zips(
    convert: ConvertParams, source: Path, staging: Path, engine: Engine, on_progress: Callable[[Progress], None]
) -> ConvertedZips:
    """Write the rows and texts of a zip, or of each zip of a folder, to `staging`.

    The CSV of each zip is read once. Where the vocabulary is learned from the rows, it is read twice: a row is written
    with the words behind its masks, and the last row of the last zip may still decide one of them.

    Raises:
        DataError: see `run_convert`.
    """
    is_folder = source.is_dir()
    zips = zip_files(source) if is_folder else [source]
    facts = common_facts(zips)
    learns = facts.tokenizer is None and convert.recover != "nothing"
    conversion = Conversion(
        params=convert,
        vocab_size=None if facts.tokenizer is None else facts.tokenizer.vocab_size,
        labels_are_true=facts.labels_are_true,
        recovered=learn_vocabulary(_all_rows(zips, on_progress)) if learns else None,
    )
    place = "{table}/{shard}" if is_folder else "{table}.parquet"
    shards = [
        ZipShard(
            path=path,
            tables={table: staging / place.format(table=table, shard=shard_name(number)) for table in TABLES},
        )
        for number, path in enumerate(zips)
    ]
    # Of one zip each member is reported; of several, which other processes may read, each zip.
    within, across = (ignore_progress, on_progress) if is_folder else (on_progress, ignore_progress)
    sizes = [path.stat().st_size for path in zips]
    found, digests, lines = ConversionStats(), list[Mapping[str, str]](), ""
    files: dict[str, list[FileRecord]] = {split: [] for split in SPLITS}
    with engine.session():
        converted = engine.map(partial(convert_zip, conversion, within), shards)
        parts = [*with_progress(converted, sizes, "converting", across)]
        check_number(sum(part.found.documents for part in parts))
        firsts = accumulate((part.found.documents for part in parts), initial=0)
        numbered = engine.map(renumber_documents, [*zip(shards, firsts, strict=False)])
        for shard, part, sha256 in zip(
            shards, parts, with_progress(numbered, sizes, "numbering texts", across), strict=True
        ):
            if sha256 is not None:
                for table in shard.tables.values():
                    renumbered(table).replace(table)
            if is_folder:
                part.found.rejects[:] = [
                    replace(reject, file=f"{shown(shard.path.name)}!{reject.file}") for reject in part.found.rejects
                ]
            found.merge(part.found)
            digests.append(sha256 or part.sha256)
            for split in SPLITS:
                rows, size = part.found.counts[split].rows, shard.tables[split].stat().st_size
                files[split].append(FileRecord(rows=rows, bytes=size, sha256=digests[-1][split]))
            lines += f"{part.source_sha256}  {shard.path.name}\n"
    if is_folder:
        source_sha256 = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
        sha256 = {table: shards_sha256([each[table] for each in digests]) for table in TABLES}
    else:
        source_sha256 = parts[0].source_sha256
        sha256 = {f"{table}.parquet": digests[0][table] for table in TABLES}
    return ConvertedZips(
        facts=facts,
        recovered=conversion.recovered,
        found=found,
        source_sha256=source_sha256,
        sha256=sha256,
        records={split: found.counts[split].record(files[split]) for split in SPLITS},
    )


def _all_rows(zips: Iterable[Path], on_progress: Callable[[Progress], None]) -> Iterator[tuple[str, RowColumns]]:
    """Yield all rows of the zips with their split, whatever subset is converted."""
    for path in zips:
        with open_archive(path) as archive:
            for split in SPLITS:
                for rows in valid_rows(
                    archive,
                    member_name(split, "full"),
                    vocab_size=None,
                    rejects=[],
                    on_progress=on_progress,
                    label="reading words: ",
                ):
                    yield split, rows
