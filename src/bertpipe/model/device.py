"""Where the network runs: the device, the CPU threads, and the memory of its tensors."""

import ctypes
import sys

import torch

from bertpipe.core.errors import ParamsError
from bertpipe.core.params import cores

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # parameters of mallopt in glibc's <malloc.h>


def pick_device(name: str, *, local_rank: int = 0) -> torch.device:
    """Return the device of `runtime.device`; of several GPUs, the one with the process's local rank.

    A GPU multiplies float32 matrices in full float32, as a CPU does, not in TF32, which rounds to 10 bits of mantissa.
    `train.precision: bfloat16` is for speed.

    Raises:
        ParamsError: see `check_device`.
    """
    check_device(name, processes=local_rank + 1)
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    torch.set_float32_matmul_precision("highest")  # PyTorch's default, unless something else in the process changed it
    return torch.device("cuda", local_rank)


def check_device(name: str, *, processes: int = 1) -> None:
    """Check that this machine has `runtime.device` for a number of processes.

    Raises:
        ParamsError: there is no GPU, or fewer GPUs than processes.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ParamsError("runtime.device is cuda, but PyTorch sees no GPU here: use auto or cpu")
    if available and name != "cpu" and processes > torch.cuda.device_count():
        raise ParamsError(
            f"PyTorch sees {torch.cuda.device_count()} GPU(s) here, and there are more processes on this machine: "
            "start as many as there are GPUs, or set runtime.device to cpu"
        )


def set_up_cpu(threads: str | int, *, processes: int = 1) -> int:
    """Set the CPU threads of PyTorch, have freed memory kept for the next tensor, and return the number of threads.

    `auto` takes the cores that this process may use, divided among the `processes` on the machine.
    """
    keep_freed_memory()
    count = max(1, cores() // processes) if isinstance(threads, str) else threads
    torch.set_num_threads(count)
    return count


def keep_freed_memory() -> bool:
    """Keep freed memory in the process for the next tensor, and return whether this machine can.

    glibc returns large freed blocks to the kernel; page faults for the next tensor then take longer than most
    operations on it. After this call large blocks come from the heap, which does not shrink. Other C libraries do not
    have these settings.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
