"""The texts that the sample is made of: the YAML files of this folder.

The order of the entries counts: another one gives another sample.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from annotated_types import MinLen

Text = Annotated[str, MinLen(1)]
Entries = Annotated[tuple[Text, ...], MinLen(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class English:
    """english.yaml: the words that the rules of `english` get wrong."""

    plurals: dict[Text, Text]
    pasts: dict[Text, Text]
    doubling: Entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Country:
    """A country, and the given names and surnames of the people who make films there."""

    name: Text
    nation: Text
    language: Text
    river: Text
    cities: Entries
    women: Entries
    men: Entries
    surnames: Entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Era:
    """An age of cinema: its years, and what films of that age look and sound like."""

    decade: Text
    years: Annotated[tuple[int, ...], MinLen(1)]
    mode: Text
    shade: Text
    stock: Text
    venue: Text
    speech: Text
    quirk: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """An instrument that leads a score, how it sounds, and the section of the orchestra it sits in."""

    instrument: Text
    sound: Text
    section: Text
    player: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Season:
    """A season to shoot in, with its weather and the light that comes with it."""

    season: Text
    weather: Text
    light: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """facts.yaml: what a film has besides its genre."""

    countries: Annotated[tuple[Country, ...], MinLen(1)]
    eras: Annotated[tuple[Era, ...], MinLen(2)]
    instruments: Annotated[tuple[Instrument, ...], MinLen(1)]
    seasons: Annotated[tuple[Season, ...], MinLen(1)]
    titles: Entries


class Scene(NamedTuple):
    """Seven words that belong together, so that one of them predicts the others."""

    person: Text
    do: Text
    object: Text
    preposition: Text
    place: Text
    event: Text
    quality: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Genre:
    """A genre: what it is called, its scenes, its set phrases, and the sentences that only it can have."""

    name: Text
    labels: Entries
    flavours: Entries
    scenes: Annotated[tuple[Scene, ...], MinLen(4)]
    idioms: Entries
    remarks: Entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Patterns:
    """patterns.yaml: the sentences of each part of a review, with slots for `template.Template` to fill."""

    opening: Entries
    plot: Entries
    setting: Entries
    acting: Entries
    camera: Entries
    music: Entries
    writing: Entries
    closing: Entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Tone:
    """The judging words of one tone: adjectives, adverbs, nouns, verbs after "it", and set phrases."""

    positive: bool
    good: Entries
    well: Entries
    marvel: Entries
    shine: Entries
    verdict: Entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Voices:
    """voices.yaml: how reviewers sound."""

    tones: Annotated[tuple[Tone, ...], MinLen(1)]
    habits: tuple[Annotated[tuple[dict[Text, Text], ...], MinLen(1)], ...]
    numbers: Entries
    joiners: Entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """All texts: one field per file."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
    english: English
    facts: Facts
    genres: Annotated[tuple[Genre, ...], MinLen(1)]
    patterns: Patterns
    voices: Voices


@cache
def texts(folder: Path = Path(__file__).parent) -> Texts:
    """Return the texts in the YAML files of `folder`, which are read once.

    Raises:
        ValueError: an entry is missing, unknown, empty or of another type (pydantic's error names each one).
        YAMLError: a file is not YAML, or has a key twice.
    """
    from pydantic import TypeAdapter  # noqa: PLC0415 - nothing else here needs it
    from ruamel.yaml import YAML  # noqa: PLC0415

    content = {path.stem: YAML(typ="safe", pure=True).load(path) for path in folder.glob("*.yaml")}
    # JSON, because pydantic's strict mode takes a JSON array for a tuple but not a list.
    return TypeAdapter(Texts).validate_json(json.dumps(content), strict=True)
