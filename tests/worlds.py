"""Programs in several processes that train together, each a fork of one that has imported everything."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from commands import Ended

TESTS = Path(__file__).parent
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Worlds:
    """Runs programs of `torture.world_server` in several processes."""

    server: "subprocess.Popen[str]"

    def __call__(self, program: str, *arguments: object, size: int = 2, folder: Path | None = None) -> list[Ended]:
        """Run a program in some processes, and return how each of them ended, by rank."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        request = {
            "program": program, "arguments": [str(argument) for argument in arguments], "size": size,
            "folder": str(folder or Path.cwd()), "port": free_port(),
        }  # fmt: skip
        timer = threading.Timer(PATIENCE_S, os.killpg, (self.server.pid, signal.SIGKILL))
        timer.start()
        print(json.dumps(request), file=self.server.stdin, flush=True)
        answer = self.server.stdout.readline()
        timer.cancel()
        assert answer, f"{program} has not ended within {PATIENCE_S} seconds"
        return [Ended(**ended) for ended in json.loads(answer)]


@contextmanager
def running_worlds() -> Iterator[Worlds]:
    """Yield the way to run programs in several processes."""
    path = os.pathsep.join([str(TESTS.parent / "src"), str(TESTS), str(TESTS.parent)])
    with subprocess.Popen(
        [sys.executable, "-m", "torture.world_server"],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    ) as server:  # fmt: skip
        yield Worlds(server)
        assert server.stdin is not None
        server.stdin.close()


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
