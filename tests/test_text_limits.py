"""Text is read as it comes: a bounded part of it in memory, every byte counted, nothing left open."""

import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bertpipe.core.errors import DataError
from bertpipe.core.params import TextFormat
from bertpipe.sources.notebook.archive import member_name
from bertpipe.sources.notebook.csv_reader import COLUMNS
from bertpipe.sources.text.documents import read_documents, text_size
from bertpipe.sources.text.documents.formats import FORMATS, documents_in
from bertpipe.sources.text.documents.streams import (
    CHUNK,
    FREE_EXPANSION,
    LARGEST_DOCUMENT,
    LARGEST_EXPANSION,
    Expansion,
)
from texts import documents, gz, json_lines, tar, write, write_files, zipped, zst

MIB = 1 << 20
LINES = [random.Random(line).randbytes(1000).hex() for line in range(1500)]
"""3 MB that packing makes half as large, not less."""
BLOCKS = "\n\n".join(LINES).encode()
TEXTS = {f"{n:04}.txt": line.encode() for n, line in enumerate(LINES)}
SOURCES: dict[str, tuple[TextFormat, Callable[[], bytes]]] = {
    "x.txt": ("blocks", lambda: BLOCKS),
    "x": ("lines", lambda: BLOCKS),
    "x.jsonl": ("auto", lambda: json_lines(*LINES)),
    "x.txt.gz": ("auto", lambda: gz(BLOCKS)),
    "x.txt.zst": ("auto", lambda: zst(BLOCKS)),
    "x.zip": ("auto", lambda: zipped(TEXTS)),
    "y.zip": ("lines", lambda: zipped({"x.txt.zst": zst(BLOCKS)})),
    "x.tar": ("auto", lambda: tar(TEXTS)),
    "y.tar": ("lines", lambda: tar({"x.txt.gz": gz(BLOCKS)})),
    "x.tar.gz": ("auto", lambda: gz(tar(TEXTS))),
    "x.tar.zst": ("auto", lambda: zst(tar(TEXTS))),
}


def open_files() -> int:
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - a folder that changes as it is listed


@pytest.mark.parametrize("name", [*SOURCES, "folder"])
def test_documents_come_as_the_bytes_are_read_and_all_bytes_are_told(tmp_path: Path, name: str) -> None:
    text_format: TextFormat = "auto"
    path = tmp_path / name
    if name == "folder":
        write_files(path, TEXTS)
    else:
        text_format, content = SOURCES[name]
        write(path, content())
    told: list[int] = []
    before = open_files()
    reader = read_documents(path, text_format=text_format, field="text", on_bytes=told.append)
    assert next(reader).text == LINES[0]
    assert text_size(path) > 1_500_000
    assert 0 < sum(told) < 400_000
    assert [document.text for document in reader] == LINES[1:]
    assert sum(told) == text_size(path)
    assert open_files() == before


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_stays_open_when_reading_ends_early(tmp_path: Path, name: str) -> None:
    text_format, content = SOURCES[name]
    path = write(tmp_path / name, content())
    before = open_files()
    reader = read_documents(path, text_format=text_format, field="text")
    next(reader)
    assert open_files() == before + 1
    del reader
    assert open_files() == before
    write(path, path.read_bytes()[:100])
    with pytest.raises(DataError):
        documents(path, "jsonl")
    assert open_files() == before


