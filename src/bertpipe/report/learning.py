"""The section on what a model learned over time: the same questions, answered after each epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bertpipe.data.tokenization.tokenizer import Tokenizer
from bertpipe.report.content import Rows, Section, Sentence, Table, Text, Token, both_sentences, shown_tokens

_MOST_EPOCHS = 8
_RIGHT = "✓"


def learning_section(content: Mapping[str, Any] | None, tokenizer: Tokenizer) -> Section:
    """Return the questions, and a table of the first guesses.

    Args:
        content: what `bertpipe train` wrote to `answers.json`; None without it.
        tokenizer: the model's.
    """
    section = Section(name="learning", title="What it learned over time")
    if content is not None:
        add_answers(section, {"": content}, tokenizer)
    return section


def add_answers(section: Section, runs: Mapping[str, Mapping[str, Any]], tokenizer: Tokenizer) -> None:
    """Add the questions, and a table of the first guesses of each run by its name; all were asked the same."""
    questions = next(iter(runs.values()))["questions"]
    numbers = sorted({epoch["epoch"] for content in runs.values() for epoch in content["epochs"]})
    if not questions or not numbers:
        section.blocks.append(Text(text="No row of the first held-out rows hides a word, so there was nothing to ask."))
        return
    epochs = _some(numbers)
    answers = {name: {epoch["epoch"]: epoch["answers"] for epoch in runs[name]["epochs"]} for name in runs}
    true = [_word(question["label"], tokenizer) for question in questions]
    section.blocks.append(
        Rows(
            title="The same questions after each epoch",
            note="Held-out rows as they are stored. Marked: the hidden word that is asked for, and after the arrow the "
            "true one.",
            rows=[
                (f"question {number}", _sentences(each, tokenizer)) for number, each in enumerate(questions, start=1)
            ],
        )
    )
    section.blocks.append(
        Table(
            caption=f"The first guess after each epoch, with its probability; {_RIGHT}: it is the true word",
            columns=("question", "true word", *(["run"] if len(runs) > 1 else []), *(f"epoch {at}" for at in epochs)),
            rows=[
                (
                    number + 1,
                    true[number],
                    *([name] if len(runs) > 1 else []),
                    *(_guess(given[at][number], question, tokenizer) if at in given else None for at in epochs),
                )
                for number, question in enumerate(questions)
                for name, given in answers.items()
            ],
        )
    )


def _some(epochs: Sequence[int]) -> Sequence[int]:
    """Return at most `_MOST_EPOCHS` epochs from the whole training, the last one included."""
    places = np.linspace(0, len(epochs) - 1, num=min(len(epochs), _MOST_EPOCHS)).round().astype(int).tolist()
    return [epochs[place] for place in places]


def _sentences(question: Mapping[str, Any], tokenizer: Tokenizer) -> list[Sentence]:
    asked, second = question["position"], question["second_segment_start"]
    read = shown_tokens(question["token_ids"], tokenizer)
    tokens = [
        Token(text=each.text, joins=each.joins, answer=_word(question["label"], tokenizer) if place == asked else None)
        for place, each in enumerate(read)
    ]
    return both_sentences(tokens, second)


def _guess(answer: Sequence[Mapping[str, Any]], question: Mapping[str, Any], tokenizer: Tokenizer) -> str:
    first = answer[0]
    right = f" {_RIGHT}" if first["token_id"] == question["label"] else ""
    return f"{_word(first['token_id'], tokenizer)} {100 * first['probability']:.0f} %{right}"


def _word(token_id: int, tokenizer: Tokenizer) -> str:
    return shown_tokens([token_id], tokenizer)[0].text
