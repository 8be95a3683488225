"""SIGKILL at random moments of a training, its checkpoint writes included: every restart goes on, the end is equal.

`make torture` kills fifty times; the tests by themselves five.
"""

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runs import results
from torture.forks import FULL, Forks, forks
from torture.operations import empty

pytestmark = [pytest.mark.promise("SIGKILL at a random moment"), pytest.mark.slow]

KILLS = 50 if FULL else 5


@pytest.fixture(scope="module")
def run(parquet: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with forks(parquet.parent) as runner:
        yield runner


def test_killed_at_random_moments_a_training_ends_with_equal_bytes(
    run: Forks, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A training that ends before its next kill starts over from an empty folder. Moments are seeded, in shares of the
    time that a whole training took; where they strike is the machine's chance."""
    whole = empty(tmp_path / "whole")
    assert run("set_up", "longer training", whole)["exit"] == 0  # once it answers, its imports are done
    begun = time.monotonic()
    assert run("run", "longer training", whole)["exit"] == 0
    whole_s = time.monotonic() - begun
    moments = random.Random(20260101)
    folder = empty(tmp_path / "run")
    kills = in_checkpoint = restarts_that_went_on = 0
    while kills < KILLS or not restarts_that_went_on:
        assert kills < 10 * KILLS, "no kill struck after the first checkpoint"
        ended = run("run", "longer training", folder, kill_after_s=moments.uniform(0.0, 1.2 * whole_s))
        if ended["exit"] == 0:
            assert results(folder) == results(whole)
            folder = empty(folder)
            continue
        assert ended["exit"] == -signal.SIGKILL, ended
        kills += 1
        in_checkpoint += bool(list(folder.glob("state/*/.step-*.bertpipe-partial")))
        restarts_that_went_on += bool(list(folder.glob("state/*/step-*/manifest.json")))
    ended = run("run", "longer training", folder)
    assert ended["exit"] == 0, ended
    assert results(folder) == results(whole)
    assert sorted(path.name for path in folder.rglob("*")) == sorted(path.name for path in whole.rglob("*"))
    assert in_checkpoint > 0 or not FULL
    record_property("cases", kills)
    record_property("in a checkpoint's write", in_checkpoint)
