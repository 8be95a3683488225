"""What is recorded of a split when it is written, and what a training refuses that does not fit the record."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bertpipe.core.artifacts import RECORDS_NAME, file_sha256
from bertpipe.core.errors import DataError
from bertpipe.core.params import Params
from bertpipe.data.pair_dataset import PairFile, label_counts, read_dataset
from bertpipe.data.parquet_writer import table_of
from bertpipe.data.records import FileRecord, SplitRecord, read_records, write_records
from bertpipe.training.checkpoint import checkpoints_in
from bertpipe.training.inputs import TrainingData, read_training_data
from runs import results, train


@pytest.fixture
def data(parquet: Path, tmp_path: Path) -> Path:
    """Return a copy of a data set."""
    return shutil.copytree(parquet, tmp_path / "data")


def without_record(data: Path) -> TrainingData:
    (data / RECORDS_NAME).unlink()
    return read_training_data(data)


def test_what_is_recorded_is_what_the_rows_say(data: Path) -> None:
    recorded, read = read_training_data(data), without_record(data)
    assert recorded.sha256 == read.sha256
    for one, other in ((recorded.train, read.train), (recorded.held_out, read.held_out)):
        assert one.layout.offsets.tolist() == other.layout.offsets.tolist()
        assert one.longest_row == other.longest_row > 0
        for size in (recorded.tokenizer.vocab_size, 5000):
            assert one.label_counts(size).tolist() == label_counts(other, size).tolist()


def test_nothing_is_read_at_the_start(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertpipe.data.pair_dataset.opened_parquet", None)
    monkeypatch.setattr("bertpipe.core.artifacts.hashlib.file_digest", lambda *_: pytest.fail("a table is hashed"))
    splits = read_records(data)
    for split, record in splits.items():
        file = PairFile(data / f"{split}.parquet", record=record, vocab_size=5000)
        file.check(5000)
        assert (file.longest_row, len(file.sha256), len(file.label_counts(5000))) == (record.longest_row, 64, 5000)


def test_the_model_is_that_of_data_without_a_record(tiny: Params, data: Path, trained: Path, tmp_path: Path) -> None:
    (data / RECORDS_NAME).unlink()
    train(tiny, tmp_path / "run", data)
    assert results(tmp_path / "run") == results(trained)


def test_a_file_of_another_size_is_refused_at_the_start(data: Path) -> None:
    with (data / "train.parquet").open("ab") as file:
        file.write(b"more")
    with pytest.raises(
        DataError, match=r"train\.parquet has [\d,]+ bytes, and records\.json says [\d,]+: run .* again"
    ):
        read_training_data(data)


def test_other_files_than_recorded_are_refused(data: Path) -> None:
    (data / "train").mkdir()
    (data / "train.parquet").rename(data / "train" / "00000.parquet")
    shutil.copy(data / "test.parquet", data / "train" / "00001.parquet")
    with pytest.raises(DataError, match=r"train has 2 files, and records\.json beside it names 1: run "):
        read_training_data(data)


def test_a_file_with_other_rows_than_recorded_is_refused_as_it_is_read(data: Path) -> None:
    record = read_records(data)["train"]
    (file,) = record.files
    wrong = replace(record, files=(replace(file, rows=file.rows + 1),))
    with pytest.raises(DataError, match=rf"train\.parquet has {file.rows} rows(, and records| in its row group 0)"):
        PairFile(data / "train.parquet", record=wrong).read(np.array([0]))


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"format": "bertpipe-records-2"}', '{"format": "bertpipe-records-1", "splits": {"train": {}}}', "{"],
)
def test_a_damaged_record_is_refused_with_what_to_do(data: Path, content: str) -> None:
    (data / RECORDS_NAME).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"records\.json (cannot be read as JSON|is not what .* remove this file)"):
        read_training_data(data)


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    record = SplitRecord(
        files=tuple(FileRecord(rows=rows, bytes=7 * rows, sha256=f"{rows:064}") for rows in (3, 0, 5)),
        longest_row=11,
        label_counts=np.array([0, 2, 13]),
    )
    write_records(tmp_path, {"train": record})
    found = read_records(tmp_path)["train"]
    assert (found.files, found.longest_row, found.label_counts.tolist()) == (record.files, 11, [0, 2, 13])
    assert read_records(tmp_path / "other") == {}


def damage(data: Path) -> None:
    """Write an id beyond the vocabulary into the last row, and record the file as it is now."""
    path = data / "train.parquet"
    rows = read_dataset(path)
    ids = rows.token_ids.copy()
    ids[-2] = 99_999
    pq.write_table(table_of(replace(rows, token_ids=ids)), path, row_group_size=32)
    content = json.loads((data / RECORDS_NAME).read_text(encoding="utf-8"))
    (file,) = content["splits"]["train"]["files"]
    file |= {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    (data / RECORDS_NAME).write_text(json.dumps(content), encoding="utf-8")


def test_a_damaged_row_ends_the_run_when_it_is_read_and_the_steps_before_are_kept(
    tiny: Params, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(data)
    monkeypatch.setattr(PairFile.__init__, "__kwdefaults__", {
        **PairFile.__init__.__kwdefaults__, "rows_per_group": 32, "groups_per_window": 2,
    })  # fmt: skip
    (data / "test.parquet").rename(tmp_path / "test.parquet")
    pq.write_table(pq.read_table(tmp_path / "test.parquet"), data / "test.parquet", row_group_size=32)
    content = json.loads((data / RECORDS_NAME).read_text(encoding="utf-8"))
    content["splits"]["test"]["files"][0]["bytes"] = (data / "test.parquet").stat().st_size
    (data / RECORDS_NAME).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(
        DataError,
        match=r"train\.parquet, row \d+: the token id 99999 is not in 0 to \d+; .*after step \d+ of \d+ is kept",
    ):
        train(tiny, tmp_path / "run", data)
    (state,) = (tmp_path / "run" / "state").iterdir()
    assert checkpoints_in(state)
