"""The zip of CSV files: its members, its checks, and equal bytes for equal content."""

import zipfile
from pathlib import Path

import pytest

from bertpipe.core.errors import DataError
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS
from bertpipe.sources.notebook import archive as archive_module
from bertpipe.sources.notebook.archive import Archive, check_archive, member_name, open_archive
from bertpipe.sources.notebook.writer import ArchiveWriter
from datasets import GOOD, csv_text, write_zip

WORDS = [*SPECIAL_TOKENS, "a", "é"]


def spoil(path: Path, member: str, *, offset: int, count: int = 20) -> None:
    """Change bytes in the packed content of a member."""
    with zipfile.ZipFile(path) as file:
        info = file.getinfo(member)
    content = bytearray(path.read_bytes())
    extra = int.from_bytes(content[info.header_offset + 28 : info.header_offset + 30], "little")
    start = info.header_offset + 30 + len(member) + extra + offset
    for at in range(start, start + count):
        content[at] ^= 0xFF
    path.write_bytes(content)


def test_members_have_the_notebooks_names() -> None:
    assert [member_name(split, subset) for split in ("train", "test") for subset in ("full", "sampled")] == [
        "bert_dataset/bert_train_data.csv",
        "bert_dataset/bert_train_data_sampled.csv",
        "bert_dataset/bert_test_data.csv",
        "bert_dataset/bert_test_data_sampled.csv",
    ]


def test_a_member_is_read_as_text_with_its_line_ends_and_its_size(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", [["é\n", *GOOD[1:]]])
    name = member_name("train", "full")
    text = csv_text([["é\n", *GOOD[1:]]])
    with open_archive(path) as archive:
        assert archive.size(name) == len(text.encode("utf-8"))
        with archive.open_member(name) as raw:
            assert raw.read().decode("utf-8") == text
            assert raw.tell() == archive.size(name)


def test_the_notebooks_zip_has_no_vocabulary_and_its_labels_are_not_true(tmp_path: Path) -> None:
    with open_archive(write_zip(tmp_path / "x.zip", [GOOD])) as archive:
        assert archive.tokenizer() is None
        assert archive.facts().labels_are_true is False


@pytest.mark.parametrize("true", [True, False])
def test_our_zip_tells_its_vocabulary_and_whether_labels_are_true(tmp_path: Path, true: bool) -> None:
    path = write_zip(tmp_path / "x.zip", [GOOD], vocabulary=WORDS, labels_are_true=true)
    with open_archive(path) as archive:
        tokenizer = archive.tokenizer()
        assert tokenizer is not None
        assert tokenizer.tokens(range(len(WORDS))) == WORDS
        assert archive.facts().labels_are_true is true
        assert archive.facts().generated is False


def test_a_zip_tells_that_its_text_is_generated(tmp_path: Path) -> None:
    with ArchiveWriter(tmp_path / "x.zip") as writer:
        writer.add(member_name("train", "full"), csv_text([GOOD]))
        writer.add_facts(vocabulary=WORDS, labels_are_true=False, generated=True)
    with zipfile.ZipFile(tmp_path / "x.zip") as file:
        archive = Archive(tmp_path / "x.zip", file)
        assert archive.facts().generated is True
        assert archive.facts().labels_are_true is False


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    one, other = (
        write_zip(tmp_path / name, [GOOD], vocabulary=WORDS).read_bytes() for name in ("one.zip", "other.zip")
    )
    assert one == other
    with zipfile.ZipFile(tmp_path / "one.zip") as file:
        assert {info.date_time for info in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_whole_zip_passes_the_check(tmp_path: Path) -> None:
    check_archive(write_zip(tmp_path / "x.zip", [GOOD]))


def test_a_missing_member_is_named_beside_what_is_there(tmp_path: Path) -> None:
    with ArchiveWriter(tmp_path / "x.zip") as archive:
        archive.add(member_name("train", "full"), ["x"])
        archive.add("readme.txt", ["x"])
    with pytest.raises(DataError) as caught:
        check_archive(tmp_path / "x.zip")
    lacking, found = str(caught.value).split("; it holds ")
    assert lacking == f"{tmp_path / 'x.zip'} lacks " + ", ".join(
        member_name(*member) for member in (("train", "sampled"), ("test", "full"), ("test", "sampled"))
    )
    assert found == "bert_dataset/bert_train_data.csv, readme.txt: zip the CSV files again under these names"


def test_an_empty_zip_holds_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w"):
        pass
    with pytest.raises(DataError, match="it holds nothing"):
        check_archive(tmp_path / "x.zip")


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04 cut off"])
def test_what_is_no_zip_is_said_to_be_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.zip is not a zip file"):
        check_archive(tmp_path / "x.zip")


def test_a_path_that_is_not_there_or_no_file_is_no_zip(tmp_path: Path) -> None:
    for path in (tmp_path / "none.zip", tmp_path):
        with pytest.raises(DataError, match="is not a zip file"):
            check_archive(path)


@pytest.mark.parametrize("offset", [0, 15, 60])
def test_damaged_bytes_are_found_wherever_they_stand(tmp_path: Path, offset: int) -> None:
    path = write_zip(tmp_path / "x.zip", [[f"text {i} " * 50, *GOOD[1:]] for i in range(200)])
    spoil(path, member_name("train", "full"), offset=offset)
    with pytest.raises(DataError, match=r"x\.zip is damaged.*run `bertpipe download` again"):
        check_archive(path)


def test_an_encrypted_member_is_refused_by_name(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", [GOOD])
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 8] |= 1  # general purpose bit flag, bit 0
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bert_train_data\.csv is encrypted: unpack it"):
        check_archive(path)


@pytest.mark.parametrize("method", [9, 12, 97])  # Deflate64, bzip2, WavPack
def test_a_packing_method_that_is_not_read_is_named_as_that(tmp_path: Path, method: int) -> None:
    path = write_zip(tmp_path / "x.zip", [GOOD])
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 10] = method
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"bert_train_data\.csv is packed with method {method}: zip it again with"):
        check_archive(path)


