"""Timing several sides in turn, and the facts about the machine that a figure needs beside it."""

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bertpipe.model.device import set_up_cpu


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a side did in one turn."""

    sequences: int = 0
    tokens: int = 0
    flops: float = 0.0
    text_bytes: int = 0
    peak_bytes: int = 0
    """Of all the processes that the side ran in; 0 where nobody watched."""


@dataclass(frozen=True, slots=True)
class Turns:
    """All turns of one side: seconds and work of each."""

    elapsed_s: list[float]
    work: list[Work]

    def rates(self, unit: str) -> list[float]:
        """Return `unit` (a field of `Work`) a second, a turn."""
        return [getattr(work, unit) / seconds for work, seconds in zip(self.work, self.elapsed_s, strict=True)]

    def median(self, unit: str) -> float:
        """Return the median of a turn's `unit`."""
        return statistics.median(getattr(work, unit) for work in self.work)

    def rate(self, unit: str) -> float:
        """Return the median of the rates."""
        return statistics.median(self.rates(unit))


def alternate(sides: Mapping[str, Callable[[], Work]], *, rounds: int) -> dict[str, Turns]:
    """Let each side take a turn, `rounds` times over, after one turn each that does not count."""
    turns = {name: Turns([], []) for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            started_at = time.perf_counter()
            work = side()
            elapsed_s = time.perf_counter() - started_at
            if number:
                turns[name].elapsed_s.append(elapsed_s)
                turns[name].work.append(work)
    return turns


def ratio(ours: Turns, theirs: Turns, unit: str) -> float:
    """Return the median over rounds of our rate divided by theirs in the same round."""
    return statistics.median(a / b for a, b in zip(ours.rates(unit), theirs.rates(unit), strict=True))


def set_up() -> None:
    """Set PyTorch up as `bertpipe train` does."""
    set_up_cpu("auto")


def machine() -> dict[str, Any]:
    """Return what the figures were measured with."""
    names = ("torch", "numpy", "transformers", "tokenizers", "sentencex", "pyarrow", "typer")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names if _is_installed(name)},
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
    }


def _is_installed(name: str) -> bool:
    return any(True for _ in importlib.metadata.distributions(name=name))


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
