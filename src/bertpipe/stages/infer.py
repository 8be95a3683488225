"""`infer`: answers to the examples of `params.yaml`, and to the lines of a file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from bertpipe.core.artifacts import write_json
from bertpipe.core.atomic import check_target_file
from bertpipe.core.errors import BertpipeError, InputError, MissingInputError, ModelError
from bertpipe.core.params import InferParams, MlmExample, NspExample
from bertpipe.core.progress import Progress, ignore_progress
from bertpipe.inference.answers import MlmAnswer
from bertpipe.inference.lines import Line, blocks_of_lines, one_input
from bertpipe.inference.predictor import Predictor, load_predictor
from bertpipe.inference.sinks import Answer, Answered, sink_to
from bertpipe.model.device import set_up_cpu

Task = Literal["nsp", "mlm", "score", "embed"]
FIELDS: dict[Task, tuple[str, ...]] = {
    "nsp": ("first", "second"),
    "mlm": ("text",),
    "score": ("text",),
    "embed": ("text",),
}
"""The fields of a line, per task."""
_BLOCK = {"nsp": 4096, "mlm": 4096, "score": 256, "embed": 4096}
"""Lines that are sorted by length together; a score reads a text once per token."""


def run_infer_examples(
    infer: InferParams,
    *,
    model: str | Path,
    out: Path,
    device: str = "auto",
    on_progress: Callable[[Progress], None] = ignore_progress,
) -> dict[str, Any]:
    """Write the answer to each example as JSON and return how many were asked, answered and as expected.

    An example may name its own model. If that cannot be loaded (a hub name without a network), or lacks the head, the
    answer is null, with the reason.

    Raises:
        InputError: no model can answer an example; the message names it.
        MissingInputError: there is no model at `model`, and an example needs it.
        ModelError: it cannot be read.
        WriteError: `out` cannot be written.
    """
    check_target_file(out)
    predictors: dict[str, Predictor | BertpipeError] = {}
    rows: list[dict[str, Any]] = []
    for number, example in enumerate(infer.examples):
        on_progress(Progress(label="asking", completed=number, total=len(infer.examples), unit="examples"))
        name = example.model or str(model)
        if name not in predictors:
            predictors[name] = _load(name, device, may_fail=example.model is not None)
        try:
            rows.append(_ask(example, name, predictors[name], infer.top_k))
        except InputError as error:
            raise InputError(f"infer.examples.{number}: {error}") from error
    on_progress(Progress(label="asking", completed=len(rows), total=len(rows), unit="examples"))
    write_json(out, rows)
    judged = [row["as_expected"] for row in rows if row["as_expected"] is not None]
    return {
        "asked": len(rows),
        "answered": sum(row["answer"] is not None for row in rows),
        "expected": len(judged),
        "as_expected": sum(judged),
        "file": str(out),
    }


def _load(name: str, device: str, *, may_fail: bool) -> Predictor | BertpipeError:
    try:
        return load_predictor(name, device=device)
    except (MissingInputError, ModelError) as error:
        if may_fail:
            return error
        raise


def _ask(
    example: NspExample | MlmExample, name: str, predictor: Predictor | BertpipeError, top_k: int
) -> dict[str, Any]:
    """Return one row of the report."""
    if isinstance(example, NspExample):
        inputs = {"first": example.first, "second": example.second}
    else:
        inputs = {"text": example.text}
    row: dict[str, Any] = {"task": example.task, "inputs": inputs, "model": name}
    answer: Mapping[str, Any] | None = None
    as_expected: bool | None = None
    try:
        if isinstance(predictor, BertpipeError):
            raise predictor
        if isinstance(example, NspExample):
            verdict = predictor.next_sentence(example.first, example.second)
            answer = verdict.to_dict()
            as_expected = None if example.expect is None else verdict.is_next == example.expect
        else:
            filled = predictor.fill_masks(example.text, top_k)
            answer, as_expected = filled.to_dict(), _mlm_as_expected(filled, example.expect)
    except (MissingInputError, ModelError) as error:
        if example.model is None:
            raise
        row["reason"] = str(error)
    return row | {"answer": answer, "expect": example.expect, "as_expected": as_expected}


def _mlm_as_expected(answer: MlmAnswer, expect: str | None) -> bool | None:
    """Return whether the expected word is among the candidates for the first mask, capitals aside."""
    if expect is None:
        return None
    return expect.casefold() in (candidate.token.casefold() for candidate in answer.masks[0].candidates)


def run_infer_lines(
    task: Task,
    *,
    model: str,
    source: str | tuple[str, ...],
    out: Path | None,
    top_k: int = 5,
    device: str = "auto",
    on_progress: Callable[[Progress], None] = ignore_progress,
) -> dict[str, Any]:
    """Write the answer to each line of `source`, in order, and return the counts of lines and answers.

    A line without an answer gets the reason instead.

    Args:
        task: the question.
        model: a bertpipe or Hugging Face directory, or a hub name.
        source: a file, or `-` for standard input, see `blocks_of_lines`; or the fields of a single input.
        out: a file; None is standard output. See `sink_to`.
        top_k: candidates per `[MASK]`, for `mlm`.
        device: `auto`, `cpu` or `cuda`.
        on_progress: gets a report after each block.

    Raises:
        MissingInputError: the file or the model is missing.
        ModelError: the model cannot be read, lacks the head, or its answer is not finite.
        WriteError: the output cannot be written.
    """
    set_up_cpu("auto")
    predictor = load_predictor(model, device=device)
    if task != "embed":
        predictor.model.require_head("nsp" if task == "nsp" else "mlm")
    asker = _asker(task, predictor, top_k)
    width = predictor.bert.params.embedding_dim if task == "embed" else None
    lines = failed = 0
    first_error: str | None = None
    with sink_to(out, width=width) as sink:
        for block in _blocks(source, task):
            answered = asker.answer(block)
            sink.write(answered)
            errors = [f"line {row.line.number}: {row.error}" for row in answered if row.answer is None]
            first_error = first_error or (errors[0] if errors else None)
            lines, failed = lines + len(block), failed + len(errors)
            on_progress(Progress(label="answering", completed=lines, total=None, unit="lines"))
    facts: dict[str, Any] = {"lines": lines, "answered": lines - failed, "failed": failed}
    return facts | {"first_error": first_error, "file": None if out is None else str(out)}


def _blocks(source: str | tuple[str, ...], task: Task) -> Iterator[list[Line]]:
    if isinstance(source, tuple):
        yield [one_input(source, FIELDS[task])]
    else:
        yield from blocks_of_lines(source, FIELDS[task], size=_BLOCK[task])


@dataclass(frozen=True, slots=True)
class _Asker:
    """A task: how to turn a line into a question, and how to answer a batch of questions."""

    ask: Callable[..., Any]
    answer_all: Callable[[Sequence[Any]], Sequence[Answer]]

    def answer(self, block: Sequence[Line]) -> list[Answered]:
        """Return each line with its answer, or the reason why there is none."""
        questions: dict[int, Any] = {}
        errors = {index: line.error for index, line in enumerate(block) if line.error is not None}
        for index, line in enumerate(block):
            if index in errors:
                continue
            try:
                questions[index] = self.ask(*line.values)
            except InputError as error:
                errors[index] = str(error)
        answers = dict(zip(questions, self.answer_all(list(questions.values())), strict=True)) if questions else {}
        return [
            Answered(line=line, answer=answers.get(index), error=errors.get(index)) for index, line in enumerate(block)
        ]


def _asker(task: Task, predictor: Predictor, top_k: int) -> _Asker:
    if task == "nsp":
        return _Asker(predictor.ask_nsp, predictor.answer_nsp)
    if task == "mlm":
        return _Asker(partial(predictor.ask_mlm, top_k=top_k), predictor.answer_mlm)
    if task == "score":
        return _Asker(predictor.ask_score, predictor.answer_scores)
    return _Asker(predictor.ask_embedding, predictor.answer_embeddings)
