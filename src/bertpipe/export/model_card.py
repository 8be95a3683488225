"""The model card of an exported model: front matter for the hub, and Markdown for its readers."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from bertpipe.core.artifacts import NSP_FOLDER
from bertpipe.core.errors import DataError
from bertpipe.core.params import ExportParams, ModelParams
from bertpipe.export.space.files import SPACE_METADATA
from bertpipe.model.huggingface.weights import COUNTERPARTS

_TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
_TAGS = ("bert", "masked-language-modeling", "next-sentence-prediction", "pretraining", "bertpipe")
_COLUMNS = {
    "mlm": ("loss", "perplexity", "bits_per_byte", "top1_accuracy", "top5_accuracy"),
    "nsp": ("loss", "accuracy"),
}
_TASKS = {
    "mlm": ("fill-mask", "Masked-language modelling"),
    "nsp": ("text-classification", "Next-sentence prediction"),
}
_METRIC_TYPES = {"perplexity": "perplexity", "top1_accuracy": "accuracy", "accuracy": "accuracy"}
_JUDGED = {"mlm": "top1_accuracy", "nsp": "accuracy"}
"""The figure of each task that every predictor has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """The facts on a model card."""

    shape: ModelParams
    """With every `auto` resolved."""
    parameters: int
    """Number of weights."""
    tokenizer: str
    """Kind of its tokenizer: `WordPiece`, `WordLevel`, ..."""
    is_bert_tokenizer: bool
    """Whether `BertTokenizer` gives its ids."""
    training: Mapping[str, Any]
    """What the model's config.json says about its training; may be empty."""
    results: Mapping[str, Any]
    """The output of `bertpipe evaluate`."""
    results_sha256: str
    """Of the file with the results."""
    data: Mapping[str, Any] | None
    """The summary of the training data; None if they are not available."""
    question: str
    """A text with `[MASK]`, for the example."""
    pair: tuple[str, str]
    """Sentences A and B, for the example."""
    missing_counterpart: str | None
    """Why the directory holds no weights; None if it does."""

    @property
    def is_generated(self) -> bool:
        """Whether the data are generated text."""
        return self.data is not None and self.data["source"].get("generated") is True


def model_card(export: ExportParams, facts: CardFacts, *, space: bool = False) -> str:
    """Return the whole README.md; with `space`, a Hugging Face Space can read it too.

    Raises:
        DataError: the results are not what `bertpipe evaluate` writes.
    """
    try:
        tables = {task: dict(_predictors(facts.results[task])) for task in _TASKS}
        evaluated = [result for task in _TASKS for result in _eval_results(task, tables[task], facts)]
        counts = {"mlm": facts.results["mlm"]["tokens"], "nsp": facts.results["nsp"]["rows"]}
        remarks = [remark for task in _TASKS for remark in _remarks(task, tables[task])]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"it is not what `bertpipe evaluate` writes ({error!r})") from error
    front = _front_matter(export, evaluated, is_loadable=facts.missing_counterpart is None, space=space)
    counterpart = COUNTERPARTS.get(facts.shape.architecture)
    body = (
        _environment()
        .from_string(_TEMPLATE.read_text(encoding="utf-8"))
        .render(
            title=_one_line(export.title),
            facts=facts,
            space=space,
            class_name=counterpart.name if counterpart else None,
            nsp_folder=NSP_FOLDER if counterpart and counterpart.nsp_class else None,
            tables=tables,
            columns=_COLUMNS,
            counts=counts,
            remarks=remarks,
        )
    )
    return f"---\n{front}\n---\n\n{body.strip()}\n"


def _front_matter(export: ExportParams, evaluated: list[EvalResult], *, is_loadable: bool, space: bool) -> str:
    """Return what the hub reads of the card, as YAML."""
    more: dict[str, Any] = {"title": _one_line(export.title), **SPACE_METADATA} if space else {}
    data = ModelCardData(
        language=export.language,
        license=export.license,
        library_name="transformers" if is_loadable else "bertpipe",
        pipeline_tag="fill-mask" if is_loadable else None,
        tags=list(_TAGS),
        model_name=_one_line(export.title),
        eval_results=evaluated or None,
        **more,
    )
    return data.to_yaml().strip()


def _eval_results(task: str, table: Mapping[str, Any], facts: CardFacts) -> Iterator[EvalResult]:
    """Yield the model's figures of a task in the form of the hub's index of results."""
    kind, name = _TASKS[task]
    digests = facts.training.get("data_sha256", {})
    test = "test" if "test" in digests else "test.parquet"  # shards, or one file
    for figure in _COLUMNS[task]:
        value = (table["model"] or {}).get(figure)
        if value is not None:
            yield EvalResult(
                task_type=kind,
                task_name=name,
                dataset_type="custom",
                dataset_name=f"{test} (SHA-256 {digests[test]})" if test in digests else test,
                dataset_split="test",
                metric_type=_METRIC_TYPES.get(figure, figure),
                metric_name=figure.replace("_", " "),
                metric_value=value,
            )


def _predictors(task: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    """Yield each predictor of a task with its figures, the model first, with None if it lacks the head."""
    yield "model", task["model"]
    yield from ((name, figures) for name, figures in task.items() if name != "model" and isinstance(figures, Mapping))


def _remarks(task: str, table: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence about each simple predictor that is as good as the model."""
    figure, (_, name) = _JUDGED[task], _TASKS[task]
    own = (table["model"] or {}).get(figure)
    for predictor, figures in table.items():
        other = None if predictor == "model" else figures.get(figure)
        if own is not None and other is not None and other >= own:
            yield (
                f"{name}: *{predictor.replace('_', ' ')}* reaches {other:.4f} and the model {own:.4f}, so this figure "
                "shows nothing that counting words does not."
            )


def _environment() -> jinja2.Environment:
    """Return the template's environment; Markdown is not HTML: only what would end a table's cell is escaped."""
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False  # noqa: S701
    )  # fmt: skip
    environment.filters |= {
        "figure": _figure,
        "cell": lambda value: _one_line(value).replace("|", "\\|"),
        "words": lambda name: name.replace("_", " "),
        "string": partial(json.dumps, ensure_ascii=False),
    }
    environment.globals["asdict"] = asdict
    return environment


def _figure(value: float | None) -> str:
    """Return a count or a figure as a table shows it; nothing for None."""
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _one_line(value: object) -> str:
    return " ".join(str(value).split())
