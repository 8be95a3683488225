"""Many rows at once: the same rows and the same faults as one by one."""

import io
import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertpipe.sources.notebook import columns
from bertpipe.sources.notebook.columns import RowColumns, parse_id_lists, read_block
from bertpipe.sources.notebook.csv_reader import MemberReader
from bertpipe.sources.notebook.row import PairRow, RowFault, parse_row
from datasets import GOOD, Fields, csv_text, row_fields
from test_rows import BAD

VOCAB = 19


def read_all(rows: list[Fields], vocab_size: int | None) -> tuple[RowColumns, dict[int, str]]:
    (block,) = MemberReader(io.BytesIO(csv_text(rows).encode("utf-8")), "some.csv").blocks()
    found, faults = read_block(block, vocab_size)
    return found, {place: f"{fault.column}: {fault.reason}" for place, fault in faults}


def one_by_one(rows: list[Fields], vocab_size: int | None) -> tuple[list[PairRow], dict[int, str]]:
    good, faults = [], {}
    for place, row in enumerate(rows):
        try:
            good.append(parse_row(row, vocab_size))
        except RowFault as fault:
            faults[place] = f"{fault.column}: {fault.reason}"
    return good, faults


def as_rows(found: RowColumns) -> list[dict[str, Any]]:
    ends = found.offsets
    return [
        {
            "text": found.texts[row],
            "inputs": found.inputs[ends[row] : ends[row + 1]].tolist(),
            "labels": found.labels[ends[row] : ends[row + 1]].tolist(),
            "second_segment_start": int(found.second_segment_start[row]),
            "is_next": bool(found.is_next[row]),
        }
        for row in range(len(found))
    ]


@st.composite
def fields(draw: st.DrawFn) -> list[str]:
    """Draw a row that is right, or nearly so: one change to what it says, or to how it is written."""
    first, second = draw(st.lists(st.integers(3, 20), max_size=4)), draw(st.lists(st.integers(3, 20), max_size=4))
    inputs = [1, *first, 2, *[0] * draw(st.integers(0, 2)), *second, 2, *[0] * draw(st.integers(0, 2))]
    end = inputs.index(2)
    segments = [0 if token == 0 else 1 + (at > end) for at, token in enumerate(inputs)]
    labels = [draw(st.integers(0, 9)) if token > 2 and draw(st.booleans()) else 0 for token in inputs]
    lists = [inputs, labels, segments]
    if draw(st.booleans()):
        values = draw(st.sampled_from(lists))
        place = draw(st.integers(0, len(values) - 1))
        values[place : place + draw(st.integers(0, 1))] = draw(st.lists(st.integers(-1, 20), max_size=1))
    row = row_fields(*lists, draw(st.integers(0, 1)), draw(st.sampled_from(["A text.", "é", "", "a\0", "x\U0010ffe9"])))
    if draw(st.booleans()):
        column = draw(st.integers(1, 4))
        text = row[column]
        place = draw(st.integers(0, len(text)))
        row[column] = (
            text[:place]
            + draw(st.sampled_from(["", " ", ",", "0", "1", "[", "]", "-", "."]))
            + (text[place + draw(st.integers(0, 1)) :])
        )
    return row


@pytest.mark.thorough
@settings(max_examples=500)
@given(st.lists(fields(), min_size=1, max_size=6), st.sampled_from([None, VOCAB]))
def test_rows_read_at_once_are_the_rows_read_one_by_one(rows: list[Fields], vocab_size: int | None) -> None:
    found, faults = read_all(rows, vocab_size)
    expected, expected_faults = one_by_one(rows, vocab_size)
    assert as_rows(found) == [asdict(row) for row in expected]
    assert faults == expected_faults


@pytest.mark.parametrize("row", [fields for fields, _, _ in BAD], ids=lambda value: None)
def test_a_bad_row_has_the_same_fault_at_once(row: Fields) -> None:
    _, expected = one_by_one([GOOD, row], VOCAB)
    found, faults = read_all([GOOD, row], VOCAB)
    assert (len(found), faults) == (1, expected)
    assert faults


def test_rows_as_the_notebook_writes_them_need_no_python_step_each(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> PairRow:
        raise AssertionError

    monkeypatch.setattr(columns, "parse_row", refuse)
    other = row_fields([1, 100686, 2, 0, 6, 3, 2], [0, 5, 0, 0, 0, 8, 0], [1, 1, 1, 0, 2, 2, 2], 0, "é\n")
    found, faults = read_all([GOOD, other, GOOD], None)
    assert (len(found), faults) == (3, {})


NUMBERS = st.one_of(
    st.integers(0, 20), st.sampled_from([99, 100, 100_686, 2**20 - 1, 2**20, 999_999_999, 1_000_000_000, 2**31])
)


@given(st.lists(st.lists(NUMBERS, max_size=4), min_size=1, max_size=5))
def test_plain_lists_of_ids_are_read(rows: list[list[int]]) -> None:
    text = [json.dumps(row).encode("ascii") for row in rows]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in text])])
    lists = parse_id_lists(np.frombuffer(b"".join(text), dtype=np.uint8), offsets)
    for number, row in enumerate(rows):
        assert lists.plain[number] == (row != [] and max(row) < 10**9)
        if lists.plain[number]:
            assert lists.ids[lists.offsets[number] : lists.offsets[number + 1]].tolist() == row


@pytest.mark.parametrize(
    "row", ["[1,2]", "[1,  2]", "[ 1, 2]", "[1, 2,]", "[,1 2]", "[01]", "[-1]", "[1.0]", "1, 2", "[1, 2", "[]", "[1] "]
)
def test_lists_written_otherwise_are_left_to_others(row: str) -> None:
    text = f"[5, 6]{row}[7]".encode("ascii")
    lists = parse_id_lists(np.frombuffer(text, dtype=np.uint8), np.array([0, 6, 6 + len(row), len(text)]))
    assert lists.plain.tolist() == [True, False, True]
