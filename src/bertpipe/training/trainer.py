"""One training run: steps, checkpoints, and what comes after each epoch."""

import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import nn

from bertpipe import __version__
from bertpipe.core.artifacts import TOKENIZER_NAME
from bertpipe.core.errors import Interrupted, StoppedError, TrainingError
from bertpipe.core.progress import Progress
from bertpipe.data.batching import Batcher, Batches
from bertpipe.data.device_batcher import batcher_for
from bertpipe.evaluation.evaluate import Evaluation, evaluate
from bertpipe.model.bert import Bert
from bertpipe.model.store import save_model, weights_sha256
from bertpipe.training.checkpoint import CheckpointClock, Checkpoints, remark_on, restore
from bertpipe.training.distributed.world import World
from bertpipe.training.flops import peak_flops, published_peak_flops
from bertpipe.training.history import History
from bertpipe.training.loop import Plan, StepReport, plan, train_steps
from bertpipe.training.objective import PretrainingObjective, compile_objective
from bertpipe.training.optim import Optimizer, make_optimizer
from bertpipe.training.parallel import unwrapped, whole_network, wrap_parallel
from bertpipe.training.run_spec import Setting
from bertpipe.training.signals import StopRequest

_DRIFTED = "one of them computes otherwise, so look for other hardware or libraries, or for a defect"


@dataclass(slots=True, kw_only=True)
class Trainer:
    """One training run: steps, checkpoints, and what comes after each epoch."""

    setting: Setting
    objective: nn.Module
    optimizer: Optimizer
    batcher: Batches
    schedule: Plan
    test: Batcher
    history: History
    checkpoints: Checkpoints
    clock: CheckpointClock
    stop: StopRequest
    facts: Mapping[str, Any]
    on_progress: Callable[[Progress], None]
    restored_step: int
    """The step after which it goes on; 0 for a start."""

    @classmethod
    def of(
        cls,
        setting: Setting,
        stop: StopRequest,
        *,
        resume: bool,
        overrides: Mapping[str, object],
        on_progress: Callable[[Progress], None],
        on_note: Callable[[str], None],
    ) -> "Trainer":
        """Return the trainer of a run as its newest checkpoint left it, or as it starts.

        Args:
            setting: what the run is.
            stop: what asks it to stop.
            resume: whether it goes on from its newest checkpoint; without, all of the run's are removed.
            overrides: options that took the place of params, for the model's facts.
            on_progress: told of steps.
            on_note: told what the user should know.
        """
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
        objective = wrap_parallel(alone, world, runtime.parallel)
        optimizer = make_optimizer(objective, train)
        if restored is not None:
            optimizer.restore(restored.optimizer, world)
            history.restore(restored.records)
            remark = remark_on(restored.records, setting.machine)
            on_note(f"going on after step {restored.step:,} of {schedule.total:,}{remark}")
        versions = {
            "bertpipe": __version__, "python": platform.python_version(), "numpy": np.__version__,
            **setting.identity["machine"], **setting.machine,
        }  # fmt: skip
        return cls(
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
            restored_step=0 if restored is None else restored.step,
        )

    @property
    def world(self) -> World:
        """The processes that train together."""
        return self.setting.world

    def run(self) -> dict[str, Any]:
        """Train to the end and return the summary.

        Raises:
            TrainingError: a loss is not finite; the model of the last complete epoch stays.
            StoppedError: the run was asked to stop, and its state is saved.
        """
        step = self.restored_step
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
            if step > self.restored_step:
                self._save(step)
            raise StoppedError(
                f"{interruption} after step {step:,} of {self.schedule.total:,}; the same command goes on from there "
                f"(state: {self.checkpoints.directory})",
                exit_code=interruption.exit_code,
            ) from None
        return self._summary()

    def _listen(self) -> bool:
        """Return whether a checkpoint is due, or raise Interrupted; of several processes all do the same."""
        mine, due = self.stop.interruption, self.clock.due()
        if self.world.dp.size > 1:
            code = 0 if mine is None else mine.exit_code
            code, is_due = self.world.all_reduce_max(torch.tensor([code, due and self.world.is_main])).tolist()
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
        bert, optimizer = whole_network(self.objective), self.optimizer.tensors(keep=self.world.is_main)
        self._agree_on(bert, step)
        with self.world.together():
            if self.world.is_main:
                records["machine"] = self.setting.machine
                self.checkpoints.save(step, bert, optimizer, records)
        self.clock.saved(time.perf_counter() - begun)
        self.history.restart_clock()

    def _agree_on(self, bert: Bert, step: int) -> None:
        """Go on if all processes have the same weights after the same step; before anything takes its place."""
        if self.world.dp.size > 1:
            facts = {"step": step, "weights": weights_sha256(bert)}
            self.world.assert_equal("weights", facts, mend=f"{_DRIFTED}; the next run goes on from the last checkpoint")

    def _end_epoch(self) -> None:
        """Evaluate, and leave the model and its history where the next stages read them."""
        step, epoch, rate = self.history.intervals[-1][:3]
        setting, paths = self.setting, self.setting.paths
        bert = whole_network(self.objective).to(setting.device)
        several = self.world.dp.size > 1
        try:
            with nullcontext() if several else self.stop.at_once():
                sums = evaluate(
                    bert, self.test, batch_size=setting.evaluation.batch_size, device=setting.device,
                    dp=self.world.dp,
                )  # fmt: skip
                result = Evaluation.of(sums.reduced(self.world.all_reduce_sum))
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
            if self.world.is_main:
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

    def _summary(self) -> dict[str, Any]:
        history, setting = self.history, self.setting
        dtype = torch.bfloat16 if setting.train.precision == "bfloat16" else torch.float32
        peak = self.world.all_reduce_sum(torch.tensor(peak_flops(setting.device, dtype), dtype=torch.float64)).item()
        published = published_peak_flops(setting.device, dtype)
        rate = history.flops / history.train_s
        _, _, mlm_loss, top1, nsp_loss, nsp_accuracy, _ = history.epochs[-1]
        bert = unwrapped(self.objective).bert
        return {
            "model": str(setting.paths.model),
            "parameters": sum(parameter.numel() for parameter in bert.parameters()),
            "device": setting.device.type,
            "processes": self.world.dp.size,
            "epochs": setting.train.epochs,
            "steps": self.schedule.total,
            "resumed_after_step": self.restored_step,
            "elapsed_s": history.train_s,
            "sequences_per_second": history.sequences / history.train_s,
            "tokens_per_second": history.tokens / history.train_s,
            "gflop_per_second": rate / 1e9,
            "peak_gflop_per_second": peak / 1e9,
            "share_of_peak": rate / peak,
            **({} if published is None else {"mfu": rate / (published * self.world.dp.size)}),
            "train_mlm_loss": history.intervals[-1][3],
            "train_nsp_loss": history.intervals[-1][4],
            "test_mlm_loss": mlm_loss,
            "test_mlm_top1_accuracy": top1,
            "test_nsp_loss": nsp_loss,
            "test_nsp_accuracy": nsp_accuracy,
        }
