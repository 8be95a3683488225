"""`convert`: the zip becomes the Parquet contract, every row checked."""

import json
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertpipe.core.artifacts import ROWS_PER_GROUP, document_schema, file_sha256, pair_schema, reject_schema
from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.core.manifest import MANIFEST_NAME
from bertpipe.core.progress import Progress
from bertpipe.data.pair_dataset import read_dataset
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, load_tokenizer
from bertpipe.stages.convert import run_convert
from datasets import GOOD, csv_text, row_fields, write_zip
from defaults import DEFAULTS

WORDS = [*SPECIAL_TOKENS, "a", "b", "c", "d"]
OTHER = row_fields([1, 5, 6, 2, 0, 7, 8, 3, 2, 0], [0] * 7 + [5, 0, 0], [1, 1, 1, 1, 0, 2, 2, 2, 2, 0], 0, "Other.")
NO_LABEL = row_fields([1, 5, 2, 6, 2], [0] * 5, [1, 1, 1, 2, 2], 1, "Third.")
BAD = row_fields([1, 99, 2, 6, 2], [0] * 5, [1, 1, 1, 2, 2])


def convert(folder: Path, zip_file: Path, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    params = {"subset": "full", "max_length": 128, "max_reject_rate": 0.0, "recover": "nothing"} | changes
    return run_convert(
        replace(DEFAULTS.convert, **params),
        zip_file=zip_file,
        out=folder / "out",
        rejects_report=folder / "rejects.parquet",
    )


def table(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def test_rows_follow_the_parquet_contract(tmp_path: Path) -> None:
    convert(tmp_path, write_zip(tmp_path / "x.zip", [GOOD, OTHER, NO_LABEL, GOOD], [OTHER]))
    out = tmp_path / "out"
    assert pq.read_schema(out / "train.parquet").equals(pair_schema())
    assert table(out / "train.parquet")[:3] == [
        {
            "row": 0,
            "length": 6,
            "token_ids": [1, 5, 3, 2, 6, 2],
            "second_segment_start": 4,
            "is_next": True,
            "document": 0,
            "masked_positions": [2],
            "masked_inputs": [3],
            "masked_labels": [7],
        },
        {
            "row": 1,
            "length": 8,
            "token_ids": [1, 5, 6, 2, 7, 8, 3, 2],
            "second_segment_start": 4,
            "is_next": False,
            "document": 1,
            "masked_positions": [6],
            "masked_inputs": [3],
            "masked_labels": [5],
        },
        {
            "row": 2,
            "length": 5,
            "token_ids": [1, 5, 2, 6, 2],
            "second_segment_start": 3,
            "is_next": True,
            "document": 2,
            "masked_positions": [],
            "masked_inputs": [],
            "masked_labels": [],
        },
    ]
    assert sorted(path.name for path in out.iterdir()) == [
        MANIFEST_NAME,
        "documents.parquet",
        "records.json",
        "rejects.parquet",
        "summary.json",
        "test.parquet",
        "tokenizer.json",
        "train.parquet",
    ]


def test_each_document_stands_once_with_the_split_that_names_it_first(tmp_path: Path) -> None:
    summary = convert(tmp_path, write_zip(tmp_path / "x.zip", [GOOD, OTHER, GOOD], [OTHER, NO_LABEL]))
    out = tmp_path / "out"
    assert pq.read_schema(out / "documents.parquet").equals(document_schema())
    assert table(out / "documents.parquet") == [
        {"document": 0, "split": "train", "text": "A text."},
        {"document": 1, "split": "train", "text": "Other."},
        {"document": 2, "split": "test", "text": "Third."},
    ]
    assert [row["document"] for row in table(out / "test.parquet")] == [1, 2]
    assert summary["documents"] == 3


def test_a_row_group_holds_a_fixed_number_of_rows(tmp_path: Path) -> None:
    rows = [[str(number), *GOOD[1:]] for number in range(ROWS_PER_GROUP + 3)]
    convert(tmp_path, write_zip(tmp_path / "x.zip", rows))
    file = pq.ParquetFile(tmp_path / "out" / "train.parquet")
    groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert groups == [ROWS_PER_GROUP, 3]
    assert read_dataset(tmp_path / "out" / "train.parquet").row.tolist() == list(range(ROWS_PER_GROUP + 3))


def test_the_summary_counts_what_was_found(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", [GOOD, OTHER, NO_LABEL], [GOOD])
    summary = convert(tmp_path, path, max_length=8)
    assert summary["splits"]["train"] == {
        "rows": 3,
        "rejects": 0,
        "tokens": 6 + 8 + 5,
        "length_p50": 6,
        "length_p99": 8,
        "longest_row": 8,
        "rows_cut": 0,
        "tokens_cut": 0,
        "rows_without_labels": 1,
        "supervised_tokens": 2,
        "next_rows": 2,
        "largest_id": 8,
    }
    assert summary["source"] == {"file": "x.zip", "sha256": file_sha256(path), "subset": "full"}
    assert summary["vocabulary"] == {"size": 9, "known": 5}
    assert summary["masked_tokens_known"] is False
    assert summary["max_length"] == 8
    assert json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8")) == summary
    assert summary["sha256"] == {
        path.name: file_sha256(path)
        for path in (tmp_path / "out").iterdir()
        if path.name not in {"summary.json", "records.json", MANIFEST_NAME}
    }


def test_rows_too_long_lose_tokens_that_are_counted(tmp_path: Path) -> None:
    long = row_fields([1, *[5] * 10, 2, 6, 2], [0] * 14, [1] * 12 + [2] * 2)
    summary = convert(tmp_path, write_zip(tmp_path / "x.zip", [long, GOOD]), max_length=9)
    train = summary["splits"]["train"]
    assert (train["rows_cut"], train["tokens_cut"], train["longest_row"]) == (1, 5, 9)


def test_a_zip_without_vocabulary_gets_names_for_its_ids(tmp_path: Path) -> None:
    convert(tmp_path, write_zip(tmp_path / "x.zip", [GOOD, OTHER]))
    tokenizer = load_tokenizer(tmp_path / "out" / "tokenizer.json")
    assert tokenizer.vocab_size == 9
    assert tokenizer.tokens([3, 5, 8]) == ["[MASK]", "[unknown-5]", "[unknown-8]"]


def test_our_zip_has_words_and_true_tokens(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", [GOOD], vocabulary=WORDS, labels_are_true=True)
    summary = convert(tmp_path, path)
    assert summary["vocabulary"] == {"size": 9, "known": 9}
    assert summary["masked_tokens_known"] is True
    assert table(tmp_path / "out" / "train.parquet")[0]["token_ids"] == [1, 5, 7, 2, 6, 2]
    assert load_tokenizer(tmp_path / "out" / "tokenizer.json").encode("A b") == [5, 6]


def test_an_id_beyond_the_declared_vocabulary_says_so(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", [GOOD, OTHER], vocabulary=WORDS[:-1])
    with pytest.raises(DataError, match=r"1 of 3 rows are bad, .* more than convert\.max_reject_rate 0\.0"):
        convert(tmp_path, path)
    (reject,) = table(tmp_path / "rejects.parquet")
    assert reject["reason"] == "8 is not in 0 to 7"


def test_the_subset_chooses_the_members(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", [GOOD, OTHER, GOOD, OTHER], [GOOD, OTHER])
    assert convert(tmp_path, path, subset="sampled")["splits"]["train"]["rows"] == 2
    assert convert(tmp_path, path, subset="full")["splits"]["train"]["rows"] == 4


def test_bad_rows_within_the_limit_are_set_aside_and_reported(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", [GOOD, BAD[:2], OTHER], [OTHER, GOOD])
    summary = convert(tmp_path, path, max_reject_rate=0.2)  # just the limit
    expected = {
        "file": "bert_dataset/bert_train_data.csv",
        "row": 2,
        "line": 3,
        "column": "",
        "reason": "2 columns, expected 5",
        "value": 'A text.,"[1, 99, 2, 6, 2]"',
    }
    for rejects in (tmp_path / "out" / "rejects.parquet", tmp_path / "rejects.parquet"):
        assert pq.read_schema(rejects).equals(reject_schema())
        assert table(rejects) == [expected]
    assert (summary["splits"]["train"]["rows"], summary["splits"]["train"]["rejects"]) == (2, 1)
    assert [row["row"] for row in table(tmp_path / "out" / "train.parquet")] == [0, 1]


def test_a_file_that_is_not_a_report_of_bad_rows_stays(tmp_path: Path) -> None:
    mine = tmp_path / "rejects.parquet"
    path = write_zip(tmp_path / "x.zip", [GOOD], [OTHER])
    for write in (lambda: mine.write_text("notes"), lambda: pq.write_table(pa.table({"vector": [1.0]}), mine)):
        write()
        before = mine.read_bytes()
        convert(tmp_path, path)
        assert mine.read_bytes() == before


@pytest.mark.parametrize("limit", [0.0, 0.5])
def test_bad_rows_do_not_replace_a_file_that_is_not_a_report(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, limit: float
) -> None:
    mine = tmp_path / "rejects.parquet"
    path = write_zip(tmp_path / "x.zip", [GOOD, BAD[:2]], [OTHER])
    for write in (lambda: mine.write_text("notes"), lambda: pq.write_table(pa.table({"vector": [1.0]}), mine)):
        write()
        before = mine.read_bytes()
        with nullcontext() if limit else pytest.raises(DataError, match=r"csv:3, 2 columns.* move .* away and run"):
            convert(tmp_path, path, max_reject_rate=limit)
        assert mine.read_bytes() == before
        assert "is not a report of bad rows and stays as it is" in caplog.text
        assert (tmp_path / "out").exists() == bool(limit)
    if limit:
        assert len(table(tmp_path / "out" / "rejects.parquet")) == 1


@pytest.mark.parametrize("end", ["\r\n\r\n", "\n", ",,,,\r\n"])
def test_empty_lines_at_the_end_are_not_rows(tmp_path: Path, end: str) -> None:
    rows = csv_text([GOOD, OTHER])
    summary = convert(tmp_path, write_zip(tmp_path / "x.zip", rows + end, [OTHER]))
    assert [summary["splits"][split]["rows"] for split in ("train", "test")] == [2, 1]
    within = write_zip(tmp_path / "y.zip", rows.replace("\r\n", "\r\n\r\n", 1) + end, [OTHER])
    with pytest.raises(
        DataError, match=r"1 of 4 rows are bad, the first is .*csv:2, an empty line \(''\); that is more"
    ):
        convert(tmp_path, within)


def test_bad_rows_beyond_the_limit_fail_and_the_earlier_output_stays(tmp_path: Path) -> None:
    convert(tmp_path, write_zip(tmp_path / "x.zip", [GOOD], [OTHER]))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert not (tmp_path / "rejects.parquet").exists()
    bad = write_zip(tmp_path / "bad.zip", [GOOD, BAD[:2]], [OTHER, GOOD])
    with pytest.raises(DataError, match=r"1 of 4 rows are bad, .* 0\.2: see .*rejects\.parquet, correct the data"):
        convert(tmp_path, bad, max_reject_rate=0.2)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert len(table(tmp_path / "rejects.parquet")) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.zip", "out", "rejects.parquet", "x.zip"]
    convert(tmp_path, tmp_path / "x.zip")
    assert not (tmp_path / "rejects.parquet").exists()  # a report of rows that are no longer read


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        ([], [GOOD], "the train split has no rows"),
        ([GOOD], [], "the test split has no rows"),
        (
            [GOOD],
            [BAD[:2]],
            "the test split has no valid row, the first bad one is .*csv:2, 2 columns, expected 5 .*: see ",
        ),
    ],
)
def test_a_split_without_rows_fails(tmp_path: Path, train: list[Any], test: list[Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        convert(tmp_path, write_zip(tmp_path / "x.zip", train, test), max_reject_rate=1.0)


def test_a_member_that_is_not_csv_fails_and_leaves_nothing(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", "not a header\r\n")
    with pytest.raises(DataError, match="has the header"):
        convert(tmp_path, path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["x.zip"]


def test_a_missing_zip_names_the_command_that_brings_it(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="run `bertpipe download` first"):
        convert(tmp_path, tmp_path / "none.zip")


def test_two_conversions_give_equal_bytes(tmp_path: Path, sample_zip: Path, parquet: Path) -> None:
    convert(tmp_path, sample_zip, max_length=48)
    for path in parquet.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name


def test_progress_is_reported_in_bytes_up_to_the_end(tmp_path: Path, sample_zip: Path) -> None:
    reports: list[Progress] = []
    run_convert(
        replace(DEFAULTS.convert, subset="full", max_length=48, max_reject_rate=0.0, recover="labels"),
        zip_file=sample_zip,
        out=tmp_path / "out",
        rejects_report=tmp_path / "r.parquet",
        on_progress=reports.append,
    )
    labels = [f"bert_dataset/bert_{split}_data.csv" for split in ("train", "test")]
    assert [report.label for report in reports if report.completed == report.total] == labels
    assert {report.unit for report in reports} == {"bytes"}


def test_the_sample_converts_whole_with_words_and_true_tokens(parquet: Path) -> None:
    summary = json.loads((parquet / "summary.json").read_text(encoding="utf-8"))
    assert summary["masked_tokens_known"] is True
    assert summary["vocabulary"]["known"] == summary["vocabulary"]["size"]
    assert all(counts["rejects"] == counts["tokens_cut"] == 0 for counts in summary["splits"].values())
    train = read_dataset(parquet / "train.parquet")
    tokenizer = load_tokenizer(parquet / "tokenizer.json")
    documents = {row["document"]: row["text"] for row in table(parquet / "documents.parquet")}
    for row in range(0, len(train), 29):
        tokens = train.token_ids[train.offsets[row] : train.offsets[row + 1]]
        first = tokens[1 : train.second_segment_start[row] - 1].tolist()
        text = tokenizer.encode(documents[int(train.document[row])])
        assert first in [text[start : start + len(first)] for start in range(len(text))]
    assert (train.token_ids != 3).all()
    positions = np.repeat(train.offsets[:-1], np.diff(train.masked_offsets)) + train.masked_positions
    assert np.array_equal(train.token_ids[positions], train.masked_labels)


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.skipif("BERTPIPE_IMDB_ZIP" not in os.environ, reason="BERTPIPE_IMDB_ZIP names no zip")
def test_the_notebooks_sampled_imdb_converts_without_a_reject(tmp_path: Path) -> None:
    summary = convert(tmp_path, Path(os.environ["BERTPIPE_IMDB_ZIP"]), subset="sampled", max_length=512)
    rows = {split: (counts["rows"], counts["rejects"]) for split, counts in summary["splits"].items()}
    assert rows == {"train": (10_000, 0), "test": (5_000, 0)}
    assert summary["masked_tokens_known"] is False
    assert summary["vocabulary"]["known"] == len(SPECIAL_TOKENS)


@pytest.mark.parametrize("content", [b"", b"PAR1 is not enough"])
def test_a_damaged_split_is_said_to_be_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"train\.parquet is not a readable Parquet file.*prepare` again"):
        read_dataset(tmp_path / "train.parquet")


def test_a_split_with_other_columns_is_refused(tmp_path: Path, parquet: Path) -> None:
    pq.write_table(pq.read_table(parquet / "train.parquet").drop_columns("row"), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"has columns \['length', "):
        read_dataset(tmp_path / "train.parquet")
