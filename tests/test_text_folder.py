"""A folder of text: its files in a fixed order, and none of them passed over."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bertpipe.core.errors import DataError
from bertpipe.core.params import TextFormat
from bertpipe.sources.text.documents import text_size
from bertpipe.sources.text.documents.streams import CountedFile, ignore_bytes
from texts import documents, gz, json_lines, places, texts, write, write_files, zst


@contextmanager
def unprivileged() -> Iterator[None]:
    """Be nobody for a while: root may read everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_file_is_a_document_and_order_is_that_of_the_names_bytes(tmp_path: Path) -> None:
    names = ["a/b.txt", "a-b.txt", "a.txt", "B.txt", "a/a/z.txt", "é.txt", "z.txt", "10.txt", "9.txt", "a0.txt"]
    folder = write_files(tmp_path / "texts", {name: f" {name}\n\nmore\n".encode() for name in names})
    expected = ["10.txt", "9.txt", "B.txt", "a-b.txt", "a.txt", "a/a/z.txt", "a/b.txt", "a0.txt", "z.txt", "é.txt"]
    assert places(folder) == [(f"texts/{name}", f" {name}\n\nmore\n", None) for name in expected]
    assert expected == sorted(names, key=str.encode)


def test_each_file_is_read_by_its_suffix(tmp_path: Path) -> None:
    folder = write_files(
        tmp_path / "texts",
        {
            "a.TXT": b"a\n\na",
            "b.md": b"b",
            "c.text.gz": gz(b"c\n\nc"),
            "d.jsonl": json_lines("d1", "d2"),
            "e.ndjson.zst": zst(json_lines("e1", "e2")),
            "empty.txt": b"",
        },
    )
    assert places(folder) == [
        ("texts/a.TXT", "a\n\na", None),
        ("texts/b.md", "b", None),
        ("texts/c.text.gz", "c\n\nc", None),
        ("texts/d.jsonl:1", "d1", None),
        ("texts/d.jsonl:2", "d2", None),
        ("texts/e.ndjson.zst:1", "e1", None),
        ("texts/e.ndjson.zst:2", "e2", None),
    ]


@pytest.mark.parametrize(
    ("text_format", "expected"),
    [
        ("file", [("texts/a", "1\n2\n\n3", None), ("texts/b.html", "4", None)]),
        ("blocks", [("texts/a:1", "1\n2", None), ("texts/a:4", "3", None), ("texts/b.html:1", "4", None)]),
        (
            "lines",
            [
                ("texts/a:1", "1", None),
                ("texts/a:2", "2", None),
                ("texts/a:4", "3", None),
                ("texts/b.html:1", "4", None),
            ],
        ),
    ],
)
def test_a_format_that_is_given_reads_files_of_any_name(
    tmp_path: Path, text_format: TextFormat, expected: list[tuple[str, str, str | None]]
) -> None:
    assert places(write_files(tmp_path / "texts", {"a": b"1\n2\n\n3", "b.html": b"4"}), text_format) == expected


def test_with_auto_a_file_that_may_be_no_text_is_an_error(tmp_path: Path) -> None:
    names = ["a.pdf", "b", "c.csv.gz", "d.JPG", "e\n.x", "f.bin"]
    folder = write_files(tmp_path / "texts", {"0.txt": b"text", **dict.fromkeys(names, b"x")})
    with pytest.raises(DataError) as caught:
        documents(folder)
    assert str(caught.value) == (
        f"{folder} holds a.pdf, b, c.csv.gz, d.JPG, e\\n.x and 1 more beside text; with text_format auto .txt, .text, "
        ".md, .jsonl, .ndjson and .gz, .zst, .bz2 or .xz of these are read: take the others away, or set "
        "text_format to read every file whatever its name"
    )


