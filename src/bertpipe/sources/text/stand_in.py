"""A stand-in for a text, character by character, in which nothing misleads the sentence splitter."""

import re
from collections.abc import Iterable
from contextlib import suppress
from functools import cache

_LONGEST_ASIDE = 250
"""Characters between two brackets; what is longer is not an aside, and its sentences count."""
_SHORTEST_PHRASE = 40
"""Characters of Thai, Lao or Khmer after which a space ends a sentence: these scripts put spaces between phrases."""
_SMALL_SHARE = 0.25
"""Share of the sentences that begin small, or with a digit, above which a stop before such a sign ends a sentence."""
_LONG_WORD = 4
"""Letters of a word that is hardly an abbreviation."""

_STOP, _NO_STOP, _NOTHING = "。", "་", "~"
"""What stands for a sentence end in all languages; for a sign that is none; for a sign without a meaning."""
_BLANK_LINE = re.compile(r"\n[ \t]+(?=\n)")
# Patterns begin with a sign of their own: those are found several times as fast.
_FACES = [(eyes, re.compile(rf"{eyes}['o^-]?(?:[()\[\]{{}}]+|[DPpO3])(?!\w)")) for eyes in ":;="]
_FACES += [(mouth, re.compile(rf"{re.escape(mouth)}['^-]?[:;=](?!\w)")) for mouth in "([{"]
_NEEDS_SPACE = frozenset("DPpO3:;=")
"""Last signs of emoticons that only count as such after white space."""
_EMOJI = re.compile("[\u2600-\u27bf\U0001f300-\U0001faff][\ufe0f\u200d\U0001f3fb-\U0001f3ff]*")
_ARROWS = [re.compile(r"<(?:3|[-=~]+>?|(?![A-Za-z/!?]))"), re.compile(r">(?<=[-=~]>)")]
_QUOTE = re.compile('"')
_QUOTATION = re.compile(r'"(?<!\w")(?=\S)[^"]*"(?<!\s")(?!\w)')
_CLOSER = {"(": ")", "[": "]", "{": "}", "<": ">", "\uff08": "\uff09"}
_BRACKET = re.compile(r"[()\[\]{}<>\uff08\uff09]")
_NOT_CLOSED_SOON = {
    opener: re.compile(rf"{re.escape(opener)}(?![^()\[\]{{}}<>\uff08\uff09]{{0,{_LONGEST_ASIDE}}}{re.escape(closer)})")
    for opener, closer in _CLOSER.items()
}
_ELLIPSIS = re.compile(r"…(?=[\"'”\u2019»)]*\s+[\"'“\u2018«¿¡(]*([^\W\d_]))")
_OTHER_STOPS = "\u17d4\u17d5\u0f0d\u0f0e\u0f0f\u0f10\u0f11\u0f12"  # of Khmer and Tibetan
_OTHER_STOP = re.compile(rf"[{_OTHER_STOPS}](?:\s*[{_OTHER_STOPS}])*")
_PHRASE_SCRIPTS = r"\u0e00-\u0eff\u1780-\u17ff"
_COMMON_LETTERS = "าน\u0eb2\u0e99\u17b6\u17d2"  # of these scripts; a text without any is not written in one
_PHRASE_BREAK = re.compile(rf"[.?!。\n]|(?<=[{_PHRASE_SCRIPTS}])[ \t]+(?=[{_PHRASE_SCRIPTS}])")
_SENTENCE_BEGINS = [re.compile(rf"\{stop}[.!?]*[\"'”\u2019»)]*\s+[\"'“\u2018«¿¡(]*(\w)") for stop in ".!?"]


def stand_in(text: str, language: str) -> str:
    """Return a text of the same length that sentencex splits where a reader would.

    sentencex takes all between an opening bracket and the next closing one for one sentence, also those of emoticons,
    and all between two straight quotes; does not know the stops of some scripts; and for some languages never splits
    before a small letter or a digit.

    Args:
        text: any text.
        language: code of its language.
    """
    text = text.replace("\r\n", " \n")
    if "\n " in text or "\n\t" in text:
        text = _BLANK_LINE.sub(lambda found: "\n" * len(found[0]), text)
    for sign, face in _FACES:
        if sign in text:
            text = _without_faces(face, text)
    for arrow in _ARROWS if "<" in text else ():
        text = arrow.sub(lambda found: _NOTHING * len(found[0]), text)
    if any(opener in text and loose.search(text) for opener, loose in _NOT_CLOSED_SOON.items()):
        text = _replaced(text, _loose_brackets(text), _NOTHING)
    if text.count('"') > 2 * len(_QUOTATION.findall(text)):
        text = _replaced(text, _loose_quotes(text), _NOTHING)
    if not text.isascii():
        text = _with_known_stops(text)
    return text if _splits_before_small_letters(language) else _replaced(text, _small_begins(text), "A")


