"""`train`: BERT from random weights or another model's, evaluated and left for the next stages after each epoch."""

import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertpipe import __version__
from bertpipe.artifacts import CONFIG_NAME, TOKENIZER_NAME, Progress, ignore_note, ignore_progress
from bertpipe.data.batching import Batcher
from bertpipe.errors import Interrupted, StoppedError, TrainingError
from bertpipe.evaluation import evaluate
from bertpipe.files import check_place
from bertpipe.locks import LOCK, only_one
from bertpipe.model.bert import Bert
from bertpipe.model.device import pick_device, set_up_cpu
from bertpipe.model.store import save_model
from bertpipe.params import EvaluateParams, MaskingParams, ModelParams, RuntimeParams, TrainParams
from bertpipe.sources import source_digest
from bertpipe.training.checkpoint import CheckpointClock, Checkpoints, run_key
from bertpipe.training.history import History
from bertpipe.training.inputs import read_training_data
from bertpipe.training.loop import Plan, StepReport, plan, train_steps
from bertpipe.training.objective import PretrainingObjective
from bertpipe.training.optim import AdamW, make_optimizer
from bertpipe.training.start import start_of
from bertpipe.training.stopping import StopRequest, stop_requests
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
    parent: int | None = None,
    on_progress: Callable[[Progress], None] = ignore_progress,
    on_note: Callable[[str], None] = ignore_note,
) -> dict[str, Any]:
    """Train a model, leave it at `paths.model`, and return a summary.

    The model is that of the last epoch; each earlier epoch's stood at the same place before. A run that was stopped
    goes on after the last step of its newest undamaged checkpoint, unless `resume` is false, and ends with the bytes of
    a run that was not stopped. Ctrl-C, SIGTERM and SIGHUP, in the main thread, end the run after the current step, with
    a checkpoint; so does, under DVC, the end of `parent`, the process that started this one (None: as it is now).

    Raises:
        MissingInputError, DataError: the Parquet files are missing, damaged, or do not fit the model.
        MissingInputError, ModelError: the model of `train.init` cannot be read, or its vocabulary is not the data's.
        TrainingError: a loss is not finite; the model of the last complete epoch stays.
        StoppedError: the run was asked to stop, and its state is saved.
        BusyError: another process trains this run, or trains into the same place.
        WriteError: something else stands where the model is to go; or the disk is full or refuses, and then the last
            checkpoint and the model of the last complete epoch stay.
    """
    check_place(paths.model, mark=CONFIG_NAME)
    device = pick_device(runtime.device)
    threads = set_up_cpu(runtime.threads)
    data = read_training_data(paths.data)
    start = start_of(model, train, data)
    for note in start.notes:
        on_note(note)
    masks = data.masks(masking)
    sections = {"model": asdict(start.params), "train": asdict(train), "masking": asdict(masking)}
    machine = {"torch": torch.__version__, "threads": threads, "device": device.type}
    identity = {
        "params": {**sections, "evaluate": asdict(evaluation)},
        "init": start.facts,
        "machine": machine,
        "data_sha256": data.sha256,
        "sources_sha256": source_digest(__name__),
    }
    versions = {"bertpipe": __version__, "python": platform.python_version(), "numpy": np.__version__, **machine}
    state = paths.state / run_key(identity)
    with _alone(paths.model, state), stop_requests(os.getppid() if parent is None else parent) as stop:
        bert = start.network(train.seed, data).to(device)
        batcher = Batcher(dataset=data.train, masking=masks, seed=train.seed)
        schedule = plan(batcher, train)
        checkpoints = Checkpoints(
            directory=state,
            keep=runtime.keep_checkpoints,
            run={**identity, "data": str(paths.data), "model": str(paths.model), "steps": schedule.total},
        )
        if resume:
            checkpoints.tidy()
        else:
            checkpoints.clear()
        run = _Run(
            bert=bert,
            optimizer=make_optimizer(bert, train),
            train=train,
            batcher=batcher,
            schedule=schedule,
            test=Batcher(dataset=data.test, masking=None, seed=train.seed),
            history=History(train.history_every, train.nsp_weight),
            checkpoints=checkpoints,
            clock=CheckpointClock(runtime.checkpoint_every_s),
            stop=stop,
            paths=paths,
            facts={
                "params": sections,
                "init": start.facts,
                "overrides": dict(overrides or {}),
                "data_sha256": data.sha256,
                "versions": versions,
            },
            device=device,
            evaluation_batch_size=evaluation.batch_size,
            log_every=runtime.log_every,
            on_progress=on_progress,
            on_note=on_note,
        )
        summary = run.go()
        checkpoints.clear()
    return summary


@contextmanager
def _alone(model: Path, state: Path) -> Iterator[None]:
    """Keep other processes from the model's place and from the run's state, and leave no state that holds nothing."""
    place = model.resolve()
    try:
        with (
            only_one(place.with_name(f".{place.name}.lock"), what=f"a training into {model}"),
            only_one(state / LOCK, what="a training with the same params and data"),
        ):
            yield
    finally:
        with suppress(OSError):  # there are checkpoints, or another process's lock
            state.rmdir()


