"""`train`: BERT from random weights or from another model, evaluated and saved after each epoch."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertpipe.core.artifacts import MODEL, STATE_DIR
from bertpipe.core.atomic import check_target_file, lock_path
from bertpipe.core.errors import StoppedError, TrainingError
from bertpipe.core.locks import LOCK, exclusive_lock
from bertpipe.core.params import EvaluateParams, MaskingParams, ModelParams, RuntimeParams, TrainParams
from bertpipe.core.progress import Progress, ignore_note, ignore_progress
from bertpipe.core.source_hash import source_digest
from bertpipe.core.stores.directories import check_output, copy_for, fetched
from bertpipe.core.stores.objects import url_of, without_file_scheme
from bertpipe.model.device import pick_device
from bertpipe.training.checkpoint import RUN
from bertpipe.training.distributed.environment import is_launched, local_rank
from bertpipe.training.distributed.world import init_distributed
from bertpipe.training.run_spec import TrainPaths, make_run_spec
from bertpipe.training.signals import stop_requests
from bertpipe.training.trainer import Trainer


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
    """Train a model, write it to `paths.model`, and return a summary.

    The model is that of the last epoch. A run that was stopped resumes from its newest undamaged checkpoint, unless
    `resume` is false, and ends with the bytes of a run that was not stopped. Ctrl-C, SIGTERM and SIGHUP, in the main
    thread, end the run after the current step, with a checkpoint; so does, under DVC, the end of `parent`, the process
    that started this one (None: the current parent).

    If `torchrun` started several processes, each of them calls this: together they train the model of a single process,
    up to rounding. Rank 0 writes and reports; a run may resume with another number of processes.

    Data, model and state may be URLs of object stores. A model is written to this machine first, then to its URL; so is
    the state, and a run without state here resumes from the URL's.

    Raises:
        MissingInputError, DataError: the Parquet files are missing, damaged, or do not fit the model.
        MissingInputError, ModelError: the model of `train.init` cannot be read, or its vocabulary is not the data's.
        TrainingError: a loss is not finite; the model of the last complete epoch stays.
        WorldError: one of several processes failed, hangs, or was given something else than the others.
        StoppedError: the run was asked to stop, and its state is saved.
        BusyError: another process trains this run, or trains into the same place.
        WriteError: something else is at `paths.model`; or writing failed, and then the last checkpoint and the model of
            the last complete epoch stay.
    """
    state_url = url_of(paths.state)
    state = STATE_DIR if state_url else without_file_scheme(paths.state)
    paths = replace(paths, model=copy_for(paths.model), state=state, state_url=state_url)
    device = pick_device(runtime.device, local_rank=local_rank())
    with ExitStack() as stack:
        with init_distributed(device.type, timeout_s=runtime.timeout_s) as world:
            if not world.is_main:
                on_progress, on_note = ignore_progress, ignore_note
            if world.restarted:
                on_note("the processes were restarted: one of them failed, left or joined")
            with world.together():
                if world.is_main:
                    check_output(paths.model, MODEL)
                paths = replace(paths, data=fetched(paths.data, by_ranges=True))
                spec = make_run_spec(
                    model, train, masking, evaluation, runtime,
                    paths=paths, world=world, device=device, sources_sha256=source_digest(__name__),
                )  # fmt: skip
            world.assert_equal("params, data or sources", spec.common, advice="give all processes the same of each")
            for note in spec.initial.notes:
                on_note(note)
            with world.together():
                if world.is_main:
                    stack.enter_context(_alone(paths.model, spec.state))
                    for file in (paths.history, paths.epochs, paths.timing, paths.answers, paths.state / RUN):
                        check_target_file(file)
            stop = stack.enter_context(stop_requests(os.getppid() if parent is None else parent))
            try:
                trainer = Trainer.of(
                    spec, stop, resume=resume or world.restarted, overrides=overrides or {},
                    on_progress=on_progress, on_note=on_note,
                )  # fmt: skip
                summary = trainer.run()
            except (StoppedError, TrainingError) as error:  # in all processes alike
                error.shown = world.is_main
                raise
        # Only after the processes have left the group: if that fails, they are restarted and resume from here. And if a
        # signal came while the last model was written, torchrun ends with its code, and DVC deletes the model.
        if world.is_main and not (is_launched() and stop.interruption):
            trainer.checkpoints.clear()
            trainer.checkpoints.withdraw(on_note=on_note)
    return summary


@contextmanager
def _alone(model: Path, state: Path) -> Iterator[None]:
    """Lock the model's path and the run's state, and remove a state directory that is empty in the end."""
    try:
        with (
            exclusive_lock(lock_path(model, "training"), what=f"a training into {model}"),
            exclusive_lock(state / LOCK, what="a training with the same params and data"),
        ):
            yield
    finally:
        with suppress(OSError):  # it holds checkpoints, or another process's lock
            state.rmdir()
