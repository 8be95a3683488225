"""A split in shards: read, counted, hashed and trained on as the same rows in one file."""

import functools
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bertpipe.core.artifacts import RECORDS_NAME, SPLITS, file_sha256, read_json, split_path, table_sha256
from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.core.params import Params
from bertpipe.data.layout import Layout
from bertpipe.data.pair_dataset import PairDataset, PairFile, label_counts
from bertpipe.data.parquet_writer import table_of
from bertpipe.stages.evaluate import run_evaluate
from bertpipe.training.inputs import read_training_data
from datasets import Pair, pair_dataset
from runs import results, train

ROWS = pair_dataset(
    [Pair(first=[5 + n], second=[6] * (1 + n % 3), masks={1: (3, 5 + n)}, is_next=n % 2 == 0) for n in range(9)]
)


def same(one: PairDataset, other: PairDataset) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in PairDataset.__slots__)


def write_shards(folder: Path, rows: PairDataset, sizes: Sequence[int], *, rows_per_group: int) -> Path:
    """Write rows as shards of these sizes, each counting its rows from 0, and return their directory."""
    folder.mkdir(parents=True)
    first = 0
    for number, size in enumerate(sizes):
        shard = replace(rows.take(np.arange(first, first + size)), row=np.arange(size))
        pq.write_table(table_of(shard), folder / f"{number:05}.parquet", row_group_size=rows_per_group)
        first += size
    assert first == len(rows)
    return folder


# Row groups


def test_row_groups_end_with_their_file() -> None:
    layout = Layout.of_files([5, 0, 2, 1], rows_per_group=2, groups_per_window=3)
    assert layout.offsets.tolist() == [0, 2, 4, 5, 7, 8]
    assert (layout.rows, layout.groups.tolist()) == (8, [0, 1, 2, 3, 4])
    assert layout.rows_of(np.array([3, 2, 0])).tolist() == [5, 6, 4, 0, 1]
    assert layout.counts(np.array([2, 3])).tolist() == [1, 2]
    assert layout.count(np.array([2, 3, 4])) == 4
    assert [window.tolist() for window in layout.windows(layout.groups)] == [[0, 1, 2], [3, 4]]


def test_no_files_and_empty_files_have_no_row_groups() -> None:
    for files in ([], [0], [0, 0]):
        layout = Layout.of_files(files)
        assert (layout.rows, layout.groups.tolist()) == (0, [])


# Reading


@pytest.mark.parametrize("groups_per_window", [1, 2, 16])
@pytest.mark.parametrize("sizes", [[9], [4, 5], [0, 3, 0, 0, 5, 1, 0], [1] * 9])
def test_shards_are_read_as_one_sequence_of_rows(tmp_path: Path, sizes: list[int], groups_per_window: int) -> None:
    folder = write_shards(tmp_path / "train", ROWS, sizes, rows_per_group=2)
    file = PairFile(folder, rows_per_group=2, groups_per_window=groups_per_window)
    assert file.lengths.tolist() == [5, 6, 7, 5, 6, 7, 5, 6, 7]
    assert same(file.read(file.layout.groups), ROWS)
    backwards = file.layout.groups[::-1]
    assert same(file.read(backwards), ROWS.take(file.layout.rows_of(backwards)))
    assert label_counts(file, 20).tolist() == label_counts(ROWS, 20).tolist()
    file.check(14)
    with pytest.raises(DataError, match=r"train, row 8: the token id 13 is not in 0 to 12"):
        file.check(13)


def test_a_window_of_several_shards_is_read_as_it_is_asked_for(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "train", ROWS, [3, 0, 4, 2], rows_per_group=2)
    file = PairFile(folder, rows_per_group=2, groups_per_window=2)
    assert file.read(np.array([4, 1, 3])).row.tolist() == [7, 8, 2, 5, 6]


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "train", ROWS, [3, 3, 3], rows_per_group=2)
    (folder / "00001.parquet").unlink()
    with pytest.raises(
        MissingInputError, match=r"train/00001\.parquet does not exist, .* holds 00002\.parquet: shards"
    ):
        PairFile(folder)
    (folder / "00002.parquet").rename(folder / "mine.txt")
    with pytest.raises(MissingInputError, match=r"train/00001\.parquet does not exist, .* holds mine\.txt"):
        PairFile(folder)


