"""The sections about a model: where it is right and wrong, what it attends to, and what it knows about words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertpipe.data.pair_dataset import PairSource
from bertpipe.data.tokenization.tokenizer import Tokenizer
from bertpipe.evaluation.breakdown import (
    Bucket,
    PairVerdicts,
    TokenGuesses,
    by_value,
    confident_mistakes,
    nsp_cells,
    row_at,
)
from bertpipe.inference.attention import head_habits
from bertpipe.inference.words import nearest, plane
from bertpipe.report.charts import attention_map, bar_chart, word_map
from bertpipe.report.content import (
    Attention,
    AttentionExample,
    Picture,
    Rows,
    Section,
    Table,
    Text,
    sentences_of,
    shown_tokens,
)

_FREQUENCIES = (0, 1, 10, 100, 1000, 10_000, 100_000, 1_000_000)
_POSITION_RANGES = 12
_SHOWN_MISTAKES = 12
_SHOWN_PAIRS = 2
_MAP_WORDS = 120
_ASKED_WORDS = 12
_SKIPPED_WORDS = 30
"""The most frequent words, most of which are function words."""
_KNOWN_WORDS = 20_000
"""Words among which neighbours are looked for, the most frequent ones."""
_NEIGHBOURS = 6


def mistakes_section(
    tokens: TokenGuesses,
    verdicts: PairVerdicts,
    *,
    test: PairSource,
    tokenizer: Tokenizer,
    counts: NDArray[np.int64],
    heads: Sequence[str],
) -> Section:
    """Return where a model is right and wrong on a split.

    Args:
        tokens: its guesses.
        verdicts: its verdicts on the pairs.
        test: the split.
        tokenizer: the data's.
        counts: how often each id stands in the training split, [vocab].
        heads: those that the model has; of others nothing is said.
    """
    section = Section(name="mistakes", title="Where it is right and wrong")
    if "mlm" in heads and len(tokens.row):
        section.blocks.extend(
            (
                _buckets(
                    "frequency",
                    "Masked words by how often the word stands in the training split",
                    "times in the training split",
                    by_value(counts[tokens.label], tokens.is_right, _FREQUENCIES),
                ),
                _buckets(
                    "position",
                    "Masked words by their position in the row",
                    "position in the row",
                    by_value(tokens.position, tokens.is_right, _position_ranges(int(tokens.position.max()))),
                ),
                _mistakes(tokens, test, tokenizer),
            )
        )
    if "nsp" in heads and len(verdicts.is_next):
        section.blocks.extend(_pairs(verdicts, test, tokenizer))
    return section


def _position_ranges(longest: int) -> range:
    return range(1, longest + 1, max(1, -(-longest // _POSITION_RANGES)))


def _buckets(name: str, title: str, values: str, buckets: Sequence[Bucket]) -> Picture:
    """Return the accuracy in some ranges as a picture."""
    bars = [(_range(bucket), bucket.accuracy, bucket.tokens) for bucket in buckets]
    said = "; ".join(f"{label}: {100 * share:.1f} % of {count:,}" for label, share, count in bars)
    return Picture(
        name=name,
        title=title,
        alternative=f"{title}, bar chart: the share that the first guess finds. {said}.",
        spec=bar_chart(bars, x=values, y="found by the first guess", counted="masked tokens"),
        table=Table(
            caption=f"{title}: the numbers",
            columns=(values, "masked tokens", "found", "accuracy"),
            rows=[(_range(bucket), bucket.tokens, bucket.right, bucket.accuracy) for bucket in buckets],
            is_open=False,
        ),
    )


def _range(bucket: Bucket) -> str:
    if bucket.last is None:
        return f"{bucket.first:,} or more"
    return f"{bucket.first:,}" if bucket.last == bucket.first else f"{bucket.first:,} to {bucket.last:,}"


def _mistakes(tokens: TokenGuesses, test: PairSource, tokenizer: Tokenizer) -> Rows | Text:
    worst = confident_mistakes(tokens, len(tokens.row))
    _, first = np.unique(tokens.row[worst], return_index=True)
    rows = []
    for index in worst[np.sort(first)][:_SHOWN_MISTAKES].tolist():  # of each row its surest
        guess, label = (shown_tokens([int(ids[index])], tokenizer)[0].text for ids in (tokens.guess, tokens.label))
        chances = (100 * tokens.probability[index], 100 * tokens.label_probability[index])
        remark = f"guessed “{guess}” with {chances[0]:.1f} %; the true word “{label}” has {chances[1]:.2g} %"
        row, position = row_at(test, int(tokens.row[index])), int(tokens.position[index])
        rows.append((remark, sentences_of(row, tokenizer, {position: guess})))
    if not rows:
        return Text(text="The model guesses every masked word of the test split.")
    return Rows(
        title="The most confident wrong guesses",
        note="On the test split, the surest first, and of each row one.",
        rows=rows,
    )


def _pairs(verdicts: PairVerdicts, test: PairSource, tokenizer: Tokenizer) -> list[Table | Rows]:
    cells = nsp_cells(verdicts, _SHOWN_PAIRS)
    names = {True: "next", False: "not next"}
    counts = {(cell.is_next, cell.called_next): cell.rows for cell in cells}
    rows = [
        (
            f"is {names[cell.is_next]}, called {names[cell.called_next]}: "
            f"{100 * verdicts.probability_next[number]:.1f} % next",
            sentences_of(row_at(test, number), tokenizer),
        )
        for cell in cells
        for number in cell.surest
    ]
    return [
        Table(
            caption="Next sentence: pairs of the test split by what they are and what the model calls them",
            columns=("", "called next", "called not next"),
            rows=[(f"is {names[is_next]}", counts[is_next, True], counts[is_next, False]) for is_next in (True, False)],
        ),
        Rows(
            title="The surest verdicts of each kind",
            note="How probable the model finds it that B follows A.",
            rows=rows,
        ),
    ]


def attention_section(
    inputs: Mapping[str, Sequence[str]], weights: Sequence[NDArray[np.float64]], separator: str
) -> Section:
    """Return what a model attends to on some inputs.

    Args:
        inputs: by name, the tokens of each input.
        weights: of each input, [layers, heads, seq, seq].
        separator: the token between sentences.
    """
    section = Section(name="attention", title="What it looks at")
    if not inputs:
        return section
    examples = [
        AttentionExample(name=name, tokens=tuple(tokens), percent=np.rint(100 * of_input).astype(int).tolist())
        for (name, tokens), of_input in zip(inputs.items(), weights, strict=True)
    ]
    section.blocks.append(Attention(examples=examples, spec=attention_map()))
    for example, of_input in zip(examples, weights, strict=True):
        habits = head_habits(of_input, np.array([token == separator for token in example.tokens]))
        section.blocks.append(
            Table(
                caption=f"Mean attention of each head on “{example.name}”, in percent",
                columns=("layer", "head", "first token", "separators", "itself", "token before", "token after"),
                rows=[
                    (one.layer, one.head, *(
                        f"{100 * share:.0f}"
                        for share in (one.to_first, one.to_separators, one.to_itself, one.to_previous, one.to_next)
                    ))
                    for one in habits
                ],
                is_open=False,
            )
        )  # fmt: skip
    return section


@dataclass(frozen=True, slots=True, kw_only=True)
class WordVectors:
    """The embeddings of words, the most frequent first."""

    words: Sequence[str]
    vectors: NDArray[np.float64]
    """Shape [words, hidden]."""
    by_frequency: bool
    """Whether frequencies are known; else the words are in the order of their ids."""


def words_section(known: WordVectors) -> Section:
    """Return what a model's embeddings say about words."""
    section = Section(name="words", title="What it knows about words")
    known_words, vectors = list(known.words[:_KNOWN_WORDS]), known.vectors[:_KNOWN_WORDS]
    if len(known_words) <= 1:
        return section
    if not known.by_frequency:
        section.blocks.append(
            Text(text="Without the training data the words are in the order of their ids, not of their frequency.")
        )
    skipped = _SKIPPED_WORDS if len(known_words) > 2 * _SKIPPED_WORDS else 0
    asked = list(range(skipped, min(len(known_words), skipped + 10 * _ASKED_WORDS)))
    asked = asked[:: max(1, len(asked) // _ASKED_WORDS)][:_ASKED_WORDS]
    near = nearest(vectors, asked, _NEIGHBOURS)
    section.blocks.append(
        Table(
            caption="Nearest neighbours: the words whose embeddings have the highest cosine",
            columns=("word", "its neighbours, the nearest first"),
            rows=[
                (known_words[index], ", ".join(f"{known_words[other]} {cosine:.2f}" for other, cosine in others))
                for index, others in zip(asked, near, strict=True)
            ],
        )
    )
    section.blocks.append(_map(known_words[skipped:][:_MAP_WORDS], vectors[skipped:][:_MAP_WORDS]))
    return section


def _map(words: Sequence[str], vectors: NDArray[np.float64]) -> Picture:
    points, share = plane(vectors)
    placed = [(word, float(f"{x:.3g}"), float(f"{y:.3g}")) for word, (x, y) in zip(words, points.tolist(), strict=True)]
    title = f"A map of {len(words)} frequent words"
    return Picture(
        name="map",
        title=title,
        alternative=f"{title}: their embeddings on the two directions in which they differ most, which hold "
        f"{100 * share:.0f} % of their variance. Words that are near each other are in the table of neighbours.",
        spec=word_map(placed),
        table=Table(
            caption=f"{title}: the places",
            columns=("word", "first component", "second component"),
            rows=placed,
            is_open=False,
        ),
        is_wide=True,
    )
