"""One row of the notebook's CSV: checked on the way in, written on the way out."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TextIO

from bertpipe.data.masking import Corruption
from bertpipe.data.pairs import SentencePair
from bertpipe.data.tokenization import CLS_ID, MASK_ID, PAD_ID, SEP_ID
from bertpipe.errors import DataError

COLUMNS = ("Original Text", "BERT Input", "BERT Label", "Segment Label", "Is Next")
_FIRST_SEGMENT, _SECOND_SEGMENT, _PADDING_SEGMENT = 1, 2, 0
_LARGEST_ID = 2**31 - 1
_LARGEST_FIELD = 1 << 27
"""Characters of one field; the csv module's own limit of 131,072 is shorter than long reviews."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """A valid row, without padding: the Parquet contract's columns, and the original text."""

    text: str
    token_ids: list[int]
    second_segment_start: int
    is_next: bool
    masked_positions: list[int]
    masked_inputs: list[int]
    masked_labels: list[int]
    tokens_cut: int
    """Tokens that did not fit into the longest row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A bad row: where it stands and why it was left out. `row` counts data rows from 1, `line` lines of the file."""

    file: str
    row: int
    line: int
    column: str
    reason: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRules:
    """What a row has to obey, and how it is read."""

    vocab_size: int | None
    """Ids are below this; None where the archive declares no vocabulary."""
    max_length: int
    """Tokens of the longest row."""
    labels_are_true: bool
    """Whether every label is the true token; the notebook's own data have random labels among them."""


class RowFault(Exception):  # noqa: N818 - it becomes a Reject, never an error of its own
    """What is wrong with one column of a row."""

    def __init__(self, column: str, reason: str, value: object) -> None:
        super().__init__(reason)
        self.column, self.reason, self.value = column, reason, str(value)


def read_rows(stream: TextIO, file: str, rules: RowRules) -> Iterator[PairRow | Reject]:
    """Yield every data row of a CSV member, as a valid row or as a reject.

    Args:
        stream: the member, opened with `newline=""` and `errors="surrogateescape"`.
        file: its name, for rejects and errors.
        rules: what a row has to obey.

    Raises:
        DataError: the header is not the notebook's, or the file ends within quotes.
    """
    csv.field_size_limit(_LARGEST_FIELD)
    reader = csv.reader(stream, strict=True)
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise DataError(f"{file}, line 1, is not CSV: {error}") from error
    if header is None or tuple(name.removeprefix("\ufeff") for name in header) != COLUMNS:
        raise DataError(f"{file} has the header {header}, expected {list(COLUMNS)}")
    number, line = 0, reader.line_num + 1
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{file}, row {number + 1} (line {line}) is not CSV: {error}") from error
        if fields is None:
            return
        number += 1
        try:
            yield parse_row(fields, rules)
        except RowFault as fault:
            value = fault.value.encode("utf-8", "backslashreplace").decode("utf-8")[:200]
            yield Reject(file=file, row=number, line=line, column=fault.column, reason=fault.reason, value=value)
        line = reader.line_num + 1


def parse_row(fields: Sequence[str], rules: RowRules) -> PairRow:
    """Return the row of five CSV fields, checked in full.

    Padding, which stands after each half, is dropped; a row longer than `rules.max_length` loses tokens from the end
    of its longer half.

    Raises:
        RowFault: the first thing that is wrong.
    """
    if len(fields) != len(COLUMNS):
        raise RowFault("", f"{len(fields)} columns, expected {len(COLUMNS)}", fields)
    text, input_field, label_field, segment_field, next_field = fields
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise RowFault(COLUMNS[0], "not UTF-8", text)
    inputs = _id_list(COLUMNS[1], input_field, rules.vocab_size)
    labels = _id_list(COLUMNS[2], label_field, rules.vocab_size)
    segments = _id_list(COLUMNS[3], f"[{segment_field}]", _SECOND_SEGMENT + 1)
    if not len(inputs) == len(labels) == len(segments):
        raise RowFault(COLUMNS[1], f"{len(inputs)} ids, {len(labels)} labels, {len(segments)} segments", input_field)
    if next_field not in {"0", "1"}:
        raise RowFault(COLUMNS[4], "neither 0 nor 1", next_field)
    first_end = _check_layout(inputs, labels, segments)
    kept = [index for index, token_id in enumerate(inputs) if token_id != PAD_ID]
    whole_length = len(kept)
    kept, second_start = _cut(kept, first_end + 1, rules.max_length)
    masked = [at for at, index in enumerate(kept) if labels[index] != 0 or inputs[index] == MASK_ID]
    token_ids = [inputs[index] for index in kept]
    masked_inputs = [token_ids[at] for at in masked]
    masked_labels = [labels[kept[at]] for at in masked]
    if rules.labels_are_true:
        for at, label in zip(masked, masked_labels, strict=True):
            token_ids[at] = label or token_ids[at]
    return PairRow(
        text=text,
        token_ids=token_ids,
        second_segment_start=second_start,
        is_next=next_field == "1",
        masked_positions=masked,
        masked_inputs=masked_inputs,
        masked_labels=masked_labels,
        tokens_cut=whole_length - len(kept),
    )


