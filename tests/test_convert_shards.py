"""`convert` on a directory of zips: one shard per zip, one vocabulary, and the same bytes from any engine."""

import hashlib
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bertpipe.core import artifacts
from bertpipe.core.artifacts import SPLITS, TABLES, file_sha256, table_sha256
from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.core.params import ConvertParams
from bertpipe.core.progress import Progress, ignore_progress
from bertpipe.data.pair_dataset import read_dataset
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, load_tokenizer
from bertpipe.sources.engines.engine import Engine, Processes
from bertpipe.sources.engines.ray import RayEngine
from bertpipe.sources.notebook.archive import Archive, member_name, open_archive
from bertpipe.sources.notebook.conversion import Conversion, ZipShard, convert_zip, renumber_documents, renumbered
from bertpipe.sources.notebook.recovery.sentences import Lexicon
from bertpipe.stages.convert import run_convert
from datasets import GOOD, row_fields, write_zip
from defaults import DEFAULTS

WORDS = [*SPECIAL_TOKENS, "a", "b", "c", "d"]
OTHER = row_fields([1, 5, 6, 2, 0, 7, 8, 3, 2, 0], [0] * 7 + [5, 0, 0], [1, 1, 1, 1, 0, 2, 2, 2, 2, 0], 0, "Other.")
THIRD = row_fields([1, 5, 2, 6, 2], [0] * 5, [1, 1, 1, 2, 2], 1, "Third.")
BAD = row_fields([1, 99, 2, 6, 2], [0] * 5, [1, 1, 1, 2, 2])


