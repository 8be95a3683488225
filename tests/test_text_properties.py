"""What is written reads back in every container; what is broken is an error of ours and nothing else."""

import random
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from bertpipe.core.errors import BertpipeError
from bertpipe.core.params import TextFormat
from bertpipe.sources.text.documents import read_documents, text_size
from bertpipe.sources.text.documents.streams import LARGEST_DOCUMENT
from datasets import GOOD, write_zip
from texts import Files, gz, json_lines, tar, texts, write, write_files, zipped, zst

ANYTHING = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))
LINE = ANYTHING.map(lambda text: text.replace("\n", " ")).filter(str.strip)
BLOCK = st.lists(LINE, min_size=1, max_size=3).map("\n".join)
WHOLE = ANYTHING.filter(str.strip)
LINE_END = st.sampled_from(["\n", "\r\n", "\r", "\r\r\n"])

ONE_FILE: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gz, ".zst": zst}
MANY_FILES: dict[str, Callable[[Files], bytes]] = {
    ".zip": zipped,
    ".tar": tar,
    ".tar.gz": lambda files: gz(tar(files)),
    ".tar.zst": lambda files: zst(tar(files)),
}


def encoded(text: str, line_end: str) -> bytes:
    """Return a file's bytes; a mark before a text that begins with one, which would be taken for the file's."""
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    return (mark + text).replace("\n", line_end).encode("utf-8")


@pytest.mark.parametrize("suffix", ONE_FILE)
@given(st.lists(LINE, max_size=5), st.lists(BLOCK, max_size=5), st.lists(WHOLE, max_size=5), LINE_END)
@examples(max_examples=40)
def test_a_file_of_documents_reads_back(
    suffix: str, lines: list[str], blocks: list[str], anything: list[str], line_end: str
) -> None:
    pack = ONE_FILE[suffix]
    with tempfile.TemporaryDirectory() as name:
        text = write(Path(name) / f"x.txt{suffix}", pack(encoded("\n".join(lines), line_end)))
        assert texts(text, "lines") == lines
        write(text, pack(encoded("\n \n\n".join(blocks), line_end)))
        assert texts(text) == blocks
        json = write(Path(name) / f"x.jsonl{suffix}", pack(json_lines(*anything, field="é")))
        assert texts(json, field="é") == anything


@given(st.lists(WHOLE, max_size=5), LINE_END)
@examples(max_examples=40)
def test_files_of_one_document_read_back_from_every_container(whole: list[str], line_end: str) -> None:
    suffixes = list(ONE_FILE)
    files = {
        f"{n % 2}/{n}.txt{suffixes[n % 3]}": ONE_FILE[suffixes[n % 3]](encoded(text, line_end))
        for n, text in enumerate(whole)
    }
    files = {name: files[name] for name in sorted(files)}
    expected = [*whole[::2], *whole[1::2]]
    with tempfile.TemporaryDirectory() as name:
        assert texts(write_files(Path(name) / "folder", files)) == expected
        for suffix, pack in MANY_FILES.items():
            assert texts(write(Path(name) / f"x{suffix}", pack(files))) == expected


FILES = {
    "a.txt": b"A b c.\n\nD e.\n",
    "d/b.jsonl": json_lines("one", "two"),
    "d/" + "long" * 40 + ".txt": "é\r\nü".encode(),
    "c.txt.gz": gz(b"packed\n" * 50),
    "e.txt.zst": zst(b"packed\n" * 50),
}
TREE = {"aclImdb/train/pos/1.txt": b"x", "aclImdb/README": b"u"}
FORMATS = st.sampled_from(["auto", "auto", "file", "blocks", "lines", "jsonl"])


@cache
def whole_files() -> list[tuple[str, bytes]]:
    """Return names and contents that can be read."""
    with tempfile.TemporaryDirectory() as name:
        notebook = write_zip(Path(name) / "x.zip", [GOOD] * 3).read_bytes()
    packed = [(f"x{suffix}", pack(files)) for suffix, pack in MANY_FILES.items() for files in (FILES, TREE)]
    return [
        *packed,
        ("x.zip", notebook),
        ("x.txt", b"A b c.\r\n\r\nD \xc3\xa9.\n\n\n"),
        ("x.jsonl", json_lines("one", "two\n")),
        ("x.txt.gz", gz(b"A b c.\n\nD" * 40)),
        ("x.txt.zst", zst(b"A b c.\n\nD" * 40)),
    ]


def spoil(content: bytes, seed: int) -> bytes:
    """Return `content` with some bytes changed, cut off, doubled or left out."""
    chance = random.Random(seed)
    spoiled = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 5, 20])):
        at = chance.randrange(len(spoiled) + 1)
        other = chance.randrange(len(spoiled) + 1)
        match chance.randrange(5):
            case 0:
                spoiled[at : at + 1] = chance.randbytes(1)
            case 1:
                del spoiled[at:]
            case 2:
                spoiled[at:at] = chance.randbytes(chance.randrange(8))
            case 3:
                del spoiled[at : at + chance.randrange(600)]
            case 4:
                spoiled[at:at] = spoiled[other : other + chance.randrange(600)]
    return bytes(spoiled)


def with_checksums(content: bytes) -> bytes:
    """Return a tar whose headers have the right checksums: their other fields are then believed."""
    repaired = bytearray(content)
    for at in range(0, len(repaired) - 511, 512):
        if repaired[at + 257 : at + 262] == b"ustar":
            repaired[at + 148 : at + 156] = b" " * 8
            repaired[at + 148 : at + 156] = b"%06o\0 " % sum(repaired[at : at + 512])
    return bytes(repaired)


def check(path: Path, text_format: TextFormat) -> None:
    """Read `path`: what comes is whole documents and the promised bytes, or an error of ours."""
    told: list[int] = []
    fault = ""
    try:
        size = text_size(path)
        for document in read_documents(path, text_format=text_format, field="text", on_bytes=told.append):
            assert document.text.strip()
            assert not {"\0", "\r"} & set(document.text)
            assert len(document.text.encode("utf-8")) <= LARGEST_DOCUMENT
            assert document.origin.startswith(str(path))
    except BertpipeError as error:
        fault = str(error)
    assert fault.startswith(str(path)) if fault else sum(told) == size
    assert fault.isprintable()


@given(st.integers(0, 12), st.integers(0), FORMATS, st.booleans())
@examples(max_examples=1500)
def test_a_spoiled_file_is_documents_or_an_error_of_ours(
    which: int, seed: int, text_format: TextFormat, repaired: bool
) -> None:
    name, content = whole_files()[which]
    content = spoil(content, seed)
    if repaired and name == "x.tar":
        content = with_checksums(content)
    with tempfile.TemporaryDirectory() as folder:
        check(write(Path(folder) / name, content), text_format)


@given(st.sampled_from([name for name, _ in whole_files()]), st.binary(), FORMATS)
@examples(max_examples=500)
def test_bytes_of_any_kind_are_documents_or_an_error_of_ours(
    name: str, content: bytes, text_format: TextFormat
) -> None:
    beginning = next(whole for other, whole in whole_files() if other == name)[:4]
    with tempfile.TemporaryDirectory() as folder:
        check(write(Path(folder) / name, content), text_format)
        check(write(Path(folder) / name, beginning + content), text_format)


def test_the_whole_files_can_be_read(tmp_path: Path) -> None:
    for name, content in whole_files():
        assert texts(write(tmp_path / name, content))
