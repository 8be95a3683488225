"""A side of a comparison in a process of its own, so that neither side runs with the other's memory or settings."""

import multiprocessing
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from benchmarks.measure import Work


class Side(Protocol):
    """Something that works in turns."""

    def turn(self) -> Work:
        """Do a turn's work and say how much it was."""
        ...


class Worker:
    """Runs a side in another process; calling it lets the side take a turn."""

    def __init__(self, make_side: Callable[[], Side]) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(make_side, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def __call__(self) -> Work:
        """Return what the side did in a turn."""
        return self._ask()[0]

    def peak_bytes(self) -> int:
        """Return the process's peak memory, after one more turn."""
        return self._ask()[1]

    def stop(self) -> None:
        """End the process."""
        self._ours.close()
        self._process.join()

    def _ask(self) -> tuple[Work, int]:
        self._ours.send(None)
        answer: tuple[Work, int] = self._ours.recv()
        return answer


@contextmanager
def workers(**make_sides: Callable[[], Side]) -> Iterator[dict[str, Worker]]:
    """Yield a worker for each side, and end them all."""
    started = {name: Worker(make_side) for name, make_side in make_sides.items()}
    try:
        yield started
    finally:
        for worker in started.values():
            worker.stop()


def _serve(make_side: Callable[[], Side], connection: Connection) -> None:
    side = make_side()
    while True:
        try:
            connection.recv()
        except EOFError:
            return
        connection.send((side.turn(), peak_bytes()))


def peak_bytes(process: int | None = None) -> int:
    """Return the peak memory of this process, or of another one; 0 if that has ended."""
    try:  # Linux; getrusage there counts the parent's memory too, from before the child replaced it
        lines = Path(f"/proc/{process or 'self'}/status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if process is None else 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
