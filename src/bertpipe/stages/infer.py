"""`infer examples`: the questions of `params.yaml`, answered and compared with the expected answers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bertpipe.core.artifacts import write_json
from bertpipe.core.atomic import check_target_file
from bertpipe.core.errors import BertpipeError, InputError, MissingInputError, ModelError
from bertpipe.core.params import InferParams, MlmExample, NspExample
from bertpipe.core.progress import Progress, ignore_progress
from bertpipe.inference.answers import MlmAnswer
from bertpipe.inference.predictor import Predictor, load_predictor


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
