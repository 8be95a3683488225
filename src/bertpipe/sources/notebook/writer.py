"""Writes zips in the notebook's format: their members, their rows, and a whole data set."""

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bertpipe.core.artifacts import DOCUMENTS_NAME, ROWS_PER_GROUP, SPLITS, TOKENIZER_NAME
from bertpipe.data.masking import Corruption
from bertpipe.data.pair_dataset import read_documents
from bertpipe.data.tokenization.tokenizer import CLS_ID, SEP_ID, load_tokenizer
from bertpipe.sources.notebook.archive import FACTS_MEMBER, TOKENIZER_MEMBER, VOCABULARY_MEMBER, member_name
from bertpipe.sources.notebook.csv_reader import COLUMNS
from bertpipe.sources.notebook.row import FIRST_SEGMENT, SECOND_SEGMENT
from bertpipe.sources.notebook.sentence_pairs import SentencePair

_FIXED_TIME = (1980, 1, 1, 0, 0, 0)
SAMPLED_EVERY = 10
"""The `_sampled` members of a written zip hold one row of this many."""


def write_notebook_zip(data: Path, zip_file: Path) -> None:
    """Write the rows of a Parquet directory, which are in the order of their documents, as CSV in a zip.

    The zip also holds the vocabulary, the tokenizer and the fact that labels are true tokens. The ids of the special
    tokens must be the format's.
    """
    tokenizer = load_tokenizer(data / TOKENIZER_NAME)
    with ArchiveWriter(zip_file) as archive:
        for split in SPLITS:
            for subset, step in (("full", 1), ("sampled", SAMPLED_EVERY)):
                archive.add(member_name(split, subset), csv_text(_csv_rows(data, split, step)))
        archive.add_facts(vocabulary=tokenizer.tokens(range(tokenizer.vocab_size)), labels_are_true=True)
        archive.add_tokenizer((data / TOKENIZER_NAME).read_text(encoding="utf-8"))


def _csv_rows(data: Path, split: str, step: int) -> Iterator[list[str]]:
    """Yield the CSV fields of every `step`-th row of a split."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    documents = read_documents(data / DOCUMENTS_NAME)
    number, _, text = next(documents)
    with pq.ParquetFile(data / f"{split}.parquet") as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, use_threads=False).to_pylist()
            for row in rows[-(group * ROWS_PER_GROUP) % step :: step]:
                while number < row["document"]:
                    number, _, text = next(documents)
                yield csv_fields(text, *_pair(row))


def _pair(row: dict[str, Any]) -> tuple[SentencePair, Corruption]:
    """Return a row's true tokens and its static masks."""
    token_ids, start = row["token_ids"], row["second_segment_start"]
    chosen, inputs = np.zeros(len(token_ids), dtype=np.bool_), np.array(token_ids, dtype=np.int32)
    chosen[row["masked_positions"]] = True
    inputs[row["masked_positions"]] = row["masked_inputs"]
    pair = SentencePair(
        document=row["document"],
        first=tuple(token_ids[1 : start - 1]),
        second=tuple(token_ids[start:-1]),
        is_next=row["is_next"],
    )
    return pair, Corruption(chosen=chosen, inputs=inputs)


def csv_fields(text: str, pair: SentencePair, corruption: Corruption) -> list[str]:
    """Return the five CSV fields of a pair, padded in the middle as the notebook's data are.

    Args:
        text: the document the pair comes from.
        pair: the true tokens.
        corruption: masks over `[CLS] A [SEP] B [SEP]`.
    """
    token_ids = pair_tokens(pair.first, pair.second)
    labels = [token_id if chosen else 0 for token_id, chosen in zip(token_ids, corruption.chosen.tolist(), strict=True)]
    split = len(pair.first) + 2
    width = max(split, len(token_ids) - split)
    inputs = corruption.inputs.tolist()

    def padded(values: list[int]) -> list[int]:
        halves = values[:split], values[split:]
        return list(chain.from_iterable([*half, *[0] * (width - len(half))] for half in halves))

    segments = padded([FIRST_SEGMENT] * split + [SECOND_SEGMENT] * (len(token_ids) - split))
    segment_field = ",".join(str(segment) for segment in segments)
    return [
        text,
        json.dumps(padded(inputs)),
        json.dumps(padded(labels)),
        segment_field,
        str(int(pair.is_next)),
    ]


def csv_text(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the header and the rows of a CSV member, line by line."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    for row in chain((COLUMNS,), rows):
        writer.writerow(row)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def pair_tokens(first: Sequence[int], second: Sequence[int]) -> list[int]:
    """Return `[CLS] A [SEP] B [SEP]`."""
    return [CLS_ID, *first, SEP_ID, *second, SEP_ID]


class ArchiveWriter:
    """Writes a zip in the notebook's format; equal content gives equal bytes."""

    def __init__(self, path: Path) -> None:
        self._file = zipfile.ZipFile(path, "w")

    def __enter__(self) -> "ArchiveWriter":
        """Return the writer; the zip is complete when its block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Finish the zip."""
        self._file.close()

    def add(self, name: str, chunks: Iterable[str]) -> None:
        """Add a member made of UTF-8 text."""
        info = zipfile.ZipInfo(name, date_time=_FIXED_TIME)
        info.compress_type = zipfile.ZIP_DEFLATED
        with self._file.open(info, "w", force_zip64=True) as member:  # its size is not known yet
            for chunk in chunks:
                member.write(chunk.encode("utf-8"))

    def add_facts(self, *, vocabulary: list[str], labels_are_true: bool, generated: bool = False) -> None:
        """Add what the notebook's zip lacks: vocabulary, whether labels are true, whether the text is generated."""
        self.add(VOCABULARY_MEMBER, ["\n".join(vocabulary) + "\n"])
        facts = {"labels_are_true": labels_are_true} | ({"generated": True} if generated else {})
        self.add(FACTS_MEMBER, [json.dumps(facts) + "\n"])

    def add_tokenizer(self, tokenizer: str) -> None:
        """Add a `tokenizer.json`, which says more than a vocabulary."""
        self.add(TOKENIZER_MEMBER, [tokenizer])
