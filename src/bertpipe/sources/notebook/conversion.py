"""The rows of one zip on their way to the Parquet contract: cut to the longest length, masks as sparse lists."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import SPLITS, TABLES, file_sha256, shard_name
from bertpipe.core.atomic import atomic_file
from bertpipe.core.params import ConvertParams
from bertpipe.core.progress import Progress, ignore_progress
from bertpipe.data.pair_dataset import PairDataset
from bertpipe.data.parquet_writer import DocumentWriter, PairWriter
from bertpipe.data.ragged import places_within
from bertpipe.data.row_counts import RowCounts
from bertpipe.data.tokenization.encoder import truncate_longest_first
from bertpipe.data.tokenization.tokenizer import MASK_ID
from bertpipe.sources.notebook.archive import Archive, member_name, open_archive
from bertpipe.sources.notebook.columns import RowColumns
from bertpipe.sources.notebook.recovery.restoring import RecoveryCounts, restore
from bertpipe.sources.notebook.recovery.vocabulary import RecoveredVocabulary
from bertpipe.sources.notebook.row import Reject
from bertpipe.sources.notebook.valid_rows import ValidRows


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

    def merge(self, other: RowCounts) -> None:
        """Add what was counted in another zip."""
        assert isinstance(other, SplitCounts)
        largest = max(self.largest_id, other.largest_id)
        RowCounts.merge(self, other)  # a class with slots has no plain super()
        self.largest_id = largest


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What is known of the ids of all zips."""

    vocab_size: int | None
    """Ids are below this; None where no zip tells a vocabulary."""
    labels_are_true: bool
    recovered: RecoveredVocabulary | None
    """The vocabulary that was found in the texts; None where there was no need, or nobody asked for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What became of a zip."""

    counts: Mapping[str, SplitCounts]
    """By split, as what follows."""
    recovered: Mapping[str, RecoveryCounts]
    documents: int
    rejects: Sequence[Reject]


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipShard:
    """One of several zips."""

    number: int
    path: Path
    first_document: int
    """Number of its first text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedShard:
    """What became of one of several zips, and the SHA-256 of the zip and of the file in each of `TABLES`."""

    converted: Converted
    source_sha256: str
    sha256: Mapping[str, str]


def convert_archive(
    convert: ConvertParams,
    archive: Archive,
    words: Words,
    paths: Mapping[str, Path],
    *,
    first_document: int = 0,
    on_progress: Callable[[Progress], None] = ignore_progress,
) -> Converted:
    """Write the rows of each split of a zip, and each of its texts once, and return what was found.

    Args:
        convert: which rows, and what is done to them.
        archive: the zip.
        words: what is known of its ids.
        paths: where each of `TABLES` is written.
        first_document: number of the first text.
        on_progress: told of the bytes of each member.

    Raises:
        DataError: the zip or a member is damaged.
    """
    rows = _rows(convert, archive, words.vocab_size, on_progress)
    conversion = _Conversion(convert=convert, rows=rows, words=words, first_document=first_document)
    conversion.write(paths)
    rejects = rows.rejects()
    for split in SPLITS:
        member = member_name(split, convert.subset)
        conversion.counts[split].rejects = sum(reject.file == member for reject in rejects)
    return Converted(
        counts=conversion.counts,
        recovered=conversion.recovered,
        documents=len(conversion.documents),
        rejects=rejects,
    )


def count_documents(convert: ConvertParams, vocab_size: int | None, zip_file: Path) -> int:
    """Return how many different texts the valid rows of a zip have.

    Raises:
        DataError: the zip or a member is damaged.
    """
    with open_archive(zip_file) as archive:
        rows = _rows(convert, archive, vocab_size, ignore_progress)
        blocks = (block for split in SPLITS for block in rows.of(split))
        return len({_digest(text) for block in blocks for text in block.texts_in_turn()[0]})


def convert_shard(convert: ConvertParams, words: Words, out: Path, shard: ZipShard) -> ConvertedShard:
    """Write a zip as a shard below `out`, each file whole, and return what was found; a reject names its zip.

    Raises:
        DataError: the zip or a member is damaged.
        WriteError: the disk refuses.
    """
    paths = {name: out / name / shard_name(shard.number) for name in TABLES}
    with open_archive(shard.path) as archive, ExitStack() as stack:
        partial = {name: stack.enter_context(atomic_file(path)) for name, path in paths.items()}
        found = convert_archive(convert, archive, words, partial, first_document=shard.first_document)
    rejects = [replace(reject, file=f"{shard.path.name}!{reject.file}") for reject in found.rejects]
    return ConvertedShard(
        converted=replace(found, rejects=rejects),
        source_sha256=file_sha256(shard.path),
        sha256={name: file_sha256(path) for name, path in paths.items()},
    )


def merged(parts: Iterable[Converted]) -> Converted:
    """Return what was found in several zips as if in one; a text in two of them is two documents."""
    counts = {split: SplitCounts() for split in SPLITS}
    recovered = {split: RecoveryCounts() for split in SPLITS}
    documents, rejects = 0, list[Reject]()
    for part in parts:
        for split in SPLITS:
            counts[split].merge(part.counts[split])
            recovered[split].merge(part.recovered[split])
        documents += part.documents
        rejects.extend(part.rejects)
    return Converted(counts=counts, recovered=recovered, documents=documents, rejects=rejects)


def _rows(
    convert: ConvertParams, archive: Archive, vocab_size: int | None, on_progress: Callable[[Progress], None]
) -> ValidRows:
    return ValidRows(archive=archive, subset=convert.subset, vocab_size=vocab_size, on_progress=on_progress)


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=16).digest()


@dataclass(slots=True, kw_only=True)
class _Conversion:
    """The rows of all splits on their way."""

    convert: ConvertParams
    rows: ValidRows
    words: Words
    first_document: int
    counts: dict[str, SplitCounts] = field(default_factory=lambda: {split: SplitCounts() for split in SPLITS})
    recovered: dict[str, RecoveryCounts] = field(default_factory=lambda: {split: RecoveryCounts() for split in SPLITS})
    documents: dict[bytes, int] = field(default_factory=dict)
    """The number of each distinct text, by its digest."""

    def write(self, paths: Mapping[str, Path]) -> None:
        """Write the rows of each split, and each text once."""
        with DocumentWriter(paths["documents"]) as texts:
            for split in SPLITS:
                with PairWriter(paths[split]) as file:
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
            digest = _digest(text)
            number = self.first_document + len(self.documents)
            if digest not in self.documents:
                file.add(number, split, text)
            numbers[place] = self.documents.setdefault(digest, number)
        return numbers[text_of_row]

    def _tokens_and_labels(self, rows: RowColumns, split: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the tokens to store, true ones where they are known, and the labels to store."""
        if self.words.labels_are_true:
            return np.where(rows.labels != 0, rows.labels, rows.inputs), rows.labels
        if self.words.recovered is None:
            return rows.inputs, rows.labels
        tokens, is_known = restore(rows, self.words.recovered, self.recovered[split])
        if self.convert.recover == "words":
            return tokens, rows.labels
        return tokens, np.where((rows.labels != 0) & is_known, tokens, rows.labels)


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
        max_length: tokens of the longest row, `[CLS]` and both `[SEP]` included.
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
