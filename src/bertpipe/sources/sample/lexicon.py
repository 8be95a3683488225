"""The shape of a genre's vocabulary and the English inflections that it needs."""

from __future__ import annotations

import re
from dataclasses import dataclass

_VOWELS = "aeiou"
_IRREGULAR_PLURALS = {"thief": "thieves", "midwife": "midwives", "diagnosis": "diagnoses", "loaf": "loaves"}
_PLURALS_IN_OES = frozenset({"tomato"})
_IRREGULAR_PASTS = {
    "blow": "blew",
    "cast": "cast",
    "catch": "caught",
    "cut": "cut",
    "dig": "dug",
    "draw": "drew",
    "hide": "hid",
    "hold": "held",
    "light": "lit",
    "read": "read",
    "sell": "sold",
    "shake": "shook",
    "steal": "stole",
    "swear": "swore",
    "swing": "swung",
    "throw": "threw",
    "wear": "wore",
    "write": "wrote",
}
_DOUBLING = frozenset(
    {"cut", "dig", "drag", "drop", "hum", "label", "plod", "repel", "sag"}
    | {"scrub", "shred", "stir", "strap", "swap", "tap", "trim", "wrap"}
)
_ARTICLE = re.compile(r"\b(a) (?=[aeiou]|hour|heir|honest)(?!one\b|uni)", re.IGNORECASE)


def plural(noun: str) -> str:
    """Return the plural of a singular `noun`."""
    if noun in _IRREGULAR_PLURALS:
        return _IRREGULAR_PLURALS[noun]
    if noun.endswith("man"):
        return f"{noun[:-2]}en"
    return f"{noun}es" if noun in _PLURALS_IN_OES else third_person(noun)


def third_person(verb: str) -> str:
    """Return the present tense of `verb` after he or she."""
    if verb.endswith("y") and verb[-2] not in _VOWELS:
        return f"{verb[:-1]}ies"
    return f"{verb}es" if verb.endswith(("s", "x", "z", "ch", "sh")) else f"{verb}s"


def past(verb: str) -> str:
    """Return the past tense of `verb`."""
    if verb in _IRREGULAR_PASTS:
        return _IRREGULAR_PASTS[verb]
    if verb.endswith("y") and verb[-2] not in _VOWELS:
        return f"{verb[:-1]}ied"
    if verb in _DOUBLING:
        return f"{verb}{verb[-1]}ed"
    return f"{verb}d" if verb.endswith("e") else f"{verb}ed"


def gerund(verb: str) -> str:
    """Return the -ing form of `verb`."""
    if verb in _DOUBLING:
        return f"{verb}{verb[-1]}ing"
    return f"{verb[:-1]}ing" if verb.endswith("e") and not verb.endswith("ee") else f"{verb}ing"


def with_articles(text: str) -> str:
    """Return `text` with every "a" before a vowel sound turned into "an"."""
    return _ARTICLE.sub(r"\1n ", text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Seven words that belong together, so that one of them predicts the others."""

    person: str
    do: str
    object: str
    preposition: str
    place: str
    event: str
    quality: str

    @property
    def persons(self) -> str:
        """Several of this person."""
        return plural(self.person)

    @property
    def objects(self) -> str:
        """Several of this object."""
        return plural(self.object)

    @property
    def events(self) -> str:
        """Several of this event."""
        return plural(self.event)

    @property
    def doing(self) -> str:
        """What the person does to the object, as a gerund."""
        return gerund(self.do)

    @property
    def at_place(self) -> str:
        """The place with the preposition that it takes."""
        return f"{self.preposition} the {self.place}"

    @property
    def topic_words(self) -> frozenset[str]:
        """The words that no other genre uses (any genre may use the verb and the preposition)."""
        nouns = (self.person, self.persons, self.object, self.objects, self.event, self.events)
        return frozenset((*nouns, self.place, self.quality))


@dataclass(frozen=True, slots=True, kw_only=True)
class Genre:
    """A genre: what it is called, its scenes, its set phrases, and the sentences that only it can have."""

    name: str
    labels: tuple[str, str]
    label_words: frozenset[str]
    flavours: tuple[str, ...]
    scenes: tuple[Scene, ...]
    idioms: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def topic_words(self) -> frozenset[str]:
        """The words that mark this genre and occur in no review of another."""
        return self.label_words.union(self.flavours, *(scene.topic_words for scene in self.scenes))


def parse_scenes(table: str) -> tuple[Scene, ...]:
    """Return one scene per line of `table`: person, verb, object, preposition, place, event, quality."""
    names = ("person", "do", "object", "preposition", "place", "event", "quality")
    return tuple(Scene(**dict(zip(names, line.split(), strict=True))) for line in table.strip().splitlines())
