"""Lists of numbers written as text, read a whole column at a time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    """Return the numbers of JSON lists in their usual form: at least one number, parted by a comma and one space.

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
