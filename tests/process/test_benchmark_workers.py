"""The processes in which benchmarks work: each keeps its side, and runs out of memory at its limit."""

import sys
from typing import Any

import numpy as np
import pytest

from benchmarks.measure import Work
from benchmarks.streaming import limited
from benchmarks.workers import workers


class Counting:
    """A side that counts its turns, in whichever process it is made."""

    def __init__(self) -> None:
        self.turns = 0

    def turn(self) -> Work:
        self.turns += 1
        return Work(tokens=self.turns)


def test_a_worker_keeps_its_side_in_another_process() -> None:
    with workers(one=Counting, two=Counting) as sides:
        assert [sides["one"]().tokens for _ in range(3)] == [1, 2, 3]
        assert sides["two"]().tokens == 1
        assert sides["one"].peak_bytes() > 1e6


class Allocating:
    """A task that takes memory."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self) -> dict[str, Any]:
        return {"rows": len(np.ones(self.size, dtype=np.uint8)), "tokens": 1}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere RLIMIT_DATA limits other memory")
def test_a_task_beyond_its_limit_runs_out_of_memory() -> None:
    small, large = (limited(Allocating(size), 1 << 30) for size in (1 << 28, 1 << 30))
    assert (small["ended"], small["rows"]) == ("well", 1 << 28)
    assert small["peak_mb"] > small["start_mb"] + (1 << 28) / 1e6 - 1
    assert large["ended"].endswith("MemoryError")
    assert large["rows"] == 0
