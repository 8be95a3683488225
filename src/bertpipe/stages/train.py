"""`train`: BERT from random weights or another model's, evaluated and left for the next stages after each epoch."""

import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bertpipe import __version__
from bertpipe.core.artifacts import MODEL, TOKENIZER_NAME
from bertpipe.core.atomic import check_target
from bertpipe.core.errors import Interrupted, StoppedError, TrainingError
from bertpipe.core.locks import LOCK, only_one
from bertpipe.core.params import EvaluateParams, MaskingParams, ModelParams, RuntimeParams, TrainParams
from bertpipe.core.progress import Progress, ignore_note, ignore_progress
from bertpipe.core.source_hash import source_digest
from bertpipe.data.batching import Batcher, Batches
from bertpipe.data.device_batcher import batcher_for
from bertpipe.evaluation.evaluate import evaluate
from bertpipe.model.bert import Bert
from bertpipe.model.device import pick_device
from bertpipe.model.store import save_model, weights_sha256
from bertpipe.training.checkpoint import CheckpointClock, Checkpoints, remark_on, restore
from bertpipe.training.distributed.environment import is_launched, local_rank
from bertpipe.training.distributed.world import World, joined
from bertpipe.training.flops import peak_flops, published_peak_flops
from bertpipe.training.history import History
from bertpipe.training.loop import Plan, StepReport, plan, train_steps
from bertpipe.training.objective import PretrainingObjective, compile_objective
from bertpipe.training.optim import AdamW, make_optimizer
from bertpipe.training.parallel import spread, unwrapped, whole_network
from bertpipe.training.run_spec import Setting, TrainPaths, setting_of
from bertpipe.training.signals import StopRequest, stop_requests

