"""A CSV member, block by block: its rows, their numbers, and what is wrong with its form."""

import io
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertpipe.core.errors import DataError
from bertpipe.sources.notebook import csv_reader
from bertpipe.sources.notebook.csv_reader import COLUMNS, Block, MemberReader, Utf8Source, lines_of_rows, unmarked
from datasets import GOOD, Fields, csv_text


def read(content: bytes | str) -> tuple[list[Block], MemberReader]:
    data = content.encode("utf-8") if isinstance(content, str) else content
    reader = MemberReader(io.BytesIO(data), "some.csv")
    return list(reader.blocks()), reader


def rows_of(content: bytes | str) -> dict[int, list[str]]:
    blocks, _ = read(content)
    return {int(block.row[place]): block.fields(place) for block in blocks for place in range(len(block.row))}


FIELD = st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0x10FEFF), max_size=8)


@given(st.lists(st.lists(FIELD, min_size=5, max_size=5), max_size=6), st.integers(7, 60))
def test_what_is_written_reads_back_whatever_the_block(rows: list[list[str]], block: int) -> None:
    longest = max((len(csv_text([row]).encode("utf-8")) for row in rows), default=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_reader, "_BLOCK_BYTES", longest + block)
        assert rows_of(csv_text(rows)) == dict(enumerate(rows, start=1))


def test_rows_without_five_fields_are_set_aside_and_the_others_keep_their_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [GOOD, ["a", "b"], GOOD, [*GOOD, "more"], GOOD, GOOD, ["x"]]
    monkeypatch.setattr(csv_reader, "_BLOCK_BYTES", 2 * len(csv_text([GOOD])))
    blocks, reader = read(csv_text(rows))
    assert np.concatenate([block.row for block in blocks]).tolist() == [1, 3, 5, 6]
    assert [(bad.row, bad.columns) for bad in reader.misshapen] == [(2, 2), (4, 6), (7, 1)]
    assert reader.misshapen[0].text == "a,b"


def test_a_blank_line_is_a_row_of_empty_fields() -> None:
    assert rows_of(csv_text([GOOD]) + "\r\n" + csv_text([GOOD]).split("\r\n", 1)[1])[2] == [""] * 5


def test_lines_are_counted_as_editors_do() -> None:
    text = csv_text([["two\r\nlines", *GOOD[1:]], GOOD, ["x\ny\nz", *GOOD[1:]], ["short"], GOOD])
    assert lines_of_rows(io.BytesIO(text.encode("utf-8")), {1, 3, 4, 5}) == {1: 2, 3: 5, 4: 8, 5: 9}


def test_a_byte_order_mark_is_no_part_of_the_header() -> None:
    assert rows_of("\ufeff" + csv_text([GOOD])) == {1: GOOD}


def test_bytes_that_are_not_utf8_are_marked_in_their_row_alone() -> None:
    content = csv_text([GOOD, ["caf#", *GOOD[1:]], GOOD]).encode("utf-8").replace(b"#", b"\xe9")
    rows = rows_of(content)
    assert unmarked(rows[2][0]) == "caf\\xe9"
    assert rows[1] == rows[3] == GOOD


def test_a_short_row_that_is_not_utf8_is_set_aside_too() -> None:
    _, reader = read(csv_text([GOOD]).encode("utf-8") + b"\xff\xfe,x\r\n")
    assert [bad.row for bad in reader.misshapen] == [2]


@pytest.mark.parametrize("header", [COLUMNS[:-1], [*COLUMNS, "More"], ["Text", *COLUMNS[1:]], []])
def test_other_columns_are_refused(header: Fields) -> None:
    with pytest.raises(DataError, match=r"some\.csv has the header .*, and the notebook's is Original Text,"):
        read(csv_text([GOOD], header))


@pytest.mark.parametrize("content", ["", "\r\n", '"Original Text,BERT Input', "\0\0\0"])
def test_a_file_without_header_is_refused(content: str) -> None:
    with pytest.raises(DataError, match=r"some\.csv has the header"):
        read(content)


@pytest.mark.parametrize("end", ["", "\r\n"])
def test_a_file_without_rows_is_read(end: str) -> None:
    assert rows_of(",".join(COLUMNS) + end) == {}


@pytest.mark.parametrize(
    ("rest", "place"),
    [
        ('"never closed,[1]\r\nmore\r\n', "at row 3"),
        ('Text,"[1]","[0]","1",1"\r\n', "after row 3"),
        ('Text,"[1]","[0]","1,1', "at row 3"),
    ],
)
def test_a_quote_that_is_never_closed_is_refused(rest: str, place: str) -> None:
    with pytest.raises(DataError, match=rf"some\.csv is not CSV {place}: the number of quotes is odd"):
        read(csv_text([["two\nlines", *GOOD[1:]], GOOD]) + rest)


def test_a_row_longer_than_a_block_names_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_reader, "_BLOCK_BYTES", 4096)
    with pytest.raises(DataError, match=r"some\.csv is not CSV after row 1: a row has more than 4,096 bytes"):
        read(csv_text([GOOD, *[["x" * 3000, *GOOD[1:]]] * 3]).replace("x" * 3000, "x" * 20_000, 1) + GOOD[0])


class Trickle(io.BytesIO):
    """A stream that gives a few bytes at a time, cutting characters."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(3, size or 3) if size != -1 else 3)


@given(st.binary(max_size=40), st.integers(1, 9))
def test_a_stream_is_utf8_whatever_its_bytes_and_loses_none(data: bytes, size: int) -> None:
    raw: BinaryIO = Trickle(data)
    source = Utf8Source(raw)
    pieces = []
    while piece := source.read(size):
        pieces.append(piece)
    text = b"".join(pieces).decode("utf-8")
    shown = unmarked(text)
    body = data.removeprefix(b"\xef\xbb\xbf")
    if shown is None:
        assert text.encode("utf-8") == body
    else:
        marks = {chr(0x10FF00 + byte): bytes([byte]) for byte in range(0x80, 0x100)}
        assert b"".join(marks.get(c) or c.encode("utf-8") for c in text) == body
    assert source.quotes == text.count('"')
    assert source.at_end()


class Endless(io.RawIOBase):
    """A member of many rows that nobody has to keep in memory."""

    def __init__(self, size: int) -> None:
        self.given, self._size = 0, size
        self._text = csv_text([GOOD]).encode("utf-8")
        self._row = self._text.split(b"\r\n", 1)[1]

    def read(self, size: int = -1) -> bytes:
        if self.given >= self._size:
            return b""
        first = self._text if not self.given else b""
        chunk = first + self._row * (size // len(self._row))
        self.given += len(chunk)
        return chunk


def test_a_reader_that_is_left_early_stops_reading() -> None:
    raw = Endless(1 << 30)
    blocks = MemberReader(raw, "some.csv").blocks()  # type: ignore[arg-type]
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert raw.given < 1 << 28  # what was read ahead, and no more
