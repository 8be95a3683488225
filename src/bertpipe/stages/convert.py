"""`convert`: the zip of CSV files becomes Parquet, every row checked, in bounded memory."""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bertpipe.artifacts import (
    DOCUMENTS_NAME,
    REJECTS_NAME,
    ROWS_PER_GROUP,
    SPLITS,
    SUMMARY_NAME,
    TOKENIZER_NAME,
    Progress,
    document_schema,
    file_sha256,
    ignore_progress,
    pair_schema,
    reject_schema,
    require,
    whole_directory,
    whole_file,
    write_json,
)
from bertpipe.data.archive import Archive, member_name, open_archive
from bertpipe.data.rows import PairRow, Reject, RowRules, read_rows
from bertpipe.data.tokenization import SPECIAL_TOKENS, unknown_token, word_level_tokenizer
from bertpipe.errors import DataError
from bertpipe.params import ConvertParams

if TYPE_CHECKING:
    import pyarrow as pa

_Row = TypeVar("_Row")


@dataclass(slots=True, kw_only=True)
class SplitCounts:
    """What was found in one split."""

    rows: int = 0
    rejects: int = 0
    tokens: int = 0
    longest_row: int = 0
    rows_cut: int = 0
    tokens_cut: int = 0
    rows_without_labels: int = 0
    supervised_tokens: int = 0
    next_rows: int = 0
    largest_id: int = 0

    def add(self, row: PairRow) -> None:
        """Count a valid row."""
        supervised = sum(label != 0 for label in row.masked_labels)
        self.rows += 1
        self.tokens += len(row.token_ids)
        self.longest_row = max(self.longest_row, len(row.token_ids))
        self.rows_cut += row.tokens_cut > 0
        self.tokens_cut += row.tokens_cut
        self.rows_without_labels += supervised == 0
        self.supervised_tokens += supervised
        self.next_rows += row.is_next
        self.largest_id = max(self.largest_id, *row.token_ids, *row.masked_labels)


@dataclass(frozen=True, slots=True)
class _Documents:
    """The number of each distinct text, by its digest."""

    numbers: dict[bytes, int] = field(default_factory=dict)

    def number(self, text: str) -> tuple[int, bool]:
        """Return the document's number, and whether it is new."""
        digest = hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()
        known = self.numbers.get(digest)
        if known is None:
            self.numbers[digest] = len(self.numbers)
        return self.numbers[digest], known is None


