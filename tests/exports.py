"""Models with tokenizers of both kinds, and their exports, for tests of `export`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertpipe.core.artifacts import write_json
from bertpipe.core.params import ExportParams, InferParams, MlmExample, NspExample
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer, word_level_tokenizer
from bertpipe.data.tokenization.wordpiece import wordpiece_tokenizer
from bertpipe.model.bert import Bert
from bertpipe.model.store import save_model
from bertpipe.stages.export import run_export
from models import tiny_bert

EXPORT = ExportParams(title="A BERT\nfor | tests", license="mit", language="en")
INFER = InferParams(
    top_k=3,
    examples=(
        MlmExample(task="mlm", model="somebody/else", text="not this [MASK]"),
        MlmExample(task="mlm", text="the cat's [MASK]"),
        NspExample(task="nsp", first='the "cat" sat', second="on the mat"),
    ),
)
METRICS: dict[str, Any] = {
    "mlm": {
        "tokens": 1234,
        "model": {
            "loss": 2.5, "perplexity": 12.25, "bits_per_byte": 0.5, "top1_accuracy": 0.375, "top5_accuracy": 0.625,
        },
        "constant": {"loss": 6.5, "top1_accuracy": 0.0625, "top5_accuracy": 0.25},
        "two_neighbours": {"top1_accuracy": 0.40625},
    },
    "nsp": {
        "rows": 567,
        "model": {
            "loss": 0.1875, "accuracy": 0.9375,
            "confusion": {
                "next_called_next": 1, "next_called_not": 2, "not_called_not": 3, "not_called_next": 4,
            },
        },
        "sentence_b_alone": {"accuracy": 0.5},
        "word_overlap": {"accuracy": 0.59375},
    },
}  # fmt: skip
"""Two neighbours do better than the model, and nothing else does."""
WORDS = ("the", "cat", "sat", "on", "mat", ".", ",", "'", "s", "dog", "é", "[unknown-15]", "?", "x")
PIECES = (
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "on", "mat", ".", ",", "'", "s", '"', "<", ">",
    "/", "br", "e", "##s", "##é", "caf", "un", "##e", "?", "dog", "x", "##x",
)  # fmt: skip
"""Hugging Face's order of the special tokens is not ours."""


def word_tokenizer() -> Tokenizer:
    return word_level_tokenizer([*SPECIAL_TOKENS, *WORDS])


def piece_tokenizer(*, lowercase: bool = True, strip_accents: bool = False) -> Tokenizer:
    return wordpiece_tokenizer(PIECES, lowercase=lowercase, strip_accents=strip_accents)


def save_model_with(
    directory: Path,
    tokenizer: Tokenizer,
    facts: Mapping[str, Any] | None = None,
    *,
    nameless_ids: int = 0,
    **changes: Any,  # noqa: ANN401
) -> Bert:
    """Write a model directory of ours and return its network."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    file = directory.parent / f"{directory.name}-tokenizer.json"
    tokenizer.save(file)
    bert = tiny_bert(vocab_size=tokenizer.vocab_size + nameless_ids, **changes)
    save_model(directory, bert, file, facts=facts or {})
    return bert


def export_of(model: Path, **changes: Any) -> tuple[Path, dict[str, Any]]:  # noqa: ANN401
    """Export a model beside it, with made-up metrics, and return the directory and what the stage returned."""
    metrics = model.parent / "metrics.json"
    if not metrics.exists():
        write_json(metrics, METRICS)
    options = {"metrics": metrics, "data": model.parent / "none", "out": model.parent / f"{model.name}-hf"}
    result = run_export(
        changes.pop("export", EXPORT), changes.pop("infer", INFER), model=model, **(options | changes)
    )  # fmt: skip
    return Path(result["directory"]), result
