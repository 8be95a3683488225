"""`convert`: the zip of CSV files becomes Parquet, every row checked, in bounded memory."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertpipe.artifacts import (
    DOCUMENTS_NAME,
    REJECTS_NAME,
    SPLITS,
    SUMMARY_NAME,
    TOKENIZER_NAME,
    VOCABULARY_NAME,
    Progress,
    file_sha256,
    ignore_progress,
    reject_schema,
    require,
    write_json,
)
from bertpipe.data.archive import Archive, member_name, open_archive
from bertpipe.data.columns import RowColumns
from bertpipe.data.counts import RowCounts
from bertpipe.data.dataset import PairDataset
from bertpipe.data.packing import pack
from bertpipe.data.recovery.report import recovery_report, write_vocabulary
from bertpipe.data.recovery.restoring import RecoveryCounts, restore
from bertpipe.data.recovery.vocabulary import RecoveredVocabulary, learn_vocabulary
from bertpipe.data.rows import Reject
from bertpipe.data.tables import DocumentWriter, PairWriter
from bertpipe.data.tokenization import (
    SPECIAL_TOKENS,
    Tokenizer,
    is_unknown_token,
    unknown_token,
    word_level_tokenizer,
)
from bertpipe.data.valid_rows import ValidRows
from bertpipe.errors import DataError
from bertpipe.files import whole_directory, whole_file
from bertpipe.params import ConvertParams

_RESTORED_SHARE = 0.99
"""Share of the masked tokens that have to be restored before the true tokens count as known."""


@dataclass(slots=True, kw_only=True)
class SplitCounts(RowCounts):
    """What was found in one split."""

    rejects: int = 0
    largest_id: int = 0

    def add(self, rows: PairDataset, tokens_cut: NDArray[np.int64]) -> None:
        """Count valid rows, and the tokens that they have lost."""
        self.add_rows(rows)
        self.add_cuts(tokens_cut)
        largest = max(int(rows.token_ids.max(initial=0)), int(rows.masked_labels.max(initial=0)))
        self.largest_id = max(self.largest_id, largest)


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
    with open_archive(zip_file) as archive, whole_directory(out, mark=SUMMARY_NAME) as staging:
        tokenizer = archive.tokenizer()
        recovered = None
        if tokenizer is None and convert.recover != "nothing":
            recovered = _learn(archive, on_progress)
        rows = ValidRows(
            archive=archive,
            subset=convert.subset,
            vocab_size=None if tokenizer is None else tokenizer.vocab_size,
            on_progress=on_progress,
        )
        conversion = _Conversion(convert, rows, staging, archive.labels_are_true(), recovered)
        conversion.write()
        rejects = rows.rejects()
        _write_rejects(staging / REJECTS_NAME, rejects)
        conversion.count_rejects(rejects)
        _check_counts(conversion.counts, convert, staging / REJECTS_NAME, rejects_report)
        tokenizer = tokenizer or word_level_tokenizer(conversion.words())
        tokenizer.save(staging / TOKENIZER_NAME)
        if recovered is not None:
            write_vocabulary(staging / VOCABULARY_NAME, recovered)
        summary = {
            "source": {
                "file": zip_file.name,
                "sha256": file_sha256(zip_file),
                "subset": convert.subset,
                **({"generated": True} if archive.is_generated() else {}),
            },
            "max_length": convert.max_length,
            "documents": len(conversion.documents),
            **conversion.summary(tokenizer),
            "sha256": {path.name: file_sha256(path) for path in sorted(staging.iterdir())},
        }
        write_json(staging / SUMMARY_NAME, summary)
    return summary


def _learn(archive: Archive, on_progress: Callable[[Progress], None]) -> RecoveredVocabulary:
    """Return the vocabulary that all rows of the zip tell, whatever subset is converted."""
    rows = ValidRows(archive=archive, subset="full", vocab_size=None, on_progress=on_progress, label="reading words: ")
    return learn_vocabulary((split, block) for split in SPLITS for block in rows.of(split))


@dataclass(slots=True)
class _Conversion:
    """The rows of all splits on their way to Parquet, and what was found in them."""

    convert: ConvertParams
    rows: ValidRows
    staging: Path
    labels_are_true: bool
    vocabulary: RecoveredVocabulary | None
    counts: dict[str, SplitCounts] = field(default_factory=lambda: {split: SplitCounts() for split in SPLITS})
    recovered: dict[str, RecoveryCounts] = field(default_factory=lambda: {split: RecoveryCounts() for split in SPLITS})
    documents: dict[bytes, int] = field(default_factory=dict)
    """The number of each distinct text, by its digest."""

    def write(self) -> None:
        """Write the rows of each split, and each text once."""
        with DocumentWriter(self.staging / DOCUMENTS_NAME) as texts:
            for split in SPLITS:
                with PairWriter(self.staging / f"{split}.parquet") as file:
                    for rows in self.rows.of(split):
                        documents = self._number_texts(rows, split, texts)
                        tokens, labels = self._tokens_and_labels(rows, split)
                        packed, lost = pack(rows, tokens, labels, documents, max_length=self.convert.max_length)
                        file.add(packed)
                        self.counts[split].add(packed, lost)

    def _number_texts(self, rows: RowColumns, split: str, file: DocumentWriter) -> NDArray[np.int32]:
        """Return the document of each row, and write the texts that are new."""
        texts, text_of_row = rows.texts_in_turn()
        numbers = np.empty(len(texts), dtype=np.int32)
        for place, text in enumerate(texts):
            digest = hashlib.blake2b(text, digest_size=16).digest()
            if digest not in self.documents:
                file.add(len(self.documents), split, text)
            numbers[place] = self.documents.setdefault(digest, len(self.documents))
        return numbers[text_of_row]

    def _tokens_and_labels(self, rows: RowColumns, split: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the tokens to store, true ones where they are known, and the labels to store."""
        if self.labels_are_true:
            return np.where(rows.labels != 0, rows.labels, rows.inputs), rows.labels
        if self.vocabulary is None:
            return rows.inputs, rows.labels
        tokens, is_known = restore(rows, self.vocabulary, self.recovered[split])
        if self.convert.recover == "words":
            return tokens, rows.labels
        return tokens, np.where((rows.labels != 0) & is_known, tokens, rows.labels)

    def count_rejects(self, rejects: Sequence[Reject]) -> None:
        """Count bad rows by their split."""
        for split in SPLITS:
            member = member_name(split, self.convert.subset)
            self.counts[split].rejects = sum(reject.file == member for reject in rejects)

    def words(self) -> list[str]:
        """Return a name for each id of a zip without a vocabulary: its word where it was recovered."""
        if self.vocabulary is not None:
            return self.vocabulary.tokens()
        size = 1 + max(count.largest_id for count in self.counts.values())
        return [*SPECIAL_TOKENS, *(unknown_token(number) for number in range(len(SPECIAL_TOKENS), size))]

    def _are_restored(self) -> bool:
        """Return whether so many masked tokens were restored that training can mask anew."""
        masked = sum(count.words_masked for count in self.recovered.values())
        restored = sum(count.words_restored for count in self.recovered.values())
        return masked > 0 and restored >= _RESTORED_SHARE * masked

    def summary(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """Return what was found."""
        names = tokenizer.tokens(range(len(SPECIAL_TOKENS), tokenizer.vocab_size))
        known = len(SPECIAL_TOKENS) + sum(not is_unknown_token(name) for name in names)
        report = {"recovery": recovery_report(self.vocabulary, self.recovered)} if self.vocabulary else {}
        return {
            "vocabulary": {"size": tokenizer.vocab_size, "known": known},
            "masked_tokens_known": self.labels_are_true or self._are_restored(),
            "splits": {split: count.to_dict() for split, count in self.counts.items()},
            **report,
        }


def _write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    rows = [asdict(reject) for reject in rejects]
    pq.write_table(pa.Table.from_pylist(rows, schema=reject_schema()), path, compression="zstd")


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