def run_convert(
    convert: ConvertParams,
    *,
    zip_file: Path,
    out: Path,
    rejects_report: Path,
    on_progress: Callable[[Progress], None] = ignore_progress,
) -> dict[str, Any]:
    """Write the Parquet contract to `out` and return its summary.

    Raises:
        MissingInputError: there is no zip.
        DataError: the zip or a member is damaged, a split has no valid row, or more than `convert.max_reject_rate`
            of the rows are bad; the bad rows are then in `rejects_report`.
    """
    require(zip_file, made_by="bertpipe download")
    rejects: list[Reject] = []
    counts = {split: SplitCounts() for split in SPLITS}
    with open_archive(zip_file) as archive, whole_directory(out) as staging:
        vocabulary = archive.vocabulary()
        rules = RowRules(
            vocab_size=None if vocabulary is None else len(vocabulary),
            max_length=convert.max_length,
            labels_are_true=archive.labels_are_true(),
        )
        documents = _Documents()
        with _table_writer(staging / DOCUMENTS_NAME, document_schema()) as write_documents:
            for split in SPLITS:
                reader = _Reader(archive, member_name(split, convert.subset), rules, on_progress)
                table = _split_table(reader.rows(rejects), split, documents, counts[split], write_documents)
                with _table_writer(staging / f"{split}.parquet", pair_schema()) as write_rows:
                    write_rows(table)
                counts[split].rejects = sum(reject.file == reader.member for reject in rejects)
        _write_rejects(staging / REJECTS_NAME, rejects)
        _check_counts(counts, convert, staging / REJECTS_NAME, rejects_report)
        size = rules.vocab_size or 1 + max(count.largest_id for count in counts.values())
        words = vocabulary or [*SPECIAL_TOKENS, *(unknown_token(i) for i in range(len(SPECIAL_TOKENS), size))]
        word_level_tokenizer(words).save(staging / TOKENIZER_NAME)
        summary = _summary(zip_file, convert, counts, documents, rules, size, staging)
        write_json(staging / SUMMARY_NAME, summary)
    return summary


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one CSV member and reports how far it is."""

    archive: Archive
    member: str
    rules: RowRules
    on_progress: Callable[[Progress], None]

    def rows(self, rejects: list[Reject]) -> Iterator[PairRow]:
        """Yield the valid rows; bad ones go to `rejects`."""
        size = self.archive.size(self.member)
        with self.archive.open_csv(self.member) as (text, raw):
            for number, row in enumerate(read_rows(text, self.member, self.rules)):
                if number % 1000 == 0:
                    self.on_progress(Progress(label=self.member, completed=raw.tell(), total=size, unit="bytes"))
                if isinstance(row, Reject):
                    rejects.append(row)
                else:
                    yield row
        self.on_progress(Progress(label=self.member, completed=size, total=size, unit="bytes"))


def _split_table(
    rows: Iterator[PairRow],
    split: str,
    documents: _Documents,
    counts: SplitCounts,
    write_documents: Callable[[Iterator[dict[str, Any]]], None],
) -> Iterator[dict[str, Any]]:
    """Yield the Parquet rows of a split, counting them; each new text goes to `write_documents`."""
    for chunk in _groups(rows):
        new_documents = []
        for row in chunk:
            number, is_new = documents.number(row.text)
            if is_new:
                new_documents.append({"document": number, "split": split, "text": row.text})
            record = {name: getattr(row, name) for name in _COPIED}
            yield {**record, "row": counts.rows, "length": len(row.token_ids), "document": number}
            counts.add(row)
        write_documents(iter(new_documents))


def _groups(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    """Yield the rows in lists of one row group each."""
    iterator = iter(rows)
    while group := list(islice(iterator, ROWS_PER_GROUP)):
        yield group


_COPIED = tuple(f.name for f in fields(PairRow) if f.name not in {"text", "tokens_cut"})


class _table_writer:  # noqa: N801 - used as a context manager only
    """Opens a Parquet file and gives a function that appends rows to it, `ROWS_PER_GROUP` a row group."""

    def __init__(self, path: Path, schema: "pa.Schema") -> None:
        self._path, self._schema = path, schema

    def __enter__(self) -> Callable[[Iterator[dict[str, Any]]], None]:
        import pyarrow.parquet as pq  # noqa: PLC0415

        self._writer = pq.ParquetWriter(self._path, self._schema, compression="zstd")
        return self._append

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def _append(self, rows: Iterator[dict[str, Any]]) -> None:
        import pyarrow as pa  # noqa: PLC0415

        for chunk in _groups(rows):
            self._writer.write_table(pa.Table.from_pylist(chunk, schema=self._schema))


def _write_rejects(path: Path, rejects: list[Reject]) -> None:
    with _table_writer(path, reject_schema()) as write:
        write(asdict(reject) for reject in rejects)


def _check_counts(
    counts: dict[str, SplitCounts], convert: ConvertParams, rejects_file: Path, rejects_report: Path
) -> None:
    rejected = sum(count.rejects for count in counts.values())
    total = rejected + sum(count.rows for count in counts.values())
    if rejected:
        with whole_file(rejects_report) as temporary:
            shutil.copyfile(rejects_file, temporary)
    else:
        rejects_report.unlink(missing_ok=True)  # an earlier run's
    if total and rejected / total > convert.max_reject_rate:
        raise DataError(
            f"{rejected} of {total} rows are bad, more than convert.max_reject_rate {convert.max_reject_rate}: "
            f"see {rejects_report}, mend the data or raise the limit"
        )
    for split, count in counts.items():
        if not count.rows:
            raise DataError(
                f"the {split} split has no valid row: see {rejects_report}"
                if rejected
                else f"the {split} split has no rows"
            )


def _summary(
    zip_file: Path,
    convert: ConvertParams,
    counts: dict[str, SplitCounts],
    documents: _Documents,
    rules: RowRules,
    vocab_size: int,
    staging: Path,
) -> dict[str, Any]:
    hashed = sorted(path.name for path in staging.iterdir())
    return {
        "source": {"file": zip_file.name, "sha256": file_sha256(zip_file), "subset": convert.subset},
        "max_length": convert.max_length,
        "documents": len(documents.numbers),
        "vocabulary": {"size": vocab_size, "words_known": rules.vocab_size is not None},
        "masked_tokens_known": rules.labels_are_true,
        "splits": {split: asdict(count) for split, count in counts.items()},
        "sha256": {name: file_sha256(staging / name) for name in hashed},
    }
