"""Resume state: what a run needs to go on after an epoch as if it had never stopped."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from bertpipe.artifacts import file_sha256, read_json, whole_directory, write_json
from bertpipe.errors import DataError
from bertpipe.model.bert import Bert
from bertpipe.model.store import load_weights, save_weights
from bertpipe.training.optim import AdamW

_WEIGHTS, _OPTIMIZER, _MANIFEST = "weights.safetensors", "optimizer.safetensors", "manifest.json"


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one run, one directory an epoch, under a key of everything that defines the run."""

    directory: Path

    def save(self, epoch: int, bert: Bert, optimizer: AdamW, records: Mapping[str, Any]) -> None:
        """Write the state after `epoch`; the one before the last goes away once the new one is complete.

        Args:
            epoch: epochs done.
            bert: the network.
            optimizer: its optimizer.
            records: JSON content to keep beside them, such as the history so far.
        """
        with whole_directory(self._path(epoch)) as staging:
            save_weights(staging / _WEIGHTS, bert)
            save_file(optimizer.tensors(), staging / _OPTIMIZER)
            hashes = {name: file_sha256(staging / name) for name in (_WEIGHTS, _OPTIMIZER)}
            write_json(staging / _MANIFEST, {"epoch": epoch, "sha256": hashes, "records": dict(records)})
        shutil.rmtree(self._path(epoch - 2), ignore_errors=True)

    def load_newest(self, bert: Bert, optimizer: AdamW) -> tuple[int, Mapping[str, Any]] | None:
        """Read the newest undamaged state into `bert` and `optimizer`.

        Returns:
            The epochs done and the records; None where there is no state.
        """
        for path in sorted(self.directory.glob("epoch-*"), reverse=True):
            manifest = _verified_manifest(path)
            if manifest is not None:
                load_weights(path / _WEIGHTS, bert)
                optimizer.restore(load_file(path / _OPTIMIZER))
                return manifest["epoch"], manifest["records"]
        return None

    def clear(self) -> None:
        """Remove all state of the run."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _path(self, epoch: int) -> Path:
        return self.directory / f"epoch-{epoch:06d}"


def run_key(identity: Mapping[str, Any]) -> str:
    """Return a short name for a run: the hash of everything that defines its result."""
    content = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(content.encode("utf-8")).hexdigest()[:16]


def _verified_manifest(path: Path) -> Mapping[str, Any] | None:
    try:
        manifest = read_json(path / _MANIFEST)
        whole = all(file_sha256(path / name) == digest for name, digest in manifest["sha256"].items())
    except (DataError, OSError, SafetensorError, KeyError, TypeError):
        return None
    return manifest if whole else None