def convert(folder: Path, zips: Path, *, engine: Engine | None = None, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    params = {"subset": "full", "max_length": 128, "max_reject_rate": 0.0, "recover": "nothing"} | changes
    watch = {"on_progress": params.pop("on_progress")} if "on_progress" in params else {}
    return run_convert(
        replace(DEFAULTS.convert, **params),
        zip_file=zips,
        out=folder / "out",
        rejects_report=folder / "rejects.parquet",
        engine=engine,
        **watch,
    )


def folder_of_zips(folder: Path, *contents: Sequence[Any], **facts: Any) -> Path:  # noqa: ANN401
    """Write a zip for each pair of training and test rows, and return their folder."""
    folder.mkdir()
    for number, (train, test) in enumerate(contents):
        write_zip(folder / f"{number}.zip", train, test, **facts)
    return folder


def table(folder: Path, name: str) -> list[list[dict[str, Any]]]:
    """Return the rows of each shard of a table."""
    return [pq.read_table(path).to_pylist() for path in sorted((folder / name).iterdir())]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What is written


def test_each_zip_becomes_a_shard(tmp_path: Path) -> None:
    zips = folder_of_zips(
        tmp_path / "zips", ([GOOD, OTHER, GOOD], [OTHER]), ([], []), ([THIRD, GOOD], [THIRD]), vocabulary=WORDS
    )
    summary = convert(tmp_path, zips)
    out = tmp_path / "out"
    assert [[row["text"] for row in shard] for shard in table(out, "documents")] == [
        ["A text.", "Other."],
        [],
        ["Third.", "A text."],  # which is in the first zip, too: another document
    ]
    assert [[row["document"] for row in shard] for shard in table(out, "documents")] == [[0, 1], [], [2, 3]]
    assert [[row["document"] for row in shard] for shard in table(out, "train")] == [[0, 1, 0], [], [2, 3]]
    assert [[row["document"] for row in shard] for shard in table(out, "test")] == [[1], [], [2]]
    assert [[row["row"] for row in shard] for shard in table(out, "train")] == [[0, 1, 2], [], [0, 1]]
    assert read_dataset(out / "train").row.tolist() == [0, 1, 2, 3, 4]
    assert summary["documents"] == 4
    assert {split: summary["splits"][split]["rows"] for split in SPLITS} == {"train": 5, "test": 2}
    assert summary["splits"]["train"]["longest_row"] == 8
    assert summary["splits"]["train"]["largest_id"] == 8  # the largest of all zips, not a sum
    assert summary["sha256"] == {
        **{name: table_sha256(out / name) for name in TABLES},
        **{name: file_sha256(out / name) for name in ("rejects.parquet", "tokenizer.json")},
    }
    lines = "".join(f"{file_sha256(zips / name)}  {name}\n" for name in ("0.zip", "1.zip", "2.zip"))
    assert summary["source"] == {
        "file": "zips", "sha256": hashlib.sha256(lines.encode()).hexdigest(), "subset": "full"
    }  # fmt: skip


def test_rows_are_those_of_the_zips_alone(tmp_path: Path) -> None:
    zips = folder_of_zips(tmp_path / "zips", ([GOOD, OTHER], [THIRD]), ([THIRD], [OTHER, GOOD]), vocabulary=WORDS)
    convert(tmp_path, zips)
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        convert(tmp_path / str(number), zips / f"{number}.zip")
        for split in SPLITS:
            alone = pq.read_table(tmp_path / str(number) / "out" / f"{split}.parquet").to_pylist()
            shard = table(tmp_path / "out", split)[number]
            assert [{**row, "document": 0} for row in shard] == [{**row, "document": 0} for row in alone]
    assert load_tokenizer(tmp_path / "out" / "tokenizer.json").vocab_size == len(WORDS)


def test_a_reject_names_its_zip(tmp_path: Path) -> None:
    zips = folder_of_zips(tmp_path / "zips", ([GOOD], [GOOD]), ([BAD, GOOD], [GOOD, BAD]), vocabulary=WORDS)
    summary = convert(tmp_path, zips, max_reject_rate=0.5)
    rejects = pq.read_table(tmp_path / "rejects.parquet").to_pylist()
    assert [(reject["file"], reject["row"]) for reject in rejects] == [
        ("1.zip!bert_dataset/bert_train_data.csv", 1),
        ("1.zip!bert_dataset/bert_test_data.csv", 2),
    ]
    assert [summary["splits"][split]["rejects"] for split in SPLITS] == [1, 1]
    with pytest.raises(
        DataError, match=r"2 of 6 rows are bad, the first is 1\.zip!.*csv:2, .* more than convert\.max_reject_rate 0.3"
    ):
        convert(tmp_path, zips, max_reject_rate=0.3)


def test_ids_of_all_zips_get_a_name_where_none_brings_a_vocabulary(tmp_path: Path) -> None:
    zips = folder_of_zips(tmp_path / "zips", ([GOOD], [GOOD]), ([OTHER], [GOOD]))
    assert convert(tmp_path, zips)["vocabulary"] == {"size": 9, "known": 5}


def test_the_vocabulary_is_learned_from_all_zips(sample_zip: Path, tmp_path: Path) -> None:
    halves: list[list[str]] = [[], []]
    with open_archive(sample_zip) as archive:
        true = archive.tokenizer()
        for split in SPLITS:
            with archive.open_member(f"bert_dataset/bert_{split}_data.csv") as raw:
                header, *rows = raw.read().decode("utf-8").removesuffix("\r\n").split("\r\n")
            for half, part in zip(halves, (rows[: len(rows) // 2], rows[len(rows) // 2 :]), strict=True):
                half.append("\r\n".join([header, *part]) + "\r\n")
    assert true is not None
    zips = folder_of_zips(tmp_path / "zips", *halves)
    found = {}
    for name, path, engine in (("half", zips / "0.zip", None), ("1", zips, None), ("2", zips, Processes(count=2))):
        (tmp_path / name).mkdir()
        found[name] = convert(tmp_path / name, path, engine=engine, recover="labels")["recovery"]["words"]["read"]
    assert tree(tmp_path / "1") == tree(tmp_path / "2")
    assert found["1"] > 1.3 * found["half"] > 100
    words = pq.read_table(tmp_path / "1" / "out" / "vocabulary.parquet").to_pylist()
    read = [row for row in words if row["evidence"] == "read"]
    right = [row for row in read if true.tokens([row["id"]]) == [row["word"]]]
    assert len(right) > 0.98 * len(read)


@pytest.mark.parametrize(("facts", "recover", "times"), [({"vocabulary": WORDS}, "labels", 1), ({}, "labels", 2)])
def test_the_csv_of_a_zip_is_read_once_and_twice_to_learn_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any], recover: str, times: int
) -> None:
    zips = folder_of_zips(tmp_path / "zips", ([GOOD, OTHER], [THIRD]), ([THIRD], [OTHER]), **facts)
    read: Counter[tuple[str, str]] = Counter()
    open_member = Archive.open_member

    def counted(archive: Archive, member: str) -> Any:  # noqa: ANN401
        read[archive.path.name, member] += 1
        return open_member(archive, member)

    monkeypatch.setattr(Archive, "open_member", counted)
    convert(tmp_path, zips, recover=recover)
    assert read == {(name, member_name(split, "full")): times for name in ("0.zip", "1.zip") for split in SPLITS}


def test_a_shard_that_is_numbered_twice_stays_the_same(tmp_path: Path) -> None:
    # As where a cluster loses the worker of a shard and gives the shard to another one.
    shard = ZipShard(
        path=write_zip(tmp_path / "x.zip", [GOOD, OTHER], [THIRD], vocabulary=WORDS),
        tables={name: tmp_path / name / "00001.parquet" for name in TABLES},
    )
    params = ConvertParams(subset="full", max_length=128, max_reject_rate=0.0, recover="nothing")
    conversion = Conversion(params=params, vocab_size=9, labels_are_true=False, recovered=None)
    convert_zip(conversion, ignore_progress, shard)
    once, twice = renumber_documents((shard, 5)), renumber_documents((shard, 5))
    assert once == twice == {name: file_sha256(renumbered(path)) for name, path in shard.tables.items()}
    documents = pq.read_table(renumbered(shard.tables["documents"])).to_pylist()
    assert [row["document"] for row in documents] == [5, 6, 7]
    assert read_dataset(shard.tables["train"]).document.tolist() == [0, 1]


def test_a_lexicon_numbers_on_after_it_was_pickled() -> None:
    lexicon = Lexicon()
    known = lexicon.encode("the cat sat")
    again = pickle.loads(pickle.dumps(lexicon))
    assert again.words() == lexicon.words()
    assert again.encode("the cat ran") == [*known[:2], len(lexicon)]
    assert len(lexicon) == len(again) - 1


# Who works


def test_bytes_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    content = ([GOOD, OTHER], [THIRD]), ([THIRD], [OTHER, GOOD]), ([OTHER], [GOOD])
    zips = folder_of_zips(tmp_path / "zips", *content, vocabulary=WORDS)
    reports: list[Progress] = []
    for name, engine in (("1", None), ("2", Processes(count=2))):
        (tmp_path / name).mkdir()
        convert(tmp_path / name, zips, engine=engine, on_progress=reports.append)
    assert tree(tmp_path / "1") == tree(tmp_path / "2")
    assert list(dict.fromkeys(report.label for report in reports)) == ["converting", "numbering texts"]
    assert reports[-1].completed == reports[-1].total == sum(path.stat().st_size for path in zips.iterdir())


# Errors


def test_zips_of_different_vocabularies_are_refused(tmp_path: Path) -> None:
    zips = folder_of_zips(tmp_path / "zips", ([GOOD], [GOOD]), vocabulary=WORDS)
    write_zip(zips / "1.zip", [GOOD], [GOOD], vocabulary=[*WORDS[:-1], "e"])
    with pytest.raises(DataError, match=r"1\.zip has another vocabulary than .*0\.zip: .* convert them separately"):
        convert(tmp_path, zips)
    write_zip(zips / "1.zip", [GOOD], [GOOD])
    with pytest.raises(DataError, match=r"1\.zip has another vocabulary than"):
        convert(tmp_path, zips)
    write_zip(zips / "1.zip", [GOOD], [GOOD], vocabulary=WORDS, labels_are_true=True)
    with pytest.raises(DataError, match=r"one says that its labels are the true tokens and one does not"):
        convert(tmp_path, zips)
    assert not (tmp_path / "out").exists()


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "zips").mkdir()
    with pytest.raises(DataError, match="zips holds nothing, but must hold only zips of CSV files"):
        convert(tmp_path, tmp_path / "zips")
    write_zip(tmp_path / "zips" / "a.zip", [GOOD])
    (tmp_path / "zips" / ".hidden").touch()
    (tmp_path / "zips" / "notes.txt").touch()
    with pytest.raises(DataError, match=r"zips holds notes\.txt, but must hold only zips"):
        convert(tmp_path, tmp_path / "zips")
    with pytest.raises(MissingInputError, match="run `bertpipe download` first"):
        convert(tmp_path, tmp_path / "nowhere")


def test_a_damaged_zip_is_named(tmp_path: Path) -> None:
    zips = folder_of_zips(tmp_path / "zips", ([GOOD], [GOOD]), vocabulary=WORDS)
    (zips / "1.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"1\.zip is not a zip file"):
        convert(tmp_path, zips)


def test_a_split_without_rows_in_all_zips_is_refused(tmp_path: Path) -> None:
    zips = folder_of_zips(tmp_path / "zips", ([GOOD], []), ([GOOD], []), vocabulary=WORDS)
    with pytest.raises(DataError, match="the test split has no rows"):
        convert(tmp_path, zips)


def test_more_texts_than_there_are_numbers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MOST_DOCUMENTS", 3)
    zips = folder_of_zips(tmp_path / "zips", ([GOOD, OTHER], [GOOD]), ([GOOD, OTHER], [GOOD]), vocabulary=WORDS)
    with pytest.raises(DataError, match="4 documents are more than the 3 of a data set"):
        convert(tmp_path, zips)


def test_a_cluster_works_on_several_zips_alone(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", [GOOD], vocabulary=WORDS)
    with pytest.raises(DataError, match=r"x\.zip is one zip, and a cluster works on shards alone: name a directory"):
        convert(tmp_path, path, engine=RayEngine(address="local", processes=2))
