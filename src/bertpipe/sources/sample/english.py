"""The English inflections that the sample needs."""

from __future__ import annotations

import re

from bertpipe.sources.sample.texts import texts

_VOWELS = "aeiou"
_ARTICLE = re.compile(r"\b(a) (?=[aeiou]|hour|heir|honest)(?!one\b|uni)", re.IGNORECASE)


def plural(noun: str) -> str:
    """Return the plural of a singular `noun`."""
    irregular = texts().english.plurals.get(noun)
    return irregular or (f"{noun[:-2]}en" if noun.endswith("man") else third_person(noun))


def third_person(verb: str) -> str:
    """Return the present tense of `verb` after he or she."""
    if verb.endswith("y") and verb[-2] not in _VOWELS:
        return f"{verb[:-1]}ies"
    return f"{verb}es" if verb.endswith(("s", "x", "z", "ch", "sh")) else f"{verb}s"


def past(verb: str) -> str:
    """Return the past tense of `verb`."""
    if verb in texts().english.pasts:
        return texts().english.pasts[verb]
    if verb.endswith("y") and verb[-2] not in _VOWELS:
        return f"{verb[:-1]}ied"
    verb = _doubled(verb)
    return f"{verb}d" if verb.endswith("e") else f"{verb}ed"


def gerund(verb: str) -> str:
    """Return the -ing form of `verb`."""
    verb = _doubled(verb)
    return f"{verb[:-1]}ing" if verb.endswith("e") and not verb.endswith("ee") else f"{verb}ing"


def _doubled(verb: str) -> str:
    return f"{verb}{verb[-1]}" if verb in texts().english.doubling else verb


def with_articles(text: str) -> str:
    """Return `text` with every "a" before a vowel sound turned into "an"."""
    return _ARTICLE.sub(r"\1n ", text)
