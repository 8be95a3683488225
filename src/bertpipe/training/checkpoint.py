"""Checkpoints: what a run needs to resume after an optimizer step as if it had never stopped."""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load_file, save_file
from torch import Tensor

from bertpipe.core.artifacts import file_sha256, json_text, read_json, write_json
from bertpipe.core.atomic import atomic_directory
from bertpipe.core.errors import DataError, MissingInputError, StoreError, WriteError, write_errors
from bertpipe.core.stores.directories import fetch_folder, published_folders, unpublish, upload
from bertpipe.model.bert import Bert
from bertpipe.model.store import load_weights, save_weights
from bertpipe.training.distributed.world import World

WEIGHTS, OPTIMIZER, RECORDS, MANIFEST = "weights.safetensors", "optimizer.safetensors", "records.json", "manifest.json"
RUN = "run.json"
"""What defines the run: its params, data and versions."""
_KIND = "state of a training"
"""Of what is at its URL."""
_STEP = re.compile(r"step-\d{9}")
_PARTIALS = (".*.bertpipe-partial*",)
"""Patterns of what an ended process was writing, and its locks."""
_OURS = ("step-*", RUN, *_PARTIALS)
_MAX_SHARE = 0.01
"""Largest share of a run's time for checkpoints if `checkpoint_every_s` is auto."""
_MIN_INTERVAL_S = 30.0
"""Shortest time between two checkpoints then."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A checkpoint that was read back."""

    step: int
    records: Mapping[str, Any]
    optimizer: Mapping[str, Tensor]
    """What `Optimizer.tensors` returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """The checkpoints of one run, one directory per step, in the run's directory."""

    directory: Path
    keep: int
    """How many checkpoints are kept, the newest."""
    run: Mapping[str, Any]
    """What defines the run, written beside them for `bertpipe state`."""
    url: str | None = None
    """Where an object store has the same checkpoints."""

    def save(
        self,
        step: int,
        bert: Bert,
        optimizer: Mapping[str, Tensor],
        records: Mapping[str, Any],
    ) -> None:
        """Write the state after optimizer step `step`, then remove the oldest checkpoints beyond `keep`."""
        if not (self.directory / RUN).exists():
            write_json(self.directory / RUN, self.run)
        with atomic_directory(self._path(step), kind=None) as staging:
            save_weights(staging / WEIGHTS, bert)
            save_file(dict(optimizer), staging / OPTIMIZER)
            (staging / RECORDS).write_text(json.dumps(records, allow_nan=False), encoding="utf-8")
            hashes = {name: file_sha256(staging / name) for name in (WEIGHTS, OPTIMIZER, RECORDS)}
            content = {"step": step, "sha256": hashes}
            manifest = json_text({**content, "manifest_sha256": _digest(content)})
            (staging / MANIFEST).write_text(manifest, encoding="utf-8")
        # A checkpoint of a later step was damaged and skipped. What cannot be removed is tried again next time.
        earlier = [path for path in checkpoints_in(self.directory) if path.name < self._path(step).name]
        for path in {*checkpoints_in(self.directory)} - {self._path(step), *earlier[: self.keep - 1]}:
            shutil.rmtree(path, ignore_errors=True)

    def send(self, *, on_note: Callable[[str], None]) -> None:
        """Write the checkpoints to the object store too; if it cannot be reached, the next ones are.

        Raises:
            WriteError: another process trains this run, and has written there.
        """
        if self.url is None:
            return
        paths = [path for name in ("step-*/*", RUN) for path in self.directory.glob(name)]
        names = {path.relative_to(self.directory).as_posix(): file_sha256(path) for path in paths}
        try:
            upload(self.directory, self.url, kind=_KIND, names=names)
        except StoreError as error:
            on_note(f"{error}; the state is kept at {self.directory} alone until then")

    def fetch(self, *, on_note: Callable[[str], None]) -> None:
        """Bring the newest undamaged checkpoint from the object store, if it is newer than those here.

        Raises:
            WriteError: something else that bertpipe wrote is there.
            StoreError: the store cannot be reached, or refuses.
        """
        if self.url is None:
            return
        folders = published_folders(self.url, kind=_KIND)
        for name in sorted(filter(_STEP.fullmatch, folders), reverse=True):
            path = self.directory / name
            if any(_is_whole(each) for each in checkpoints_in(self.directory) if each.name >= name):
                return
            try:
                fetch_folder(self.url, name, path)
                check_checkpoint(path)
            except (DataError, MissingInputError) as error:
                on_note(f"{error}: it is skipped")
            else:
                on_note(f"the state after step {int(name.removeprefix('step-')):,} comes from {self.url}")
                return

    def load_newest(self, bert: Bert, *, on_note: Callable[[str], None]) -> Restored | None:
        """Return the newest undamaged state, its weights loaded into `bert`; None if there is none."""
        for path in checkpoints_in(self.directory):
            try:
                step = check_checkpoint(path)
            except DataError as error:
                on_note(f"{error}: it is skipped")
                continue
            load_weights(path / WEIGHTS, bert)
            return Restored(step, read_json(path / RECORDS), load_file(path / OPTIMIZER))
        return None

    def clear(self, *, partials_only: bool = False) -> None:
        """Remove all checkpoints of the run, or only the partial files of a process that ended while writing."""
        with write_errors(self.directory):
            remove_checkpoints(self.directory, _PARTIALS if partials_only else _OURS)

    def withdraw(self, *, on_note: Callable[[str], None]) -> None:
        """Remove the checkpoints from the object store; if it cannot be reached, they stay."""
        if self.url is not None:
            try:
                unpublish(self.url, kind=_KIND)
            except (StoreError, WriteError) as error:
                on_note(f"the state at {self.url} stays: {error}")

    def _path(self, step: int) -> Path:
        return self.directory / f"step-{step:09d}"


