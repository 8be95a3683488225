"""The invented film world: people with one name each, and films whose facts never change."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from bertpipe.sources.sample.english import plural, with_articles
from bertpipe.sources.sample.texts import Country, Era, Genre, Instrument, Scene, Season, texts

# Where in a country's list of surnames each trade begins; women and men alternate within a trade.
_DIRECTORS = range(0, 3)
_ACTORS = range(3, 9)
_COMPOSERS = range(9, 10)

_SMALL_WORDS = frozenset({"a", "an", "the", "of", "for", "to"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person who makes films. The surname is unique in the film world; `she` chooses the pronouns."""

    first: str
    last: str
    she: bool

    @property
    def full_name(self) -> str:
        """First name and surname."""
        return f"{self.first} {self.last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """A film: who made it, where and when, what happens in it, and what most critics think of it."""

    title: str
    genre: Genre
    country: Country
    city: str
    era: Era
    year: int
    season: Season
    instrument: Instrument
    director: Person
    lead: Person
    second: Person
    composer: Person
    roles: tuple[Scene, Scene]
    plot: tuple[Scene, Scene]
    acclaimed: bool

    @property
    def people(self) -> tuple[Person, ...]:
        """All people whom a review of this film may name."""
        return (self.director, self.lead, self.second, self.composer)


def _person(country: Country, index: int) -> Person:
    she = index % 2 == 0
    given = country.women if she else country.men
    return Person(first=given[index // 2 % len(given)], last=country.surnames[index], she=she)


def _title(rng: random.Random, *, scene: Scene, city: str, year: int, season: str) -> str:
    slots = {**scene._asdict(), "objects": plural(scene.object), "city": city, "year": year, "season": season}
    words = rng.choice(texts().facts.titles).format_map(slots)
    first, *rest = words.split()
    cased = (word if word in _SMALL_WORDS else word.capitalize() for word in rest)
    return with_articles(" ".join((first.capitalize(), *cased)))


def _film(rng: random.Random, genre: Genre) -> Film:
    facts = texts().facts
    country = rng.choice(facts.countries)
    city = rng.choice(country.cities)
    era = rng.choice(facts.eras if genre.name != "musical" else facts.eras[1:])  # nobody sings in a silent film
    year = rng.choice(era.years)
    season = rng.choice(facts.seasons)
    role, other_role, *plot = rng.sample(genre.scenes, 4)
    lead = rng.choice(_ACTORS)
    # The second actor's index has the other parity: a film's two actors never share their pronouns.
    second = rng.choice([index for index in _ACTORS if (index - lead) % 2])
    return Film(
        title=_title(rng, scene=role, city=city, year=year, season=season.season),
        genre=genre,
        country=country,
        city=city,
        era=era,
        year=year,
        season=season,
        instrument=rng.choice(facts.instruments),
        director=_person(country, rng.choice(_DIRECTORS)),
        lead=_person(country, lead),
        second=_person(country, second),
        composer=_person(country, rng.choice(_COMPOSERS)),
        roles=(role, other_role),
        plot=(plot[0], plot[1]),
        acclaimed=rng.random() < 0.5,
    )


def generate_films(*, seed: int, films: int) -> Iterator[Film]:
    """Yield `films` films with distinct titles; the genres take turns. A pure function of `seed`."""
    rng = random.Random(f"{seed}:films")
    genres, titles = texts().genres, set[str]()
    for index in range(films):
        film = _film(rng, genres[index % len(genres)])
        while film.title in titles:
            film = _film(rng, film.genre)
        titles.add(film.title)
        yield film