_DRIFTED = "one of them computes otherwise, so look for other hardware or libraries, or for a defect"


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

    Where `torchrun` started several processes, each of them calls this: they train one model together, the one of a
    single process up to rounding. The first of them writes and reports; a run may go on with another number of them.

    Raises:
        MissingInputError, DataError: the Parquet files are missing, damaged, or do not fit the model.
        MissingInputError, ModelError: the model of `train.init` cannot be read, or its vocabulary is not the data's.
        TrainingError: a loss is not finite; the model of the last complete epoch stays.
        WorldError: one of several processes failed, hangs, or was given something else than the others.
        StoppedError: the run was asked to stop, and its state is saved.
        BusyError: another process trains this run, or trains into the same place.
        WriteError: something else stands where the model is to go; or the disk is full or refuses, and then the last
            checkpoint and the model of the last complete epoch stay.
    """
    device = pick_device(runtime.device, local_rank=local_rank())
    with ExitStack() as stack:
        with joined(device.type, timeout_s=runtime.timeout_s) as world:
            if not world.leads:
                on_progress, on_note = ignore_progress, ignore_note
            if world.restarted:
                on_note("the processes were started anew: one of them failed, left or came")
            with world.together():
                if world.leads:
                    check_target(paths.model, MODEL)
                setting = setting_of(
                    model, train, masking, evaluation, runtime,
                    paths=paths, world=world, device=device, sources_sha256=source_digest(__name__),
                )  # fmt: skip
            world.agree("params, data or sources", setting.common, mend="give all processes the same of each")
            for note in setting.start.notes:
                on_note(note)
            with world.together():
                if world.leads:
                    stack.enter_context(_alone(paths.model, setting.state))
            stop = stack.enter_context(stop_requests(os.getppid() if parent is None else parent))
            try:
                summary, checkpoints = _run(
                    setting, stop, resume or world.restarted, overrides or {}, on_progress, on_note
                )
            except (StoppedError, TrainingError) as error:  # in all processes alike
                error.shown = world.leads
                raise
        # Not before the processes have left each other: where that fails, they are started anew and go on from here.
        # And where a signal came as the last model was written, torchrun ends with that, and DVC throws the model away.
        if world.leads and not (is_launched() and stop.interruption):
            checkpoints.clear()
    return summary


def _run(
    setting: Setting,
    stop: StopRequest,
    resume: bool,
    overrides: Mapping[str, object],
    on_progress: Callable[[Progress], None],
    on_note: Callable[[str], None],
) -> tuple[dict[str, Any], Checkpoints]:
    """Train from the newest checkpoint, or from the start, to the end; return the summary and what may go away now."""
    train, data, world, runtime = setting.train, setting.data, setting.world, setting.runtime
    bert = setting.start.network(train.seed, data).to(setting.device)
    host = Batcher(dataset=data.train, masking=setting.masks, seed=train.seed)
    batcher = batcher_for(host, setting.device, max_positions=bert.params.max_positions)
    schedule = plan(batcher, train)
    checkpoints = Checkpoints(
        directory=setting.state,
        keep=runtime.keep_checkpoints,
        run={
            **setting.identity,
            "data": str(data.directory),
            "model": str(setting.paths.model),
            "steps": schedule.total,
        },
    )
    history = History(train.history_every, train.nsp_weight)
    restored = restore(checkpoints, bert, world, resume=resume, on_note=on_note)
    if world.restarted and restored is None:
        on_note(f"there is no checkpoint at {setting.state}: the run starts at its first step")
    alone = PretrainingObjective(bert)
    compile_objective(alone, setting.compile, setting.parallel)
    if setting.compile != runtime.compile:
        on_note(f"runtime.compile {runtime.compile} is for a GPU: this run does without")
    objective = spread(alone, world, runtime.parallel)
    optimizer = make_optimizer(objective, train)
    if restored is not None:
        optimizer.restore(restored.optimizer, world)
        history.restore(restored.records)
        on_note(
            f"going on after step {restored.step:,} of {schedule.total:,}{remark_on(restored.records, setting.machine)}"
        )
    versions = {
        "bertpipe": __version__, "python": platform.python_version(), "numpy": np.__version__,
        **setting.identity["machine"], **setting.machine,
    }  # fmt: skip
    run = _Run(
        setting=setting,
        objective=objective,
        optimizer=optimizer,
        batcher=batcher,
        schedule=schedule,
        test=Batcher(dataset=data.test, masking=None, seed=train.seed),
        history=history,
        checkpoints=checkpoints,
        clock=CheckpointClock(runtime.checkpoint_every_s),
        stop=stop,
        facts={
            "params": setting.params,
            "init": setting.start.facts,
            "overrides": dict(overrides),
            "data_sha256": data.sha256,
            "versions": versions,
        },
        on_progress=on_progress,
    )
    return run.go(0 if restored is None else restored.step), checkpoints


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

    setting: Setting
    objective: nn.Module
    optimizer: AdamW
    batcher: Batches
    schedule: Plan
    test: Batcher
    history: History
    checkpoints: Checkpoints
    clock: CheckpointClock
    stop: StopRequest
    facts: Mapping[str, Any]
    on_progress: Callable[[Progress], None]

    @property
    def world(self) -> World:
        """The processes that train together."""
        return self.setting.world

    def go(self, restored_step: int) -> dict[str, Any]:
        """Train from after step `restored_step` to the end and return the summary."""
        step = restored_step
        try:
            if step in accumulate(self.schedule.steps):
                self._end_epoch()
            steps = train_steps(
                self.objective, self.optimizer, self.batcher, self.setting.train,
                device=self.setting.device, steps_done=step, world=self.world,
            )  # fmt: skip
            self.history.restart_clock()
            self._listen()
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

    def _listen(self) -> bool:
        """Return whether a checkpoint is due, or raise Interrupted; of several processes all do the same."""
        mine, due = self.stop.interruption, self.clock.due()
        if self.world.share.size > 1:
            code = 0 if mine is None else mine.exit_code
            code, is_due = self.world.highest(torch.tensor([code, due and self.world.leads])).tolist()
            due = bool(is_due)
            if code and mine is None:
                mine = Interrupted.of_exit_code(code)
        if mine is not None:
            raise mine
        return due

    def _after_step(self, report: StepReport) -> None:
        with self._saying_what_is_kept():
            closed = self.history.add(report)
        if self._listen():
            self._save(report.step)
        total, every = self.schedule.total, self.history.history_every
        if closed and (report.step % self.setting.runtime.log_every < every or report.step == total):
            mlm_loss, nsp_loss = self.history.intervals[-1][3:5]
            rate = self.history.timings[-1][3]
            mlm = "-" if mlm_loss is None else f"{mlm_loss:.3f}"
            detail = f"MLM {mlm}  NSP {nsp_loss:.3f}  {rate:,.0f} tokens/s"
            label = f"epoch {report.epoch}/{self.setting.train.epochs}"
            self.on_progress(Progress(label=label, completed=report.step, total=total, unit="steps", detail=detail))

    def _save(self, step: int) -> None:
        """Write a checkpoint; one at the end of an epoch is of the moment before its evaluation."""
        begun = time.perf_counter()
        self.history.stop_clock()
        with self._saying_what_is_kept():
            records = self.history.records()
        bert, optimizer = whole_network(self.objective), self.optimizer.tensors(keep=self.world.leads)
        self._agree_on(bert, step)
        with self.world.together():
            if self.world.leads:
                records["machine"] = self.setting.machine
                self.checkpoints.save(step, bert, optimizer, records)
        self.clock.saved(time.perf_counter() - begun)
        self.history.restart_clock()

    def _agree_on(self, bert: Bert, step: int) -> None:
        """Go on if all processes have the same weights after the same step; before anything takes its place."""
        if self.world.share.size > 1:
            facts = {"step": step, "weights": weights_sha256(bert)}
            self.world.agree("weights", facts, mend=f"{_DRIFTED}; the next run goes on from the last checkpoint")

    def _end_epoch(self) -> None:
        """Evaluate, and leave the model and its history where the next stages read them."""
        step, epoch, rate = self.history.intervals[-1][:3]
        setting, paths = self.setting, self.setting.paths
        bert = whole_network(self.objective).to(setting.device)
        several = self.world.share.size > 1
        try:
            with nullcontext() if several else self.stop.at_once():
                result = evaluate(
                    bert, self.test, batch_size=setting.evaluation.batch_size, device=setting.device, world=self.world
                )
        finally:
            self.history.restart_clock()  # it is no training
        if several:  # one alone could not leave
            self._listen()
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
        facts = {**self.facts, "epochs_done": epoch}
        self._agree_on(bert, int(step or 0))
        with self.world.together():
            if self.world.leads:
                self.history.write(history=paths.history, epochs=paths.epochs, timing=paths.timing)
                save_model(paths.model, bert, paths.data / TOKENIZER_NAME, facts)
        self.history.restart_clock()

    @contextmanager
    def _saying_what_is_kept(self) -> Iterator[None]:
        try:
            yield
        except TrainingError as error:
            epochs = len(self.history.epochs)
            model = self.setting.paths.model
            kept = f"the model of epoch {epochs} is at {model}" if epochs else "no epoch was completed"
            if epochs and not model.exists():  # the run went on from before, and DVC had taken the model away
                kept = f"there is no model at {model} any more"
            raise TrainingError(f"{error}; {kept}") from error

    def _summary(self, restored_step: int) -> dict[str, Any]:
        history, setting = self.history, self.setting
        dtype = torch.bfloat16 if setting.train.precision == "bfloat16" else torch.float32
        peak = self.world.total(torch.tensor(peak_flops(setting.device, dtype), dtype=torch.float64)).item()
        published = published_peak_flops(setting.device, dtype)
        rate = history.flops / history.train_s
        _, _, mlm_loss, top1, nsp_loss, nsp_accuracy, _ = history.epochs[-1]
        bert = unwrapped(self.objective).bert
        return {
            "model": str(setting.paths.model),
            "parameters": sum(parameter.numel() for parameter in bert.parameters()),
            "device": setting.device.type,
            "processes": self.world.share.size,
            "epochs": setting.train.epochs,
            "steps": self.schedule.total,
            "resumed_after_step": restored_step,
            "elapsed_s": history.train_s,
            "sequences_per_second": history.sequences / history.train_s,
            "tokens_per_second": history.tokens / history.train_s,
            "gflop_per_second": rate / 1e9,
            "peak_gflop_per_second": peak / 1e9,
            "share_of_peak": rate / peak,
            **({} if published is None else {"mfu": rate / (published * self.world.share.size)}),
            "train_mlm_loss": history.intervals[-1][3],
            "train_nsp_loss": history.intervals[-1][4],
            "test_mlm_loss": mlm_loss,
            "test_mlm_top1_accuracy": top1,
            "test_nsp_loss": nsp_loss,
            "test_nsp_accuracy": nsp_accuracy,
        }