@dataclass(slots=True, kw_only=True)
class _Run:
    """One training run: steps, checkpoints, and what comes after each epoch."""

    bert: Bert
    optimizer: AdamW
    train: TrainParams
    batcher: Batcher
    schedule: Plan
    test: Batcher
    history: History
    checkpoints: Checkpoints
    clock: CheckpointClock
    stop: StopRequest
    paths: TrainPaths
    facts: Mapping[str, Any]
    device: torch.device
    evaluation_batch_size: int
    log_every: int
    on_progress: Callable[[Progress], None]
    on_note: Callable[[str], None]

    def go(self) -> dict[str, Any]:
        """Train to the end and return the summary."""
        restored_step = step = self._restore()
        try:
            if step in accumulate(self.schedule.steps):
                self._end_epoch()
            steps = train_steps(
                PretrainingObjective(self.bert), self.optimizer, self.batcher, self.train,
                device=self.device, steps_done=step,
            )  # fmt: skip
            self.history.restart_clock()
            self.stop.check()
            for report in steps:
                step = report.step
                self._after_step(report)
                if report.ends_epoch:
                    self._end_epoch()
        except Interrupted as interruption:
            if step > restored_step:
                self._save(step)
            raise StoppedError(
                f"{interruption} after step {step:,} of {self.schedule.total:,}; the same command goes on from there "
                f"(state: {self.checkpoints.directory})",
                exit_code=interruption.exit_code,
            ) from None
        return self._summary(restored_step)

    def _restore(self) -> int:
        """Return the steps done by the newest checkpoint, whose state this run takes over."""
        restored = self.checkpoints.load_newest(self.bert, self.optimizer, on_note=self.on_note)
        if restored is None:
            return 0
        self.history.restore(restored.records)
        self.on_note(f"going on after step {restored.step:,} of {self.schedule.total:,}")
        return restored.step

    def _after_step(self, report: StepReport) -> None:
        with self._saying_what_is_kept():
            closed = self.history.add(report)
        self.stop.check()
        if self.clock.due():
            self._save(report.step)
        total, every = self.schedule.total, self.history.history_every
        if closed and (report.step % self.log_every < every or report.step == total):
            mlm_loss, nsp_loss = self.history.intervals[-1][3:5]
            rate = self.history.timings[-1][3]
            mlm = "-" if mlm_loss is None else f"{mlm_loss:.3f}"
            detail = f"MLM {mlm}  NSP {nsp_loss:.3f}  {rate:,.0f} tokens/s"
            label = f"epoch {report.epoch}/{self.train.epochs}"
            self.on_progress(Progress(label=label, completed=report.step, total=total, unit="steps", detail=detail))

    def _save(self, step: int) -> None:
        """Write a checkpoint; one at the end of an epoch is of the moment before its evaluation."""
        begun = time.perf_counter()
        self.history.stop_clock()
        with self._saying_what_is_kept():
            records = self.history.records()
        self.checkpoints.save(step, self.bert, self.optimizer, records)
        self.clock.saved(time.perf_counter() - begun)
        self.history.restart_clock()

    def _end_epoch(self) -> None:
        """Evaluate, and leave the model and its history where the next stages read them."""
        step, epoch, rate = self.history.intervals[-1][:3]
        with self.stop.at_once():
            result = evaluate(self.bert, self.test, batch_size=self.evaluation_batch_size, device=self.device)
        losses = (result.mlm_loss, result.nsp_loss)
        with self._saying_what_is_kept():
            if not all(math.isfinite(loss) for loss in losses if loss is not None):
                raise TrainingError(
                    f"after step {step} at learning rate {rate:.3g} the test split has the MLM loss {losses[0]} and "
                    f"the NSP loss {losses[1]}: lower train.learning_rate"
                )
        self.history.add_evaluation(
            mlm=(result.mlm_loss, result.mlm_top1_accuracy), nsp=(result.nsp_loss, result.nsp_accuracy)
        )
        self.history.write(history=self.paths.history, epochs=self.paths.epochs, timing=self.paths.timing)
        facts = {**self.facts, "epochs_done": epoch}
        save_model(self.paths.model, self.bert, self.paths.data / TOKENIZER_NAME, facts)
        self.history.restart_clock()

    @contextmanager
    def _saying_what_is_kept(self) -> Iterator[None]:
        try:
            yield
        except TrainingError as error:
            epochs = len(self.history.epochs)
            model = self.paths.model
            kept = f"the model of epoch {epochs} is at {model}" if epochs else "no epoch was completed"
            if epochs and not model.exists():  # the run went on from before, and DVC had taken the model away
                kept = f"there is no model at {model} any more"
            raise TrainingError(f"{error}; {kept}") from error

    def _summary(self, restored_step: int) -> dict[str, Any]:
        history = self.history
        dtype = torch.bfloat16 if self.train.precision == "bfloat16" else torch.float32
        peak = peak_flops(self.device, dtype)
        _, _, mlm_loss, top1, nsp_loss, nsp_accuracy, _ = history.epochs[-1]
        return {
            "model": str(self.paths.model),
            "parameters": sum(parameter.numel() for parameter in self.bert.parameters()),
            "device": self.device.type,
            "epochs": self.train.epochs,
            "steps": self.schedule.total,
            "resumed_after_step": restored_step,
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