def _without_faces(faces: re.Pattern[str], text: str) -> str:
    """Return the text with a stop for an emoticon or emoji that a new sentence follows, and nothing for others."""

    def sign(found: re.Match[str]) -> str:
        before = text[max(0, found.start() - 1) : found.start()]
        if found[0][-1] in _NEEDS_SPACE and before and not before.isspace():
            return found[0]
        after = text[found.end() : found.end() + 3]
        is_end = after[:1].isspace() and after.lstrip()[:1].isupper()
        return _NOTHING * (len(found[0]) - 1) + (_STOP if is_end else _NOTHING)

    return faces.sub(sign, text)


def _loose_brackets(text: str) -> list[int]:
    """Return the places of opening brackets that are not closed, or not soon."""
    loose: list[int] = []
    opened: dict[str, list[int]] = {closer: [] for closer in _CLOSER.values()}
    for found in _BRACKET.finditer(text):
        sign, at = found[0], found.start()
        if sign in _CLOSER:
            opened[_CLOSER[sign]].append(at)
        elif opened[sign] and at - (opener := opened[sign].pop()) > _LONGEST_ASIDE:
            loose.append(opener)
    return sorted(loose + [at for places in opened.values() for at in places])


def _loose_quotes(text: str) -> list[int]:
    """Return the places of straight quotes that close nothing, as after inches, or open what is never closed."""
    loose: list[int] = []
    opened = None
    for found in _QUOTE.finditer(text):
        at = found.start()
        before, after = text[max(0, at - 1) : at], text[at + 1 : at + 2]
        opens = not (before.isalnum() or after.isspace() or not after)
        closes = not (after.isalnum() or before.isspace() or not before)
        if opened is None:
            if closes and not opens:
                loose.append(at)
            else:
                opened = at
        elif opens and not closes:
            loose.append(opened)
            opened = at
        else:
            opened = None
    return loose


def _replaced(text: str, places: Iterable[int], sign: str) -> str:
    """Return the text with another sign at each of the places, which rise."""
    parts, begin = list[str](), 0
    for at in places:
        parts += text[begin:at], sign
        begin = at + 1
    return "".join([*parts, text[begin:]]) if parts else text


def _with_known_stops(text: str) -> str:
    """Return the text with stops that sentencex knows in place of others, and of spaces that part phrases."""
    with suppress(UnicodeEncodeError):
        text.encode("latin-1")
        return text
    text = _without_faces(_EMOJI, text)
    if "…" in text:
        text = _ELLIPSIS.sub(lambda found: "." if found[1].isupper() else "…", text)
    if any(stop in text for stop in _OTHER_STOPS):
        text = _OTHER_STOP.sub(lambda found: _NO_STOP * (len(found[0]) - 1) + _STOP, text)
    has_phrases = any(letter in text for letter in _COMMON_LETTERS)
    return _replaced(text, _phrase_ends(text), _STOP) if has_phrases else text


def _phrase_ends(text: str) -> list[int]:
    """Return the places of the spaces between phrases before which enough stands to be a sentence."""
    places, last = [], 0
    for found in _PHRASE_BREAK.finditer(text):
        if found[0][0] not in " \t":
            last = found.end()
        elif found.start() - last >= _SHORTEST_PHRASE:
            last = found.end()
            places.append(last - 1)
    return places


@cache
def _splits_before_small_letters(language: str) -> bool:
    import sentencex  # noqa: PLC0415

    return len(sentencex.segment(language, "wagen. kaffee haben. sonne")) > 1


def _small_begins(text: str) -> list[int]:
    """Return the places of small letters that begin a sentence, if that is a habit of the text.

    In other texts such a letter stands after an abbreviation; so does a digit after a short word.
    """
    found_at = {found.start(1): found for pattern in _SENTENCE_BEGINS for found in pattern.finditer(text)}
    begins = [(at, found[1], _letters_before(text, found)) for at, found in sorted(found_at.items())]
    small = sum(letters >= _LONG_WORD and not sign.isupper() for _, sign, letters in begins)
    if small <= _SMALL_SHARE * sum(letters > 1 for _, _, letters in begins):
        return []
    return [
        at
        for at, sign, letters in begins
        if (sign.islower() and letters > 1) or (sign.isdigit() and letters >= _LONG_WORD)
    ]


def _letters_before(text: str, found: re.Match[str]) -> int:
    """Return how many letters stand before a stop, up to those of a long word, which `!` and `?` count for."""
    if found[0][0] != ".":
        return _LONG_WORD
    word = text[max(0, found.start() - _LONG_WORD) : found.start()]
    return next((letters for letters, sign in enumerate(reversed(word)) if not sign.isalpha()), len(word))
