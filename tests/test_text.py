"""One file of text becomes documents, or an error that says where and what to do."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.core.params import TextFormat
from bertpipe.sources.text.documents import Document, read_documents, reading, selection, text_shards
from bertpipe.sources.text.documents.decoding import read_lines
from bertpipe.sources.text.documents.formats import FORMATS, Format, Texts
from bertpipe.sources.text.documents.streams import ByteStream
from texts import documents, gz, json_lines, places, texts, write, write_files, zst

CHUNK = 1 << 16
MIXED = b"\n\n A b\r\nc \r \t\n\n\nD\n"
"""Lines: empty, empty, ` A b`, `c `, white space, empty, empty, `D`."""


@pytest.mark.parametrize(
    ("text_format", "expected"),
    [
        ("file", [("x.txt", "\n\n A b\nc \n \t\n\n\nD\n", None)]),
        ("blocks", [("x.txt:3", " A b\nc ", None), ("x.txt:8", "D", None)]),
        ("lines", [("x.txt:3", " A b", None), ("x.txt:4", "c ", None), ("x.txt:8", "D", None)]),
    ],
)
def test_formats_of_a_text_file(
    tmp_path: Path, text_format: TextFormat, expected: list[tuple[str, str, str | None]]
) -> None:
    assert places(write(tmp_path / "x.txt", MIXED), text_format) == expected


def test_every_name_of_a_format_has_an_entry() -> None:
    assert {"auto", *FORMATS} == set(get_args(TextFormat))


def test_a_format_is_an_entry_of_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` knows its suffix, packed too, and a shard of a folder can be read in it."""

    def columns(stream: ByteStream, origin: str, field: str) -> Texts:
        for number, line in read_lines(stream, origin):
            yield number, line.split(",")[int(field)]

    monkeypatch.setitem(FORMATS, "lines", Format(read=columns, suffixes=(".csv",)))
    for module in (reading, selection):
        monkeypatch.setattr(module, "READ_SUFFIXES", (".txt", ".csv"))
    content = b"a,b\nc,d\n"
    assert places(write(tmp_path / "x.csv.gz", gz(content)), field="1") == [
        ("x.csv.gz:1", "b", None),
        ("x.csv.gz:2", "d", None),
    ]
    folder = write_files(tmp_path / "text", {"x.csv": content, "y.txt": b"e,f\n"})
    assert texts(folder, field="1") == ["b", "d", "e,f\n"]
    shards = text_shards(folder, text_format="auto", field="0", as_files=True)
    assert [[each.text for each in shard.documents()] for shard in shards] == [["a", "c"], ["e,f\n"]]


def test_json_lines_give_one_field_of_each_object(tmp_path: Path) -> None:
    lines = (
        b'{"id": 1, "text": "a\\r\\nb\\rc", "more": {"text": "no"}}\n'
        b" \t\r\n"
        b'\t{"text": "  "}\n'
        b'{"text": "\\u00e9\xc3\xa9\\ud83d\\ude00", "id": ' + b"9" * 5000 + b"}"
    )
    assert places(write(tmp_path / "x.jsonl", lines)) == [
        ("x.jsonl:1", "a\nb\nc", None),
        ("x.jsonl:4", "éé\U0001f600", None),
    ]


def test_another_field_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", json_lines("a", "b", field="body text"))
    assert texts(path, field="body text") == ["a", "b"]


@pytest.mark.parametrize("name", ["x.txt", "x", "x.md", "x.tokens", "X.TXT", "x.json.old"])
def test_auto_reads_a_single_text_file_of_any_name_as_blocks(tmp_path: Path, name: str) -> None:
    assert texts(write(tmp_path / name, b"a\nb\n\nc")) == ["a\nb", "c"]


@pytest.mark.parametrize("name", ["x.jsonl", "x.ndjson", "x.JSONL"])
def test_auto_knows_json_lines_by_their_name(tmp_path: Path, name: str) -> None:
    assert texts(write(tmp_path / name, json_lines("a", "b"))) == ["a", "b"]


