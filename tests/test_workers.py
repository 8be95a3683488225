"""The same work in several processes: results in order, few things at a time, and errors that arrive."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bertpipe.core.errors import DataError
from bertpipe.core.params import cores
from bertpipe.sources.engines.processes import ordered_map


class Squares:
    """Squares numbers; the smaller the number, the longer it takes."""

    def __call__(self, number: int) -> tuple[int, int]:
        time.sleep(0.02 / (1 + number))
        if number == 13:
            raise DataError("13 is not squared here")
        return number * number, os.getpid()


class Dying:
    """Ends its process."""

    def __call__(self, number: int) -> int:
        os._exit(number)


@pytest.mark.parametrize("processes", [1, 3])
def test_results_come_in_order(processes: int) -> None:
    found = list(ordered_map(Squares, range(12), processes=processes))
    assert [square for square, _ in found] == [number * number for number in range(12)]
    here = {process == os.getpid() for _, process in found}
    assert here == {processes == 1}


@pytest.mark.parametrize(("processes", "most"), [(1, 1), (2, 4)])
def test_few_things_are_taken_ahead(processes: int, most: int) -> None:
    taken = 0

    def things() -> Iterator[int]:
        nonlocal taken
        for number in range(12):
            taken += 1
            yield number

    for done, _ in enumerate(ordered_map(Squares, things(), processes=processes)):
        assert taken - done <= most
    assert taken == 12


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_of_the_work_arrives(processes: int) -> None:
    with pytest.raises(DataError, match="13 is not squared here"):
        list(ordered_map(Squares, range(10, 20), processes=processes))


class FailsOrSleeps:
    """Fails at 0, and works long on everything else."""

    def __call__(self, number: int) -> int:
        if number:
            time.sleep(600)
        raise DataError("0 is nothing to work on")


def test_an_error_ends_long_work_that_is_under_way() -> None:
    since = time.monotonic()
    with pytest.raises(DataError, match="0 is nothing"):
        list(ordered_map(FailsOrSleeps, range(4), processes=2))
    assert time.monotonic() - since < 60


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_of_what_gives_the_things_arrives(processes: int) -> None:
    def things() -> Iterator[int]:
        yield 1
        raise DataError("no more of them")

    with pytest.raises(DataError, match="no more of them"):
        list(ordered_map(Squares, things(), processes=processes))


def test_a_process_that_is_ended_from_outside_is_said_so() -> None:
    with pytest.raises(DataError, match=r"ended from outside, .* runtime\.processes"):
        list(ordered_map(Dying, [3], processes=2))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc here")
def test_processes_end_when_the_first_one_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "waiting.py"
    script.write_text(
        "import os, sys, time\n"
        "from bertpipe.sources.engines.processes import ordered_map\n"
        "class Wait:\n"
        "    def __call__(self, at):\n"
        "        if at: time.sleep(600)\n"
        "        return os.getpid()\n"
        "if __name__ == '__main__':\n"
        "    for process in ordered_map(Wait, range(9), processes=2): print(process, flush=True)\n",
        encoding="utf-8",
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        worker = int(running.stdout.readline())
        assert Path(f"/proc/{worker}").is_dir()
        running.kill()
    until = time.monotonic() + 30
    while Path(f"/proc/{worker}/exe").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}/exe").exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_nothing_gives_nothing(processes: int) -> None:
    nothing: list[int] = []
    make: Callable[[], Squares] = Squares
    assert list(ordered_map(make, nothing, processes=processes)) == []


def test_there_is_a_core() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)