class CheckpointClock:
    """Tells when the next checkpoint is due: every `every_s` seconds of training.

    `auto` lets checkpoints take at most a hundredth of the time, and comes at most twice a minute.
    """

    def __init__(self, every_s: Literal["auto"] | float) -> None:
        self._is_auto = every_s == "auto"
        self._interval_s = _MIN_INTERVAL_S if every_s == "auto" else every_s
        self._last = time.monotonic()

    def due(self) -> bool:
        """Return whether it is time."""
        return time.monotonic() - self._last >= self._interval_s

    def saved(self, took_s: float) -> None:
        """Note a checkpoint that took `took_s` seconds."""
        self._last = time.monotonic()
        if self._is_auto:
            self._interval_s = max(_MIN_INTERVAL_S, took_s * (1 / _MAX_SHARE - 1))


def run_key(identity: Mapping[str, Any]) -> str:
    """Return a short name of a run: a hash of everything that defines its result."""
    content = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(content.encode("utf-8")).hexdigest()[:16]


def remove_checkpoints(directory: Path, names: Sequence[str] = _OURS) -> None:
    """Remove what bertpipe wrote into the directory of a run, except for its lock."""
    for path in [path for name in names for path in directory.glob(name)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def checkpoints_in(directory: Path) -> list[Path]:
    """Return the checkpoints of a run, newest first."""
    return sorted((path for path in directory.glob("step-*") if _STEP.fullmatch(path.name)), reverse=True)


def check_checkpoint(path: Path) -> int:
    """Return the step of a checkpoint after checking all of its files.

    Raises:
        DataError: a file is missing or damaged; the message names it.
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


def _is_whole(path: Path) -> bool:
    try:
        check_checkpoint(path)
    except DataError:
        return False
    return True


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()


def restore(
    checkpoints: Checkpoints, bert: Bert, world: World, *, resume: bool, on_note: Callable[[str], None]
) -> Restored | None:
    """Return the newest undamaged state, with its weights in each process's network; None if there is none.

    The main process reads it and sends it to the others, except the optimizer's state, which may be sharded.
    """
    restored = None
    with world.together():
        if world.is_main and resume:
            checkpoints.clear(partials_only=True)
            checkpoints.fetch(on_note=on_note)
            restored = checkpoints.load_newest(bert, on_note=on_note)
        elif world.is_main:
            checkpoints.clear()
            checkpoints.withdraw(on_note=on_note)
    if world.dp.size == 1:
        return restored
    found = world.broadcast(None if restored is None else (restored.step, restored.records))
    if found is None:
        return None
    for tensor in bert.state_dict().values():
        tensor.copy_(world.broadcast_or_shard(tensor if world.is_main else None, like=tensor))
    step, records = found
    return Restored(step, records, {} if restored is None else restored.optimizer)


def machine_changes(records: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """Return a note on settings of the machine that changed since a checkpoint, which affects the result slightly."""
    before = records["machine"]
    names = sorted({*before, *machine})
    pairs = [(name, before.get(name, "-"), machine.get(name, "-")) for name in names]
    changed = [f"{name} {old} before and {new} now" for name, old, new in pairs if old != new]
    return f"; {', '.join(changed)}: results may differ in rounding and in dropout's masks" if changed else ""
