"""What is broken off at every point: operations that change a folder, from a known state of it to another."""

import dataclasses
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

from bertpipe.core.artifacts import REJECTS_REPORT
from bertpipe.core.params import Params
from bertpipe.core.params_file import load_params
from bertpipe.model.bert import Bert
from bertpipe.model.store import load_model, save_model
from bertpipe.stages.convert import run_convert
from bertpipe.stages.download import run_download
from bertpipe.stages.prepare import run_prepare
from bertpipe.training.checkpoint import Checkpoints
from bertpipe.training.optim import make_optimizer
from models import tiny_params
from prepared import REVIEWS, folder_of
from runs import train

TINY = Path(__file__).parent.parent.parent / "params" / "tiny.yaml"
VOCABULARY = 37
EACH_STEP = {"checkpoint_every_s": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A change of a folder. Both functions are given the folder, which is the current one, and the shared inputs."""

    set_up: Callable[[Path, Path], object]
    """Bring the folder to the state before."""
    run: Callable[[Path, Path], object]
    """Do it."""
    whole: Callable[[Path, Path], None] | None = None
    """Raise if something in the folder, after the operation was broken off, is not whole; None asks for the outputs as
    before or as after."""
    outputs: tuple[str, ...] = ()
    """Files and directories that are as before, or as after."""
    leaves: tuple[str, ...] = ()
    """Beginnings of names whose content differs from run to run, or that may differ after a break."""


def tree(path: Path) -> dict[str, str]:
    """Return the digest of every file below a path, or of the file itself; nothing where there is none."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path.parent)): sha256(file.read_bytes()).hexdigest() for file in files}


def _params() -> Params:
    return load_params(TINY)


def _network(seed: int) -> Bert:
    torch.manual_seed(seed)
    return Bert(tiny_params(), VOCABULARY)


def _save_model(folder: Path, inputs: Path, *, seed: int) -> None:
    save_model(folder / "models" / "bert", _network(seed), inputs / "parquet" / "tokenizer.json", {"seed": seed})


def _save_checkpoints(folder: Path, *steps: int) -> None:
    checkpoints = Checkpoints(directory=folder / "state", keep=2, run={"steps": 3})
    for step in steps:
        bert = _network(step)
        optimizer = make_optimizer(bert, _params().train)
        for parameter in bert.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step(learning_rate=0.1, max_grad_norm=1.0)
        checkpoints.save(step, bert, optimizer.tensors(), {"intervals": [[step, 0.5]]})


def _download(inputs: Path, name: str) -> None:
    params = _params()
    download = dataclasses.replace(params.download, source=str(inputs / name))
    run_download(download, params.sample, params.masking, out=Path("data/raw/dataset.zip"))


def _convert(inputs: Path, name: str) -> None:
    run_convert(
        _params().convert,
        zip_file=inputs / name,
        out=Path("data/parquet"),
        rejects_report=REJECTS_REPORT,
    )


def _prepare(folder: Path, *, seed: int) -> None:
    params = _params()
    section = dataclasses.replace(params.prepare, seed=seed)
    run_prepare(section, params.masking, params.runtime, text=folder / "reviews", out=Path("data/text"))


def _set_up_prepare(folder: Path, _: Path) -> None:
    folder_of(folder / "reviews", REVIEWS)
    _prepare(folder, seed=7)


def _model_is_whole(folder: Path, _: Path) -> None:
    if (folder / "model").exists():
        load_model(folder / "model")


def _train(folder: Path, inputs: Path, *, epochs: int, batch_size: int) -> None:
    steps = {"epochs": epochs, "batch_size": batch_size, "history_every": 4}
    train(_params(), folder, inputs / "parquet", runtime=EACH_STEP, **steps)


OPERATIONS = {
    "checkpoint": Operation(
        set_up=lambda folder, _: _save_checkpoints(folder, 1, 2),
        run=lambda folder, _: _save_checkpoints(folder, 3),
        outputs=("state/step-000000002", "state/step-000000003"),
    ),
    "model": Operation(
        set_up=lambda folder, inputs: _save_model(folder, inputs, seed=1),
        run=lambda folder, inputs: _save_model(folder, inputs, seed=2),
        outputs=("models/bert",),
    ),
    "download": Operation(
        set_up=lambda _, inputs: _download(inputs, "other.zip"),
        run=lambda _, inputs: _download(inputs, "sample.zip"),
        outputs=("data/raw/dataset.zip",),
    ),
    "convert": Operation(
        set_up=lambda _, inputs: _convert(inputs, "other.zip"),
        run=lambda _, inputs: _convert(inputs, "sample.zip"),
        outputs=("data/parquet",),
    ),
    "prepare": Operation(
        set_up=_set_up_prepare,
        run=lambda folder, _: _prepare(folder, seed=8),
        outputs=("data/text",),
    ),
    "train": Operation(  # one step
        set_up=lambda _, __: None,
        run=lambda folder, inputs: _train(folder, inputs, epochs=1, batch_size=400),
        whole=_model_is_whole,
        leaves=("timing.csv",),
    ),
}


LONGER_TRAINING = Operation(
    set_up=lambda _, __: None, run=lambda folder, inputs: _train(folder, inputs, epochs=2, batch_size=64)
)
"""Twelve steps, to be killed at random moments."""


def empty(folder: Path) -> Path:
    """Return the folder, made again, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
