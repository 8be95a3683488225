"""What a report holds, before it is a page: sections of paragraphs, tables, pictures and rows of text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from bertpipe.data.pair_dataset import PairDataset
from bertpipe.data.tokenization.tokenizer import Tokenizer

Cell = str | int | float | None
Spec = Mapping[str, Any]
"""A Vega-Lite specification."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A paragraph; or, with `is_code`, lines of a terminal."""

    kind: ClassVar[str] = "text"
    text: str
    is_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of cells; an integer has separators, other numbers four significant digits."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    is_open: bool = True
    """Whether it shows without a click."""

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers alone."""
        return [
            all(cell is None or isinstance(cell, int | float) for cell in column)
            for column in zip(*self.rows, strict=True)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A chart, what it shows in words, and its numbers."""

    kind: ClassVar[str] = "picture"
    name: str
    title: str
    alternative: str
    spec: Spec
    table: Table
    is_wide: bool = False
    """Whether it needs more than a phone's width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A piece of a text as a reader sees it."""

    text: str
    joins: bool
    """Whether it continues the word before it."""
    answer: str | None = None
    """The true word where the model has to guess."""
    guess: str | None = None
    """What the model guesses there, where that is the matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """One sentence of a row, or a text alone."""

    name: str
    """`A` or `B`."""
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of data as text, each with a remark."""

    kind: ClassVar[str] = "rows"
    title: str
    note: str
    rows: Sequence[tuple[str, Sequence[Sentence]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionExample:
    """One input and all its attention weights."""

    name: str
    tokens: tuple[str, ...]
    percent: Sequence[Sequence[Sequence[Sequence[int]]]]
    """By layer, head, and the token that attends: whole percents for each token that it attends to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """A chart in which the reader chooses example, layer and head."""

    kind: ClassVar[str] = "attention"
    name: ClassVar[str] = "attention"
    examples: Sequence[AttentionExample]
    spec: Spec


Block = Text | Table | Picture | Rows | Attention


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One part of a report."""

    name: str
    title: str
    blocks: list[Block] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """What is missing, and why."""


def pairs(facts: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    """Return facts as the rows of a table."""
    return [(name, as_cell(value)) for name, value in facts.items()]


def as_cell(value: Any) -> Cell:  # noqa: ANN401
    """Return any value as a cell."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return value if isinstance(value, str | int | float) else str(value)


def sentences_of(data: PairDataset, tokenizer: Tokenizer, guesses: Mapping[int, str] | None = None) -> list[Sentence]:
    """Return the two sentences of the one row in `data`, as the model reads them with the stored masks.

    `guesses` are words by their position.
    """
    ids = data.token_ids.copy()
    ids[data.masked_positions] = data.masked_inputs
    asked = dict(zip(data.masked_positions.tolist(), data.masked_labels.tolist(), strict=True))
    second = int(data.second_segment_start[0])
    read = shown_tokens(ids.tolist(), tokenizer)
    true = shown_tokens([asked.get(place) or 0 for place in range(len(ids))], tokenizer)
    tokens = [
        Token(
            text=token.text,
            joins=token.joins,
            answer=answer.text if asked.get(place) else None,
            guess=(guesses or {}).get(place),
        )
        for place, (token, answer) in enumerate(zip(read, true, strict=True))
    ]
    return both_sentences(tokens, second)


def both_sentences(tokens: Sequence[Token], second: int) -> list[Sentence]:
    """Return A and B of a row without its special tokens; B begins at position `second`."""
    return [
        Sentence(name="A", tokens=tuple(tokens[1 : second - 1])),
        Sentence(name="B", tokens=tuple(tokens[second:-1])),
    ]


def shown_tokens(ids: Sequence[int], tokenizer: Tokenizer) -> list[Token]:
    """Return ids as the text that they stand for."""
    pieces, known = tokenizer.pieces, len(tokenizer.continues_word)
    joins = [index > 0 and known > at and bool(tokenizer.continues_word[at]) for index, at in enumerate(ids)]
    return [
        Token(text=pieces.text(token).decode("utf-8", errors="replace").strip() or token, joins=joined)
        for token, joined in zip(tokenizer.tokens(np.asarray(ids).tolist()), joins, strict=True)
    ]
