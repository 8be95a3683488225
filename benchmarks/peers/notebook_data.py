"""The notebook's own way from reviews to rows, step by step, with the truth that its zip does not tell."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row, and what it really holds."""

    fields: list[str]
    true: list[int]
    """`[CLS] A [SEP] B [SEP]` without padding and masks."""
    follows: int
    """How many sentences after A the sentence B stands; negative before it."""


@dataclass(frozen=True, kw_only=True)
class Notebook:
    """The reviews of both splits as the notebook turns them into rows."""

    vocabulary: list[str]
    rows: dict[str, list[Row]]


def words_of(text: str) -> list[str]:
    """Return the words of torchtext's `basic_english`."""
    text = text.lower()
    for old, new in (
        ("'", " '  "), ('"', ""), (".", " . "), ("<br />", " "), (",", " , "), ("(", " ( "), (")", " ) "),
        ("!", " ! "), ("?", " ? "), (";", " "), (":", " "),
    ):  # fmt: skip
        text = text.replace(old, new)
    return text.split()


def sentences_of(text: str) -> list[list[str]]:
    """Return the sentences that the notebook keeps."""
    sentences, current = [], []
    for word in words_of(text):
        current.append(word)
        if word in {".", "?", "!"}:
            if len(current) > 2:
                sentences.append(current)
            current = []
    return [*sentences, current] if current else sentences


def notebook(train: Sequence[str], test: Sequence[str], *, without_rows: int = 0, seed: int = 1) -> Notebook:
    """Return the rows of reviews; of the first `without_rows` training reviews only the vocabulary knows."""
    counts = Counter(word for text in train for word in words_of(text))
    vocabulary = [*SPECIAL, *sorted(counts, key=lambda word: (-counts[word], word))]
    ids = {word: number for number, word in enumerate(vocabulary)}
    chance = random.Random(seed)  # noqa: S311
    return Notebook(
        vocabulary=vocabulary,
        rows={
            split: [row for text in texts for row in _rows(text, ids, chance)]
            for split, texts in (("train", train[without_rows:]), ("test", test))
        },
    )


def _rows(text: str, ids: dict[str, int], chance: random.Random) -> list[Row]:
    sentences = [[ids.get(word, 4) for word in sentence] for sentence in sentences_of(text)]
    left, rows = list(range(len(sentences))), []
    while len(left) >= 2:
        if chance.random() < 0.5:
            first = chance.choice(left[:-1])
            second, is_next = first + 1, 1
        else:
            (first, second), is_next = chance.sample(left, 2), 0
        left = [number for number in left if number not in {first, second}]
        rows.append(_row(text, sentences[first], sentences[second], second - first, is_next, len(ids), chance))
    return rows


def _row(
    text: str, first: list[int], second: list[int], follows: int, is_next: int, size: int, chance: random.Random
) -> Row:
    halves = [([1, *first, 2], 1), ([*second, 2], 2)]
    width = max(len(half) for half, _ in halves)
    inputs, labels, segments = [], [], []
    for half, segment in halves:
        masked = [_masked(token, size, chance) if token > 2 else (token, 0) for token in half]
        padding = [0] * (width - len(half))
        inputs += [token for token, _ in masked] + padding
        labels += [label for _, label in masked] + padding
        segments += [segment] * len(half) + padding
    fields = [text, json.dumps(inputs), json.dumps(labels), ",".join(map(str, segments)), str(is_next)]
    return Row(fields=fields, true=[1, *first, 2, *second, 2], follows=follows)


def _masked(token: int, size: int, chance: random.Random) -> tuple[int, int]:
    """Return what the model reads and what it should say: a fifth is chosen, a quarter of that with a random label."""
    if chance.random() >= 0.2:
        return token, 0
    fate = chance.random()
    if fate < 0.5:
        return 3, token
    return (token, token) if fate < 0.75 else (3, chance.randrange(size))