def csv_fields(text: str, pair: SentencePair, corruption: Corruption) -> list[str]:
    """Return the five CSV fields of a pair, padded in the middle as the notebook's data are.

    Args:
        text: the document the pair comes from.
        pair: the true tokens.
        corruption: masks over `[CLS] A [SEP] B [SEP]`.
    """
    token_ids = pair_tokens(pair.first, pair.second)
    labels = [token_id if chosen else 0 for token_id, chosen in zip(token_ids, corruption.chosen.tolist(), strict=True)]
    split = len(pair.first) + 2
    width = max(split, len(token_ids) - split)
    inputs = corruption.inputs.tolist()

    def padded(values: list[int]) -> list[int]:
        halves = values[:split], values[split:]
        return list(chain.from_iterable([*half, *[0] * (width - len(half))] for half in halves))

    segments = padded([_FIRST_SEGMENT] * split + [_SECOND_SEGMENT] * (len(token_ids) - split))
    segment_field = ",".join(str(segment) for segment in segments)
    return [
        text,
        json.dumps(padded(inputs)),
        json.dumps(padded(labels)),
        segment_field,
        str(int(pair.is_next)),
    ]


def csv_text(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the header and the rows of a CSV member, line by line."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    for row in chain((COLUMNS,), rows):
        writer.writerow(row)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def pair_tokens(first: Sequence[int], second: Sequence[int]) -> list[int]:
    """Return `[CLS] A [SEP] B [SEP]`."""
    return [CLS_ID, *first, SEP_ID, *second, SEP_ID]


def _id_list(column: str, field: str, limit: int | None) -> list[int]:
    try:
        values = json.loads(field)
    except (ValueError, RecursionError) as error:
        raise RowFault(column, f"not a JSON list: {error}", field) from error
    if not isinstance(values, list):
        raise RowFault(column, "not a JSON list", field)
    if any(type(value) is not int for value in values):
        raise RowFault(column, "holds something that is not an integer", field)
    top = _LARGEST_ID if limit is None else limit - 1
    if values and not (min(values) >= 0 and max(values) <= top):
        wrong = next(value for value in values if not 0 <= value <= top)
        raise RowFault(column, f"{wrong} is not in 0 to {top}", field)
    return values


def _check_layout(inputs: list[int], labels: list[int], segments: list[int]) -> int:
    """Return how many real tokens `[CLS] A [SEP]` has, less one, after checking the row's layout."""
    real = [(token_id, segment) for token_id, segment in zip(inputs, segments, strict=True) if token_id != PAD_ID]
    tokens = [token_id for token_id, _ in real]
    if tokens.count(SEP_ID) != 2 or tokens.count(CLS_ID) != 1 or tokens[0] != CLS_ID or tokens[-1] != SEP_ID:  # noqa: PLR2004
        raise RowFault(COLUMNS[1], "not of the form [CLS] A [SEP] B [SEP]", inputs)
    first_end = tokens.index(SEP_ID)
    expected = [_FIRST_SEGMENT] * (first_end + 1) + [_SECOND_SEGMENT] * (len(tokens) - first_end - 1)
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


def _cut(kept: list[int], second_start: int, max_length: int) -> tuple[list[int], int]:
    """Return the indices that fit into `max_length` and where B starts among them."""
    first, second = kept[: second_start - 1], kept[second_start:-1]  # without their [SEP]
    first_separator, second_separator = kept[second_start - 1], kept[-1]
    while len(first) + len(second) + 2 > max_length:
        longer = first if len(first) - 1 > len(second) else second  # [CLS] is not a token of A
        longer.pop()
    return [*first, first_separator, *second, second_separator], len(first) + 1
