"""`state`: the saved state of interrupted commands, listed or cleared."""

import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bertpipe.core.artifacts import DOWNLOAD_FACTS, DOWNLOAD_PART, DOWNLOADS_DIR, STATE_DIR, read_json
from bertpipe.core.errors import BusyError, DataError, InputError, write_errors
from bertpipe.core.locks import LOCK, exclusive_lock, is_held
from bertpipe.training.checkpoint import RUN, check_checkpoint, checkpoints_in, remove_checkpoints

ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedState:
    """The state that one interrupted command has saved."""

    name: str
    kind: str
    """`training` or `download`."""
    what: str
    done: str
    """How much of the work is done."""
    bytes: int
    changed: str
    """When its newest file was written, in local time."""
    held: bool
    """Whether a process is using it."""


def run_state(work: Path, *, clear: Sequence[str] = ()) -> dict[str, Any]:
    """Return the saved states in the work directory, after clearing some of them.

    Args:
        work: the work directory, `.bertpipe`.
        clear: names of states, or `all`; with `all`, a state that a process is using stays.

    Raises:
        InputError: there is no state of such a name.
        BusyError: a process is using it.
        WriteError: it cannot be removed.
    """
    found = _found(work)
    unknown = [name for name in clear if name != ALL and name not in {state.name for _, state in found}]
    if unknown:
        names = ", ".join(state.name for _, state in found)
        raise InputError(f"there is no state {', '.join(unknown)}: {f'there is {names}' if names else 'none is kept'}")
    cleared = []
    for path, state in found:
        if ALL not in clear and state.name not in clear:
            continue
        try:
            with write_errors(path), exclusive_lock(path / LOCK, what=f"work on {state.name}"):
                remove_checkpoints(path)
                for name in (DOWNLOAD_PART, DOWNLOAD_FACTS):
                    (path / name).unlink(missing_ok=True)
            with suppress(OSError):  # it holds a file that bertpipe did not write
                path.rmdir()
        except BusyError:
            if state.name in clear:
                raise
            continue
        cleared.append(state.name)
    return {"kept": [asdict(state) for _, state in _found(work)], "cleared": cleared}


def _found(work: Path) -> list[tuple[Path, SavedState]]:
    trainings = sorted(path for path in (work / STATE_DIR.name).glob("*") if path.is_dir())
    downloads = sorted(path for path in (work / DOWNLOADS_DIR.name).glob("*") if path.is_dir())
    return [(path, _training(path)) for path in trainings] + [(path, _download(path)) for path in downloads]


def _training(path: Path) -> SavedState:
    run: Any = None
    with suppress(DataError):
        run = read_json(path / RUN)
    what, total = "a training without a description", "?"
    with suppress(KeyError, TypeError):
        model, train = run["params"]["model"], run["params"]["train"]
        what = (
            f"{model['architecture']} of embedding_dim {model['embedding_dim']}, layers {model['layers']}, epochs "
            f"{train['epochs']}, learning_rate {train['learning_rate']:g} on {run['data']}"
        )
        total = f"{run['steps']:,}"
    return _saved_state(path, "training", what, f"{_steps(path)} of {total} steps", held=is_held(path / LOCK))


def _steps(path: Path) -> str:
    """Return the step of the newest undamaged checkpoint, and how many newer ones are damaged."""
    damaged = 0
    for checkpoint in checkpoints_in(path):
        try:
            step = f"{check_checkpoint(checkpoint):,}"
        except DataError:
            damaged += 1
        else:
            return f"{step} ({damaged} damaged after it)" if damaged else step
    return f"0 ({damaged} damaged)" if damaged else "0"


def _download(path: Path) -> SavedState:
    facts: Any = None
    with suppress(DataError):
        facts = read_json(path / DOWNLOAD_FACTS)
    what, done = "a download without a description", "?"
    with suppress(KeyError, TypeError, FileNotFoundError):
        total = "an unknown number" if facts["total"] is None else f"{facts['total']:,}"
        what, done = facts["url"], f"{(path / DOWNLOAD_PART).stat().st_size:,} of {total} bytes"
    return _saved_state(path, "download", what, done, held=is_held(path / LOCK))


def _saved_state(path: Path, kind: str, what: str, done: str, *, held: bool) -> SavedState:
    files = []
    for file in path.rglob("*"):
        with suppress(FileNotFoundError):  # another process may have removed it
            files.append(file.stat())
    changed = max((file.st_mtime for file in files), default=0.0)
    return SavedState(
        name=path.name,
        kind=kind,
        what=what,
        done=done,
        bytes=sum(file.st_size for file in files if stat.S_ISREG(file.st_mode)),
        changed=time.strftime("%Y-%m-%d %H:%M", time.localtime(changed)),
        held=held,
    )
