"""Where the network runs: the device, the CPU threads, and the memory of its tensors."""

import ctypes
import sys

import torch

from bertpipe.core.errors import ParamsError
from bertpipe.core.params import cores

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # parameters of mallopt in glibc's <malloc.h>


def pick_device(wanted: str, *, local_rank: int = 0) -> torch.device:
    """Return the device of `runtime.device`: of several GPUs the one with the process's number on its machine.

    A GPU is told to multiply float32 matrices in full float32. Its matrix units could round the factors to 10 bits of
    mantissa first (TF32) and be several times as fast; who wants speed asks for `train.precision: bfloat16`, and
    float32 stays what a CPU computes. BERT has no convolutions, so cuDNN's own setting says nothing here.

    Raises:
        ParamsError: see `check_device`.
    """
    check_device(wanted, processes=local_rank + 1)
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    torch.set_float32_matmul_precision("highest")  # PyTorch's default, unless something else in the process changed it
    return torch.device("cuda", local_rank)


def check_device(wanted: str, *, processes: int = 1) -> None:
    """Go on if `runtime.device` is here for some processes on this machine.

    Raises:
        ParamsError: `cuda` is asked for where there is none, or there are fewer GPUs than processes.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ParamsError("runtime.device is cuda, but PyTorch sees no GPU here: use auto or cpu")
    if available and wanted != "cpu" and processes > torch.cuda.device_count():
        raise ParamsError(
            f"PyTorch sees {torch.cuda.device_count()} GPU(s) here, and there are more processes on this machine: "
            "start as many as there are GPUs, or set runtime.device to cpu"
        )


def set_up_cpu(wanted: str | int, *, processes: int = 1) -> int:
    """Make PyTorch ready for work on the CPU, and return its number of threads.

    `auto` takes the processors that this process may use, or its part of them where there are several `processes` on
    the machine. Freed memory is kept for the next tensor.
    """
    keep_freed_memory()
    threads = max(1, cores() // processes) if isinstance(wanted, str) else wanted
    torch.set_num_threads(threads)
    return threads


def keep_freed_memory() -> bool:
    """Keep freed memory in the process for the next tensor, and return whether that can be set here.

    glibc hands a large block back to the kernel when it is freed; the next tensor then faults its pages in again, one
    zeroed page at a time, which takes longer than most operations on it. After this call large blocks come from the
    heap, which does not shrink. Only glibc has these settings: elsewhere nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
