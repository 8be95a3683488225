"""Tiny data made by hand, for tests of whatever reads sentence pairs."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from bertpipe.data.batching import Batch, Batcher
from bertpipe.data.pair_dataset import PairDataset, PairFile
from bertpipe.data.parquet_writer import table_of
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer
from bertpipe.sources.notebook.archive import member_name
from bertpipe.sources.notebook.csv_reader import COLUMNS
from bertpipe.sources.notebook.writer import ArchiveWriter

Fields = Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A row of a data set: words of A and B by their ids, without special tokens."""

    first: Sequence[int]
    second: Sequence[int]
    is_next: bool = True
    masks: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """What the model reads and what it should say (0: nothing), by position in `[CLS] A [SEP] B [SEP]`."""

    @property
    def tokens(self) -> list[int]:
        """The tokens of the row."""
        return [1, *self.first, 2, *self.second, 2]


def pair_dataset(pairs: Sequence[Pair], *, first_row: int = 0) -> PairDataset:
    """Return pairs as a data set in memory."""

    def ids(values: Sequence[int]) -> "np.typing.NDArray[np.int32]":
        return np.array(values, dtype=np.int32)

    def offsets(counts: Sequence[int]) -> "np.typing.NDArray[np.int64]":
        return np.array([0, *np.cumsum(counts)], dtype=np.int64)

    masks = [(at, *pair.masks[at]) for pair in pairs for at in sorted(pair.masks)]
    return PairDataset(
        token_ids=ids([token for pair in pairs for token in pair.tokens]),
        offsets=offsets([len(pair.tokens) for pair in pairs]),
        row=first_row + np.arange(len(pairs), dtype=np.int64),
        second_segment_start=ids([len(pair.first) + 2 for pair in pairs]),
        is_next=np.array([pair.is_next for pair in pairs], dtype=np.bool_),
        document=ids(range(len(pairs))),
        masked_offsets=offsets([len(pair.masks) for pair in pairs]),
        masked_positions=ids([at for at, _, _ in masks]),
        masked_inputs=ids([read for _, read, _ in masks]),
        masked_labels=ids([label for _, _, label in masks]),
    )


def word_piece_tokenizer(vocabulary: Sequence[str], prefix: str = "##") -> Tokenizer:
    """Return a WordPiece tokenizer whose ids are places in the vocabulary, the special tokens anywhere in it."""
    from tokenizers import AddedToken, pre_tokenizers
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import WordPiece

    places = {token: token_id for token_id, token in enumerate(vocabulary)}
    backend = Backend(WordPiece(places, unk_token="[UNK]", continuing_subword_prefix=prefix))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return Tokenizer(backend)


def batch_of(*pairs: Pair) -> Batch:
    """Return pairs as one batch with their stored masks."""
    data = pair_dataset(pairs)
    return Batcher(dataset=data, masking=None, seed=1).assemble(data, np.arange(len(pairs)), epoch=0)


def pair_file(path: Path, data: PairDataset, *, rows_per_group: int, groups_per_window: int) -> PairFile:
    """Write a data set as a Parquet split with small row groups, and return it opened."""
    pq.write_table(table_of(data), path, row_group_size=rows_per_group)
    return PairFile(path, rows_per_group=rows_per_group, groups_per_window=groups_per_window)


def row_fields(
    inputs: Sequence[int],
    labels: Sequence[int],
    segments: Sequence[int],
    is_next: int = 1,
    text: str = "A text.",
) -> list[str]:
    """Return the five CSV fields of a row."""
    return [
        text,
        json.dumps(list(inputs)),
        json.dumps(list(labels)),
        ",".join(map(str, segments)),
        str(is_next),
    ]


GOOD = row_fields([1, 5, 3, 2, 6, 2, 0, 0], [0, 0, 7, 0, 0, 0, 0, 0], [1, 1, 1, 1, 2, 2, 0, 0])
"""`[CLS] w5 [MASK] [SEP] w6 [SEP]`, two of padding; w7 was masked."""


def csv_text(rows: Sequence[Fields], header: Fields = COLUMNS) -> str:
    """Return rows as the text of a CSV member."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def write_zip(
    path: Path,
    train: Sequence[Fields] | str,
    test: Sequence[Fields] | str = (GOOD,),
    *,
    vocabulary: Sequence[str] | None = None,
    labels_are_true: bool = False,
) -> Path:
    """Write a zip of CSV files whose `_sampled` members hold every second row, and return its path."""
    with ArchiveWriter(path) as archive:
        for split, rows in (("train", train), ("test", test)):
            text = rows if isinstance(rows, str) else csv_text(rows)
            sampled = rows if isinstance(rows, str) else csv_text(rows[::2])
            archive.add(member_name(split, "full"), [text])
            archive.add(member_name(split, "sampled"), [sampled])
        if vocabulary is not None:
            archive.add_facts(vocabulary=list(vocabulary), labels_are_true=labels_are_true)
    return path
