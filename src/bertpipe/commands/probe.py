"""`probe`: a classifier of labelled texts on a model, compared with random weights and a bag of words."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bertpipe.core.artifacts import write_json
from bertpipe.core.atomic import check_target_file
from bertpipe.core.errors import ModelError
from bertpipe.core.params import ProbeParams, RuntimeParams, SampleParams, TrainParams
from bertpipe.core.progress import Progress, ignore_note, ignore_progress
from bertpipe.evaluation.metrics import bag_of_words, by_class, figures, majority
from bertpipe.model.bert import Bert
from bertpipe.model.device import pick_device, set_up_cpu
from bertpipe.model.loading import load_any_model
from bertpipe.model.store import LoadedModel
from bertpipe.sources.labelled.rows import TextRows, encode_rows
from bertpipe.sources.labelled.splits import LabelledSplits, read_splits
from bertpipe.training.classifier import (
    ClassifierStep,
    LayerMeans,
    TextClassifier,
    batches_of,
    by_text,
    fit,
    outputs,
    standardised,
    zero_linear,
)
from bertpipe.training.optim import OPTIMIZER_KEYS


def run_probe(
    probe: ProbeParams,
    train: TrainParams,
    sample: SampleParams,
    runtime: RuntimeParams,
    *,
    labelled: str | Path,
    test: Path | None,
    model: str | Path,
    out: Path,
    on_progress: Callable[[Progress], None] = ignore_progress,
    on_note: Callable[[str], None] = ignore_note,
) -> dict[str, Any]:
    """Train a classifier on a model, write its figures on unseen texts to `out`, and return them.

    The same is done on the same network with random weights: figures that it reaches need no pretraining. The model's
    directory is unchanged.

    Args:
        probe: how the classifier is trained.
        train: AdamW's other settings.
        sample: the embedded sample.
        runtime: the machine.
        labelled: a file of texts and labels; or `sample`, whose reviews are split as in its zip.
        test: a file to test on; None: hold out a share of `labelled`.
        model: see `load_any_model`.
        out: the JSON file.
        on_progress: gets reports of progress.
        on_note: gets notes for the user.

    Raises:
        MissingInputError: a file or the model is missing.
        DataError: see `read_splits`; or a text holds no word.
        ModelError: the model cannot be read, or its output is not finite.
        ParamsError: there is no such device.
        TrainingError: a loss is not finite.
        WriteError: `out` cannot be written.
    """
    check_target_file(out)
    splits = read_splits(probe, sample, labelled=str(labelled), test=test)
    loaded = load_any_model(model)
    on_progress(Progress(label="encoding texts", completed=0, total=None, unit="texts"))
    room = loaded.bert.params.max_positions
    train_rows, test_rows = (
        encode_rows(split, loaded.tokenizer, max_length=room, windows=probe.windows)
        for split in (splits.train, splits.test)
    )
    for note in _notes(loaded, splits, (train_rows, test_rows)):
        on_note(note)
    set_up_cpu(runtime.threads)
    chosen = probe.frozen if probe.mode == "frozen" else probe.whole
    task = _Task(
        splits=splits,
        train_rows=train_rows,
        test_rows=test_rows,
        settings=replace(train, seed=probe.seed, optimizer="adamw", decay="linear", **asdict(chosen)),
        device=pick_device(runtime.device),
        on_progress=on_progress,
    )
    predict = task.with_frozen if probe.mode == "frozen" else task.with_whole
    torch.manual_seed(probe.seed)
    untrained = Bert(loaded.bert.params, loaded.bert.vocab_size)
    predicted = {"model": predict(loaded.bert, loaded.name), "random_weights": predict(untrained, "random weights")}
    on_progress(Progress(label="counting words for the bag of words", completed=0, total=None, unit="texts"))
    report = {
        "data": _data_facts(splits, train_rows, test_rows),
        "model": loaded.name,
        "settings": {
            **{name: value for name, value in asdict(probe).items() if name not in {"frozen", "whole"}},
            **asdict(chosen),
            **{name: getattr(train, name) for name in OPTIMIZER_KEYS},
        },
        "predictors": _predictors(splits, predicted),
    }
    write_json(out, report)
    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """Texts to train and test on, and how."""

    splits: LabelledSplits
    train_rows: TextRows
    test_rows: TextRows
    settings: TrainParams
    device: torch.device
    on_progress: Callable[[Progress], None]

    def with_frozen(self, bert: Bert, name: str) -> NDArray[np.int64]:
        """Return the predictions of a linear layer on standardised features; the network is not trained."""
        means = LayerMeans(bert.to(self.device))
        self._report(name, "reading texts")
        features = [
            by_text(outputs(means, batches_of(rows, self.device), rows.lengths, means.width), rows)
            for rows in (self.train_rows, self.test_rows)
        ]
        _check_finite(features, name)
        train, test = standardised(*features)
        head = zero_linear(means.width, len(self.splits.classes))
        even = np.zeros(len(train), dtype=np.int64)  # no padding here
        self._run(
            name,
            fit(head, lambda chosen: train[torch.from_numpy(chosen)], self.splits.train_labels, even, self.settings),
        )
        with torch.no_grad():
            return _best(head(test))

    def with_whole(self, bert: Bert, name: str) -> NDArray[np.int64]:
        """Return the predictions of the network, trained with a linear layer on top.

        Each window of a training text is an example of its class; of a test text the logits are averaged.
        """
        classes = len(self.splits.classes)
        classifier = TextClassifier(bert, classes).to(self.device)
        train, test = self.train_rows, self.test_rows
        labels = self.splits.train_labels[train.text]
        self._run(name, fit(classifier, batches_of(train, self.device), labels, train.lengths, self.settings))
        logits = by_text(outputs(classifier, batches_of(test, self.device), test.lengths, classes), test)
        _check_finite([logits], name)
        return _best(logits)

    def _report(self, name: str, what: str) -> None:
        self.on_progress(Progress(label=f"{name}: {what}", completed=0, total=None, unit="texts"))

    def _run(self, name: str, steps: Iterable[ClassifierStep]) -> None:
        """Run all steps, and report the loss of each epoch."""
        losses: list[float] = []
        for step in steps:
            losses.append(step.loss)
            if step.ends_epoch:
                label = f"{name}: epoch {step.epoch}/{self.settings.epochs}"
                detail = f"loss {sum(losses) / len(losses):.3f}"
                self.on_progress(
                    Progress(label=label, completed=step.step, total=step.total_steps, unit="steps", detail=detail)
                )
                losses.clear()


def _check_finite(found: Sequence[torch.Tensor], name: str) -> None:
    if not all(bool(part.isfinite().all()) for part in found):
        raise ModelError(
            f"{name} gives values that are not finite: its weights are damaged or too large; train it again"
        )


def _best(logits: torch.Tensor) -> NDArray[np.int64]:
    """Return the most probable class of each row."""
    best: NDArray[np.int64] = logits.argmax(dim=1).numpy()
    return best


def _notes(loaded: LoadedModel, splits: LabelledSplits, rows: Sequence[TextRows]) -> list[str]:
    """Return what the user should know of the model and of how it reads these texts."""
    notes = [*loaded.notes, *loaded.tokenizer.warnings(), *splits.notes()]
    cut, count = sum(part.texts_cut for part in rows), len(splits.train) + len(splits.test)
    if cut:
        notes.append(
            f"of each text the model reads probe.windows times {loaded.bert.params.max_positions} tokens at most: "
            f"{cut:,} of {count:,} texts lost their end; the bag of words reads all"
        )
    if repeated := splits.tested_in_training():
        notes.append(f"{repeated:,} of the {len(splits.test):,} test texts are training texts, too")
    return notes


def _data_facts(splits: LabelledSplits, train_rows: TextRows, test_rows: TextRows) -> dict[str, Any]:
    facts: dict[str, Any] = dict(splits.sources)
    for name, split, rows in (("train", splits.train, train_rows), ("test", splits.test, test_rows)):
        counts = Counter(text.label for text in split)
        facts[name] = {
            "texts": len(split),
            "classes": {label: counts[label] for label in splits.classes},
            "windows": len(rows),
            "tokens": int(rows.lengths.sum()),
            "unknown_tokens": rows.unknown_tokens,
            "texts_cut": rows.texts_cut,
        }
    return {**facts, "test_texts_in_training": splits.tested_in_training()}


def _predictors(splits: LabelledSplits, predicted: dict[str, NDArray[np.int64]]) -> dict[str, Any]:
    """Return the figures of the model and of simpler predictors on the same texts."""
    labels, true = splits.train_labels, splits.test_labels
    words = bag_of_words([text.text for text in splits.train], labels, [text.text for text in splits.test])
    return {
        "model": {**figures(true, predicted["model"]), **by_class(true, predicted["model"], splits.classes)},
        "random_weights": figures(true, predicted["random_weights"]),
        "bag_of_words": None if words is None else figures(true, words),
        "majority": figures(true, majority(labels, len(true))),
    }
