"""aclImdb's tree and the notebook's zip are known, and so are their splits."""

import os
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from bertpipe.core.errors import DataError
from bertpipe.sources.notebook.archive import member_name
from bertpipe.sources.notebook.csv_reader import COLUMNS
from bertpipe.sources.text.documents import read_documents, text_size
from datasets import csv_text, write_zip
from texts import Files, documents, gz, places, tar, write, write_files, zipped

ROWS = ["[1, 2, 2]", "[0, 0, 0]", "1,1,2", "1"]
TRAIN, TEST = (f"x.zip!{member_name(split, 'full')}" for split in ("train", "test"))

REVIEWS: Files = {
    "aclImdb/test/neg/1_2.txt": b"test<br />neg\n\nmore",
    "aclImdb/train/unsup/9_0.txt": b"unsup",
    "aclImdb/train/pos/0_9.txt": b"pos 0",
    "aclImdb/train/pos/10_9.txt": b"pos 10",
}
BESIDE: Files = {
    "aclImdb/README": b"x",
    "aclImdb/imdb.vocab": b"x",
    "aclImdb/imdbEr.txt": b"x",
    "aclImdb/test/labeledBow.feat": b"x",
    "aclImdb/test/urls_neg.txt": b"x",
    "aclImdb/train/labeledBow.feat": b"x",
    "aclImdb/train/unsupBow.feat": b"x",
    "aclImdb/train/urls_unsup.txt": b"x",
}
Place = tuple[str, str, str | None]


def reviews(prefix: str) -> list[Place]:
    return [
        (f"{prefix}test/neg/1_2.txt", "test<br />neg\n\nmore", "test"),
        (f"{prefix}train/pos/0_9.txt", "pos 0", "train"),
        (f"{prefix}train/pos/10_9.txt", "pos 10", "train"),
        (f"{prefix}train/unsup/9_0.txt", "unsup", "train"),
    ]


def test_the_tree_is_read_from_its_folder_and_from_the_folder_above(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "data", REVIEWS | BESIDE)
    assert places(folder) == reviews("data/aclImdb/")
    assert places(folder / "aclImdb") == reviews("aclImdb/")
    assert text_size(folder) == text_size(folder / "aclImdb") == sum(map(len, REVIEWS.values()))


def test_the_tree_is_read_from_a_zip(tmp_path: Path) -> None:
    bare = {name.removeprefix("aclImdb/"): content for name, content in (REVIEWS | BESIDE).items()}
    assert places(write(tmp_path / "x.zip", zipped(REVIEWS | BESIDE))) == reviews("x.zip!aclImdb/")
    assert places(write(tmp_path / "y.zip", zipped(bare))) == reviews("y.zip!")


@pytest.mark.parametrize("first", [REVIEWS, BESIDE])
def test_the_tree_is_read_from_the_archive_in_its_order(tmp_path: Path, first: Files) -> None:
    path = write(tmp_path / "aclImdb_v1.tar.gz", gz(tar(first | REVIEWS | BESIDE)))
    test, *train = reviews("aclImdb_v1.tar.gz!aclImdb/")
    assert places(path) == [test, train[2], train[0], train[1]]


@pytest.mark.parametrize(
    "stranger", ["aclImdb/train/pos/x.md", "aclImdb/valid/pos/1.txt", "aclImdb/notes.txt", "x.txt"]
)
def test_a_file_that_the_tree_does_not_have_is_an_error(tmp_path: Path, stranger: str) -> None:
    files = REVIEWS | {stranger: b"x"}
    folder = write_files(tmp_path / "data", files)
    for path in (folder, write(tmp_path / "x.zip", zipped(files))):
        with pytest.raises(DataError) as caught:
            documents(path)
        assert str(caught.value) == f"{path} is aclImdb's tree but holds {stranger} too: take that away"