def test_two_members_of_one_name_have_to_be_equal(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", [GOOD])
    name = member_name("train", "full")
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr(name, file.read(name))
    check_archive(path)
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr(name, b"another")
    with pytest.raises(DataError, match=r"bert_train_data\.csv is there twice, with different contents"):
        check_archive(path)


def test_a_vocabulary_may_come_from_windows(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", [GOOD])
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("bert_dataset/vocab.txt", "\ufeff" + "\r\n".join(WORDS) + "\r\n")
    with open_archive(path) as archive:
        tokenizer = archive.tokenizer()
    assert tokenizer is not None
    assert tokenizer.tokens(range(tokenizer.vocab_size)) == WORDS


@pytest.mark.parametrize(
    ("name", "content"), [("vocab.txt", b"\xff"), ("dataset.json", b"\xff"), ("dataset.json", b"[" * 100_000)]
)
def test_facts_that_cannot_be_read_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = write_zip(tmp_path / "x.zip", [GOOD])
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(f"bert_dataset/{name}", content)
    with open_archive(path) as archive:
        read = archive.tokenizer if name == "vocab.txt" else archive.facts
        with pytest.raises(DataError, match=f"bert_dataset/{name} is not "):
            read()


@pytest.mark.parametrize("facts", ["[]", "{}", '{"labels_are_true": "yes"}'])
def test_only_a_plain_true_makes_labels_true(tmp_path: Path, facts: str) -> None:
    path = write_zip(tmp_path / "x.zip", [GOOD])
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("bert_dataset/dataset.json", facts)
    with open_archive(path) as archive:
        assert archive.facts().labels_are_true is False


def test_a_member_that_would_fill_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "_LARGE", 10_000)
    bomb = write_zip(tmp_path / "x.zip", [GOOD], csv_text([["x" * 1_000_000, *GOOD[1:]]]))
    with pytest.raises(
        DataError, match=r"bert_test_data.*csv would grow from [\d,]+ to 1,000,\d+ bytes, more than 200"
    ):
        check_archive(bomb)


def test_names_that_climb_out_of_the_zip_are_never_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = write_zip(tmp_path / "in" / "x.zip", [GOOD])
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("../../climbed.csv", "x")
        file.writestr("/tmp/bertpipe-climbed.csv", "x")
    check_archive(path)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["in", "x.zip"]
