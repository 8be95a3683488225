"""`evaluate`: a trained model on the test split, beside simple predictors on the same rows."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertpipe.artifacts import (
    SPLITS,
    TOKENIZER_NAME,
    Progress,
    file_sha256,
    ignore_progress,
    require_data,
    write_json,
)
from bertpipe.baselines import (
    constant_predictor,
    second_sentence_accuracy,
    two_neighbour_accuracy,
    word_overlap_accuracy,
)
from bertpipe.data.batching import Batcher
from bertpipe.data.dataset import PairFile
from bertpipe.data.tokenization import Tokenizer, load_tokenizer
from bertpipe.errors import ModelError
from bertpipe.evaluation import Evaluation, evaluate
from bertpipe.model.device import pick_device, set_up_cpu
from bertpipe.model.store import StoredModel, load_model
from bertpipe.params import EvaluateParams, RuntimeParams

if TYPE_CHECKING:
    import pandas as pd


def run_evaluate(
    evaluation: EvaluateParams,
    runtime: RuntimeParams,
    *,
    model: Path,
    data: Path,
    out: Path,
    on_progress: Callable[[Progress], None] = ignore_progress,
) -> dict[str, Any]:
    """Write the metrics of a model to `out` and return them.

    Raises:
        MissingInputError: the model or the data are not there.
        DataError: a split has no rows, or a row that breaks the contract.
        ModelError: the model was trained with another tokenizer than the data's, reads no rows as long as theirs, or
            its losses are not finite.
    """
    stored = load_model(model)
    tokenizer = _tokenizer(stored, model, data)
    train, test = (PairFile(data / f"{split}.parquet") for split in SPLITS)
    for split in (train, test):
        split.check(tokenizer.vocab_size)
    _check_fit(stored, test, model, data)
    on_progress(Progress(label="evaluating the model", completed=0, total=None, unit="rows"))
    result = _evaluated(stored, test, tokenizer, evaluation, runtime)
    losses = (result.mlm_loss, result.nsp_loss)
    if not all(math.isfinite(loss) for loss in losses if loss is not None):
        raise ModelError(
            f"{model} has the MLM loss {losses[0]} and the NSP loss {losses[1]} on {data}: its weights are no numbers, "
            f"or too large; train it again with a lower train.learning_rate"
        )
    on_progress(Progress(label="counting for the simple predictors", completed=0, total=None, unit="rows"))
    metrics = _metrics(result, train, test, tokenizer, vocab_size=stored.bert.vocab_size)
    write_json(out, metrics)
    return metrics


def comparison(metrics: Mapping[str, Any], task: str) -> "pd.DataFrame":
    """Return one table for a task (`mlm`, `nsp`): a row a predictor, a column a figure; NaN where it has none."""
    import pandas as pd  # noqa: PLC0415

    predictors = {name: figures for name, figures in metrics[task].items() if isinstance(figures, Mapping)}
    rows = {
        name.replace("_", " "): {k: v for k, v in figures.items() if not isinstance(v, Mapping)}
        for name, figures in predictors.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index", dtype="float64")
    return table.rename_axis(index="predictor").rename(columns=lambda name: name.replace("_", " "))


def _tokenizer(stored: StoredModel, model: Path, data: Path) -> Tokenizer:
    """Return the tokenizer of the data, which has to be the model's."""
    path = require_data(data / TOKENIZER_NAME)
    if file_sha256(path) != stored.tokenizer_sha256:
        raise ModelError(
            f"{model} was trained with another tokenizer than {path}: its ids mean other words; "
            f"train on these data, or evaluate on the data it was trained on"
        )
    return load_tokenizer(path)


def _check_fit(stored: StoredModel, test: PairFile, model: Path, data: Path) -> None:
    longest, room = int(test.lengths.max(initial=0)), stored.bert.params.max_positions
    if longest > room:
        raise ModelError(
            f"{data} has rows of {longest} tokens, and {model} reads {room} at most: set "
            f"convert.max_length or prepare.max_length to {room} and make the data again, or train again"
        )


def _evaluated(
    stored: StoredModel, test: PairFile, tokenizer: Tokenizer, evaluation: EvaluateParams, runtime: RuntimeParams
) -> Evaluation:
    set_up_cpu(runtime.threads)
    device = pick_device(runtime.device)
    return evaluate(
        stored.bert.to(device),
        Batcher(dataset=test, masking=None, seed=0),
        batch_size=evaluation.batch_size,
        device=device,
        token_bytes=tokenizer.token_bytes,
    )


def _metrics(
    result: Evaluation, train: PairFile, test: PairFile, tokenizer: Tokenizer, *, vocab_size: int
) -> dict[str, Any]:
    """Return the model's figures beside those of the simple predictors, which are counted here."""
    return {
        "mlm": {
            "tokens": result.mlm_tokens,
            "model": _mlm_figures(result),
            "constant": asdict(constant_predictor(train, test, vocab_size=vocab_size)),
            "two_neighbours": {"top1_accuracy": two_neighbour_accuracy(train, test, tokenizer)},
        },
        "nsp": {
            "rows": result.rows,
            "model": _nsp_figures(result),
            "sentence_b_alone": {"accuracy": second_sentence_accuracy(train, test, tokenizer)},
            "word_overlap": {"accuracy": word_overlap_accuracy(train, test, tokenizer)},
        },
    }


def _mlm_figures(result: Evaluation) -> dict[str, float | None]:
    return {
        "loss": result.mlm_loss,
        "perplexity": result.mlm_perplexity,
        "bits_per_byte": result.mlm_bits_per_byte,
        "top1_accuracy": result.mlm_top1_accuracy,
        "top5_accuracy": result.mlm_top5_accuracy,
    }


def _nsp_figures(result: Evaluation) -> dict[str, Any]:
    (true_not, false_next), (false_not, true_next) = result.nsp_confusion
    return {
        "loss": result.nsp_loss,
        "accuracy": result.nsp_accuracy,
        "confusion": {
            "next_called_next": true_next,
            "next_called_not": false_not,
            "not_called_not": true_not,
            "not_called_next": false_next,
        },
    }
