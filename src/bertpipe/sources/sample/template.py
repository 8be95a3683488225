"""Fills the sentence patterns of one review: what its slots stand for, and who has been named so far."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from bertpipe.sources.sample.english import gerund, past, plural, third_person, with_articles
from bertpipe.sources.sample.texts import Scene, texts
from bertpipe.sources.sample.world import Film, Person

# How often a person who was the last one named becomes "she" or "he" in the next sentence.
PRONOUN_SHARE: Final = 0.75

_SHE: Final = {"he": "she", "his": "her", "him": "her", "self": "herself", "actor": "actress", "man": "woman"}
_HE: Final = {"he": "he", "his": "his", "him": "him", "self": "himself", "actor": "actor", "man": "man"}

# How a person is named: as subject, as object, or where it has to be the name ("Luna and Ibarra").
_NAMING: Final[dict[str, str | None]] = {"": "he", "whom": "him", "name": None}

_FLAVOURED: Final = frozenset({"person", "persons", "object", "objects", "event", "events"})

_VERDICT_CHOICE: Final = re.compile(r"\[([^|\]]*)\|([^|\]]*)\]")
_TENSE_CHOICE: Final = re.compile(r"([a-z]+)/([a-z]+)")
_LINKED_CHOICE: Final = re.compile(r"<([^<>]*)>")

_T = TypeVar("_T")


class Deck(Generic[_T]):
    """Cards that come in random order, and none twice before all have come once."""

    def __init__(self, cards: Sequence[_T], rng: random.Random) -> None:
        """Deal from `cards`, which stay as they are."""
        self._cards = cards
        self._rng = rng
        self._left: list[_T] = []

    def take(self) -> _T:
        """Return one of the cards that are left."""
        if not self._left:
            self._left = list(self._cards)
        return self._left.pop(int(self._rng.random() * len(self._left)))


class _Mention:
    """One person in a sentence: `{lead}` names, `{lead:his}` agrees (the specs are the keys of `_HE`)."""

    def __init__(self, person: Person, template: Template) -> None:
        self._person = person
        self._template = template

    def __format__(self, spec: str) -> str:
        if spec in _NAMING:
            return self._template.name(self._person, pronoun=_NAMING[spec])
        return (_SHE if self._person.she else _HE)[spec]


class Template:
    """What the slots of one review's patterns stand for; `sentence` fills a pattern.

    Slots are facts of the film (`{title}`, `{city}`), words of a scene of its genre (`{person}`, `{object2}`;
    see `patterns` for the digits), judging words of one tone (`{good}`, `{well}`), the reviewer's own words
    (`{I}`, `{film}`), and people (`{lead}`, `{lead:his}`).
    """

    def __init__(self, *, film: Film, positive: bool, rng: random.Random) -> None:
        """Choose the tone and the voice of a review of `film`, and draw everything else from `rng` too."""
        self._film = film
        self._positive = positive
        self._present = rng.random() < 0.5
        self._rng = rng
        voices = texts().voices
        tone = rng.choice([tone for tone in voices.tones if tone.positive == positive])
        self._decks: dict[str, Deck[str]] = {
            "label": Deck(film.genre.labels, rng),
            "flavour": Deck(film.genre.flavours, rng),
            "idiom": Deck(film.genre.idioms, rng),
            "number": Deck(voices.numbers, rng),
            "good": Deck(tone.good, rng),
            "well": Deck(tone.well, rng),
            "marvel": Deck(tone.marvel, rng),
            "shine": Deck(tone.shine, rng),
            "verdict": Deck(tone.verdict, rng),
        }
        habits = {slot: word for habit in voices.habits for slot, word in rng.choice(habit).items()}
        self._facts: dict[str, str | _Mention] = {**self._film_facts(), **habits}
        self._scenes = dict(zip(("0", "1", "", "2"), (*film.roles, *film.plot), strict=True))
        self._introduced: set[Person] = set()
        self._named_before: list[Person] = []
        self._named: list[Person] = []

    def _film_facts(self) -> dict[str, str | _Mention]:
        film = self._film
        return {
            "title": film.title,
            "city": film.city,
            "year": str(film.year),
            "country": film.country.name,
            "nation": film.country.nation,
            "language": film.country.language,
            "river": film.country.river,
            "decade": film.era.decade,
            "mode": film.era.mode,
            "shade": film.era.shade,
            "stock": film.era.stock,
            "venue": film.era.venue,
            "speech": film.era.speech,
            "quirk": film.era.quirk,
            "instrument": film.instrument.instrument,
            "sounds": self._verb(film.instrument.sound),
            "section": film.instrument.section,
            "player": film.instrument.player,
            "season": film.season.season,
            "weather": film.season.weather,
            "light": film.season.light,
            "director": _Mention(film.director, self),
            "lead": _Mention(film.lead, self),
            "second": _Mention(film.second, self),
            "composer": _Mention(film.composer, self),
        }

    def sentence(self, pattern: str, *, joiner: str = "") -> str:
        """Return `pattern` with every choice made and every slot filled, after `joiner` if there is one."""
        self._named_before, self._named = self._named, []
        self._is_flavoured = False
        text = f"{joiner} {self._choose(pattern).format_map(self)}".strip()
        return with_articles(text[0].upper() + text[1:])

    def _choose(self, pattern: str) -> str:
        pattern = _VERDICT_CHOICE.sub(r"\1" if self._positive else r"\2", pattern)
        pattern = _TENSE_CHOICE.sub(r"\1" if self._present else r"\2", pattern)
        share = self._rng.random()  # one draw for all groups links them

        def option(match: re.Match[str]) -> str:
            options = match[1].split("|")
            return options[int(share * len(options))]

        return _LINKED_CHOICE.sub(option, pattern)

    def __getitem__(self, slot: str) -> str | _Mention:
        """Return what `slot` stands for here (`str.format_map` asks)."""
        if slot in self._facts:
            return self._facts[slot]
        if slot in self._decks:
            word = self._decks[slot].take()
            return self._flavoured(word) if slot == "label" else word
        if slot == "shines":
            return self._verb(self._decks["shine"].take())
        field = slot.rstrip("012")
        scene = self._scenes[slot.removeprefix(field)]
        word = self._scene_word(scene, field)
        return self._flavoured(word) if field in _FLAVOURED else word

    def _scene_word(self, scene: Scene, field: str) -> str:
        match field:
            case "persons" | "objects" | "events":
                return plural(getattr(scene, field[:-1]))
            case "does":
                return self._verb(scene.do)
            case "doing":
                return gerund(scene.do)
            case "at_place":
                return f"{scene.preposition} the {scene.place}"
            case _:
                return str(scene._asdict()[field])

    def _flavoured(self, noun: str) -> str:
        """Return `noun`, after an adjective of the genre if it is the sentence's first that can take one."""
        if self._is_flavoured:
            return noun
        self._is_flavoured = True
        return f"{self._decks['flavour'].take()} {noun}"

    def _verb(self, verb: str) -> str:
        return third_person(verb) if self._present else past(verb)

    def name(self, person: Person, *, pronoun: str | None) -> str:
        """Return the full name at first, then the surname, or the pronoun where it can mean nobody else."""
        rivals = [other for other in (*self._named_before, *self._named) if other.she == person.she]
        clear = person in self._named_before and all(other == person for other in rivals)
        self._named.append(person)
        if person not in self._introduced:
            self._introduced.add(person)
            return person.full_name
        if pronoun and clear and self._rng.random() < PRONOUN_SHARE:
            return (_SHE if person.she else _HE)[pronoun]
        return person.last
