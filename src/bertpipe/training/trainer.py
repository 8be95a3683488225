"""A training run: optimizer steps, checkpoints, and the evaluation after each epoch."""

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
from bertpipe.core.artifacts import EPOCHS_COLUMNS, HISTORY_COLUMNS, TIMING_COLUMNS, TOKENIZER_NAME, write_json
from bertpipe.core.errors import DataError, Interrupted, StoppedError, StoreError, TrainingError, with_urls
from bertpipe.core.progress import Progress
from bertpipe.core.stores.directories import publish
from bertpipe.data.batching import Batcher
from bertpipe.data.device.batcher import DeviceBatcher, batcher_for
from bertpipe.evaluation.evaluate import Evaluation, evaluate
from bertpipe.evaluation.questions import Questions, answers_content
from bertpipe.model.bert import Bert
from bertpipe.model.flops import peak_flops, published_peak_flops
from bertpipe.model.store import save_model, weights_sha256
from bertpipe.tracking.trackers import GuardedTracker
from bertpipe.training.checkpoint import CheckpointClock, Checkpoints, machine_changes, restore
from bertpipe.training.distributed.world import World
from bertpipe.training.history import History
from bertpipe.training.loop import StepReport, StepSchedule, train_steps
from bertpipe.training.objective import PretrainingObjective, compile_objective
from bertpipe.training.optim import Optimizer, make_optimizer
from bertpipe.training.parallel import gather_network, unwrapped, wrap_parallel
from bertpipe.training.run_spec import RunSpec
from bertpipe.training.signals import StopRequest

_DRIFTED = (
    "one of them computes differently, so look for other hardware or libraries, or for a defect; the next run resumes "
    "from the last checkpoint"
)

_TRACKED = ("epoch", "mlm_loss", "nsp_loss", "loss", "gradient_norm", "learning_rate", "tokens_per_second")
"""Columns of `history.csv` and `timing.csv` that a tracker gets."""


