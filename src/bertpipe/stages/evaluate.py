"""`evaluate`: a trained model on the test split, together with simple predictors on the same rows."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bertpipe.core.artifacts import SPLITS, TOKENIZER_NAME, require, split_path, write_json
from bertpipe.core.atomic import check_target_file
from bertpipe.core.errors import ModelError
from bertpipe.core.params import EvaluateParams, RuntimeParams
from bertpipe.core.progress import Progress, ignore_note, ignore_progress
from bertpipe.core.stores.directories import fetched
from bertpipe.data.batching import Batcher
from bertpipe.data.pair_dataset import PairFile
from bertpipe.data.tokenization.tokenizer import Tokenizer, load_tokenizer
from bertpipe.evaluation.baselines import PREDICTORS, Splits
from bertpipe.evaluation.evaluate import Evaluation, evaluate
from bertpipe.model.device import pick_device, set_up_cpu
from bertpipe.model.loading import load_any_model
from bertpipe.model.store import LoadedModel


def run_evaluate(
    evaluation: EvaluateParams,
    runtime: RuntimeParams,
    *,
    model: str | Path,
    data: Path,
    out: Path,
    on_progress: Callable[[Progress], None] = ignore_progress,
    on_note: Callable[[str], None] = ignore_note,
) -> dict[str, Any]:
    """Write the metrics of a model to `out` and return them; those of a head that it lacks are null.

    Raises:
        MissingInputError: the model or the data are missing.
        DataError: a split has no rows, or a row breaks the contract.
        ModelError: the model has neither head, was trained with another tokenizer than the data's, rows are too long
            for it, or its losses are not finite.
        WriteError: `out` cannot be written.
    """
    check_target_file(out)
    data = fetched(data, by_ranges=True)
    loaded = load_any_model(model)
    if loaded.missing_heads >= {"mlm", "nsp"}:
        raise ModelError(
            f"{loaded.name} has neither a masked-word nor a next-sentence head, as classifiers and bare encoders do: "
            f"there is nothing to evaluate; train the heads with `bertpipe train --init`, or measure it on labelled "
            f"texts with `bertpipe probe FILE --model`"
        )
    for note in loaded.notes:
        on_note(note)
    tokenizer = _tokenizer(loaded, data)
    train, test = (PairFile(split_path(data, split)) for split in SPLITS)
    for split in (train, test):
        split.check(tokenizer.vocab_size)
    _check_fit(loaded, test, data)
    on_progress(Progress(label="evaluating the model", completed=0, total=None, unit="rows"))
    result = _evaluated(loaded, test, tokenizer, evaluation, runtime)
    losses = [
        loss for head, loss in (("mlm", result.mlm_loss), ("nsp", result.nsp_loss)) if head not in loaded.missing_heads
    ]
    if not all(math.isfinite(loss) for loss in losses if loss is not None):
        raise ModelError(
            f"{model} has the MLM loss {result.mlm_loss} and the NSP loss {result.nsp_loss} on {data}: its weights are "
            f"not finite, or too large; train it again with a lower train.learning_rate"
        )
    on_progress(Progress(label="counting for the simple predictors", completed=0, total=None, unit="rows"))
    metrics = _metrics(result, train, test, tokenizer, loaded)
    write_json(out, metrics)
    return metrics


def _tokenizer(model: LoadedModel, data: Path) -> Tokenizer:
    """Return the tokenizer of the data, which must be the model's."""
    path = require(data / TOKENIZER_NAME)
    tokenizer = load_tokenizer(path)
    difference = model.tokenizer_difference(tokenizer)
    if difference is not None:
        raise ModelError(
            f"{model.name} was trained with another tokenizer than {path} ({difference}): "
            f"train on these data, or evaluate on data made with prepare.tokenizer: {model.directory}"
        )
    return tokenizer


def _check_fit(model: LoadedModel, test: PairFile, data: Path) -> None:
    longest, room = int(test.lengths.max(initial=0)), model.bert.params.max_positions
    if longest > room:
        raise ModelError(
            f"{data} has rows of {longest} tokens, and {model.name} reads {room} at most: set "
            f"convert.max_length or prepare.max_length to {room} and run that stage again, or train again"
        )


def _evaluated(
    model: LoadedModel, test: PairFile, tokenizer: Tokenizer, evaluation: EvaluateParams, runtime: RuntimeParams
) -> Evaluation:
    set_up_cpu(runtime.threads)
    device = pick_device(runtime.device)
    sums = evaluate(
        model.bert.to(device),
        Batcher(dataset=test, masking=None, seed=0),
        batch_size=evaluation.batch_size,
        device=device,
        token_bytes=tokenizer.token_bytes,
    )
    return Evaluation.of(sums)


def _metrics(
    result: Evaluation, train: PairFile, test: PairFile, tokenizer: Tokenizer, model: LoadedModel
) -> dict[str, Any]:
    """Return the model's figures beside those of the simple predictors, which are counted here."""
    splits = Splits(train=train, test=test, tokenizer=tokenizer, vocab_size=model.bert.vocab_size)
    counts = {"mlm": {"tokens": result.mlm_tokens}, "nsp": {"rows": result.rows}}
    return {
        task: {
            **counts[task],
            "model": None if task in model.missing_heads else result.figures(task),
            **{name: predictor(splits) for name, predictor in predictors.items()},
        }
        for task, predictors in PREDICTORS.items()
    }
