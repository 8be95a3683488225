"""`convert`: the zip of CSV files becomes Parquet, every row checked, in bounded memory."""

import shutil
from collections.abc import Callable, Mapping, Sequence
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
)
from bertpipe.core.atomic import atomic_directory, atomic_file
from bertpipe.core.errors import DataError
from bertpipe.core.params import ConvertParams
from bertpipe.core.progress import Progress, ignore_progress
from bertpipe.data.tokenization.tokenizer import (
    SPECIAL_TOKENS,
    Tokenizer,
    is_unknown_token,
    unknown_token,
    word_level_tokenizer,
)
from bertpipe.sources.engines.engine import Engine, Processes
from bertpipe.sources.notebook.conversion import (
    Converted,
    SplitCounts,
)
from bertpipe.sources.notebook.pipeline import ConvertedZips, convert_one, convert_shards
from bertpipe.sources.notebook.recovery.restoring import recovery_report, write_vocabulary
from bertpipe.sources.notebook.row import Reject

_RESTORED_SHARE = 0.99
"""Share of the masked tokens that have to be restored before the true tokens count as known."""


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

    Of a directory of zips each one, in the byte order of their names, becomes a shard; the bytes do not depend on who
    works. All of them bring the same vocabulary, or none does; then it is learned from all, one after the other, in
    this process. A text that is in two zips is two documents. Workers on several machines need the zips and `out` on
    storage that all of them see under the same path.

    Args:
        convert: which rows, and what is done to them.
        zip_file: the zip, or a directory of zips.
        out: the directory.
        rejects_report: where the bad rows go, too.
        engine: who works on shards; None for this process.
        on_progress: told of the bytes that were read.

    Raises:
        MissingInputError: there is no zip.
        DataError: a zip or a member is damaged, zips bring different vocabularies, a split has no valid row, more than
            `convert.max_reject_rate` of the rows are bad (the bad rows are then in `rejects_report`), or a worker is
            lost.
    """
    require(zip_file, made_by="bertpipe download")
    if not zip_file.is_dir() and engine is not None and not isinstance(engine, Processes):
        raise DataError(f"{zip_file} is one zip, and a cluster works on shards alone: name a directory of zips")
    with atomic_directory(out, kind=DATA) as staging:
        if zip_file.is_dir():
            made = convert_shards(convert, zip_file, staging, engine or Processes(count=1), on_progress)
        else:
            made = convert_one(convert, zip_file, staging, on_progress)
        _write_rejects(staging / REJECTS_NAME, made.found.rejects)
        _check_counts(made.found.counts, convert, staging / REJECTS_NAME, rejects_report)
        tokenizer = made.tokenizer or word_level_tokenizer(_names(made))
        tokenizer.save(staging / TOKENIZER_NAME)
        if made.words.recovered is not None:
            write_vocabulary(staging / VOCABULARY_NAME, made.words.recovered)
        summary = _summary(convert, made, tokenizer, zip_file, staging)
        write_json(staging / SUMMARY_NAME, summary)
    return summary


def _names(made: ConvertedZips) -> list[str]:
    """Return a name for each id of zips without a vocabulary: its word where it was recovered."""
    if made.words.recovered is not None:
        return made.words.recovered.tokens()
    size = 1 + max(count.largest_id for count in made.found.counts.values())
    return [*SPECIAL_TOKENS, *(unknown_token(number) for number in range(len(SPECIAL_TOKENS), size))]


def _summary(
    convert: ConvertParams, made: ConvertedZips, tokenizer: Tokenizer, zip_file: Path, staging: Path
) -> dict[str, Any]:
    names = tokenizer.tokens(range(len(SPECIAL_TOKENS), tokenizer.vocab_size))
    known = len(SPECIAL_TOKENS) + sum(not is_unknown_token(name) for name in names)
    recovered = made.words.recovered
    others = {path.name: file_sha256(path) for path in staging.iterdir() if path.name not in {*made.sha256, *TABLES}}
    return {
        "source": {
            "file": zip_file.name,
            "sha256": made.source_sha256,
            "subset": convert.subset,
            **({"generated": True} if made.generated else {}),
        },
        "max_length": convert.max_length,
        "documents": made.found.documents,
        "vocabulary": {"size": tokenizer.vocab_size, "known": known},
        "masked_tokens_known": made.words.labels_are_true or _are_restored(made.found),
        "splits": {split: count.to_dict() for split, count in made.found.counts.items()},
        **({"recovery": recovery_report(recovered, made.found.recovered)} if recovered else {}),
        "sha256": dict(sorted({**made.sha256, **others}.items())),
    }


def _are_restored(found: Converted) -> bool:
    """Return whether enough masked tokens were restored for dynamic masks."""
    masked = sum(count.words_masked for count in found.recovered.values())
    restored = sum(count.words_restored for count in found.recovered.values())
    return masked > 0 and restored >= _RESTORED_SHARE * masked


def _write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    rows = [asdict(reject) for reject in rejects]
    pq.write_table(pa.Table.from_pylist(rows, schema=reject_schema()), path, compression="zstd")


def _check_counts(
    counts: Mapping[str, SplitCounts], convert: ConvertParams, rejects_file: Path, rejects_report: Path
) -> None:
    rejected = sum(count.rejects for count in counts.values())
    total = rejected + sum(count.rows for count in counts.values())
    if rejected:
        with atomic_file(rejects_report) as temporary:
            shutil.copyfile(rejects_file, temporary)
    else:
        rejects_report.unlink(missing_ok=True)  # an earlier run's
    if total and rejected / total > convert.max_reject_rate:
        raise DataError(
            f"{rejected} of {total} rows are bad, more than convert.max_reject_rate {convert.max_reject_rate}: "
            f"see {rejects_report}, fix the data or raise the limit"
        )
    for split, count in counts.items():
        if not count.rows:
            raise DataError(
                f"the {split} split has no valid row: see {rejects_report}"
                if rejected
                else f"the {split} split has no rows"
            )
