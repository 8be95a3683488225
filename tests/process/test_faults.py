"""Every point of failure: each file operation of a command fails, or is the last of its process.

After each, what was good before is still good, and the next run finishes with the bytes of one that met no fault.
`make torture` visits every point; the tests by themselves a seeded few.
"""

import dataclasses
import errno
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from bertpipe.core.params import Params, cores
from bertpipe.stages.download import run_download
from torture.forks import FULL, Forks, build_faults, forks
from torture.operations import OPERATIONS, empty, tree

pytestmark = [
    pytest.mark.promise("Every point of failure"),
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the faults library is of Linux"),
]

SAMPLE = 3
"""Points of each operation and fault."""
COUNT, FAIL_ONCE, FAIL_FROM, END_BEFORE, END_WITHIN = range(5)
FAULTS = {
    "EIO once": (FAIL_ONCE, errno.EIO),
    "disk full from there on": (FAIL_FROM, errno.ENOSPC),
    "the process ends before it": (END_BEFORE, 0),
    "the process ends within it": (END_WITHIN, 0),
}


@pytest.fixture(scope="module")
def inputs(tiny: Params, sample_zip: Path, parquet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two zips and the Parquet files of one; read only."""
    folder = tmp_path_factory.mktemp("inputs")
    shutil.copy(sample_zip, folder / "sample.zip")
    shutil.copytree(parquet, folder / "parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_download(tiny.download, dataclasses.replace(tiny.sample, seed=99), tiny.masking, out=folder / "other.zip")
    return folder


@pytest.fixture(scope="module")
def runners(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Forks]]:
    """Return a way to run cases for each core."""
    library = build_faults(tmp_path_factory.mktemp("faults"))
    with ExitStack() as stack:
        yield [stack.enter_context(forks(inputs, faults=library)) for _ in range(cores())]


@pytest.fixture(scope="module")
def states(runners: list[Forks], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path, int]]:
    """Return, for an operation, the folder before it, the folder after it, and its number of points."""
    run, folder = runners[0], tmp_path_factory.mktemp("states")
    known: dict[str, tuple[Path, Path, int]] = {}

    def states(name: str) -> tuple[Path, Path, int]:
        if name not in known:
            before, after = empty(folder / f"{name}-before"), folder / f"{name}-after"
            made = run("set_up", name, before)
            assert made["exit"] == 0, made
            shutil.copytree(before, after)
            counted = run("run", name, after, mode=COUNT, nth=0, error=0)
            assert counted["exit"] == 0, counted
            assert counted["seen"] == sum(counted["kinds"].values())
            known[name] = before, after, counted["seen"]
        return known[name]

    return states


def sample(points: int, seed: str) -> list[int]:
    """Return all points, counted from 1, or some of them."""
    every = range(1, points + 1)
    return list(every) if FULL else sorted(random.Random(seed).sample(every, min(points, SAMPLE)))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_after_a_fault_at_any_point_nothing_good_is_lost_and_the_next_run_finishes(
    runners: list[Forks],
    states: Callable[[str], tuple[Path, Path, int]],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    name: str,
    fault: str,
) -> None:
    before, after, points = states(name)
    visited = sample(points, f"{name} {fault}")

    def visit(number: int) -> None:
        for point in visited[number :: len(runners)]:
            check_point(runners[number], tmp_path / str(number), before, after, name=name, fault=fault, point=point)

    with ThreadPoolExecutor(len(runners)) as pool:
        list(pool.map(visit, range(len(runners))))
    record_property("cases", len(visited))
    if fault == "EIO once":
        record_property("points", {name: points})


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES, errno.EDQUOT], ids=errno.errorcode.get)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_folder_that_takes_nothing_is_told_and_left_as_it_is(
    runners: list[Forks], states: Callable[[str], tuple[Path, Path, int]], tmp_path: Path, name: str, error: int
) -> None:
    before, after, _ = states(name)
    folder = tmp_path / "folder"
    shutil.copytree(before, folder)
    ended = runners[0]("run", name, folder, mode=FAIL_FROM, nth=1, error=error)
    assert ended["exit"] == 1, ended
    fix = "make room on the disk" if error == errno.EDQUOT else "make its folder writable"
    assert f"({os.strerror(error)}" in ended["error"]
    assert f"{fix} and run the command again" in ended["error"]
    assert content(folder, ()) == content(before, ())
    assert runners[0]("run", name, folder)["exit"] == 0
    assert content(folder, OPERATIONS[name].leaves) == content(after, OPERATIONS[name].leaves)


def check_point(run: Forks, folder: Path, before: Path, after: Path, *, name: str, fault: str, point: int) -> None:
    """Let a fault strike at one point, look at what is left, and run again without one."""
    operation, (mode, error) = OPERATIONS[name], FAULTS[fault]
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder)
    ended = run("run", name, folder, mode=mode, nth=point, error=error)
    at = f"{name}, {fault}, point {point}: {ended}"
    if mode in {END_BEFORE, END_WITHIN}:
        assert ended["exit"] == -signal.SIGKILL, at
    elif ended["exit"] != 0:
        assert ended["exit"] == 1, at
        assert os.strerror(error) in ended["error"], at
    for output in operation.outputs:
        assert tree(folder / output) in (tree(before / output), tree(after / output)), f"{output}: {at}"
    if operation.whole is not None:
        operation.whole(folder, before)
    again = run("run", name, folder)
    assert again["exit"] == 0, f"{at}, then {again}"
    assert content(folder, operation.leaves) == content(after, operation.leaves), at


def content(folder: Path, leaves: tuple[str, ...]) -> dict[str, str]:
    """Return the digest of every file of a folder but those that differ from run to run."""
    prefix = f"{folder.name}/"
    digests = {name.removeprefix(prefix): digest for name, digest in tree(folder).items()}
    return {name: digest for name, digest in digests.items() if not name.startswith(leaves or ("/",))}
