"""One zip to one shard of the Parquet contract: rows cut to the longest length, masks as sparse lists."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import SPLITS, TABLES, file_sha256
from bertpipe.core.atomic import atomic_file
from bertpipe.core.params import ConvertParams
from bertpipe.core.progress import Progress
from bertpipe.data.pair_dataset import PairDataset, PairFile, in_row_groups, read_documents
from bertpipe.data.parquet_writer import DocumentWriter, PairWriter
from bertpipe.data.ragged import places_within
from bertpipe.data.row_counts import RowCounts, merge_counts
from bertpipe.data.tokenization.encoder import truncate_longest_first
from bertpipe.data.tokenization.tokenizer import MASK_ID
from bertpipe.sources.notebook.archive import member_name, open_archive
from bertpipe.sources.notebook.columns import RowColumns
from bertpipe.sources.notebook.recovery.restoring import RecoveryCounts, restore
from bertpipe.sources.notebook.recovery.vocabulary import RecoveredVocabulary
from bertpipe.sources.notebook.row import Reject
from bertpipe.sources.notebook.valid_rows import valid_rows, with_lines


@dataclass(slots=True, kw_only=True)
class SplitCounts(RowCounts):
    """What was found in one split."""

    rejects: int = 0
    largest_id: int = field(default=0, metadata={"merge": max})

    def add(self, rows: PairDataset, tokens_cut: NDArray[np.int64]) -> None:
        """Count valid rows, and the tokens that they have lost."""
        self.add_rows(rows)
        self.add_cuts(tokens_cut)
        largest = max(int(rows.token_ids.max(initial=0)), int(rows.masked_labels.max(initial=0)))
        self.largest_id = max(self.largest_id, largest)


@dataclass(slots=True, kw_only=True)
class ConversionStats:
    """What was found in one zip or in several."""

    counts: Mapping[str, SplitCounts] = field(default_factory=lambda: {split: SplitCounts() for split in SPLITS})
    recovered: Mapping[str, RecoveryCounts] = field(
        default_factory=lambda: {split: RecoveryCounts() for split in SPLITS}
    )
    documents: int = 0
    """Distinct texts of each zip."""
    rejects: list[Reject] = field(default_factory=list)

    def merge(self, other: "ConversionStats") -> None:
        """Add what was found in another zip."""
        for split in SPLITS:
            self.counts[split].merge(other.counts[split])
            merge_counts(self.recovered[split], other.recovered[split])
        self.documents += other.documents
        self.rejects.extend(other.rejects)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """How all zips are converted; can be pickled."""

    params: ConvertParams
    vocab_size: int | None
    """Ids are below this; None where no zip has a vocabulary."""
    labels_are_true: bool
    recovered: RecoveredVocabulary | None
    """The vocabulary found in the texts; None where the zips have one, or `convert.recover` is `nothing`."""

    def tokens_and_labels(
        self, rows: RowColumns, counts: RecoveryCounts
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the tokens to store, the true ones where they are known, and the labels to store."""
        if self.labels_are_true:
            return np.where(rows.labels != 0, rows.labels, rows.inputs), rows.labels
        if self.recovered is None:
            return rows.inputs, rows.labels
        tokens, is_known = restore(rows, self.recovered, counts)
        if self.params.recover == "words":
            return tokens, rows.labels
        return tokens, np.where((rows.labels != 0) & is_known, tokens, rows.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipShard:
    """A zip, and the file of each of `TABLES` that it becomes."""

    path: Path
    tables: Mapping[str, Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedZip:
    """What was found in a zip, and the SHA-256 of the zip and of its file of each table."""

    found: ConversionStats
    source_sha256: str
    sha256: Mapping[str, str]


def convert_zip(conversion: Conversion, on_progress: Callable[[Progress], None], shard: ZipShard) -> ConvertedZip:
    """Write the rows of each split of a zip, and each of its texts once; documents are numbered from 0.

    Each file is written whole. The CSV is read once, and once more where it has bad rows, for their lines.

    Raises:
        DataError: the zip or a member is damaged.
        WriteError: writing failed.
    """
    params, found = conversion.params, ConversionStats()
    with open_archive(shard.path) as archive, ExitStack() as stack:
        partial = {table: stack.enter_context(atomic_file(path)) for table, path in shard.tables.items()}
        texts = _Texts(file=stack.enter_context(DocumentWriter(partial["documents"])))
        for split in SPLITS:
            member, counts, rejects = member_name(split, params.subset), found.counts[split], list[Reject]()
            blocks = valid_rows(
                archive, member, vocab_size=conversion.vocab_size, rejects=rejects, on_progress=on_progress
            )
            with PairWriter(partial[split]) as file:
                for rows in blocks:
                    documents = texts.number(rows, split)
                    tokens, labels = conversion.tokens_and_labels(rows, found.recovered[split])
                    packed, lost = pack(rows, tokens, labels, documents, max_length=params.max_length)
                    file.add(packed)
                    counts.add(packed, lost)
            counts.rejects = len(rejects)
            found.rejects.extend(with_lines(archive, member, rejects))
    found.documents = len(texts.numbers)
    return ConvertedZip(
        found=found,
        source_sha256=file_sha256(shard.path),
        sha256={table: file_sha256(path) for table, path in shard.tables.items()},
    )


def renumber_documents(shard_and_first: tuple[ZipShard, int]) -> Mapping[str, str] | None:
    """Write a shard's tables beside themselves, with documents that are numbered from another number than 0.

    Returns:
        The SHA-256 of each table; None where the number is 0 and nothing had to be written.
    """
    shard, first = shard_and_first
    if not first:
        return None
    for table, path in shard.tables.items():
        with atomic_file(renumbered(path)) as temporary:
            if table == "documents":
                with DocumentWriter(temporary) as texts:
                    for number, split, text in read_documents(path):
                        texts.add(first + number, split, text.encode("utf-8"))
            else:
                with PairWriter(temporary) as file:
                    for rows in in_row_groups(PairFile(path)):
                        file.add(replace(rows, document=rows.document + np.int32(first)))
    return {table: file_sha256(renumbered(shard.tables[table])) for table in TABLES}


def renumbered(table: Path) -> Path:
    """Return where a table is written with other numbers: a shard that is worked on twice finds the first ones."""
    return table.with_suffix(".renumbered")


@dataclass(slots=True, kw_only=True)
class _Texts:
    """The distinct texts of a zip."""

    file: DocumentWriter
    numbers: dict[bytes, int] = field(default_factory=dict)
    """By digest."""

    def number(self, rows: RowColumns, split: str) -> NDArray[np.int32]:
        """Return the document of each row, and write the texts that are new."""
        texts, text_of_row = rows.texts_in_turn()
        numbers = np.empty(len(texts), dtype=np.int32)
        for place, text in enumerate(texts):
            digest = hashlib.blake2b(text, digest_size=16).digest()
            if digest not in self.numbers:
                self.file.add(len(self.numbers), split, text)
                self.numbers[digest] = len(self.numbers)
            numbers[place] = self.numbers[digest]
        return numbers[text_of_row]


def pack(
    rows: RowColumns,
    tokens: NDArray[np.int32],
    labels: NDArray[np.int32],
    documents: NDArray[np.int32],
    *,
    max_length: int,
) -> tuple[PairDataset, NDArray[np.int64]]:
    """Return rows as they are stored, numbered from 0, and how many tokens each has lost, shape [rows].

    A row longer than `max_length` loses tokens from the end of its longer half, of B where both are as long.

    Args:
        rows: the rows; a position is masked where it has a label or reads `[MASK]`.
        tokens: the tokens to store, true ones where they are known; shape [tokens].
        labels: the labels to store; shape [tokens].
        documents: the document of each row; shape [rows].
        max_length: tokens of the longest row, with `[CLS]` and both `[SEP]`.
    """
    lengths = rows.lengths
    row = np.repeat(np.arange(len(rows)), lengths)
    position = places_within(lengths)
    is_masked = (rows.labels != 0) | (rows.inputs == MASK_ID)
    second_start = rows.second_segment_start.astype(np.int64)
    if len(rows) and lengths.max() > max_length:
        first_kept, second_kept = truncate_longest_first(second_start - 2, lengths - second_start - 1, max_length - 3)
        in_first = position < second_start[row] - 1
        kept = np.where(
            in_first, position <= first_kept[row], position < (second_start + second_kept)[row]
        )  # the kept tokens of each half
        kept |= (position == second_start[row] - 1) | (position == lengths[row] - 1)  # and both [SEP]
        second_start = first_kept + 2
    else:
        kept = np.ones(len(row), dtype=np.bool_)
    new_lengths = np.bincount(row[kept], minlength=len(rows))
    offsets = np.concatenate([[0], np.cumsum(new_lengths)])
    masked = np.flatnonzero(is_masked[kept])
    new_row = row[kept]
    masked_counts = np.bincount(new_row[masked], minlength=len(rows))
    packed = PairDataset(
        token_ids=tokens[kept],
        offsets=offsets,
        row=np.arange(len(rows)),
        second_segment_start=second_start.astype(np.int32),
        is_next=rows.is_next,
        document=documents,
        masked_positions=(masked - offsets[new_row[masked]]).astype(np.int32),
        masked_inputs=rows.inputs[kept][masked],
        masked_labels=labels[kept][masked],
        masked_offsets=np.concatenate([[0], np.cumsum(masked_counts)]),
    )
    return packed, lengths - new_lengths
