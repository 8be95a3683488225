"""The functions of the Python API. Their examples run in this order, in a folder with a text `reviews.txt`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bertpipe.core import artifacts, params_file
from bertpipe.core.params import Params
from bertpipe.core.params_file import packaged_params
from bertpipe.core.progress import Progress, ignore_note, ignore_progress
from bertpipe.core.stores.directories import fetched
from bertpipe.data.pair_dataset import PairDataset, read_dataset
from bertpipe.inference.predictor import Predictor, load_predictor

_REPORTS = artifacts.HISTORY_FILE.parent


def load_params(source: str | Path | None = None, changes: Mapping[str, object] | None = None) -> Params:
    """Return checked params; their sections are frozen dataclasses.

    Args:
        source: a file (`.yaml`), or the name of a recipe such as `10min`; None: bertpipe's own `params.yaml`.
        changes: values by their dotted names, in place of the file's.

    Raises:
        ParamsError: there is no such file or recipe, or a name or value breaks the schema.

    >>> params = load_params("tiny", {"train.epochs": 1, "model.layers": 1})
    >>> params.train.epochs, params.model.layers
    (1, 1)
    """
    if source is not None and Path(source).suffix == ".yaml":
        return params_file.load_params(Path(source), changes)
    return params_file.load_params(packaged_params(None if source is None else str(source)), changes)


def prepare(
    text: str | Path, out: str | Path, *, params: Params | None = None,
    on_progress: Callable[[Progress], None] = ignore_progress, on_note: Callable[[str], None] = ignore_note,
) -> dict[str, Any]:  # fmt: skip
    """Make sentence pairs of texts, and return a summary with their counts.

    Args:
        text: a file, a folder or an archive, see `bertpipe prepare`.
        out: the directory to write: `train.parquet`, `test.parquet`, the tokenizer and more.
        params: whose sections `prepare`, `masking` and `runtime` are used.
        on_progress: gets reports of progress.
        on_note: gets notes, such as on texts that give no pairs.

    Raises:
        MissingInputError, DataError: there is no text, or it cannot be read, or it gives too few pairs.
        WriteError: `out` cannot be written, or holds something that bertpipe did not write.

    >>> summary = prepare("reviews.txt", "data/reviews", params=load_params("tiny"))
    >>> sorted(summary["splits"])
    ['test', 'train']
    """
    from bertpipe.stages.prepare import run_prepare  # noqa: PLC0415

    chosen = params or load_params()
    return run_prepare(
        chosen.prepare, chosen.masking, chosen.runtime, text=Path(text), out=Path(out), on_progress=on_progress,
        on_note=on_note,
    )  # fmt: skip


def train(
    data: str | Path, out: str | Path, *, params: Params | None = None, reports: str | Path = _REPORTS,
    state: str | Path = artifacts.STATE_DIR, resume: bool = True,
    on_progress: Callable[[Progress], None] = ignore_progress, on_note: Callable[[str], None] = ignore_note,
) -> dict[str, Any]:  # fmt: skip
    """Pretrain a model, and return a summary: steps, seconds, throughput, losses (nats) and accuracies.

    Args:
        data: a directory with sentence pairs, as `prepare` writes it, or its URL in an object store.
        out: the model's directory, or its URL.
        params: whose sections `model`, `train`, `masking`, `evaluate` and `runtime` are used.
        reports: folder of `history.csv` and `timing.csv`, which grow during the training, and of `epochs.csv` and
            `answers.json`, which are written after each epoch.
        state: where the run's state is kept until it ends; with a URL, there and on this machine.
        resume: resume from the checkpoint of an interrupted training with the same params and data.
        on_progress: gets reports of progress.
        on_note: gets notes.

    Raises:
        MissingInputError, DataError: the data are missing or damaged, or do not fit the model.
        TrainingError: a loss is not finite; the model of the last complete epoch stays.
        StoppedError: Ctrl-C or a signal ended it; its state is saved.

    >>> params = load_params("tiny", {"train.epochs": 1})
    >>> summary = train("data/reviews", "models/reviews", params=params)
    >>> summary["epochs"], summary["test_mlm_loss"] > 0
    (1, True)
    """
    from bertpipe.stages.train import run_train  # noqa: PLC0415
    from bertpipe.training.run_spec import TrainPaths  # noqa: PLC0415

    chosen, tables = params or load_params(), Path(reports)
    paths = TrainPaths(
        data=Path(data), model=Path(out), history=tables / artifacts.HISTORY_FILE.name,
        epochs=tables / artifacts.EPOCHS_FILE.name, timing=tables / artifacts.TIMING_FILE.name,
        answers=tables / artifacts.ANSWERS_FILE.name, state=Path(state),
    )  # fmt: skip
    return run_train(
        chosen.model, chosen.train, chosen.masking, chosen.evaluate, chosen.runtime, paths=paths, resume=resume,
        on_progress=on_progress, on_note=on_note,
    )  # fmt: skip


def evaluate(
    model: str | Path, data: str | Path, *, params: Params | None = None, out: str | Path = artifacts.METRICS_FILE,
    on_progress: Callable[[Progress], None] = ignore_progress, on_note: Callable[[str], None] = ignore_note,
) -> dict[str, Any]:  # fmt: skip
    """Write the metrics of a model on the test split beside those of simple predictors, and return them.

    Args:
        model: a model directory, a Hugging Face directory or a hub name.
        data: a directory with sentence pairs.
        params: whose sections `evaluate` and `runtime` are used.
        out: the JSON file to write.
        on_progress: gets reports of progress.
        on_note: gets notes.

    Raises:
        MissingInputError: the model or the data are missing.
        DataError, ModelError: they cannot be read, or do not belong together.

    >>> metrics = evaluate("models/reviews", "data/reviews")
    >>> 0 <= metrics["mlm"]["model"]["top1_accuracy"] <= 1
    True
    """
    from bertpipe.stages.evaluate import run_evaluate  # noqa: PLC0415

    chosen = params or load_params()
    return run_evaluate(
        chosen.evaluate, chosen.runtime, model=model, data=Path(data), out=Path(out), on_progress=on_progress,
        on_note=on_note,
    )  # fmt: skip


def plot(reports: str | Path = _REPORTS, out: str | Path | None = None) -> list[Path]:
    """Draw the losses, accuracies and throughput of a training, and return the pictures' paths.

    Args:
        reports: the folder that `train` wrote its tables to, and `evaluate` its metrics.
        out: the folder of the pictures; None: `plots` in `reports`.

    Raises:
        MissingInputError, DataError: a table is missing or damaged.

    >>> [picture.name for picture in plot()][0]
    'accuracy.png'
    """
    from bertpipe.stages.plot import run_plot  # noqa: PLC0415

    tables = Path(reports)
    target = tables / artifacts.PLOTS_DIR.name if out is None else Path(out)
    run_plot(
        history=tables / artifacts.HISTORY_FILE.name, epochs=tables / artifacts.EPOCHS_FILE.name,
        timing=tables / artifacts.TIMING_FILE.name, metrics=tables / artifacts.METRICS_FILE.name, out=target,
    )  # fmt: skip
    return sorted(target.glob("*.png"))


def read_data(data: str | Path, split: str = "test") -> PairDataset:
    """Return the sentence pairs of a split as NumPy arrays: all tokens in one, with the offset of each row.

    Args:
        data: a directory with sentence pairs.
        split: `train` or `test`.

    Raises:
        MissingInputError, DataError: the file is missing or damaged.

    >>> rows = read_data("data/reviews")
    >>> len(rows) == len(rows.is_next) == len(rows.offsets) - 1
    True
    """
    return read_dataset(artifacts.split_path(fetched(data, by_ranges=True), split))


def load_model(model: str | Path, *, device: str = "auto") -> Predictor:
    """Return a model that answers questions: `fill_masks`, `next_sentence`, `score` and `embed`.

    Args:
        model: a model directory, a Hugging Face directory or a hub name such as `bert-base-uncased`.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        MissingInputError, ModelError: there is no such model, or it cannot be read.

    >>> model = load_model("models/reviews")
    >>> answer = model.fill_masks("the film was [MASK].", top_k=3)
    >>> len(answer.masks), len(answer.masks[0].candidates)
    (1, 3)
    >>> 0 <= model.next_sentence("the film was good.", "i liked it.").probability_next <= 1
    True
    >>> model.embed("a film").vector.ndim
    1
    """
    return load_predictor(str(model), device=device)
