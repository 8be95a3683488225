"""Whether the lines of a text are sentences, or running text that was wrapped."""

import re
from itertools import chain, pairwise
from math import ceil

_MOST_LINES = 1000
"""Lines looked at, evenly spread over the text."""
_FEW_LINES = 20
"""Up to so many lines, the longest is the width that a text was wrapped at; of more, the longest tenth is left out."""
_FEW_BREAKS, _MANY_BREAKS = 4, 10
_NARROWEST, _USUAL = 40, 60
"""Columns: the narrowest width that a text is wrapped at, and the narrowest of a text with few lines."""
_LONGEST_WORD = 16
"""Columns of a word that a line may have had no room for."""
_LOOKED_AT = 1 << 12
"""Characters whose sentences tell whether a text has capitals."""

_THREE_WIDE = 6
"""Columns of the Chinese or Japanese signs that may not be parted at a line end."""

_CLOSERS = "\"'”\u2019»)]*_"
_STOPS = frozenset(".?!…。\uff01\uff1f।॥؟\u06d4\u0589።။៕។།｡")
# Each begins with signs of its own: those are found several times as fast.
_SENTENCE_BEGINS = [
    re.compile(before + r"[\s\"'“\u2018«¿¡(\[-]*([^\W\d_])")
    for before in (r"\A", r"\n\n", r"\.[\"'”\u2019»)\]]*\s", r"\?[\"'”\u2019»)\]]*\s", r"![\"'”\u2019»)\]]*\s")
]
_INNER_TAB = re.compile(r"\t(?:(?<=\S\t)|(?<=\S \t))[ \t]*(?=\S)")
_TWO_FIELDS = re.compile(r"\t(?<=[^\t\n]{8}\t) ?\S[^\t\n]{7}")
_LIST_MARK = re.compile(r"^[ \t]*(?:\d{1,3}|[A-Za-z])\.(?=[ \t])", re.MULTILINE)
_SMALL_LINE = re.compile(r"\n[a-z]")
_WIDE, _HANGUL, _NO_SPACES = "\u2e80", ("\uac00", "\ud7ff"), ("\u0e00", "\u0fff")


def with_sentence_lines(text: str) -> str | None:
    """Return the text, as long as it is, with a newline where a line is or may be a sentence; None if it was wrapped.

    A text was wrapped where most of its lines had no room for the next word; in a text whose sentences begin with
    capitals, also where most lines go on with a small letter. A line end after a full stop says nothing.
    """
    if "\n" not in text and "\t" not in text:
        return None
    line_ends = text.count("\n") - 2 * text.count("\n\n")
    if 3 * len(_SMALL_LINE.findall(text)) > 2 * line_ends and _has_capitals(text):
        return None  # what running text is in most cases, known at once
    breaks = _some_breaks(text)
    votes = len(_TWO_FIELDS.findall(text))
    unstopped = [(line, after) for line, after in breaks if not _is_stopped(line)]
    if not unstopped:
        return with_fields_as_lines(text) if votes else None
    columns = len if text.isascii() else _columns
    narrowest = _USUAL if len(breaks) < _FEW_BREAKS else _NARROWEST
    width = max(narrowest, _width([*(columns(line) for line, _ in breaks), columns(breaks[-1][1])]))
    is_cased = any(after[0].islower() for _, after in unstopped) and _has_capitals(text)

    def has_no_room(line: str, after: str) -> bool:
        return columns(line) + _first_word(after) > width

    against = 0
    for line, after in unstopped:
        if is_cased and after[0].islower():
            against += 1
        elif not has_no_room(line, after):
            votes += 1
        elif not after[0].isupper():  # before a capital it may be a sentence end all the same
            against += 1
    stopped = len(breaks) - len(unstopped)
    if stopped > 1 and not any(f"{stop} " in text for stop in _STOPS):
        votes += stopped  # running text has stops within its lines
    if any(stop in text for stop in _STOPS):
        is_wrapped, is_mixed = 2 * votes < against or not votes, votes < 2 * against
    else:  # then sentences end at line ends or nowhere
        is_wrapped, is_mixed = len(breaks) >= _MANY_BREAKS and _MANY_BREAKS * votes < against, False
    if is_wrapped:
        return None
    text = _LIST_MARK.sub(lambda found: found[0].replace(".", ")"), with_fields_as_lines(text))
    if not is_cased and not is_mixed:
        return text
    lines = text.split("\n")
    joints = [
        " "
        if line
        and after
        and ((is_cased and after[0].islower()) or (is_mixed and not _is_stopped(line) and has_no_room(line, after)))
        else "\n"
        for line, after in pairwise(map(str.strip, lines))
    ]
    return "".join(chain.from_iterable(zip(lines, [*joints, ""], strict=True)))


def _is_stopped(line: str) -> bool:
    return line.rstrip(_CLOSERS)[-1:] in _STOPS


def _some_breaks(text: str) -> list[tuple[str, str]]:
    """Return lines that another line follows, without a blank one between them, each with the one that follows."""
    lines = text.split("\n")
    begins = range(0, len(lines) - 1, ceil(len(lines) / _MOST_LINES))
    pairs = ((lines[at].strip(), lines[at + 1].strip()) for at in begins)
    return [(line, after) for line, after in pairs if line and after]


def with_fields_as_lines(text: str) -> str:
    """Return the text, as long as it is, with a newline for a tab between words."""
    return _INNER_TAB.sub(lambda found: " " * (len(found[0]) - 1) + "\n", text) if "\t" in text else text


def _columns(line: str) -> int:
    return len(line) * (2 if _is_wide(line[0]) else 1)


def _is_wide(letter: str) -> bool:
    return letter >= _WIDE and not _HANGUL[0] <= letter <= _HANGUL[1]


def _first_word(line: str) -> int:
    """Return the columns that the line before had to have for the line's first word, with the space before it."""
    if line[0] < _NO_SPACES[0]:
        end = line.find(" ")
        return 1 + min(_LONGEST_WORD, end if end >= 0 else len(line))
    if _is_wide(line[0]):
        return _THREE_WIDE
    if _NO_SPACES[0] <= line[0] <= _NO_SPACES[1]:
        return _LONGEST_WORD // 2
    return 1 + min(_LONGEST_WORD, len(line.split(None, 1)[0]))


def _width(columns: list[int]) -> int:
    """Return the width that lines of so many columns were wrapped at, if they were."""
    return max(columns) if len(columns) <= _FEW_LINES else sorted(columns)[len(columns) * 9 // 10]


def _has_capitals(text: str) -> bool:
    """Tell whether sentences that end with a stop, and paragraphs, begin with capitals."""
    start = text[:_LOOKED_AT]
    letters = [letter for begin in _SENTENCE_BEGINS for letter in begin.findall(start)]
    return sum(map(str.isupper, letters)) > 3 * sum(map(str.islower, letters)) and any(stop in start for stop in _STOPS)