@pytest.mark.parametrize("name", ["x.json", "x.CSV", "x.tsv", "x.json.gz"])
def test_auto_does_not_take_tables_for_prose(tmp_path: Path, name: str) -> None:
    content = json_lines("a")
    path = write(tmp_path / name, gz(content) if name.endswith(".gz") else content)
    with pytest.raises(DataError, match="is not read as prose; set text_format to jsonl if each line"):
        documents(path)
    assert texts(path, "jsonl") == ["a"]
    assert texts(path, "lines") == ['{"text": "a"}']


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gz), (".zst", zst), (".GZ", gz)])
def test_a_packed_file_reads_as_what_it_holds(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    write(tmp_path / f"x.txt{suffix}", pack(MIXED))
    write(tmp_path / f"x.jsonl{suffix}", pack(json_lines("a\n", "b")))
    assert places(tmp_path / f"x.txt{suffix}") == [
        (f"x.txt{suffix}:3", " A b\nc ", None),
        (f"x.txt{suffix}:8", "D", None),
    ]
    assert texts(tmp_path / f"x.jsonl{suffix}") == ["a\n", "b"]


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gz), (".zst", zst)])
def test_joined_packed_files_read_as_one(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path = write(tmp_path / f"x.txt{suffix}", pack(b"a\n") + pack(b"") + pack(b"b\n\nc"))
    assert texts(path) == ["a\nb", "c"]


@pytest.mark.parametrize("text_format", ["auto", "file", "blocks", "lines", "jsonl"])
@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\t\n\xc2\xa0\n", b"\xef\xbb\xbf"])
def test_a_file_without_text_yields_nothing(tmp_path: Path, content: bytes, text_format: TextFormat) -> None:
    assert documents(write(tmp_path / "x.txt", content), text_format) == []
    assert documents(write(tmp_path / "x.txt.gz", gz(content)), text_format) == []


@pytest.mark.parametrize("text_format", ["file", "blocks", "lines", "jsonl"])
@pytest.mark.parametrize("packed", [False, True])
def test_byte_order_marks_of_joined_files_are_dropped(tmp_path: Path, text_format: TextFormat, packed: bool) -> None:
    one, more = ('{"text": "a"}', '{"text": "\\ufeffb"}') if text_format == "jsonl" else ("a", "b")
    pieces = [f"\ufeff{each}\n\n".encode() for each in (one, more)]
    content = b"".join(gz(piece) for piece in pieces) if packed else b"".join(pieces)
    path = write(tmp_path / ("x.txt.gz" if packed else "x.txt"), content)
    assert "|".join(texts(path, text_format)).strip().replace("\n\n", "|") == "a|b"


def test_a_mark_within_a_line_is_dropped_where_a_piece_had_no_line_end(tmp_path: Path) -> None:
    path = write(tmp_path / "x.txt", ("x" * (CHUNK - 1) + "\ufeffy").encode())  # it is cut by the end of a read
    assert texts(path, "lines") == ["x" * (CHUNK - 1) + "y"]


def test_json_objects_on_one_line_are_named_as_joined_files(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", '{"text": "a"}\n{"text": "b"}\ufeff{"text": "c"}\n'.encode())
    with pytest.raises(DataError, match=r"x\.jsonl:2 is not JSON: .*were files joined without a line end"):
        texts(path)


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_every_line_end_ends_a_line_of_json_and_no_other_character_does(tmp_path: Path, end: str) -> None:
    inside = "a\x85b\u2028c\u2029d"
    lines = [json.dumps({"text": f"{inside}{number}"}, ensure_ascii=False) for number in range(3)]
    path = write(tmp_path / "x.jsonl", end.join(lines).encode())
    assert texts(path) == [f"{inside}{number}" for number in range(3)]


def test_only_line_ends_end_lines(tmp_path: Path) -> None:
    inside = "a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g"
    assert texts(write(tmp_path / "x.txt", f"{inside}\n{inside}".encode()), "lines") == [inside, inside]


def test_windows_line_ends_that_were_converted_twice_are_no_empty_lines(tmp_path: Path) -> None:
    content = "One. Two.\n\nThree.\nFour.".replace("\n", "\r\n").replace("\n", "\r\n")
    assert texts(write(tmp_path / "x.txt", content.encode())) == ["One. Two.", "Three.\nFour."]


@pytest.mark.parametrize("before", range(CHUNK - 4, CHUNK + 2))
@pytest.mark.parametrize("returns", range(5))
def test_returns_in_a_row_are_the_same_lines_wherever_a_read_ends(tmp_path: Path, before: int, returns: int) -> None:
    path = write(tmp_path / "x.txt", b"x" * before + b"\r" * returns + b"\ny")
    assert texts(path, "file") == ["x" * before + "\n" * max(1, returns - 1) + "y"]


@pytest.mark.parametrize("before", range(CHUNK - 4, CHUNK + 2))
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
def test_characters_and_line_ends_may_lie_across_reads(tmp_path: Path, before: int, end: str) -> None:
    lines = ["x" * before, "\U0001f600é", "", "y" * 2 * CHUNK, "z"]
    path = write(tmp_path / "x.txt", end.join(lines).encode())
    assert texts(path, "file") == ["\n".join(lines)]
    assert places(path, "lines") == [(f"x.txt:{n}", line, None) for n, line in enumerate(lines, 1) if line]


LATIN = "if it is Latin-1 or Windows-1252, convert it: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
NOT_TEXT = "it is not text, or it is UTF-16 without its mark; that converts: iconv -f UTF-16LE -t UTF-8 OLD > NEW"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ok\r\nbad \xe9t\xe9\n", f"2: byte 0xe9 is not UTF-8 (after 8 bytes); {LATIN}"),
        (b"\xef\xbb\xbfok\n\x80", f"2: byte 0x80 is not UTF-8 (after 6 bytes); {LATIN}"),
        (b"a\xed\xa0\x80", f"1: byte 0xed is not UTF-8 (after 1 bytes); {LATIN}"),
        (b"a\n\nb\xe2\x82", "3: byte 0xe2 is not UTF-8 (after 4 bytes); it ends within a character: is it cut off?"),
        (
            "a\n".encode("utf-16"),
            "1: byte 0xff is not UTF-8 (after 0 bytes); it looks like UTF-16, convert it: "
            "iconv -f UTF-16 -t UTF-8 OLD > NEW",
        ),
        (
            b"\xfe\xff\0a",
            "1: byte 0xfe is not UTF-8 (after 0 bytes); it looks like UTF-16, convert it: "
            "iconv -f UTF-16 -t UTF-8 OLD > NEW",
        ),
        (
            "a".encode("utf-32"),
            "1: byte 0xff is not UTF-8 (after 0 bytes); it looks like UTF-32, convert it: "
            "iconv -f UTF-32 -t UTF-8 OLD > NEW",
        ),
        (b"\xc3\xa9\r\n\rb\0", f"3: a NUL character, which text does not have (after 6 bytes); {NOT_TEXT}"),
        (
            "é".encode("utf-16-le") + b"a\0",
            f"1: byte 0xe9 is not UTF-8 (after 0 bytes); {LATIN}",
        ),
        ("ab".encode("utf-16-le"), f"1: a NUL character, which text does not have (after 1 bytes); {NOT_TEXT}"),
        (
            b"PK\x03\x04\x14\0",
            "1: a NUL character, which text does not have (after 5 bytes); it looks like a zip file, not text: "
            "unpack or convert it, or give it the suffix that says so",
        ),
        (
            gz(b"a"),
            "1: byte 0x8b is not UTF-8 (after 1 bytes); it looks like gzip, not text: "
            "unpack or convert it, or give it the suffix that says so",
        ),
    ],
)
@pytest.mark.parametrize("text_format", ["file", "blocks", "lines", "jsonl"])
def test_what_is_not_text_is_said_with_its_place_and_a_way_out(
    tmp_path: Path, content: bytes, message: str, text_format: TextFormat
) -> None:
    if text_format == "jsonl" and content.startswith((b"ok", b"\xef\xbb\xbfok", b"a\n\n")):
        content = content.replace(b"ok", b"  ").replace(b"a\n\n", b" \n\n")
    path = write(tmp_path / "x.txt", content)
    with pytest.raises(DataError) as caught:
        documents(path, text_format)
    assert str(caught.value) == f"{path}:{message}"