class Endless:
    """Gives its bytes over and over."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.taken = 0

    def read(self, size: int) -> bytes:
        """Return `size` bytes."""
        begin = self.taken % len(self._content)
        self.taken += size
        return (self._content * (size // len(self._content) + 2))[begin : begin + size]


@pytest.mark.parametrize(
    ("text_format", "content", "place"),
    [
        ("file", b"a b\n", "x"),
        ("file", "é".encode(), "x"),
        ("blocks", b"a" * 999 + b"\n", "x:1"),
        ("blocks", b"a", "x:1"),
        ("lines", "é".encode(), "x:1"),
        ("jsonl", b"[", "x:1"),
    ],
)
def test_a_document_without_end_is_not_read_past_the_limit(text_format: TextFormat, content: bytes, place: str) -> None:
    stream = Endless(content)
    with pytest.raises(DataError) as caught:
        list(documents_in(stream, origin="x", file_format=FORMATS[text_format], field="text", split=None))
    assert str(caught.value) == (
        f"{place} has more than 67,108,864 bytes in one document, the limit is 67,108,864: "
        "split it, or set text_format to blocks or lines if it holds many documents"
    )
    assert LARGEST_DOCUMENT < stream.taken <= LARGEST_DOCUMENT + 2 * CHUNK


def test_a_document_at_the_limit_is_read_and_one_above_it_is_told_by_its_size(tmp_path: Path) -> None:
    path = write(tmp_path / "x.txt", b"a" * LARGEST_DOCUMENT)
    assert len(documents(path, "file")[0].text) == LARGEST_DOCUMENT
    assert len(documents(path, "lines")[0].text) == LARGEST_DOCUMENT
    write(path, b"a" * (LARGEST_DOCUMENT + 1))
    told: list[int] = []
    with pytest.raises(DataError, match=r"x\.txt has 67,108,865 bytes in one document, the limit is 67,108,864: split"):
        next(read_documents(path, text_format="file", field="text", on_bytes=told.append))
    assert told == []


@pytest.mark.parametrize("pack", [gz, zst])
def test_the_limit_holds_for_a_packed_document_as_well(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = write(tmp_path / "x.txt.gz", pack(b"a" * (LARGEST_DOCUMENT + 1)))
    path = path.rename(tmp_path / ("x.txt.gz" if pack is gz else "x.txt.zst"))
    for text_format in ("file", "lines"):
        with pytest.raises(DataError, match="has more than 67,108,864 bytes in one document"):
            documents(path, text_format)


def test_a_row_of_the_notebooks_zip_has_the_limit_too(tmp_path: Path) -> None:
    line = b"a" * MIB + b"\n"
    content = ",".join(COLUMNS).encode() + b'\n"' + line * 65 + b'",[],[],1,1\n'
    path = write(
        tmp_path / "x.zip",
        zipped({member_name("train", "full"): content, member_name("test", "full"): b""}),
    )
    with pytest.raises(DataError, match=r", row 1 \(line 2\) has more than 67,108,864 bytes in one document"):
        documents(path)


def test_how_far_a_packed_file_may_expand() -> None:
    small = Expansion("x", packed_size=1)
    small.add(FREE_EXPANSION)
    with pytest.raises(DataError) as caught:
        small.add(1)
    assert str(caught.value) == (
        "x expands from 1 to 100,000,001 bytes and more, the limit is 200 times: "
        "if it is text indeed, unpack it and read the result"
    )
    large = Expansion("x", packed_size=MIB)
    for _ in range(LARGEST_EXPANSION):
        large.add(MIB)
    with pytest.raises(DataError, match="x expands from 1,048,576 to 209,715,201 bytes and more"):
        large.add(1)


def bomb(name: str) -> bytes:
    """Return lines that are fit to be documents, and expand a thousand times."""
    content = (b"a" * (MIB - 1) + b"\n") * 97
    packers: dict[str, Callable[[], bytes]] = {
        "x.txt.gz": lambda: gz(content),
        "x.txt.zst": lambda: zst(content),
        "x.zip": lambda: zipped({"a.txt": content}),
        "x.tar.gz": lambda: gz(tar({"a.txt": content})),
    }
    return packers[name]()


@pytest.mark.parametrize("name", ["x.txt.gz", "x.txt.zst", "x.zip", "x.tar.gz"])
def test_a_bomb_is_stopped(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, bomb(name))
    assert path.stat().st_size < 300_000
    read: list[int] = []
    sizes = (len(document.text) for document in read_documents(path, text_format="lines", field="text"))
    with pytest.raises(
        DataError, match=r" expands from [\d,]+ to 1\d\d,\d\d\d,\d\d\d bytes and more, the limit is 200"
    ):
        read.extend(sizes)
    assert 90_000_000 < sum(read) <= FREE_EXPANSION


def test_a_bomb_is_no_smaller_among_other_members(tmp_path: Path) -> None:
    files = {"a.txt": b"\n".join(line.encode() for line in LINES), "b.txt": (b"a" * (MIB - 1) + b"\n") * 97}
    path = write(tmp_path / "x.zip", zipped(files))
    assert path.stat().st_size * LARGEST_EXPANSION > 200 * MIB
    with pytest.raises(DataError, match=r"x\.zip!b\.txt expands from [\d,]+ to 10\d,\d\d\d,\d\d\d bytes and more"):
        documents(path, "lines")


def test_members_of_a_zip_are_counted_together_too(tmp_path: Path) -> None:
    content = (b"a" * (MIB - 1) + b"\n") * 60
    path = write(tmp_path / "x.zip", zipped({"a.txt": content, "b.txt": content}))
    with pytest.raises(DataError, match=r"x\.zip expands from [\d,]+ to 100,\d\d\d,\d\d\d bytes and more"):
        documents(path, "lines")


def test_text_that_packs_well_is_no_bomb(tmp_path: Path) -> None:
    content = b"a" * 999 + b"\n"
    path = write(tmp_path / "x.zip", zipped({f"{n}.txt": content * 1000 for n in range(20)}))
    with zipfile.ZipFile(path) as archive:
        assert all(info.file_size > 300 * info.compress_size for info in archive.infolist())
    assert len(documents(path, "lines")) == 20_000
