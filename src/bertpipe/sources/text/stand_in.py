"""A stand-in for a text, character by character, in which nothing misleads the sentence splitter."""

import re
from functools import cache

_LONGEST_ASIDE = 250
"""Characters between two brackets; what is longer is not an aside, and its sentences count."""
_SHORTEST_PHRASE = 40
"""Characters of Thai, Lao or Khmer after which a space ends a sentence: these scripts put spaces between phrases."""
_SMALL_SHARE = 0.2
"""Share of the sentences that begin with a small letter or a digit, from which on a stop before one is a sentence end."""

_LONG_WORD = 5
"""Letters of a word that is hardly an abbreviation."""

_BLANK_LINE = re.compile(r"(?<=\n)[ \t]+(?=\n)")
_EMOTICON = re.compile(
    r"""[:;=]['o^-]?(?:[()\[\]{}]+(?!\w)|(?<=\s[:;=])[DPpO3](?!\w)|(?<=\s[:;=]['^-])[DPpO3](?!\w))"""
    r"""|(?<!\S)[(\[{]+['^-]?[:;=](?!\w)"""
    "|[\u2600-\u27bf\U0001f300-\U0001faff][\ufe0f\u200d\U0001f3fb-\U0001f3ff]*"
)
_ARROW = re.compile(r"[<>]*[-=~]+[<>]+|[<>]+[-=~]+|<(?![A-Za-z/!?])")
_BRACKET = re.compile(r"[()\[\]{}<>（）]|\n[^\S\n]*\n")
_CLOSER = {"(": ")", "[": "]", "{": "}", "<": ">", "（": "）"}
_ELLIPSIS = re.compile(r"…(?=[\"'”’»)]*\s+[\"'“‘«¿¡(]*([^\W\d_]))")
_OTHER_STOPS = re.compile(r"[\u17d4\u17d5\u0f0d-\u0f12](?:\s*[\u17d4\u17d5\u0f0d-\u0f12])*")  # of Khmer and Tibetan
_PHRASE_SCRIPT = r"\u0e00-\u0eff\u1780-\u17ff"
_HAS_PHRASES = re.compile(f"[{_PHRASE_SCRIPT}]")
_PHRASE_BREAK = re.compile(rf"[.?!。\n]|(?<=[{_PHRASE_SCRIPT}])[ \t]+(?=[{_PHRASE_SCRIPT}])")
_SENTENCE_BEGIN = re.compile(r"(?:([^\W\d_]{2,})\.|[!?])[.!?]*[\"'”’»)]*\s+[\"'“‘«¿¡(]*(\w)")
_STOP, _NO_STOP, _NOTHING = "。", "་", "~"
"""What stands for a sentence end in all languages; for a sign that is none; for a sign without a meaning."""


def stand_in(text: str, language: str) -> str:
    """Return a text of the same length that sentencex splits where a reader would.

    sentencex takes all between an opening bracket and the next closing one for one sentence, also those of emoticons;
    does not know the stops of some scripts; and for some languages never splits before a small letter or a digit.

    Args:
        text: any text.
        language: code of its language.
    """
    text = _BLANK_LINE.sub(lambda found: "\n" * len(found[0]), text)
    text = _EMOTICON.sub(lambda found: _emoticon(text, found), text)
    text = _without_loose_brackets(text)
    if not text.isascii():
        text = _ELLIPSIS.sub(_stop_before_capital, text)
        text = _OTHER_STOPS.sub(lambda found: _NO_STOP * (len(found[0]) - 1) + _STOP, text)
        if _HAS_PHRASES.search(text):
            text = _with_phrase_ends(text)
    return text if _splits_before_small_letters(language) else _with_capitals(text)


def _emoticon(text: str, found: re.Match[str]) -> str:
    """Return a stop for an emoticon that a new sentence follows, else signs without a meaning."""
    after = text[found.end() : found.end() + 3]
    is_end = after[:1].isspace() and after.lstrip()[:1].isupper()
    return _NOTHING * (len(found[0]) - 1) + (_STOP if is_end else _NOTHING)


def _stop_before_capital(found: re.Match[str]) -> str:
    return "." if found[1].isupper() else found[0]


def _without_loose_brackets(text: str) -> str:
    """Return the text without opening brackets that are not closed soon, and in their paragraph."""
    if "<" in text:
        text = _ARROW.sub(lambda found: _NOTHING * len(found[0]), text)
    loose: list[int] = []
    opened: dict[str, list[int]] = {closer: [] for closer in _CLOSER.values()}
    for found in _BRACKET.finditer(text):
        sign, at = found[0], found.start()
        if sign in _CLOSER:
            opened[_CLOSER[sign]].append(at)
        elif sign not in opened:  # the paragraph ends
            loose += _emptied(opened)
        elif opened[sign] and at - (opener := opened[sign].pop()) > _LONGEST_ASIDE:
            loose.append(opener)
    loose += _emptied(opened)
    return _replaced(text, sorted(loose), _NOTHING)


def _emptied(opened: dict[str, list[int]]) -> list[int]:
    left = [at for places in opened.values() for at in places]
    for places in opened.values():
        places.clear()
    return left


def _replaced(text: str, places: list[int], sign: str) -> str:
    """Return the text with another sign at each of the places, which rise."""
    parts, begin = [], 0
    for at in places:
        parts += text[begin:at], sign
        begin = at + 1
    return "".join([*parts, text[begin:]])


def _with_phrase_ends(text: str) -> str:
    """Return the text with a stop for a space between phrases, where enough stands before it."""
    places, last = [], 0
    for found in _PHRASE_BREAK.finditer(text):
        is_space = found[0].isspace() and found[0] != "\n"
        if not is_space:
            last = found.end()
        elif found.start() - last >= _SHORTEST_PHRASE:
            places.append(found.start())
            last = found.end()
    return _replaced(text, places, _STOP)


@cache
def _splits_before_small_letters(language: str) -> bool:
    import sentencex  # noqa: PLC0415

    return len(sentencex.segment(language, "wagen. kaffee haben. sonne")) > 1


def _with_capitals(text: str) -> str:
    """Return the text with a capital where a sentence begins with a small letter, if that is a habit of the text.

    In other texts such a letter stands after an abbreviation; so does a digit after a short word.
    """
    begins = [(len(found[1] or "") or _LONG_WORD, found[2], found.start(2)) for found in _SENTENCE_BEGIN.finditer(text)]
    sure = [sign for letters, sign, _ in begins if letters >= _LONG_WORD]
    if sum(not sign.isupper() for sign in sure) < max(1, _SMALL_SHARE * len(sure)):
        return text
    small = [at for letters, sign, at in begins if sign.islower() or (sign.isdigit() and letters >= _LONG_WORD)]
    return _replaced(text, small, "A")
