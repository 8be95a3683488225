"""Resume state: what a run needs to go on after an optimiser step as if it had never stopped."""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load_file, save_file
from torch import Tensor

from bertpipe.core.artifacts import file_sha256, json_text, read_json, write_json
from bertpipe.core.atomic import atomic_directory
from bertpipe.core.errors import DataError, write_errors
from bertpipe.core.locks import LOCK
from bertpipe.model.bert import Bert
from bertpipe.model.store import load_weights, save_weights
from bertpipe.training.distributed.world import World

WEIGHTS, OPTIMIZER, RECORDS, MANIFEST = "weights.safetensors", "optimizer.safetensors", "records.json", "manifest.json"
RUN = "run.json"
"""What the run is: its params, data and versions."""
_STEP = re.compile(r"step-\d{9}")
_SHARE = 0.01
"""Most of the time of a run that its checkpoints may take where `checkpoint_every_s` is auto."""
_EVERY_S = 30.0
"""Least seconds between two checkpoints there."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A checkpoint that was read back."""

    step: int
    records: Mapping[str, Any]
    optimizer: Mapping[str, Tensor]
    """What `Optimizer.tensors` returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """The checkpoints of one run, a directory a step, in the directory of everything that defines the run."""

    directory: Path
    keep: int
    """Checkpoints kept, the newest ones."""
    run: Mapping[str, Any]
    """What the run is, noted beside them for whoever lists them."""

    def tidy(self) -> None:
        """Remove what an ended process was writing.

        Raises:
            WriteError: something cannot be removed.
        """
        self._remove(".*.bertpipe-partial*")  # and the locks of partials

    def save(
        self,
        step: int,
        bert: Bert,
        optimizer: Mapping[str, Tensor],
        records: Mapping[str, Any],
    ) -> None:
        """Write the state after optimiser step `step`; once it is complete, the oldest beyond `keep` go away.

        Args:
            step: steps done.
            bert: the network.
            optimizer: what its `Optimizer.tensors` returned.
            records: JSON content to keep beside them: the history so far.
        """
        if not (self.directory / RUN).exists():
            write_json(self.directory / RUN, self.run)
        with atomic_directory(self._path(step), kind=None) as staging:
            save_weights(staging / WEIGHTS, bert)
            save_file(dict(optimizer), staging / OPTIMIZER)
            (staging / RECORDS).write_text(json.dumps(records, allow_nan=False), encoding="utf-8")
            hashes = {name: file_sha256(staging / name) for name in (WEIGHTS, OPTIMIZER, RECORDS)}
            (staging / MANIFEST).write_text(_manifest_text({"step": step, "sha256": hashes}), encoding="utf-8")
        # A checkpoint of a later step is a damaged one, which was left out. What stays is tried again next time.
        earlier = [path for path in checkpoints_in(self.directory) if path.name < self._path(step).name]
        for path in {*checkpoints_in(self.directory)} - {self._path(step), *earlier[: self.keep - 1]}:
            shutil.rmtree(path, ignore_errors=True)

    def load_newest(self, bert: Bert, *, on_note: Callable[[str], None]) -> Restored | None:
        """Return the newest undamaged state, its weights read into `bert`; None where there is no state.

        Args:
            bert: the network.
            on_note: told of each damaged checkpoint, and what is damaged.
        """
        for path in checkpoints_in(self.directory):
            try:
                step = check_checkpoint(path)
            except DataError as error:
                on_note(f"{error}: it is left out")
                continue
            load_weights(path / WEIGHTS, bert)
            return Restored(step, read_json(path / RECORDS), load_file(path / OPTIMIZER))
        return None

    def clear(self) -> None:
        """Remove all state of the run.

        Raises:
            WriteError: something cannot be removed.
        """
        self._remove("*")

    def _remove(self, pattern: str) -> None:
        with write_errors(self.directory):
            for path in self.directory.glob(pattern):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != LOCK:
                    path.unlink()

    def _path(self, step: int) -> Path:
        return self.directory / f"step-{step:09d}"


@dataclass(slots=True)
class CheckpointClock:
    """Tells when the next checkpoint is due."""

    every_s: Literal["auto"] | float
    """Seconds between two; `auto` lets them take a hundredth of the time, and comes at most twice a minute."""
    _rest_s: float = field(init=False)
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        """Start counting."""
        self._rest_s = _EVERY_S if self.every_s == "auto" else self.every_s
        self._last = time.monotonic()

    def due(self) -> bool:
        """Return whether it is time."""
        return time.monotonic() - self._last >= self._rest_s

    def saved(self, took_s: float) -> None:
        """Take note of a checkpoint that took `took_s` seconds."""
        self._last = time.monotonic()
        if self.every_s == "auto":
            self._rest_s = max(_EVERY_S, took_s * (1 / _SHARE - 1))


def run_key(identity: Mapping[str, Any]) -> str:
    """Return a short name for a run: the hash of everything that defines its result."""
    content = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(content.encode("utf-8")).hexdigest()[:16]


def checkpoints_in(directory: Path) -> list[Path]:
    """Return the checkpoints of a run, newest first."""
    return sorted((path for path in directory.glob("step-*") if _STEP.fullmatch(path.name)), reverse=True)


def check_checkpoint(path: Path) -> int:
    """Return the step of a checkpoint after checking every byte of it.

    Raises:
        DataError: something in it is missing or not as it was written; the message says what.
    """
    content = read_json(path / MANIFEST)
    try:
        step, hashes = content["step"], content["sha256"]
        if content["manifest_sha256"] != _digest({"step": step, "sha256": hashes}):
            raise DataError(f"{path / MANIFEST} is damaged")
    except (KeyError, TypeError) as error:
        raise DataError(f"{path / MANIFEST} is damaged") from error
    for name in (WEIGHTS, OPTIMIZER, RECORDS):
        try:
            damaged = file_sha256(path / name) != hashes[name]
        except OSError as error:
            raise DataError(f"{path / name} cannot be read ({error.strerror})") from error
        if damaged:
            raise DataError(f"{path / name} is damaged (its SHA-256 is not the manifest's)")
    return int(step)


def _manifest_text(content: Mapping[str, Any]) -> str:
    return json_text({**content, "manifest_sha256": _digest(content)})


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()


def restore(
    checkpoints: Checkpoints, bert: Bert, world: World, *, resume: bool, on_note: Callable[[str], None]
) -> Restored | None:
    """Return the newest undamaged state, its weights in the network of each process; None where there is none.

    The main process reads it; the others get what it read, except the optimizer's state, which may be sharded.

    Args:
        checkpoints: of the run.
        bert: the network.
        world: the processes that train together.
        resume: whether there is to be a state; without, all of the run's are removed.
        on_note: told of each damaged checkpoint.
    """
    with world.together():
        restored = _newest(checkpoints, bert, resume=resume, on_note=on_note) if world.is_main else None
    return _broadcast(restored, bert, world)


def _newest(checkpoints: Checkpoints, bert: Bert, *, resume: bool, on_note: Callable[[str], None]) -> Restored | None:
    if not resume:
        checkpoints.clear()
        return None
    checkpoints.tidy()
    return checkpoints.load_newest(bert, on_note=on_note)


def _broadcast(restored: Restored | None, bert: Bert, world: World) -> Restored | None:
    if world.dp.size == 1:
        return restored
    found = world.broadcast(None if restored is None else (restored.step, restored.records))
    if found is None:
        return None
    for tensor in bert.state_dict().values():
        tensor.copy_(world.broadcast_or_shard(tensor if world.is_main else None, like=tensor))
    step, records = found
    return Restored(step, records, {} if restored is None else restored.optimizer)


def remark_on(records: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """Return a remark on a state of other settings of the machine, on which the result depends a little."""
    before = records["machine"]
    names = sorted({*before, *machine})
    then_and_now = [(name, before.get(name, "-"), machine.get(name, "-")) for name in names]
    said = [f"{name} {then} until there and {now} now" for name, then, now in then_and_now if then != now]
    return f"; {', '.join(said)}: results may differ in rounding, and in what dropout draws" if said else ""
