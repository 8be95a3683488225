"""`convert`: the zip of CSV files to Parquet, with every row checked, in bounded memory."""

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bertpipe.core.artifacts import (
    DATA,
    REJECTS_NAME,
    SUMMARY_NAME,
    TABLES,
    TOKENIZER_NAME,
    VOCABULARY_NAME,
    file_sha256,
    reject_schema,
    require,
    write_json,
)  # fmt: skip
from bertpipe.core.atomic import atomic_file
from bertpipe.core.errors import DataError, excerpt
from bertpipe.core.file_kinds import shown
from bertpipe.core.params import ConvertParams
from bertpipe.core.progress import Progress, ignore_progress
from bertpipe.core.stores.directories import output_directory
from bertpipe.data.records import write_records
from bertpipe.data.tokenization.tokenizer import (
    SPECIAL_TOKENS,
    Tokenizer,
    is_unknown_token,
    unknown_token,
    word_level_tokenizer,
)  # fmt: skip
from bertpipe.sources.engines.engine import Engine, Processes
from bertpipe.sources.notebook.conversion import ConversionStats
from bertpipe.sources.notebook.pipeline import ConvertedZips, convert_zips
from bertpipe.sources.notebook.recovery.restoring import recovery_report, write_vocabulary
from bertpipe.sources.notebook.row import Reject

_log = logging.getLogger(__name__)
_RESTORED_SHARE = 0.99
"""Share of the masked tokens that has to be restored before the true tokens count as known."""


def run_convert(
    convert: ConvertParams,
    *,
    zip_file: Path,
    out: Path,
    rejects_report: Path,
    engine: Engine | None = None,
    on_progress: Callable[[Progress], None] = ignore_progress,
) -> dict[str, Any]:
    """Write the Parquet contract to `out` and return its summary.

    In a directory of zips each zip becomes a shard, in the byte order of their names; the bytes do not depend on the
    engine. All zips have the same vocabulary, or none has one; then this process learns it from all of them. A text
    that is in two zips is two documents. Workers on several machines need the zips and `out` on storage that all of
    them see under the same path.

    Args:
        convert: which rows, and how they are converted.
        zip_file: the zip, or a directory of zips.
        out: the directory.
        rejects_report: a second place for the bad rows.
        engine: converts the shards; None for this process.
        on_progress: gets the bytes that were read.

    Raises:
        MissingInputError: there is no zip.
        DataError: a zip or a member is damaged, the vocabularies of two zips differ, a split has no valid row, more
            than `convert.max_reject_rate` of the rows are bad (they are then in `rejects_report`), or a worker is lost.
    """
    require(zip_file, made_by="bertpipe download")
    if not zip_file.is_dir() and engine is not None and not isinstance(engine, Processes):
        raise DataError(f"{zip_file} is one zip, and a cluster works on shards alone: name a directory of zips")
    with output_directory(out, kind=DATA) as staging:
        made = convert_zips(convert, zip_file, staging, engine or Processes(count=1), on_progress)
        _write_rejects(staging / REJECTS_NAME, made.found.rejects)
        see = _report(made.found.rejects, staging / REJECTS_NAME, out, rejects_report)
        _check_counts(made.found, convert, see)
        tokenizer = made.facts.tokenizer or word_level_tokenizer(_tokens(made))
        tokenizer.save(staging / TOKENIZER_NAME)
        if made.recovered is not None:
            write_vocabulary(staging / VOCABULARY_NAME, made.recovered)
        summary = _summary(convert, made, tokenizer, zip_file, staging)
        write_records(staging, made.records)
        write_json(staging / SUMMARY_NAME, summary)
    return summary


def _tokens(made: ConvertedZips) -> list[str]:
    """Return a name for each id of zips without a vocabulary: its word if that was recovered."""
    if made.recovered is not None:
        return made.recovered.tokens()
    size = 1 + max(count.largest_id for count in made.found.counts.values())
    return [*SPECIAL_TOKENS, *(unknown_token(number) for number in range(len(SPECIAL_TOKENS), size))]


def _summary(
    convert: ConvertParams, made: ConvertedZips, tokenizer: Tokenizer, zip_file: Path, staging: Path
) -> dict[str, Any]:
    found = made.found
    names = tokenizer.tokens(range(len(SPECIAL_TOKENS), tokenizer.vocab_size))
    known = len(SPECIAL_TOKENS) + sum(not is_unknown_token(name) for name in names)
    masked = sum(count.words_masked for count in found.recovered.values())
    restored = sum(count.words_restored for count in found.recovered.values())
    others = {path.name: file_sha256(path) for path in staging.iterdir() if path.name not in {*made.sha256, *TABLES}}
    return {
        "source": {
            "file": shown(zip_file.name),
            "sha256": made.source_sha256,
            "subset": convert.subset,
            **({"generated": True} if made.facts.generated else {}),
        },
        "max_length": convert.max_length,
        "documents": found.documents,
        "vocabulary": {"size": tokenizer.vocab_size, "known": known},
        # With these training can choose new masks in each epoch.
        "masked_tokens_known": made.facts.labels_are_true or (masked > 0 and restored >= _RESTORED_SHARE * masked),
        "splits": {split: count.to_dict() for split, count in found.counts.items()},
        **({"recovery": recovery_report(made.recovered, found.recovered)} if made.recovered else {}),
        "sha256": dict(sorted({**made.sha256, **others}.items())),
    }


def _write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    rows = [asdict(reject) for reject in rejects]
    pq.write_table(pa.Table.from_pylist(rows, schema=reject_schema()), path, compression="zstd")


def _report(rejects: Sequence[Reject], rejects_file: Path, out: Path, rejects_report: Path) -> str:
    """Write the report of bad rows, or remove that of an earlier run; a file that is none stays.

    Returns:
        What a message tells the user to do to see the bad rows.
    """
    is_ours = not os.path.lexists(rejects_report) or _is_report(rejects_report)
    if rejects and is_ours:
        with atomic_file(rejects_report) as temporary:
            shutil.copyfile(rejects_file, temporary)
    elif rejects:
        _log.warning(
            "%s is not a report of bad rows and stays as it is: those of this run are in %s if it succeeds; to see "
            "them in any case, move that file away and run the command again",
            *(shown(str(path)) for path in (rejects_report, out / REJECTS_NAME)),
        )
        return f"move {rejects_report} away and run the command again to see them there"
    elif is_ours:
        rejects_report.unlink(missing_ok=True)
    return f"see {rejects_report}"


def _check_counts(found: ConversionStats, convert: ConvertParams, see: str) -> None:
    total = len(found.rejects) + sum(count.rows for count in found.counts.values())
    first = _described(found.rejects[0]) if found.rejects else ""
    if total and len(found.rejects) / total > convert.max_reject_rate:
        raise DataError(
            f"{len(found.rejects)} of {total} rows are bad, the first is {first}; that is more than "
            f"convert.max_reject_rate {convert.max_reject_rate}: {see}, correct the data or raise the limit"
        )
    for split, count in found.counts.items():
        if not count.rows:
            problem = f"valid row, the first bad one is {first}: {see}" if found.rejects else "rows"
            raise DataError(f"the {split} split has no {problem}")


def _described(reject: Reject) -> str:
    column = f"{reject.column}: " if reject.column else ""
    return f"{shown(reject.file)}:{reject.line}, {column}{reject.reason} ({excerpt(reject.value)})"


def _is_report(path: Path) -> bool:
    """Return whether a file is a report of bad rows."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        return bool(pq.read_schema(path).equals(reject_schema()))
    except (OSError, pa.ArrowInvalid):
        return False
