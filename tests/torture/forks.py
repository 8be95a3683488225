"""Cases in processes of their own, started from one that has imported everything."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent.parent
FULL = bool(os.environ.get("BERTPIPE_TORTURE"))
"""Whether all cases run (`make torture`), or a seeded part of them."""


@dataclass(frozen=True, slots=True)
class Forks:
    """Runs operations on folders, each in a fork of the server."""

    server: "subprocess.Popen[str]"
    inputs: Path

    def __call__(self, do: str, operation: str, folder: Path, **request: Any) -> dict[str, Any]:  # noqa: ANN401
        """Return how it ended: `exit` (negative for a signal), `error`, and what the faults library counted."""
        whole = {"do": do, "operation": operation, "folder": str(folder), "inputs": str(self.inputs), **request}
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(whole) + "\n")
        self.server.stdin.flush()
        answer: dict[str, Any] = json.loads(self.server.stdout.readline())
        return answer


@contextmanager
def forks(inputs: Path, *, faults: Path | None = None) -> Iterator[Forks]:
    """Yield the way to run cases, with the faults library between them and the C library if it is given."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    environment |= {"OMP_NUM_THREADS": "1"} | ({"LD_PRELOAD": str(faults)} if faults else {})
    command = [sys.executable, "-m", "torture.server"]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        yield Forks(server, inputs)
        server.stdin.close()
        assert server.wait(timeout=60) == 0


def build_faults(folder: Path) -> Path:
    """Return the faults library, compiled into a folder."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("no C compiler here (cc): the faults library cannot be built")
    library = folder / "faults.so"
    source = TESTS / "torture" / "faults.c"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return library
