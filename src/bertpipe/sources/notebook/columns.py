"""Many rows of the notebook's CSV at once: checked like `row.parse_row`, without a Python step per row."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bertpipe.data.ragged import flat_indices
from bertpipe.data.tokenization.tokenizer import CLS_ID, PAD_ID, SEP_ID
from bertpipe.sources.notebook.csv_reader import MARK_LEAD, Block, Column
from bertpipe.sources.notebook.row import LARGEST_ID, PairRow, RowFault, parse_row

_MOST_DIGITS = 9
"""Longer numbers may not fit into 32 bits."""
_ZERO, _COMMA, _OPEN, _CLOSE = (ord(character) for character in "0,[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdLists:
    """The numbers of each row; row r has `ids[offsets[r]:offsets[r + 1]]`."""

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    plain: NDArray[np.bool_]
    """Whether a row is written as `[1, 22, 3]`; of one that is not, `ids` means nothing. Shape [rows]."""


def parse_id_lists(text: NDArray[np.uint8], offsets: NDArray[np.int64]) -> IdLists:
    """Return the numbers of JSON lists in their usual form: at least one number, separated by a comma and one space.

    Args:
        text: the bytes of all rows, one row after the other.
        offsets: where each row begins, and where the last one ends; shape [rows + 1].
    """
    digit = text - _ZERO  # wraps: what stands before "0" becomes large
    is_digit = np.zeros(len(text) + 2, dtype=np.int8)
    is_digit[1:-1] = digit <= 9  # noqa: PLR2004
    edges = np.diff(is_digit)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    widths = ends - starts
    firsts = np.searchsorted(starts, offsets)
    ids = digit[ends - 1].astype(np.int32)
    for place in range(1, min(int(widths.max(initial=1)), _MOST_DIGITS)):
        wide = np.flatnonzero(widths > place)
        ids[wide] += digit[ends[wide] - 1 - place].astype(np.int32) * 10**place
    plain = _are_plain(text, offsets, starts=starts, ends=ends, firsts=firsts)
    return IdLists(ids=ids, offsets=firsts, plain=plain)


def _are_plain(
    text: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    *,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    firsts: NDArray[np.int64],
) -> NDArray[np.bool_]:
    counts = np.diff(firsts)
    lengths = np.diff(offsets)
    plain = (counts > 0) & (lengths > 0)
    rows = np.flatnonzero(plain)
    first, last = firsts[:-1][rows], firsts[1:][rows] - 1
    row_start, row_end = offsets[:-1][rows], offsets[1:][rows]
    plain[rows] &= (text[row_start] == _OPEN) & (text[row_end - 1] == _CLOSE)
    plain[rows] &= (starts[first] == row_start + 1) & (ends[last] == row_end - 1)
    # Between two numbers of a row stand two bytes, a comma and a space; between two rows at least the brackets.
    gaps = starts[1:] - ends[:-1]
    comma, space = text[ends[:-1]], text[np.minimum(ends[:-1] + 1, len(text) - 1)]
    wrong = (gaps != 2) | (comma != _COMMA) | (space != ord(" "))  # noqa: PLR2004
    within = np.ones(len(wrong), dtype=np.bool_)
    borders = firsts[1:-1] - 1
    within[borders[(borders >= 0) & (borders < len(wrong))]] = False
    widths = ends - starts
    zero_led = (widths > 1) & (text[starts] == _ZERO)
    faulty = np.concatenate([np.flatnonzero(wrong & within), np.flatnonzero(zero_led | (widths > _MOST_DIGITS))])
    if len(faulty):
        plain[np.searchsorted(firsts, faulty, side="right") - 1] = False
    return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class RowColumns:
    """Valid rows `[CLS] A [SEP] B [SEP]` without padding; row r has the tokens `offsets[r]` to `offsets[r + 1]`."""

    texts: Column
    inputs: NDArray[np.int32]
    """What the model reads, masks included; shape [tokens]."""
    labels: NDArray[np.int32]
    """What it should predict; 0 where nothing is asked; shape [tokens]."""
    offsets: NDArray[np.int64]
    second_segment_start: NDArray[np.int32]
    is_next: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.is_next)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row; shape [rows]."""
        return np.diff(self.offsets)

    def texts_in_turn(self) -> tuple[list[bytes], NDArray[np.int64]]:
        """Return each text that differs from that of the row before, and the number of each row's text among them."""
        texts: list[bytes] = []
        numbers = np.empty(len(self), dtype=np.int64)
        data = self.texts.data.tobytes()
        for row, (start, end) in enumerate(pairwise(self.texts.offsets.tolist())):
            text = data[start:end]
            if not texts or text != texts[-1]:
                texts.append(text)
            numbers[row] = len(texts) - 1
        return texts, numbers


def read_block(block: Block, vocab_size: int | None) -> tuple[RowColumns, list[tuple[int, RowFault]]]:
    """Return the valid rows of a block, in order, and the faults of the others with their place in the block.

    Rows written as the notebook writes them are checked all at once. `parse_row` decides on any other row.
    """
    fields, lists = block.columns, _id_lists(block.columns)
    plain = np.flatnonzero(_may_be_plain(fields, *lists))
    if len(plain) < len(block.row):
        fields = tuple(column.take(plain) for column in fields)
        lists = _id_lists(fields)
    columns, valid = _read_plain(fields, *lists, vocab_size)
    plain = plain[valid]
    parsed: dict[int, PairRow] = {}
    faults: list[tuple[int, RowFault]] = []
    for row in np.setdiff1d(np.arange(len(block.row)), plain, assume_unique=True).tolist():
        try:
            parsed[row] = parse_row(block.fields(row), vocab_size)
        except RowFault as fault:
            faults.append((row, fault))
    if parsed:
        columns = _in_order(columns, list(parsed.values()), np.array([*plain.tolist(), *parsed], dtype=np.int64))
    return columns, faults