@dataclass(slots=True, kw_only=True)
class Trainer:
    """A training run: optimizer steps, checkpoints, and the evaluation after each epoch."""

    spec: RunSpec
    objective: nn.Module
    optimizer: Optimizer
    batcher: Batcher | DeviceBatcher
    schedule: StepSchedule
    held_out: Batcher
    """What is evaluated after each epoch."""
    questions: Questions
    """What is asked after each epoch."""
    history: History
    tracker: GuardedTracker
    checkpoints: Checkpoints
    clock: CheckpointClock
    stop: StopRequest
    facts: Mapping[str, Any]
    on_progress: Callable[[Progress], None]
    on_note: Callable[[str], None]
    restored_step: int
    """The step that it resumed after; 0 for a new run."""

    @classmethod
    def of(
        cls,
        spec: RunSpec,
        stop: StopRequest,
        *,
        resume: bool,
        overrides: Mapping[str, object],
        on_progress: Callable[[Progress], None],
        on_note: Callable[[str], None],
    ) -> "Trainer":
        """Return the trainer of a run, resumed from its newest checkpoint if there is one.

        Without `resume` all checkpoints of the run are removed. `overrides` are options that replaced params.
        """
        train, data, world, runtime = spec.train, spec.data, spec.world, spec.runtime
        bert = spec.initial.network(train.seed, data).to(spec.device)
        host = Batcher(dataset=data.train, masking=spec.masks, seed=train.seed, exchange=world.exchange())
        batcher = batcher_for(host, spec.device, max_positions=bert.params.max_positions)
        schedule = StepSchedule.of(batcher, train)
        checkpoints = Checkpoints(
            directory=spec.state,
            keep=runtime.keep_checkpoints,
            url=spec.state_url,
            run={
                **spec.identity,
                "data": with_urls(str(data.directory)),
                "model": with_urls(str(spec.paths.model)),
                "steps": schedule.total,
            },
        )
        history = History(train.history_every, train.nsp_weight)
        restored = restore(checkpoints, bert, world, resume=resume, on_note=on_note)
        if world.restarted and restored is None:
            on_note(f"there is no checkpoint at {spec.state}: the run starts at its first step")
        unwrapped_objective = PretrainingObjective(bert)
        compile_objective(unwrapped_objective, spec.compile, spec.parallel)
        if spec.compile != runtime.compile:
            on_note(f"runtime.compile {runtime.compile} needs a GPU: this run is not compiled")
        objective = wrap_parallel(unwrapped_objective, world, runtime.parallel)
        optimizer = make_optimizer(objective, train)
        if restored is not None:
            optimizer.restore(restored.optimizer, world)
            history.restore(restored.records)
            changes = machine_changes(restored.records, spec.machine)
            on_note(f"resuming after step {restored.step:,} of {schedule.total:,}{changes}")
        versions = {
            "bertpipe": __version__, "python": platform.python_version(), "numpy": np.__version__,
            **spec.identity["machine"], **spec.machine,
        }  # fmt: skip
        step = 0 if restored is None else restored.step
        tracker = GuardedTracker(
            runtime.tracking if world.is_main else "none", f"{spec.paths.model.name}-{spec.state.name}", spec.params,
            step=step, on_note=on_note,
        )  # fmt: skip
        return cls(
            spec=spec,
            objective=objective,
            optimizer=optimizer,
            batcher=batcher,
            schedule=schedule,
            held_out=Batcher(dataset=data.held_out, masking=None, seed=train.seed, exchange=world.exchange()),
            questions=Questions.of(data.held_out),
            history=history,
            tracker=tracker,
            checkpoints=checkpoints,
            clock=CheckpointClock(runtime.checkpoint_every_s),
            stop=stop,
            facts={
                "params": spec.params,
                "init": spec.initial.facts,
                "overrides": dict(overrides),
                "data_sha256": data.sha256,
                "versions": versions,
            },
            on_progress=on_progress,
            on_note=on_note,
            restored_step=step,
        )

    @property
    def world(self) -> World:
        """The processes that train together."""
        return self.spec.world

    def run(self) -> dict[str, Any]:
        """Train to the end and return the summary.

        Raises:
            TrainingError: a loss is not finite; the model of the last complete epoch is kept.
            StoppedError: the run was asked to stop; its state is saved.
        """
        step = self.restored_step
        try:
            if step in accumulate(self.schedule.steps):
                self._end_epoch()
            steps = train_steps(
                self.objective, self.optimizer, self.batcher, self.spec.train,
                device=self.spec.device, steps_done=step, world=self.world,
            )  # fmt: skip
            self.history.peak_flops = self._peak_flops()
            self.history.restart_clock()
            self._check_stop_request()
            for report in steps:
                step = report.step
                self._after_step(report)
                if report.ends_epoch:
                    self._end_epoch()
        except DataError as error:  # of rows that cannot be read, in all processes alike
            if step > self.restored_step:
                self._save(step)
                raise DataError(
                    f"{error}; the state after step {step:,} of {self.schedule.total:,} is kept: once the data are as "
                    "they were, run the same command again to resume",
                    shown=error.shown,
                ) from error
            raise
        except Interrupted as interruption:
            if step > self.restored_step:
                self._save(step)
            done = f"after step {step:,} of {self.schedule.total:,}" if step else "before the first step"
            resume = f"to resume (state: {self.checkpoints.directory})" if step else "to start over"
            raise StoppedError(
                f"{interruption} {done}; run the same command again {resume}", exit_code=interruption.exit_code
            ) from None
        finally:
            self.tracker.close()
        with self.world.together():
            if self.world.is_main:
                publish(self.spec.paths.model)
        return self._summary()

    def _check_stop_request(self) -> bool:
        """Return whether a checkpoint is due, or raise Interrupted; several processes decide together."""
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
        with self._naming_kept_model():
            closed = self.history.add(report)
        if self._check_stop_request():
            self._save(report.step)
        if closed and self.world.is_main:
            self._show(report)
        total, every = self.schedule.total, self.history.history_every
        if closed and (report.step % self.spec.runtime.log_every < every or report.step == total):
            mlm_loss, nsp_loss = self.history.intervals[-1][3:5]
            rate = self.history.timings[-1][3]
            mlm = "-" if mlm_loss is None else f"{mlm_loss:.3f}"
            detail = f"MLM {mlm}  NSP {nsp_loss:.3f}  {rate:,.0f} tokens/s"
            label = f"epoch {report.epoch}/{len(self.schedule.steps)}"
            self.on_progress(Progress(label=label, completed=report.step, total=total, unit="steps", detail=detail))

    def _show(self, report: StepReport) -> None:
        """Let others follow the run, outside of its training time."""
        paths, history = self.spec.paths, self.history
        history.stop_clock()
        if not report.ends_epoch:
            history.write_live(history=paths.history, timing=paths.timing, on_note=self.on_note)
        figures = dict(zip(HISTORY_COLUMNS, history.intervals[-1], strict=True))
        figures |= dict(zip(TIMING_COLUMNS, history.timings[-1], strict=True))
        self.tracker.log(report.step, {f"train/{name}": figures[name] for name in _TRACKED})
        history.restart_clock()

    def _save(self, step: int) -> None:
        """Write a checkpoint; at the end of an epoch it is the state before the evaluation."""
        started_at = time.perf_counter()
        self.history.stop_clock()
        with self._naming_kept_model():
            records = self.history.records()
        bert, optimizer = gather_network(self.objective), self.optimizer.tensors(keep=self.world.is_main)
        self._assert_equal_weights(bert, step)
        with self.world.together():
            if self.world.is_main:
                records["machine"] = self.spec.machine
                self.checkpoints.save(step, bert, optimizer, records)
                self.checkpoints.send(on_note=self.on_note)
        self.clock.saved(time.perf_counter() - started_at)
        self.history.restart_clock()

    def _assert_equal_weights(self, bert: Bert, step: int) -> None:
        """Check that all processes have the same weights after the same step, before anything is written."""
        if self.world.dp.size > 1:
            self.world.assert_equal("weights", {"step": step, "weights": weights_sha256(bert)}, advice=_DRIFTED)

    def _end_epoch(self) -> None:
        """Evaluate, and write the model and its history for the next stages."""
        step, epoch, rate = self.history.intervals[-1][:3]
        spec, paths = self.spec, self.spec.paths
        bert = gather_network(self.objective).to(spec.device)
        several = self.world.dp.size > 1
        try:
            with nullcontext() if several else self.stop.interruptible():
                sums = evaluate(
                    bert, self.held_out, batch_size=spec.evaluation.batch_size, device=spec.device,
                    dp=self.world.dp,
                )  # fmt: skip
                result = Evaluation.of(sums.reduced(self.world.all_reduce_sum))
        finally:
            self.history.restart_clock()  # evaluation is not training time
        if several:  # one process could not leave on its own
            self._check_stop_request()
        losses = (result.mlm_loss, result.nsp_loss)
        with self._naming_kept_model():
            if not all(math.isfinite(loss) for loss in losses if loss is not None):
                raise TrainingError(
                    f"after step {step} at learning rate {rate:.3g} the {spec.data.held_out_split} split has the MLM "
                    f"loss {losses[0]} and the NSP loss {losses[1]}: lower train.learning_rate"
                )
        self.history.add_evaluation(
            mlm=(result.mlm_loss, result.mlm_top1_accuracy), nsp=(result.nsp_loss, result.nsp_accuracy)
        )
        split, figures = spec.data.held_out_split, zip(EPOCHS_COLUMNS, self.history.epochs[-1], strict=True)
        self.tracker.log(int(step or 0), {f"{split}/{name}": value for name, value in figures if name != "step"})
        self.history.answers.append((int(epoch or 0), int(step or 0), self.questions.ask(bert, device=spec.device)))
        facts = {**self.facts, "epochs_done": epoch}
        self._assert_equal_weights(bert, int(step or 0))
        with self.world.together():
            if self.world.is_main:
                self.history.write(history=paths.history, epochs=paths.epochs, timing=paths.timing)
                write_json(paths.answers, answers_content(self.questions, self.history.answers))
                save_model(paths.model, bert, paths.data / TOKENIZER_NAME, facts)
                try:
                    publish(paths.model)
                except StoreError as error:  # at the end of the run it is tried again
                    self.on_note(f"{error}; until then the model is at {paths.model.absolute()}")
        self.history.restart_clock()

    @contextmanager
    def _naming_kept_model(self) -> Iterator[None]:
        try:
            yield
        except TrainingError as error:
            epochs = len(self.history.epochs)
            model = self.spec.paths.model
            kept = f"the model of epoch {epochs} is at {model}" if epochs else "no epoch was completed"
            if epochs and not model.exists():  # the run was resumed, and DVC had removed the model
                kept = f"the model at {model} no longer exists"
            raise TrainingError(f"{error}; {kept}") from error

    @property
    def _dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.spec.train.precision == "bfloat16" else torch.float32

    def _peak_flops(self) -> float:
        """Return the machine's peak; several processes add theirs up."""
        mine = torch.tensor(peak_flops(self.spec.device, self._dtype), dtype=torch.float64)
        return float(self.world.all_reduce_sum(mine).item())

    def _summary(self) -> dict[str, Any]:
        history, spec = self.history, self.spec
        published = published_peak_flops(spec.device, self._dtype)
        rate = history.flops / history.train_s
        _, _, mlm_loss, top1, nsp_loss, nsp_accuracy, _ = history.epochs[-1]
        bert, split = unwrapped(self.objective).bert, spec.data.held_out_split
        return {
            "model": with_urls(str(spec.paths.model)),
            "parameters": sum(parameter.numel() for parameter in bert.parameters()),
            "device": spec.device.type,
            "processes": self.world.dp.size,
            "epochs": len(self.schedule.steps),
            "steps": self.schedule.total,
            "resumed_after_step": self.restored_step,
            "elapsed_s": history.train_s,
            "sequences_per_second": history.sequences / history.train_s,
            "tokens_per_second": history.tokens / history.train_s,
            "gflop_per_second": rate / 1e9,
            "peak_gflop_per_second": history.peak_flops / 1e9,
            "share_of_peak": rate / history.peak_flops,
            **({} if published is None else {"mfu": rate / (published * self.world.dp.size)}),
            "train_mlm_loss": history.intervals[-1][3],
            "train_nsp_loss": history.intervals[-1][4],
            f"{split}_mlm_loss": mlm_loss,
            f"{split}_mlm_top1_accuracy": top1,
            f"{split}_nsp_loss": nsp_loss,
            f"{split}_nsp_accuracy": nsp_accuracy,
        }
