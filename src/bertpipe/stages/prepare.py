"""`prepare`: anyone's text becomes the Parquet contract or the notebook's zip, on all cores, in bounded memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bertpipe.core.artifacts import (
    DATA,
    SUMMARY_NAME,
    TOKENIZER_NAME,
    file_sha256,
    write_json,
)
from bertpipe.core.atomic import atomic_file, scratch_directory
from bertpipe.core.errors import DataError
from bertpipe.core.file_kinds import shown
from bertpipe.core.params import MaskingParams, PrepareParams, RuntimeParams
from bertpipe.core.progress import Progress, ignore_note, ignore_progress
from bertpipe.core.stores.directories import fetched_text, output_directory
from bertpipe.data.records import write_records
from bertpipe.sources.engines.engine import Engine, Processes
from bertpipe.sources.notebook.writer import write_notebook_zip
from bertpipe.sources.text.checks import check_pairs, check_splits, notes
from bertpipe.sources.text.chunks import Counts
from bertpipe.sources.text.pipeline import PreparedText, prepare_text


def run_prepare(
    prepare: PrepareParams,
    masking: MaskingParams,
    runtime: RuntimeParams,
    *,
    text: Path,
    out: Path,
    engine: Engine | None = None,
    on_progress: Callable[[Progress], None] = ignore_progress,
    on_note: Callable[[str], None] = ignore_note,
) -> dict[str, Any]:
    """Write the Parquet contract to `out`, or the notebook's zip if its name ends in `.zip`, and return the summary.

    The bytes depend on text, params and versions alone, not on who works or how many. Whatever stood at `out` stays
    until the new output is complete.

    With `prepare.shards: files` each file of a folder is read, and becomes a file of each table, by one worker; a pair
    of sentences stays within its file. Documents, their splits and numbers and the vocabulary are those of one file
    (a vocabulary of pieces up to the limit in `train_wordpiece`).
    Workers on several machines need `text` and `out` on storage that all of them see under the same path.

    Args:
        prepare: what is made of the text.
        masking: the rule of the static masks.
        runtime: how many processes work.
        text: a file, a folder or an archive; with shards, a folder.
        out: a directory or a zip.
        engine: who works on shards; None for processes of this machine.
        on_progress: called with the bytes of the text that were read.
        on_note: gets notes for the user.

    Raises:
        MissingInputError: there is no text, or no tokenizer at the path in `prepare.tokenizer`.
        DataError: `out` lies in `text`; the text cannot be read; a split is left without documents or without pairs;
            the tokenizer does not fit; shards cannot be made of this text, or into this output; or a worker is lost.
        ParamsError: words are masked, and the tokenizer does not mark words.
    """
    text = fetched_text(text)
    if out.suffix == ".zip" and prepare.validation_share:
        raise DataError(
            f"{out} is the notebook's zip, which has no validation split: set prepare.validation_share to 0.0, or name "
            "a directory as the output"
        )
    if out.resolve().is_relative_to(text.resolve()):
        raise DataError(f"{out} lies in {text}, where the next run would read it as text: name a place outside")
    _check_shards(prepare, out, engine)
    with _output(out) as staging:
        made = prepare_text(prepare, masking, runtime, text, out, staging, engine, on_progress, on_note)
        check_splits({split: count.documents for split, count in made.counts.items()}, prepare, text)
        check_pairs(made.counts, prepare, text)
        made.tokenizer.save(staging / TOKENIZER_NAME)
        write_records(staging, made.records)
        summary = _summary(text, prepare, made, staging)
        write_json(staging / SUMMARY_NAME, summary)
    for note in notes(made.counts, prepare):
        on_note(note)
    return summary


def _check_shards(prepare: PrepareParams, out: Path, engine: Engine | None) -> None:
    if prepare.shards == "one":
        if engine is not None and not isinstance(engine, Processes):
            raise DataError(
                "prepare.shards is one, and a cluster works on shards alone: give a folder of files and set it to files"
            )
        return
    if out.suffix == ".zip":
        raise DataError(f"{out} is a zip, and prepare.shards is files: name a directory, or set it to one")
    if prepare.test_share == "source":
        raise DataError(
            "prepare.test_share is source, and the files of prepare.shards: files belong to no split: set it to a "
            "share such as 0.1, or prepare.shards to one"
        )


@contextmanager
def _output(out: Path) -> Iterator[Path]:
    """Yield the directory to write Parquet to, which becomes `out`, or the zip at `out`, when the block ends."""
    if out.suffix != ".zip":
        with output_directory(out, kind=DATA) as staging:
            yield staging
        return
    with atomic_file(out) as zip_file, scratch_directory(out) as folder:
        yield folder
        write_notebook_zip(folder, zip_file)


def _summary(text: Path, prepare: PrepareParams, made: PreparedText, staging: Path) -> dict[str, Any]:
    sha256 = {**made.sha256, TOKENIZER_NAME: file_sha256(staging / TOKENIZER_NAME)}
    size = made.tokenizer.vocab_size
    return {
        "source": {"text": shown(text.name), "pairs": prepare.pairs, "tokenizer": prepare.tokenizer},
        "max_length": prepare.max_length,
        "documents": sum(count.documents for count in made.counts.values()),
        "found": asdict(made.stats),
        "vocabulary": {"size": size, "known": size},
        "masked_tokens_known": True,
        "splits": {split: _with_shares(count) for split, count in made.counts.items()},
        "sha256": dict(sorted(sha256.items())),
    }


def _with_shares(count: Counts) -> dict[str, float]:
    return {
        **count.to_dict(),
        "unknown_share": count.unknown_tokens / count.tokens,
        "next_share": count.next_rows / count.rows,
    }
