"""Text to sentences."""

import re
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from typing import Literal

from bertpipe.sources.text.line_ends import with_fields_as_lines, with_sentence_lines
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
        return _cut(text, map(len, _LINE.findall(with_fields_as_lines(text))))
    lines = with_sentence_lines(text) if found_by == "auto" else None
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
    lines = with_sentence_lines(_with_plain_space(text)) if found_by == "auto" else None
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
    if sum(map(len, pieces)) == len(text):
        return pieces
    # sentencex 1.0.32 loses what follows some rows of signs.
    return [piece for piece in _LIKELY_END.findall(text) if piece]