def test_a_tar_tells_such_a_file_when_it_comes(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tar", tar(REVIEWS | {"aclImdb/notes.txt": b"x"}))
    with pytest.raises(DataError, match=r"is aclImdb's tree but holds aclImdb/notes\.txt too: take that away"):
        documents(path)


@pytest.mark.parametrize("files", [{"train/pos/1.txt": b"x"}, {"x.txt": b"x"} | REVIEWS, REVIEWS | {"x.txt": b"x"}])
def test_a_tar_of_the_tree_in_another_form_is_not_read_without_its_splits(tmp_path: Path, files: Files) -> None:
    with pytest.raises(DataError, match=r"x\.tar holds aclImdb's tree in a form that is not known"):
        documents(write(tmp_path / "x.tar", tar(files)))


def rows(texts: Sequence[str]) -> list[list[str]]:
    return [[text, *ROWS] for text in texts]


def test_the_notebooks_zip_gives_each_text_once_with_its_split(tmp_path: Path) -> None:
    train = ['A "b",\r\nc.\n\nd', 'A "b",\r\nc.\n\nd', "é", " ", "é", "é ", "é"]
    path = write_zip(tmp_path / "x.zip", rows(train), rows(["é", "z", "z"]))
    assert places(path) == [
        (f"{TRAIN}:2", 'A "b",\nc.\n\nd', "train"),
        (f"{TRAIN}:10", "é", "train"),
        (f"{TRAIN}:12", "é", "train"),
        (f"{TRAIN}:13", "é ", "train"),
        (f"{TRAIN}:14", "é", "train"),
        (f"{TEST}:2", "é", "test"),
        (f"{TEST}:3", "z", "test"),
    ]


def test_our_own_zip_is_read_too_and_its_size_is_that_of_the_rows(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", rows(["a"] * 500), rows(["b"]), vocabulary=["x"])
    told: list[int] = []
    read = list(read_documents(path, text_format="auto", field="text", on_bytes=told.append))
    assert [document.text for document in read] == ["a", "b"]
    with zipfile.ZipFile(path) as archive:
        packed = sum(archive.getinfo(member_name(split, "full")).compress_size for split in ("train", "test"))
    assert sum(told) == text_size(path) == packed


def test_its_texts_are_documents_and_nothing_else(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", rows(["a"]))
    with pytest.raises(DataError, match="is the notebook's zip, whose texts are known: set text_format to auto"):
        documents(path, "lines")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_zip_with_one_of_its_members_is_an_error(tmp_path: Path, split: str) -> None:
    other = "test" if split == "train" else "train"
    path = write(tmp_path / "x.zip", zipped({member_name(split, "full"): b"x"}))
    with pytest.raises(DataError) as caught:
        documents(path)
    assert str(caught.value) == (f"{path} is the notebook's zip but lacks {member_name(other, 'full')}: fetch it again")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("", f" has the header '', and the notebook's is {','.join(COLUMNS)}: save it as CSV "),
        ("a,b\r\n", f" has the header 'a,b', and the notebook's is {','.join(COLUMNS)}: save it as CSV "),
        (csv_text([*rows(["a\nb"]), ["c", "d"]]), ", row 2 (line 4) has 2 columns, expected 5"),
        (csv_text(rows(["a"])) + '"b,\r\n', ", row 2 (line 3) is not CSV: unexpected end of data"),
        (csv_text(rows(["a"])) + '"b"c,\r\n', ", row 2 (line 3) is not CSV: ',' expected after '\"'"),
        (csv_text(rows(["a", "b\0"])), ":3: a NUL character, which text does not have (after "),
        ('"a', ", row 0 (line 1) is not CSV: unexpected end of data"),
    ],
)
def test_a_member_that_is_not_the_notebooks_is_named_with_its_row(tmp_path: Path, train: str, message: str) -> None:
    path = write_zip(tmp_path / "x.zip", train)
    with pytest.raises(DataError) as caught:
        documents(path)
    assert str(caught.value).startswith(f"{path}!{member_name('train', 'full')}{message}")


# One split alone


def of_split(path: Path, split: str) -> tuple[list[str], int]:
    """Return the texts of a split, and how many bytes reading them told of."""
    told: list[int] = []
    read = read_documents(path, text_format="auto", field="text", split=split, on_bytes=told.append)
    return [document.text for document in read], sum(told)


@pytest.mark.parametrize("packed", [False, True])
def test_one_split_of_the_tree_is_read_without_the_bytes_of_the_other(tmp_path: Path, packed: bool) -> None:
    files = REVIEWS | BESIDE
    path = write(tmp_path / "x.zip", zipped(files)) if packed else write_files(tmp_path / "data", files)
    for split, texts in {"train": ["pos 0", "pos 10", "unsup"], "test": ["test<br />neg\n\nmore"]}.items():
        assert of_split(path, split) == (texts, text_size(path, split=split))
    assert text_size(path, split="train") + text_size(path, split="test") == text_size(path)
    if not packed:
        assert text_size(path, split="train") == len("pos 0" + "pos 10" + "unsup")


def test_a_tar_is_read_to_its_end_for_one_split(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tar.gz", gz(tar(REVIEWS | BESIDE)))
    assert of_split(path, "train") == (["unsup", "pos 0", "pos 10"], path.stat().st_size)
    assert text_size(path, split="train") == path.stat().st_size


def test_one_split_of_the_notebooks_zip_is_one_member(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", rows(["a", "b"]), "damaged")
    with zipfile.ZipFile(path) as archive:
        packed = archive.getinfo(member_name("train", "full")).compress_size
    assert of_split(path, "train") == (["a", "b"], packed)
    assert text_size(path, split="train") == packed
    with pytest.raises(DataError, match="has the header"):
        of_split(path, "test")


def test_what_belongs_to_no_split_is_read_for_either(tmp_path: Path) -> None:
    path = write_files(tmp_path / "data", {"test/1.txt": b"one", "2.txt": b"two"})
    assert of_split(path, "train") == of_split(path, "test") == (["two", "one"], 6)


def test_a_stranger_in_the_tree_is_an_error_for_one_split_too(tmp_path: Path) -> None:
    path = write_files(tmp_path / "data", REVIEWS | {"aclImdb/test/pos/x.md": b"x"})
    with pytest.raises(DataError, match=r"holds aclImdb/test/pos/x\.md too"):
        of_split(path, "train")


@pytest.mark.slow
@pytest.mark.thorough
def test_the_notebooks_zip_of_imdb() -> None:
    if not (name := os.environ.get("BERTPIPE_IMDB_ZIP")):
        pytest.skip("BERTPIPE_IMDB_ZIP is not set")
    told, counts, seen = 0, Counter[str | None](), dict[str | None, set[str]](train=set(), test=set())

    def tell(count: int) -> None:
        nonlocal told
        told += count

    for document in read_documents(Path(name), text_format="auto", field="text", on_bytes=tell):
        counts[document.split] += 1
        seen[document.split].add(document.text)
        assert document.text.strip()
        assert document.text.isascii() or document.text.encode("utf-8")  # no surrogate
    assert told == text_size(Path(name))
    assert counts == {"train": 24_929, "test": 24_920}
    assert {split: len(texts) for split, texts in seen.items()} == {"train": 24_848, "test": 24_745}