def test_a_directory_without_shards_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(MissingInputError, match=r"train/00000\.parquet does not exist, .* holds nothing"):
        PairFile(tmp_path / "train")


def test_a_short_row_group_within_a_shard_is_refused(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "train", ROWS, [4, 5], rows_per_group=3)
    with pytest.raises(DataError, match=r"train/00000\.parquet has 3 rows in its row group 0, expected 2"):
        PairFile(folder, rows_per_group=2)


def test_a_split_stands_in_a_file_or_in_shards_but_not_in_both(tmp_path: Path) -> None:
    assert split_path(tmp_path, "train") == tmp_path / "train.parquet"
    write_shards(tmp_path / "train", ROWS, [9], rows_per_group=9)
    assert split_path(tmp_path, "train") == tmp_path / "train"
    (tmp_path / "train.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"has both train\.parquet and shards in train/: remove one of them"):
        split_path(tmp_path, "train")


def test_the_hash_of_shards_is_that_of_the_lines_of_sha256sum(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "train", ROWS, [4, 5], rows_per_group=2)
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("00000.parquet", "00001.parquet")]
    lines = f"{digests[0]}  00000.parquet\n{digests[1]}  00001.parquet\n"
    assert table_sha256(folder) == hashlib.sha256(lines.encode()).hexdigest()
    assert table_sha256(folder / "00000.parquet") == digests[0]


# Training and evaluation


@pytest.fixture
def forms(parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return the same rows in one file and in shards, with the same row groups of 32 rows, several windows of them."""
    one, shards = tmp_path / "one", tmp_path / "shards"
    for folder in (one, shards):
        shutil.copytree(parquet, folder)
        (folder / RECORDS_NAME).unlink()
    for split in SPLITS:
        rows = PairFile(parquet / f"{split}.parquet").read(np.array([0]))
        pq.write_table(table_of(rows), one / f"{split}.parquet", row_group_size=32)
        (shards / f"{split}.parquet").unlink()
        write_shards(shards / split, rows, [32, 0, 32, len(rows) - 64, 0], rows_per_group=32)
    smaller = functools.partial(PairFile, rows_per_group=32, groups_per_window=2)
    monkeypatch.setattr("bertpipe.training.inputs.PairFile", smaller)
    monkeypatch.setattr("bertpipe.stages.evaluate.PairFile", smaller)
    return one, shards


def test_shards_train_and_evaluate_as_one_file_does(tiny: Params, forms: tuple[Path, Path], tmp_path: Path) -> None:
    summaries = [train(tiny, tmp_path / f"run-{data.name}", data) for data in forms]
    assert summaries[0]["steps"] == summaries[1]["steps"] > 10
    one, shards = (results(tmp_path / f"run-{data.name}") for data in forms)
    assert [name for name in one if one[name] != shards[name]] == ["model/config.json"]
    facts = [read_json(tmp_path / f"run-{data.name}" / "model" / "config.json") for data in forms]
    assert [sorted(fact["facts"].pop("data_sha256")) for fact in facts] == [
        ["test.parquet", "tokenizer.json", "train.parquet"],
        ["test", "tokenizer.json", "train"],
    ]
    assert facts[0] == facts[1]
    metrics = [
        run_evaluate(tiny.evaluate, tiny.runtime, model=tmp_path / "run-one" / "model", data=data, out=tmp_path / "m")
        for data in forms
    ]
    assert metrics[0] == metrics[1]


def test_training_data_know_the_hash_of_all_shards(forms: tuple[Path, Path]) -> None:
    one, shards = (read_training_data(data) for data in forms)
    assert sorted(one.sha256) == ["test.parquet", "tokenizer.json", "train.parquet"]
    assert sorted(shards.sha256) == ["test", "tokenizer.json", "train"]
    assert one.sha256["train.parquet"] == file_sha256(forms[0] / "train.parquet")
    assert shards.sha256["train"] == table_sha256(forms[1] / "train")
    assert one.sha256["tokenizer.json"] == shards.sha256["tokenizer.json"]
    last = forms[1] / "train" / "00003.parquet"
    last.write_bytes((forms[1] / "train" / "00000.parquet").read_bytes())
    assert read_training_data(forms[1]).sha256["train"] != shards.sha256["train"]