@pytest.mark.parametrize("text_format", ["auto", "file"])
@pytest.mark.parametrize("name", ["x.zip", "d/x.tar", "x.tar.gz", "x.TGZ", "x.tar.zst", "x.zip.gz"])
def test_an_archive_within_is_an_error(tmp_path: Path, name: str, text_format: TextFormat) -> None:
    folder = write_files(tmp_path / "texts", {"0.txt": b"text", name: b"x"})
    with pytest.raises(DataError) as caught:
        documents(folder, text_format)
    assert str(caught.value) == f"{folder} holds {name} within: unpack it first, or read it by itself"


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    hidden = [".DS_Store", ".git/x.txt", "__MACOSX/x.txt", "a/.hidden.txt", "a/__MACOSX/._x.txt"]
    folder = write_files(tmp_path / ".texts", {"a/x.txt": b"text", **dict.fromkeys(hidden, b"\xff")})
    assert texts(folder) == ["text"]
    assert text_size(folder) == 4


def test_links_are_followed_and_go_in_no_circle(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "texts", {"b/x.txt": b"x", "b/c/y.txt": b"y"})
    write(tmp_path / "outside.txt", b"outside")
    write_files(tmp_path / "more", {"z.txt": b"z"})
    (folder / "b/up").symlink_to(folder)
    (folder / "b/self").symlink_to(".")
    (folder / "a.txt").symlink_to(tmp_path / "outside.txt")
    (folder / "d").symlink_to(tmp_path / "more")
    (folder / "e").symlink_to(tmp_path / "more")
    assert places(folder) == [
        ("texts/a.txt", "outside", None),
        ("texts/b/c/y.txt", "y", None),
        ("texts/b/x.txt", "x", None),
        ("texts/d/z.txt", "z", None),
    ]


@pytest.mark.parametrize("target", ["nothing", "broken.txt"])
def test_a_link_to_nothing_or_to_itself_is_named(tmp_path: Path, target: str) -> None:
    (tmp_path / "broken.txt").symlink_to(target)
    with pytest.raises(DataError, match=r"broken\.txt cannot be read \(.*\): check the file and your rights to it"):
        documents(tmp_path)


def test_what_may_not_be_read_is_named() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = write_files(Path(name), {"file/x.txt": b"a", "folder/y.txt": b"b"})
        folder.chmod(0o755)
        for path in (folder / "file" / "x.txt", folder / "folder"):
            path.chmod(0)
        with unprivileged():
            for path, denied in {
                folder / "file" / "x.txt": folder / "file" / "x.txt",
                folder / "file": folder / "file" / "x.txt",
                folder / "folder": folder / "folder",
                folder / "folder" / "y.txt": folder / "folder" / "y.txt",
            }.items():
                with pytest.raises(DataError) as caught:
                    documents(path)
                expected = f"{denied} cannot be read (Permission denied): check the file and your rights to it"
                assert str(caught.value) == expected
        (folder / "folder").chmod(0o755)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="there is no file here that opens but does not read")
def test_a_file_that_opens_but_does_not_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.symlink_to("/proc/self/mem")
    message = re.escape(f"{path} cannot be read (Input/output error): check the file and your rights to it")
    with pytest.raises(DataError, match=message):
        documents(path)
    with CountedFile(path, ignore_bytes) as file, pytest.raises(DataError, match=message):
        file.read(1)


def test_a_name_that_is_not_utf8_can_be_shown(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    with open(folder + b"/caf\xe9.txt", "wb") as file:  # noqa: PTH123 - a name as bytes
        file.write(b"text")
    assert [document.origin for document in documents(tmp_path)] == [f"{tmp_path}/caf\\udce9.txt"]
    with open(folder + b"/caf\xe9.txt", "wb") as file:  # noqa: PTH123
        file.write(b"\0")
    with pytest.raises(DataError) as caught:
        documents(tmp_path)
    assert str(caught.value).encode("utf-8").startswith(folder + b"/caf\\udce9.txt:1: a NUL character")
