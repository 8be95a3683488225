"""One row of the notebook's CSV, checked."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from bertpipe.data.tokenization.tokenizer import CLS_ID, PAD_ID, SEP_ID
from bertpipe.sources.notebook.csv_reader import COLUMNS, unmarked

FIRST_SEGMENT, SECOND_SEGMENT, _PADDING_SEGMENT = 1, 2, 0
EMPTY_LINE = "an empty line"
LARGEST_ID = 2**20 - 1
"""For a zip without a vocabulary: each id up to the largest gets a name, and all names have to fit into memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """A valid row `[CLS] A [SEP] B [SEP]`, without its padding."""

    text: str
    inputs: list[int]
    """What the model reads, masks included."""
    labels: list[int]
    """What it should predict at each position; 0 where nothing is asked."""
    second_segment_start: int
    is_next: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A bad row: where it is and why it was left out. `row` counts data rows from 1, `line` the lines of the file."""

    file: str
    row: int
    line: int
    column: str
    reason: str
    value: str


class RowFault(Exception):  # noqa: N818 - it becomes a Reject, never an error that a user sees
    """What is wrong with one column of a row."""

    def __init__(self, column: str, reason: str, value: object) -> None:
        super().__init__(reason)
        self.column, self.reason, self.value = column, reason, str(value)


def parse_row(fields: Sequence[str], vocab_size: int | None) -> PairRow:
    """Return the row of five CSV fields, fully checked and without the padding after each half.

    Args:
        fields: in the order of `COLUMNS`.
        vocab_size: ids are below this; None where the vocabulary is unknown.

    Raises:
        RowFault: the first thing that is wrong.
    """
    text, input_field, label_field, segment_field, next_field = fields
    if not any(fields):
        raise RowFault("", EMPTY_LINE, "")
    if (shown := unmarked(text)) is not None:
        raise RowFault(COLUMNS[0], "not UTF-8", shown)
    if "\0" in text:
        raise RowFault(COLUMNS[0], "holds a NUL character", text)
    inputs = _id_list(COLUMNS[1], input_field, vocab_size)
    labels = _id_list(COLUMNS[2], label_field, vocab_size)
    segments = _id_list(COLUMNS[3], f"[{segment_field}]", SECOND_SEGMENT + 1)
    if not len(inputs) == len(labels) == len(segments):
        raise RowFault(COLUMNS[1], f"{len(inputs)} ids, {len(labels)} labels, {len(segments)} segments", input_field)
    if next_field not in {"0", "1"}:
        raise RowFault(COLUMNS[4], "neither 0 nor 1", next_field)
    first_end = _check_layout(inputs, labels, segments)
    kept = [index for index, token_id in enumerate(inputs) if token_id != PAD_ID]
    return PairRow(
        text=text,
        inputs=[inputs[index] for index in kept],
        labels=[labels[index] for index in kept],
        second_segment_start=first_end + 1,
        is_next=next_field == "1",
    )


def _id_list(column: str, field: str, limit: int | None) -> list[int]:
    try:
        values = json.loads(field)
    except (ValueError, RecursionError) as error:
        raise RowFault(column, f"not a JSON list: {error}", field) from error
    if not isinstance(values, list):
        raise RowFault(column, "not a JSON list", field)
    if any(type(value) is not int for value in values):
        raise RowFault(column, "holds something that is not an integer", field)
    top = LARGEST_ID if limit is None else limit - 1
    if values and not (min(values) >= 0 and max(values) <= top):
        wrong = next(value for value in values if not 0 <= value <= top)
        raise RowFault(column, f"{wrong} is not in 0 to {top}", field)
    return values


def _check_layout(inputs: list[int], labels: list[int], segments: list[int]) -> int:
    """Check the layout of a row and return the place of its first `[SEP]`, not counting padding."""
    real = [(token_id, segment) for token_id, segment in zip(inputs, segments, strict=True) if token_id != PAD_ID]
    tokens = [token_id for token_id, _ in real]
    if tokens.count(SEP_ID) != 2 or tokens.count(CLS_ID) != 1 or tokens[0] != CLS_ID or tokens[-1] != SEP_ID:  # noqa: PLR2004
        raise RowFault(COLUMNS[1], "not of the form [CLS] A [SEP] B [SEP]", inputs)
    first_end = tokens.index(SEP_ID)
    expected = [FIRST_SEGMENT] * (first_end + 1) + [SECOND_SEGMENT] * (len(tokens) - first_end - 1)
    if [segment for _, segment in real] != expected:
        raise RowFault(COLUMNS[3], "not 1 for [CLS] A [SEP] and 2 for B [SEP]", segments)
    for index, token_id in enumerate(inputs):
        if token_id == PAD_ID and segments[index] != _PADDING_SEGMENT:
            raise RowFault(COLUMNS[3], f"segment {segments[index]} at padding, position {index}", segments)
        if token_id == PAD_ID and labels[index] != 0:
            raise RowFault(COLUMNS[2], f"label {labels[index]} at padding, position {index}", labels)
        if token_id in {CLS_ID, SEP_ID} and labels[index] != 0:
            raise RowFault(COLUMNS[2], f"label {labels[index]} at [CLS] or [SEP], position {index}", labels)
    return first_end
