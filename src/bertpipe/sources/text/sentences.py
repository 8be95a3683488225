"""Text to sentences."""

import re

_LINE_BREAK_TAG = re.compile(r"<br\s*/?>", re.IGNORECASE)
_LINE_SEPARATOR = re.compile("[\x85\u2028\u2029]")
_WIDE_SPACE = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")


def without_line_break_tags(text: str) -> str:
    """Return the text with HTML's line breaks (`<br>`, `<br/>`, `<br />`) as newlines; two in a row end a paragraph."""
    return _LINE_BREAK_TAG.sub("\n", text) if "<" in text else text


def split_sentences(text: str, language: str) -> list[str]:
    """Return the sentences of a text, in order; joined they are the text with plain white space.

    White space stays with the sentence before it, and the break between two paragraphs is a piece of its own.

    Args:
        text: a text of any length.
        language: code of its language; one without rules of its own is split by those of a related one, or of English.
    """
    import sentencex  # noqa: PLC0415

    if not text.isascii():
        # sentencex 1.0.32 panics where a white space of several bytes stands before a full stop.
        text = _WIDE_SPACE.sub(" ", _LINE_SEPARATOR.sub("\n", text))
    pieces: list[str] = sentencex.segment(language, text)
    return pieces
