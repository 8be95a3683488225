"""A training in which something happens, in each of several processes: given a folder, the data, what happens, how."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bertpipe.core.errors import BertpipeError, DataError
from bertpipe.core.params_file import load_params
from bertpipe.data.pair_dataset import PairFile
from bertpipe.evaluation.evaluate import evaluate
from bertpipe.model.store import save_model
from runs import STEPS, Crash, at_step, crash, train

EXACT = {"batch_size": 64, "history_every": 1, "model": {"dropout": 0.0}}
"""Without dropout, of which each process draws its own."""
BROKEN_OFF = 7
"""The exit code of a training that was."""


def is_second() -> bool:
    return os.environ.get("RANK") == "1"


@contextmanager
def signal_in_the_last_evaluation() -> Iterator[None]:
    """Let the second process hear SIGTERM while all evaluate the last epoch."""
    done = []

    def evaluate_and_hear(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        if is_second() and len(done) == STEPS // 6 - 1:
            signal.raise_signal(signal.SIGTERM)
        done.append(1)
        return evaluate(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertpipe.training.trainer.evaluate", evaluate_and_hear)
        yield


@contextmanager
def signal_as_the_model_is_written() -> Iterator[None]:
    """Let the first process hear SIGTERM when it has written a model."""

    def save_and_hear(*args: Any, **options: Any) -> None:  # noqa: ANN401
        save_model(*args, **options)
        if args[3]["epochs_done"] == STEPS // 6:
            signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertpipe.training.trainer.save_model", save_and_hear)
        yield


@contextmanager
def drifting_weights() -> Iterator[None]:
    """Let the second process have other weights than the first."""
    with pytest.MonkeyPatch.context() as patch:
        if is_second():
            patch.setattr("bertpipe.training.trainer.weights_sha256", lambda _: "other")
        yield


@contextmanager
def unreadable_rows() -> Iterator[None]:
    """Let the second process fail to read a row group after its first epoch."""
    done, load = [], PairFile.read

    def read(file: PairFile, groups: Any) -> Any:  # noqa: ANN401
        done.append(1)
        if is_second() and len(done) == 4:  # the questions, an epoch, its evaluation, and now the next epoch
            raise DataError("train.parquet is damaged")
        return load(file, groups)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PairFile, "read", read)
        yield


def main() -> None:
    """Train, with a checkpoint after each step before something happens."""
    folder, data, what, parallel = sys.argv[1:]
    params = load_params(Path(__file__).parent.parent / "params" / "tiny.yaml")
    runtime = {"checkpoint_every_s": 0.0, "parallel": parallel, "timeout_s": 60.0}
    if what == "another way":
        runtime["parallel"] = "fsdp" if is_second() else "ddp"
    if what == "drift":
        runtime["checkpoint_every_s"] = 1000.0
    happens = {
        "signal": signal_in_the_last_evaluation,
        "late signal": signal_as_the_model_is_written,
        "drift": drifting_weights,
        "unreadable": unreadable_rows,
    }
    try:
        with happens[what]() if what in happens else at_step(int(what) if what.isdecimal() else 0, crash):
            train(params, Path(folder), Path(data), runtime=runtime, **EXACT)
    except Crash:
        sys.exit(BROKEN_OFF)
    except BertpipeError as error:
        if error.shown:
            sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
