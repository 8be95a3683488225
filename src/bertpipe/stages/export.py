"""`export`: a trained model as a Hugging Face directory, with its card."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bertpipe.core.artifacts import (
    CARD_NAME,
    EXPORT,
    EXPORT_FACTS_NAME,
    SUMMARY_NAME,
    file_sha256,
    read_json,
    require,
    write_json,
)
from bertpipe.core.errors import DataError, MissingInputError, ModelError
from bertpipe.core.params import ExportParams, InferParams, MlmExample, NspExample
from bertpipe.core.progress import Progress, ignore_note, ignore_progress
from bertpipe.core.stores.directories import fetched, output_directory
from bertpipe.data.tokenization.model_tokenizer import MASK
from bertpipe.data.tokenization.tokenizer import MASK_ID, Tokenizer, load_tokenizer
from bertpipe.export.huggingface import bert_settings, missing_counterpart, save_huggingface
from bertpipe.export.model_card import CardFacts, model_card
from bertpipe.export.space.files import save_space
from bertpipe.model.huggingface.weights import COUNTERPARTS
from bertpipe.model.store import StoredModel, load_model

_FORMAT = "bertpipe-export-1"
_QUESTION = "[MASK]"
_PAIR = ("Sentence A.", "Sentence B.")


def run_export(
    export: ExportParams,
    infer: InferParams,
    *,
    model: Path,
    metrics: Path,
    data: Path,
    out: Path,
    or_card: bool = False,
    space: bool = False,
    on_progress: Callable[[Progress], None] = ignore_progress,
    on_note: Callable[[str], None] = ignore_note,
) -> dict[str, Any]:
    """Write a model as a Hugging Face directory, and return what it holds.

    Args:
        export: facts for the card that no file holds.
        infer: its examples appear in the card.
        model: a bertpipe model directory.
        metrics: the file that `bertpipe evaluate` wrote.
        data: what the model was trained on; the card says less if it is missing, or has changed.
        out: the directory.
        or_card: write the card alone for a network that transformers does not have; else it is an error.
        space: also write the files of a Hugging Face Space that runs on the directory alone.
        on_progress: gets a report for the whole.
        on_note: gets a note on what was left out.

    Raises:
        MissingInputError: the model or its metrics are missing.
        ModelError: the model is not bertpipe's, or damaged, or transformers does not have it.
        DataError: the metrics are not what `bertpipe evaluate` writes.
        WriteError: something else is at `out`, or writing failed.
    """
    on_progress(Progress(label=f"writing {out}", completed=0, total=None, unit="files"))
    model = fetched(model)
    data = _data(data)
    stored = load_model(model)
    reason = missing_counterpart(stored.bert.params)
    if reason is not None:
        advice = (
            f"{model} cannot be a Hugging Face model: {reason}; train with model.architecture: "
            f"{' or '.join(COUNTERPARTS)} for one, or use it as it is with `bertpipe infer --model {model}`"
        )
        if not or_card:
            raise ModelError(advice)
        on_note(f"{advice}; {out} holds only its card")
    tokenizer = load_tokenizer(stored.tokenizer_file)
    facts = _card_facts(stored, tokenizer, infer, metrics=metrics, data=data)
    try:
        card = model_card(export, facts, space=space and reason is None)
    except DataError as error:
        raise DataError(f"{metrics}: {error}: run it again") from error
    with output_directory(out, kind=EXPORT) as staging:
        if reason is None:
            save_huggingface(staging, stored.bert, tokenizer)
            if space:
                title = " ".join(export.title.split())
                save_space(staging, stored.bert, title=title, text=facts.question, pair=facts.pair)
        (staging / CARD_NAME).write_text(card, encoding="utf-8")
        files = sorted(path for path in staging.rglob("*") if path.is_file())
        digests = {path.relative_to(staging).as_posix(): file_sha256(path) for path in files}
        known = {
            "format": _FORMAT,
            "model": asdict(facts.shape),
            "sha256": digests,
            "facts": facts.training,
            "results": facts.results,
            "data": facts.data,
        }
        write_json(staging / EXPORT_FACTS_NAME, known)
    return {
        "directory": str(out),
        "loads_as": None if reason else COUNTERPARTS[stored.bert.params.architecture].name,
        "parameters": facts.parameters,
        "tokenizer": facts.tokenizer,
        "vocabulary": facts.shape.vocab_size,
        "files": [*digests, EXPORT_FACTS_NAME],
    }


def _data(data: Path) -> Path:
    """Return a directory with what there is of the data."""
    try:
        return fetched(data, by_ranges=True)
    except MissingInputError:
        return data


def _card_facts(
    stored: StoredModel, tokenizer: Tokenizer, infer: InferParams, *, metrics: Path, data: Path
) -> CardFacts:
    bert = stored.bert
    asked = [example for example in infer.examples if example.model is None]
    questions = [example.text for example in asked if isinstance(example, MlmExample)]
    pairs = [(example.first, example.second) for example in asked if isinstance(example, NspExample)]
    return CardFacts(
        shape=replace(
            bert.params,
            vocab_size=bert.vocab_size,
            activation=bert.params.activation_name,
            norm_epsilon=bert.params.epsilon,
        ),
        parameters=sum(parameter.numel() for parameter in bert.parameters()),
        tokenizer=type(tokenizer.backend.model).__name__,
        is_bert_tokenizer=bert_settings(tokenizer) is not None,
        training=_without_folders(stored.facts),
        results=read_json(require(metrics, made_by="bertpipe evaluate")),
        results_sha256=file_sha256(metrics),
        data=_without_folders(_summary(data, stored.facts.get("data_sha256"))),
        question=next(iter(questions), _QUESTION).replace(MASK, tokenizer.special_tokens[MASK_ID]),
        pair=next(iter(pairs), _PAIR),
        missing_counterpart=missing_counterpart(bert.params),
    )


def _summary(data: Path, sha256: Mapping[str, str] | None) -> Mapping[str, Any] | None:
    """Return the summary of a data set if its files have these hashes."""
    path = data / SUMMARY_NAME
    if not sha256 or not path.is_file():
        return None
    summary: Mapping[str, Any] = read_json(path)
    return summary if sha256.items() <= summary["sha256"].items() else None


def _without_folders(content: Any) -> Any:  # noqa: ANN401
    """Return facts to publish, with absolute paths of this machine cut to their names."""
    if isinstance(content, str) and Path(content).is_absolute():
        return Path(content).name
    if isinstance(content, Mapping):
        return {name: _without_folders(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_folders(value) for value in content]
    return content
