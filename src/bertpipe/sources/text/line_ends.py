"""Whether the lines of a text are sentences, or running text that was wrapped."""

import re
from itertools import pairwise
from math import ceil

_MOST_LINES = 2000
"""Lines looked at, evenly spread over the text."""
_FEW_LINES = 20
"""Up to so many lines, the longest tells the width that a text was wrapped at; of more, the longest tenth is left out."""
_FEW_BREAKS = 4
_NARROWEST, _USUAL = 40, 60
"""Columns: the narrowest width that a text is wrapped at, and the narrowest of a text with few lines."""
_LONGEST_WORD = 16
"""Columns of a word that a line may have had no room for."""
_LOOKED_AT = 1 << 16
"""Characters whose sentences tell whether a text has capitals."""

_CLOSERS = "\"'”’»)]*_"
_STOPS = frozenset(".?!…。！？।॥؟۔։።။៕។།｡")
_SENTENCE_BEGIN = re.compile(r"(?:\A|\n\s*\n|[.?!…][\"'”’»)\]]*\s)[\s\"'“‘«¿¡(\[-]*([^\W\d_])")
_INNER_TAB = re.compile(r"(?<=\S)[ ]*\t[ \t]*(?=\S)")
_TWO_FIELDS = re.compile(r"[^\t]{7}\S *\t *\S[^\t]{7}")
_CONTINUED = re.compile(r"(?<=\S)\n(?=[^\S\n]*([^\W\d_]))")
_WIDE, _HANGUL, _NO_SPACES = "\u2e80", ("\uac00", "\ud7ff"), ("\u0e00", "\u0fff")


def with_sentence_lines(text: str) -> str | None:
    """Return the text, as long as it is, with a newline where a line is or may be a sentence; None if it was wrapped.

    A text was wrapped where most of its lines had no room for the next word; in a text whose sentences begin with
    capitals, also where most lines go on with a small letter. A line end after a full stop says nothing.
    """
    if "\n" not in text and "\t" not in text:
        return None
    lines = [line.strip() for line in text.split("\n")]
    breaks = [(at, line, after) for at, (line, after) in enumerate(pairwise(lines)) if line and after]
    breaks = breaks[:: ceil(len(breaks) / _MOST_LINES) or 1]
    votes = sum(_TWO_FIELDS.search(line) is not None for line in lines) if "\t" in text else 0
    unstopped = [(line, after) for _, line, after in breaks if line.rstrip(_CLOSERS)[-1:] not in _STOPS]
    if not unstopped:
        return with_fields_as_lines(text) if votes else None
    width = _width([columns for _, line, after in breaks for columns in (_columns(line), _columns(after))])
    is_cased = any(after[0].islower() for _, after in unstopped) and _has_capitals(text)
    against = 0
    for line, after in unstopped:
        if is_cased and after[0].islower():
            against += 1
        elif _columns(line) + _first_word(after) <= max(width, _USUAL if len(breaks) < _FEW_BREAKS else _NARROWEST):
            votes += 1
        elif not after[0].isupper():
            against += 1
    if not votes and len(breaks) < _FEW_BREAKS and not any(stop in text for stop in _STOPS):
        votes, against = 1, 0
    if 2 * votes < against or not votes:
        return None
    text = with_fields_as_lines(text)
    return _CONTINUED.sub(lambda found: " " if found[1].islower() else "\n", text) if is_cased else text


def with_fields_as_lines(text: str) -> str:
    """Return the text, as long as it is, with a newline for a tab between words."""
    return _INNER_TAB.sub(lambda found: " " * (len(found[0]) - 1) + "\n", text) if "\t" in text else text


def _columns(line: str) -> int:
    return len(line) * (2 if _is_wide(line[0]) else 1)


def _is_wide(letter: str) -> bool:
    return letter >= _WIDE and not _HANGUL[0] <= letter <= _HANGUL[1]


def _first_word(line: str) -> int:
    """Return the columns that the line before had to have for the line's first word, with the space before it."""
    if _is_wide(line[0]):
        return 2
    if _NO_SPACES[0] <= line[0] <= _NO_SPACES[1]:
        return _LONGEST_WORD // 2
    return 1 + min(_LONGEST_WORD, len(line.split(None, 1)[0]))


def _width(columns: list[int]) -> int:
    """Return the width that lines of so many columns were wrapped at, if they were."""
    return max(columns) if len(columns) <= 2 * _FEW_LINES else sorted(columns)[len(columns) * 9 // 10]


def _has_capitals(text: str) -> bool:
    """Tell whether sentences that end with a stop, and paragraphs, begin with capitals."""
    start = text[:_LOOKED_AT]
    letters = [found[1] for found in _SENTENCE_BEGIN.finditer(start)]
    capitals = sum(letter.isupper() for letter in letters)
    return capitals > 3 * sum(letter.islower() for letter in letters) and any(stop in start for stop in _STOPS)
