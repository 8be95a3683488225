"""What tests let workers do, where workers can import it."""

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bertpipe.core.errors import DataError


def squared(number: int) -> tuple[int, int]:
    """Return the square and the process; the smaller the number, the longer it takes."""
    time.sleep(0.2 / (1 + number))
    return number * number, os.getpid()


def squared_by_two(meeting: Path, number: int) -> tuple[int, int]:
    """Return the square and the process, once a second process has come to the meeting, too."""
    (meeting / str(os.getpid())).touch()
    for _ in range(6000):
        if len(list(meeting.iterdir())) > 1:
            return squared(number)
        time.sleep(0.01)
    raise TimeoutError("one process did all the work for a minute")


def fails_at_3(number: int) -> int:
    if number == 3:
        raise DataError("shard 3 is no good")
    return number


def has_a_fault(number: int) -> float:
    return 1 / number


def dies(number: int) -> None:
    os._exit(number)


def dies_once(mark: Path) -> str:
    """End the process unless it has been here already."""
    if mark.exists():
        return mark.name
    mark.touch()
    os._exit(1)


def loses(marks: Path, node_of_test: str, lost_in: str, work: Callable[[Any], Any], thing: object) -> Any:  # noqa: ANN401
    """Do some work, but the first time lose it, done: with the worker, or, in one step, with a node, not the test's."""
    import ray

    result = work(thing)
    assert isinstance(work, partial)
    step = work.func.__name__
    is_other = ray.get_runtime_context().get_node_id() != node_of_test
    mark = marks / f"{step} {'node' if step == lost_in else 'worker'}"
    if not mark.exists() and (is_other or step != lost_in):
        mark.touch()
        if step == lost_in:
            os.kill(os.getppid(), signal.SIGKILL)  # what runs the workers of a node
        os.kill(os.getpid(), signal.SIGKILL)
    return result
