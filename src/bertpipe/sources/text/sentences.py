"""Text to sentences, by stops and by line ends."""

import re
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain, pairwise
from math import ceil
from typing import Literal

from bertpipe.sources.text.stand_in import stand_in

SentenceRule = Literal["auto", "lines", "rules"]

_BATCH = 2500
"""Characters of several paragraphs that it gets together: of more than 10,240 bytes, it loses breaks."""
_WINDOW = 8192
"""Characters of a paragraph that the splitter sees at once: its time grows with their square."""
_STEP = _WINDOW * 3 // 4
_LINE_BREAK_TAG = re.compile(r"<br\s*/?>", re.IGNORECASE)
_OLD_LINE_END = re.compile(r"\r(?!\n)")
_LINE_SEPARATOR = re.compile("[\x85\u2028\u2029]")
_WIDE_SPACE = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_OTHER_STOP = re.compile("[。\uff01\uff1f।॥؟\u06d4\u0589።።៕།｡\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_PARAGRAPH_BREAK = "\n\n"
_LIKELY_END = re.compile(r"\n\n|(?:[^.!?\n]|\n(?!\n)|[.!?](?=\w))+[.!?]*[ \t]*|[.!?]+[ \t]*")

# Whether the lines of a text are sentences, or running text that was wrapped.
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


def without_line_break_tags(text: str) -> str:
    """Return the text with HTML's line breaks (`<br>`, `<br/>`, `<br />`) as newlines; two in a row end a paragraph."""
    return _LINE_BREAK_TAG.sub("\n", text) if "<" in text else text


def split_sentences(text: str, language: str, found_by: SentenceRule = "auto") -> list[str]:
    """Return the sentences of a text, in order; joined they are the text with plain white space.

    White space stays with the sentence before it, and the break between two paragraphs is a piece of its own.

    Args:
        text: a text of any length.
        language: code of its language; one without rules of its own is split by those of a related one, or of English.
        found_by: `rules` of the language; or `lines`: a line, or what stands between two tabs of it, is a sentence; or
            `auto`: line ends and tabs end sentences as well, unless the text was wrapped.
    """
    text = _with_plain_space(text)
    if found_by == "lines":
        return _cut(text, map(len, _LINE.findall(_with_fields_as_lines(text))))
    lines = _with_sentence_lines(text) if found_by == "auto" else None
    likely = stand_in(text if lines is None else lines, language)
    if lines is not None:
        pieces = _by_rules(likely.replace("\n", _PARAGRAPH_BREAK), language)
        return _cut(text, (1 if piece == _PARAGRAPH_BREAK else len(piece) for piece in pieces))
    pieces = _by_rules(likely, language)
    return pieces if likely is text else _cut(text, map(len, pieces))


def split_pieces(text: str, language: str, found_by: SentenceRule = "auto") -> list[str]:
    """Return a text in pieces for the notebook's recipe, which ends a sentence at its stops and where a piece ends.

    Args:
        text: a text of any length.
        language: code of its language, for the stops that the recipe does not know.
        found_by: see `split_sentences`.
    """
    if found_by == "lines" or _OTHER_STOP.search(text) or not any(stop in text for stop in ".?!"):
        return split_sentences(text, language, found_by)
    lines = _with_sentence_lines(_with_plain_space(text)) if found_by == "auto" else None
    return [text] if lines is None else _cut(text, map(len, _LINE.findall(lines)))


def _with_plain_space(text: str) -> str:
    """Return the text with a newline for other single characters that end a line, and spaces for wide ones."""
    if "\r" in text:
        text = _OLD_LINE_END.sub("\n", text)
    if not text.isascii():
        # sentencex 1.0.32 panics where a white space of several bytes stands before a full stop.
        text = _WIDE_SPACE.sub(" ", _LINE_SEPARATOR.sub("\n", text))
    return text


def _cut(text: str, lengths: Iterable[int]) -> list[str]:
    """Return the text in pieces of the given lengths."""
    return [text[begin:end] for begin, end in pairwise(accumulate(lengths, initial=0))]


def _by_rules(text: str, language: str) -> list[str]:
    """Return the sentences of a text, in time that grows with its length."""
    pieces: list[str] = []
    for number, batch in enumerate(_batches(text)):
        pieces += [_PARAGRAPH_BREAK] * (number > 0)
        pieces += _by_windows(batch, language) if len(batch) > _WINDOW else _segments(batch, language)
    return pieces


def _batches(text: str) -> Iterator[str]:
    """Yield a text in paragraphs, several together where they are short."""
    batch, size = list[str](), 0
    for paragraph in text.split(_PARAGRAPH_BREAK) if len(text) > _BATCH else [text]:
        if batch and size + len(paragraph) > _BATCH:
            yield _PARAGRAPH_BREAK.join(batch)
            batch, size = [], 0
        batch.append(paragraph)
        size += len(paragraph) + len(_PARAGRAPH_BREAK)
    yield _PARAGRAPH_BREAK.join(batch)


def _by_windows(paragraph: str, language: str) -> Iterator[str]:
    """Yield the sentences of a long paragraph; each window begins where one ends, or within a very long one."""
    begin = at = 0
    while at + _WINDOW < len(paragraph):
        window = paragraph[at : at + _WINDOW]
        ends = list(accumulate(map(len, _segments(window, language))))[:-1]  # the last piece may go on
        ends = [end for end in ends if end <= _STEP] or ends[:1]
        for end in ends:
            yield paragraph[begin : at + end]
            begin = at + end
        at = begin if ends else at + _STEP
    for piece in _segments(paragraph[at:], language):
        yield paragraph[begin : at + len(piece)]
        at = begin = at + len(piece)


def _segments(text: str, language: str) -> list[str]:
    """Return the sentences of a text as sentencex finds them, or as its stops tell where that fails."""
    import sentencex  # noqa: PLC0415

    pieces: list[str] = []
    try:
        pieces = sentencex.segment(language, text)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of the Rust code; no exception class of Python's stands for it
            raise
    if sum(map(len, pieces)) == len(text):
        return pieces
    # sentencex 1.0.32 loses what follows some rows of signs.
    return [piece for piece in _LIKELY_END.findall(text) if piece]


def _with_sentence_lines(text: str) -> str | None:
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
        return _with_fields_as_lines(text) if votes else None
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
    text = _LIST_MARK.sub(lambda found: found[0].replace(".", ")"), _with_fields_as_lines(text))
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


def _with_fields_as_lines(text: str) -> str:
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
