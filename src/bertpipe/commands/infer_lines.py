"""`infer` on many inputs: one row per input line, in order; a line without an answer gets the reason instead."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from bertpipe.core.errors import InputError
from bertpipe.core.progress import Progress, ignore_progress
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
    """Write the answer to each line of `source`, and return the counts of lines and answers.

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
