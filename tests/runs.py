"""Training runs in a folder: making them, stopping them, and what they leave there."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bertpipe.core.params import Params
from bertpipe.core.progress import Progress
from bertpipe.stages.train import run_train
from bertpipe.training import loop
from bertpipe.training.run_spec import TrainPaths

RESULTS = (
    "model/config.json",
    "model/model.safetensors",
    "model/tokenizer.json",
    "history.csv",
    "epochs.csv",
    "answers.json",
)
"""What a run leaves that is equal to the byte on every run; `timing.csv` is not."""


EACH_STEP = {"checkpoint_every_s": 0.0}
SMALL: dict[str, Any] = {"batch_size": 64, "history_every": 4, "model": {"dropout": 0.1}}
"""Six steps an epoch, in intervals that no epoch ends at; chance in every part: order, masks and dropout."""
STEPS = 12


class Crash(Exception):  # noqa: N818 - no error: the test's own way to break a run off
    pass


def paths_in(folder: Path, data: Path) -> TrainPaths:
    """Return the paths of a run that leaves everything in a folder."""
    return TrainPaths(
        data=data,
        model=folder / "model",
        history=folder / "history.csv",
        epochs=folder / "epochs.csv",
        timing=folder / "timing.csv",
        answers=folder / "answers.json",
        state=folder / "state",
    )


def results(folder: Path) -> dict[str, bytes]:
    """Return the bytes of everything that a run leaves and that is equal on every run."""
    return {name: (folder / name).read_bytes() for name in RESULTS}


def train(
    params: Params,
    folder: Path,
    data: Path,
    *,
    model: dict[str, Any] | None = None,
    masking: dict[str, Any] | None = None,
    evaluation: dict[str, Any] | None = None,
    runtime: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    places: dict[str, Path] | None = None,
    **changes: Any,  # noqa: ANN401
) -> dict[str, Any]:
    """Run a training with changes to its section, to other sections, to the options of `run_train` and to its paths."""
    return run_train(
        dataclasses.replace(params.model, **(model or {})),
        dataclasses.replace(params.train, **changes),
        dataclasses.replace(params.masking, **(masking or {})),
        dataclasses.replace(params.evaluate, **(evaluation or {})),
        dataclasses.replace(params.runtime, **(runtime or {})),
        paths=dataclasses.replace(paths_in(folder, data), **(places or {})),
        **(options or {}),
    )


def crash_in(label: str, params: Params, folder: Path, data: Path, **changes: Any) -> None:  # noqa: ANN401
    """Run a training that breaks off once it tells of an epoch; it has a checkpoint of every step before."""

    def watch(progress: Progress) -> None:
        if progress.label.startswith(label):
            raise Crash

    runtime = {"checkpoint_every_s": 0.0, **changes.pop("runtime", {})}
    with pytest.raises(Crash):
        train(params, folder, data, runtime=runtime, options={"on_progress": watch}, **changes)


@contextlib.contextmanager
def at_step(step: int, do: Callable[[], None]) -> Iterator[None]:
    """Do something right after an optimizer step of every run in the block, before the run takes note of the step."""

    def steps(*args: Any, **options: Any) -> Iterator[loop.StepReport]:  # noqa: ANN401
        for report in loop.train_steps(*args, **options):
            if report.step == step:
                do()
            yield report

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertpipe.training.trainer.train_steps", steps)
        yield


def crash() -> None:
    raise Crash
