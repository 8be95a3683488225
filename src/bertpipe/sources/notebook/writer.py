"""The Parquet files of a data set as a zip in the notebook's format."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bertpipe.core.artifacts import DOCUMENTS_NAME, ROWS_PER_GROUP, SPLITS, TOKENIZER_NAME
from bertpipe.data.masking import Corruption
from bertpipe.data.tokenization.tokenizer import load_tokenizer
from bertpipe.sources.notebook.archive import SAMPLED_EVERY, ArchiveWriter, member_name
from bertpipe.sources.notebook.row import csv_fields, csv_text
from bertpipe.sources.notebook.sentence_pairs import SentencePair


def write_notebook_zip(data: Path, zip_file: Path) -> None:
    """Write the rows of a Parquet directory, whose rows stand in the order of their documents, as CSV in a zip.

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

    documents = _documents(data)
    number, text = next(documents)
    with pq.ParquetFile(data / f"{split}.parquet") as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, use_threads=False).to_pylist()
            for row in rows[-(group * ROWS_PER_GROUP) % step :: step]:
                while number < row["document"]:
                    number, text = next(documents)
                yield csv_fields(text, *_pair(row))


def _documents(data: Path) -> Iterator[tuple[int, str]]:
    import pyarrow.parquet as pq  # noqa: PLC0415

    with pq.ParquetFile(data / DOCUMENTS_NAME) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=["document", "text"], use_threads=False)
            yield from zip(table["document"].to_pylist(), table["text"].to_pylist(), strict=True)


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
