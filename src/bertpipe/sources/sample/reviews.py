"""Reviews of the invented films: an opening, a middle that wanders, and a verdict."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

from bertpipe.sources.sample.template import Deck, Template
from bertpipe.sources.sample.texts import texts
from bertpipe.sources.sample.world import Film, generate_films

# The share of critics that agree with the others about a film.
_AGREEMENT: Final = 0.85
_JOINER_SHARE: Final = 0.3
_LENGTHS: Final = range(4, 13)
_LENGTH_WEIGHTS: Final = (2, 3, 4, 5, 5, 4, 3, 2, 1)
# What the middle of a review is about, in this order, and how often.
_MIDDLE: Final[tuple[tuple[str, int], ...]] = (
    ("plot", 7),
    ("setting", 3),
    ("acting", 6),
    ("camera", 4),
    ("music", 3),
    ("writing", 3),
    ("remark", 4),
)
_TOPICS: Final = tuple(topic for topic, _ in _MIDDLE)
_TOPIC_WEIGHTS: Final = tuple(weight for _, weight in _MIDDLE)
# A joiner stands only before a plain subject: "Then the sheriff", not "Then after the duel".
_PLAIN_STARTS: Final = ("the ", "a ", "each ", "{lead}", "{second}", "{director}", "{composer}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """One review: the film, the verdict, and the sentences in order."""

    film: Film
    positive: bool
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """The review as one paragraph."""
        return " ".join(self.sentences)


def _topics(rng: random.Random) -> Iterator[str]:
    (length,) = rng.choices(_LENGTHS, _LENGTH_WEIGHTS)
    closing = 1 + (length > 6)
    middle = rng.choices(_TOPICS, _TOPIC_WEIGHTS, k=length - 1 - closing)
    yield "opening"
    yield from sorted(middle, key=_TOPICS.index)
    for _ in range(closing):
        yield "closing"


def _joiner(pattern: str, rng: random.Random) -> str:
    joined = pattern.startswith(_PLAIN_STARTS) and rng.random() < _JOINER_SHARE
    return rng.choice(texts().voices.joiners) if joined else ""


def _review(film: Film, rng: random.Random) -> Review:
    positive = film.acclaimed == (rng.random() < _AGREEMENT)
    template = Template(film=film, positive=positive, rng=rng)
    patterns = texts().patterns
    decks = {topic.name: Deck(getattr(patterns, topic.name), rng) for topic in fields(patterns)}
    decks["remark"] = Deck(film.genre.remarks, rng)
    sentences: list[str] = []
    for topic in _topics(rng):
        pattern = decks[topic].take()
        sentences.append(template.sentence(pattern, joiner=_joiner(pattern, rng) if sentences else ""))
    return Review(film=film, positive=positive, sentences=tuple(sentences))


def generate_reviews(*, seed: int, films: int, reviews: int) -> Iterator[Review]:
    """Yield `reviews` reviews of `films` films; each depends only on `seed`, `films` and its index."""
    repertoire = tuple(generate_films(seed=seed, films=films))
    for index in range(reviews):
        rng = random.Random(f"{seed}:review:{index}")
        yield _review(repertoire[int(rng.random() * films)], rng)