def _id_lists(columns: tuple[Column, ...]) -> tuple[IdLists, IdLists]:
    """Return what stands in the columns `BERT Input` and `BERT Label`."""
    inputs, labels = (parse_id_lists(column.data, column.offsets) for column in columns[1:3])
    return inputs, labels


def _may_be_plain(columns: tuple[Column, ...], inputs: IdLists, labels: IdLists) -> NDArray[np.bool_]:
    """Return which rows have the right number of ids, labels and segments, written as the notebook writes them."""
    text, _, _, segments, is_next = columns
    counts = np.diff(inputs.offsets)
    plain = inputs.plain & labels.plain & (counts == np.diff(labels.offsets))
    plain &= np.diff(segments.offsets) == 2 * counts - 1
    plain &= np.diff(is_next.offsets) == 1
    if len(text.data) and (text.data.min() == 0 or text.data.max() >= MARK_LEAD):
        strange = (text.data == 0) | (text.data >= MARK_LEAD)
        plain[np.searchsorted(text.offsets, np.flatnonzero(strange), side="right") - 1] = False
    result: NDArray[np.bool_] = plain
    return result


def _read_plain(
    columns: tuple[Column, ...], inputs: IdLists, labels: IdLists, vocab_size: int | None
) -> tuple[RowColumns, NDArray[np.bool_]]:
    """Return the rows that are valid, and which these are, of rows that have as many labels and segments as ids."""
    texts, _, _, segment_text, next_text = columns
    ids, targets, offsets = inputs.ids, labels.ids, inputs.offsets
    row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    is_real = ids != PAD_ID
    separators, valid = _separators(ids, is_real, offsets, row)
    # A segment and its comma take two bytes, and the last of a row has no comma.
    places = 2 * np.arange(len(ids)) - row
    first_end = separators[:, 0]
    expected = np.where(is_real, 1 + (np.arange(len(ids)) > first_end[row]), 0).astype(np.uint8)
    wrong = segment_text.data[places] != expected + ord("0")
    wrong |= (targets != 0) & (ids <= SEP_ID)  # [PAD], [CLS] and [SEP] are never asked for
    top = LARGEST_ID if vocab_size is None else vocab_size - 1
    wrong |= (ids > top) | (targets > top)
    valid[row[wrong]] = False
    commas = np.bincount(row, minlength=len(valid)) - 1
    total = np.add.reduceat(segment_text.data == ord(","), segment_text.offsets[:-1]) if len(valid) else commas
    valid &= total == commas
    valid &= (next_text.data == ord("0")) | (next_text.data == ord("1"))
    kept = is_real & valid[row]
    lengths = np.bincount(row[kept], minlength=len(valid))[valid]
    before = np.cumsum(is_real) - is_real  # real tokens before each one
    starts = before[first_end] + 1 - before[offsets[:-1]]
    return RowColumns(
        texts=texts if valid.all() else texts.take(np.flatnonzero(valid)),
        inputs=ids[kept],
        labels=targets[kept],
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        second_segment_start=starts[valid].astype(np.int32),
        is_next=(next_text.data == ord("1"))[valid],
    ), valid


def _separators(
    ids: NDArray[np.int32], is_real: NDArray[np.bool_], offsets: NDArray[np.int64], row: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return where both `[SEP]` of each row stand, and which rows are of the form `[CLS] A [SEP] B [SEP]`."""
    rows = len(offsets) - 1
    found = np.flatnonzero(ids == SEP_ID)
    starts = np.flatnonzero(ids == CLS_ID)
    valid = np.bincount(row[found], minlength=rows) == 2  # noqa: PLR2004
    valid &= (np.bincount(row[starts], minlength=rows) == 1) & (ids[offsets[:-1]] == CLS_ID)
    separators = np.zeros((rows, 2), dtype=np.int64)
    separators[valid] = found[valid[row[found]]].reshape(-1, 2)
    separators[~valid] = offsets[:-1][~valid, None]
    last_real = np.zeros(rows, dtype=np.int64)
    real = np.flatnonzero(is_real)
    last_real[row[real]] = real  # the last one written stays
    return separators, valid & (separators[:, 1] == last_real)


def _in_order(columns: RowColumns, others: Sequence[PairRow], places: NDArray[np.int64]) -> RowColumns:
    """Return `columns` with other rows among them, in the order of their places in the file."""
    texts = [other.text.encode("utf-8") for other in others]
    ends = columns.offsets[-1] + np.cumsum([len(other.inputs) for other in others])
    order = np.argsort(places, kind="stable")
    source, offsets = flat_indices(np.concatenate([columns.offsets, ends]), order)
    inputs = np.concatenate([columns.inputs, *(np.array(other.inputs, dtype=np.int32) for other in others)])
    labels = np.concatenate([columns.labels, *(np.array(other.labels, dtype=np.int32) for other in others)])
    starts = np.array([other.second_segment_start for other in others], dtype=np.int32)
    text_ends = columns.texts.offsets[-1] + np.cumsum([len(text) for text in texts])
    all_texts = Column(
        data=np.concatenate([columns.texts.data, np.frombuffer(b"".join(texts), dtype=np.uint8)]),
        offsets=np.concatenate([columns.texts.offsets, text_ends]),
    )
    return RowColumns(
        texts=all_texts.take(order),
        inputs=inputs[source],
        labels=labels[source],
        offsets=offsets,
        second_segment_start=np.concatenate([columns.second_segment_start, starts])[order],
        is_next=np.concatenate([columns.is_next, [other.is_next for other in others]])[order],
    )