@pytest.mark.parametrize("before", range(CHUNK - 3, CHUNK + 2))
def test_the_place_of_a_bad_byte_counts_all_reads(tmp_path: Path, before: int) -> None:
    content = b"x" * before + "é\r\n".encode() * CHUNK
    path = write(tmp_path / "x.txt", content + b"abc\xff")
    with pytest.raises(DataError) as caught:
        documents(path, "lines")
    assert str(caught.value).startswith(
        f"{path}:{CHUNK + 1}: byte 0xff is not UTF-8 (after {len(content) + 3:,} bytes);"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "a"', "is not JSON: Expecting ',' delimiter: line 1 column 13 (char 12)"),
        (b"{'text': 'a'}", "is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b'{"text": "a"} {}', "is not JSON: Extra data: line 1 column 15 (char 14)"),
        (b"[" * 200_000, "is not JSON: maximum recursion depth exceeded"),
        (b'"text"', "is a string, expected a JSON object with text"),
        (b"[1]", "is a list, expected a JSON object with text"),
        (b"7", "is a number, expected a JSON object with text"),
        (b"null", "is null, expected a JSON object with text"),
        (
            b'{"body": "a", "t\\n": "b"}',
            "has no field 'text', it has 'body', 't\\n': set field to the one that holds the text",
        ),
        (b"{}", "has no field 'text', it has no field at all: set field to the one that holds the text"),
        (
            b"{" + b", ".join(b'"f%d": 1' % i for i in range(11)) + b"}",
            "has no field 'text', it has 'f0', 'f1', 'f2', 'f3', 'f4', 'f5', 'f6', 'f7', 'f8', 'f9', …: "
            "set field to the one that holds the text",
        ),
        (b'{"text": 12}', ": field 'text' is a number, expected a string"),
        (b'{"text": null}', ": field 'text' is null, expected a string"),
        (b'{"text": true}', ": field 'text' is a boolean, expected a string"),
        (b'{"text": ["a"]}', ": field 'text' is a list, expected a string"),
        (b'{"text": {"text": "a"}}', ": field 'text' is an object, expected a string"),
        (b'{"text": "a\\ud800b"}', ": field 'text' holds '\\ud800', which text cannot have: correct or drop the line"),
        (
            b'{"text": "\\ude00\\ud83d"}',
            ": field 'text' holds '\\ude00', which text cannot have: correct or drop the line",
        ),
        (b'{"text": "a\\u0000"}', ": field 'text' holds '\\x00', which text cannot have: correct or drop the line"),
    ],
)
def test_bad_lines_of_json_are_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = write(tmp_path / "x.jsonl", json_lines("first") + b"\n" + line + b"\n")
    reader = read_documents(path, text_format="auto", field="text")
    assert next(reader) == Document(text="first", origin=f"{path}:1", split=None)
    with pytest.raises(DataError) as caught:
        next(reader)
    between = "" if message.startswith(":") else " "
    assert str(caught.value).startswith(f"{path}:3{between}{message}")


def test_a_path_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path / "none.zip", tmp_path / "x.txt" / "none"):
        write(tmp_path / "x.txt", b"a")
        with pytest.raises(MissingInputError) as caught:
            documents(path)
        assert str(caught.value) == f"{path} does not exist: name a text file, a folder or an archive"


def test_what_is_neither_a_file_nor_a_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(DataError, match=r"pipe\.txt is neither a file nor a folder: write what it gives to a file"):
        documents(tmp_path / "pipe.txt")
    with pytest.raises(DataError, match=r"pipe\.txt is neither a file nor a folder: remove it"):
        documents(tmp_path)
