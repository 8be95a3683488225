"""The allocator keeps what is freed."""

import platform
import subprocess
import sys

import pytest

from bertpipe.model.device import keep_freed_memory

FAULTS = """
import resource, sys, torch
from bertpipe.model.device import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):  # the heap takes a few to settle
    torch.zeros(2**24)
before = faults()
for _ in range(20):
    torch.zeros(2**24)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_a_second_tensor_reuses_the_pages_of_the_first() -> None:
    def page_faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    kept, as_it_was = page_faults("kept"), page_faults("as it was")
    assert kept < 100 < as_it_was


def test_without_glibc_nothing_changes_and_nothing_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    class OtherLibrary:
        def __init__(self, _: None) -> None:
            pass

    monkeypatch.setattr("ctypes.CDLL", OtherLibrary)
    assert keep_freed_memory() is False
