"""The process's memory allocator, set up for tensors."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # parameters of mallopt in glibc's <malloc.h>


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
