"""`train`: BERT from random weights, evaluated and saved after each epoch."""

import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertpipe import __version__
from bertpipe.artifacts import (
    SPLITS,
    SUMMARY_NAME,
    TOKENIZER_NAME,
    Progress,
    ignore_progress,
    read_json,
    require,
)
from bertpipe.data.batching import Batcher
from bertpipe.data.dataset import PairFile, label_counts
from bertpipe.data.masking import Masking
from bertpipe.data.tokenization import Tokenizer, load_tokenizer
from bertpipe.errors import DataError, ParamsError, TrainingError
from bertpipe.evaluation import evaluate
from bertpipe.model.bert import Bert
from bertpipe.model.device import pick_device, set_up_cpu
from bertpipe.model.store import save_model
from bertpipe.params import EvaluateParams, MaskingParams, ModelParams, RuntimeParams, TrainParams
from bertpipe.sources import source_digest
from bertpipe.training.checkpoint import Checkpoints, run_key
from bertpipe.training.history import History
from bertpipe.training.loop import StepReport, plan, train_steps
from bertpipe.training.objective import PretrainingObjective
from bertpipe.training.optim import AdamW, make_optimizer
from bertpipe.training.throughput import peak_flops


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainPaths:
    """Where `train` reads and writes."""

    data: Path
    model: Path
    history: Path
    epochs: Path
    timing: Path
    state: Path
    """Resume state of all runs; removed for a run that is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Data:
    """What a run reads, and its identity."""

    train: PairFile
    test: PairFile
    tokenizer: Tokenizer
    masked_tokens_known: bool
    sha256: Mapping[str, str]


def run_train(
    model: ModelParams,
    train: TrainParams,
    masking: MaskingParams,
    evaluation: EvaluateParams,
    runtime: RuntimeParams,
    *,
    paths: TrainPaths,
    resume: bool = True,
    overrides: Mapping[str, object] | None = None,
    on_progress: Callable[[Progress], None] = ignore_progress,
) -> dict[str, Any]:
    """Train a model, leave it at `paths.model`, and return a summary.

    The model is that of the last epoch; each earlier epoch's stood at the same place before. A run that was stopped
    goes on after the last epoch it completed, unless `resume` is false.

    Raises:
        MissingInputError, DataError: the Parquet files are missing, damaged, or do not fit the model.
        TrainingError: a loss is not finite; the model of the last complete epoch stays.
    """
    device = pick_device(runtime.device)
    threads = set_up_cpu(runtime.threads)
    data = _read_data(paths.data)
    vocab_size = _check_fit(model, data, paths.data)
    torch.manual_seed(train.seed)
    bert = Bert(model, vocab_size)
    bert.start_at_frequencies(torch.from_numpy(label_counts(data.train, vocab_size)))
    bert.to(device)
    optimizer = make_optimizer(bert, train)
    sections = {"model": asdict(model), "train": asdict(train), "masking": asdict(masking)}
    machine = {"torch": torch.__version__, "threads": threads, "device": device.type}
    key = run_key({**sections, **machine, "data": data.sha256, "sources": source_digest(__name__)})
    facts = {
        "params": sections,
        "overrides": dict(overrides or {}),
        "data_sha256": data.sha256,
        "versions": {
            "bertpipe": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            **machine,
        },
    }
    run = _Run(
        bert=bert,
        optimizer=optimizer,
        train=train,
        batcher=Batcher(dataset=data.train, masking=_training_masks(masking, data), seed=train.seed),
        test=Batcher(dataset=data.test, masking=None, seed=train.seed),
        history=History(train.history_every, train.nsp_weight),
        checkpoints=Checkpoints(paths.state / key),
        paths=paths,
        facts=facts,
        device=device,
        evaluation_batch_size=evaluation.batch_size,
        log_every=runtime.log_every,
        on_progress=on_progress,
    )
    return run.go(resume=resume)


@dataclass(slots=True, kw_only=True)
class _Run:
    """One training run: steps, and what comes after each epoch."""

    bert: Bert
    optimizer: AdamW
    train: TrainParams
    batcher: Batcher
    test: Batcher
    history: History
    checkpoints: Checkpoints
    paths: TrainPaths
    facts: Mapping[str, Any]
    device: torch.device
    evaluation_batch_size: int
    log_every: int
    on_progress: Callable[[Progress], None]

    def go(self, *, resume: bool) -> dict[str, Any]:
        """Train to the end and return the summary."""
        total = plan(self.batcher, self.train).total
        if not resume:
            self.checkpoints.clear()
        epochs_done = self._restore()
        steps = train_steps(
            PretrainingObjective(self.bert), self.optimizer, self.batcher, self.train,
            device=self.device, epochs_done=epochs_done,
        )  # fmt: skip
        self.history.restart_clock()
        for report in steps:
            self._step(report, total)
            if report.ends_epoch:
                self._end_epoch(report)
        self._publish(self.train.epochs)
        self.checkpoints.clear()
        return self._summary(total, epochs_done)

    def _restore(self) -> int:
        restored = self.checkpoints.load_newest(self.bert, self.optimizer)
        if restored is None:
            return 0
        epochs_done, records = restored
        self.history.restore(records)
        return epochs_done

    def _step(self, report: StepReport, total: int) -> None:
        try:
            closed = self.history.add(report)
        except TrainingError as error:
            raise TrainingError(f"{error}; {self._kept(report)}") from error
        if closed and (report.step % self.log_every < self.history.history_every or report.step == total):
            mlm_loss, nsp_loss = self.history.intervals[-1][3:5]
            rate = self.history.timings[-1][3]
            detail = f"MLM {mlm_loss:.3f}  NSP {nsp_loss:.3f}  {rate:,.0f} tokens/s"
            label = f"epoch {report.epoch}/{self.train.epochs}"
            self.on_progress(Progress(label=label, completed=report.step, total=total, unit="steps", detail=detail))

    def _end_epoch(self, report: StepReport) -> None:
        result = evaluate(self.bert, self.test, batch_size=self.evaluation_batch_size, device=self.device)
        losses = (result.mlm_loss, result.nsp_loss)
        if not all(math.isfinite(loss) for loss in losses if loss is not None):
            raise TrainingError(
                f"after step {report.step} at learning rate {report.learning_rate:.3g} the test split has the MLM "
                f"loss {losses[0]} and the NSP loss {losses[1]}: lower train.learning_rate; {self._kept(report)}"
            )
        self.history.add_evaluation(
            report, mlm=(result.mlm_loss, result.mlm_top1_accuracy), nsp=(result.nsp_loss, result.nsp_accuracy)
        )
        if report.epoch < self.train.epochs:
            self._publish(report.epoch)
        self.checkpoints.save(report.epoch, self.bert, self.optimizer, self.history.records())
        self.history.restart_clock()

    def _kept(self, report: StepReport) -> str:
        kept = f"the model of epoch {report.epoch - 1} is at {self.paths.model}"
        return kept if report.epoch > 1 else "no epoch was completed"

    def _publish(self, epoch: int) -> None:
        """Leave the model and its history where the next stages read them."""
        self.history.write(history=self.paths.history, epochs=self.paths.epochs, timing=self.paths.timing)
        facts = {**self.facts, "epochs_done": epoch}
        save_model(self.paths.model, self.bert, self.paths.data / TOKENIZER_NAME, facts)

    def _summary(self, steps: int, epochs_resumed: int) -> dict[str, Any]:
        history = self.history
        dtype = torch.bfloat16 if self.train.precision == "bfloat16" else torch.float32
        peak = peak_flops(self.device, dtype)
        _, _, mlm_loss, top1, nsp_loss, nsp_accuracy, _ = history.epochs[-1]
        return {
            "model": str(self.paths.model),
            "parameters": sum(parameter.numel() for parameter in self.bert.parameters()),
            "device": self.device.type,
            "epochs": self.train.epochs,
            "resumed_after_epoch": epochs_resumed,
            "steps": steps,
            "elapsed_s": history.train_s,
            "sequences_per_second": history.sequences / history.train_s,
            "tokens_per_second": history.tokens / history.train_s,
            "gflop_per_second": history.flops / history.train_s / 1e9,
            "peak_gflop_per_second": peak / 1e9,
            "share_of_peak": history.flops / history.train_s / peak,
            "train_mlm_loss": history.intervals[-1][3],
            "train_nsp_loss": history.intervals[-1][4],
            "test_mlm_loss": mlm_loss,
            "test_mlm_top1_accuracy": top1,
            "test_nsp_loss": nsp_loss,
            "test_nsp_accuracy": nsp_accuracy,
        }


def _read_data(directory: Path) -> _Data:
    summary = read_json(require(directory / SUMMARY_NAME, made_by="bertpipe convert"))
    train, test = (PairFile(directory / f"{split}.parquet") for split in SPLITS)
    return _Data(
        train=train,
        test=test,
        tokenizer=load_tokenizer(directory / TOKENIZER_NAME),
        masked_tokens_known=summary["masked_tokens_known"],
        sha256=summary["sha256"],
    )


def _check_fit(model: ModelParams, data: _Data, directory: Path) -> int:
    """Return the rows of the token embedding, after checking that all rows fit the model."""
    longest = int(max(data.train.lengths.max(), data.test.lengths.max()))
    if longest > model.max_positions:
        raise DataError(
            f"{directory} has rows of {longest} tokens, model.max_positions is {model.max_positions}: raise it, or set "
            f"convert.max_length to {model.max_positions} and convert again"
        )
    size = data.tokenizer.vocab_size if model.vocab_size == "auto" else model.vocab_size
    if size < data.tokenizer.vocab_size:
        raise DataError(
            f"{directory} has ids up to {data.tokenizer.vocab_size - 1}, which do not fit model.vocab_size {size}: "
            f"set it to auto, or to {data.tokenizer.vocab_size} or more"
        )
    return size


def _training_masks(masking: MaskingParams, data: _Data) -> Masking | None:
    """Return the rule of dynamic masking, or None for the masks stored in the data."""
    if masking.mode == "static" or (masking.mode == "auto" and not data.masked_tokens_known):
        return None
    if not data.masked_tokens_known:
        raise ParamsError(
            "masking.mode is dynamic, but these data do not tell the true tokens under their masks: use auto or static"
        )
    return Masking.of(masking, data.tokenizer)
