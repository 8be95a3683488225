"""Where the network runs: the device, and the CPU threads."""

import os

import torch

from bertpipe.errors import ParamsError
from bertpipe.model.memory import keep_freed_memory


def pick_device(wanted: str) -> torch.device:
    """Return the device of `runtime.device`.

    Raises:
        ParamsError: `cuda` is asked for where there is none.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ParamsError("runtime.device is cuda, but PyTorch sees no GPU here: use auto or cpu")
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


def set_up_cpu(wanted: str | int) -> int:
    """Make PyTorch ready for work on the CPU, and return its number of threads.

    `auto` takes the processors that this process may use. Freed memory is kept for the next tensor.
    """
    keep_freed_memory()
    threads = _usable_processors() if isinstance(wanted, str) else wanted
    torch.set_num_threads(threads)
    return threads


def _usable_processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: what a container or taskset leaves us
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
