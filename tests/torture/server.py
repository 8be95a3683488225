"""A process that has imported everything and forks itself for each case, with the faults library beside the C library.

One JSON object a line goes in and one comes out. The case runs in the fork; this process never computes, so that the
fork has no threads to miss.
"""

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import pyarrow.parquet  # noqa: F401 - spares each case its import
import tokenizers  # noqa: F401
import torch
import torch._dynamo  # an optimizer imports it

from bertpipe.core.errors import BertpipeError
from bertpipe.model import flops
from torture.operations import LONGER_TRAINING, OPERATIONS

KINDS = ("open", "write", "fsync", "rename", "unlink", "mkdir", "change")
DONE, MENDABLE, BROKEN = 0, 1, 3


def main() -> None:
    """Answer requests until there are no more."""
    flops._PEAK_WIDTH["cpu"] = 64  # spares each training a second
    faults = ctypes.CDLL(None) if os.environ.get("LD_PRELOAD") else None
    for line in sys.stdin:
        request = json.loads(line)
        sys.stdout.write(json.dumps(_answer(request, faults)) + "\n")
        sys.stdout.flush()


def _answer(request: dict[str, Any], faults: ctypes.CDLL | None) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os._exit(_run(request, faults, writing))
    os.close(writing)
    if request.get("kill_after_s") is not None:
        time.sleep(request["kill_after_s"])
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return {"exit": os.waitstatus_to_exitcode(status), **json.loads(said or b"{}")}


def _run(request: dict[str, Any], faults: ctypes.CDLL | None, writing: int) -> int:
    folder, inputs = Path(request["folder"]), Path(request["inputs"])
    operation = (OPERATIONS | {"longer training": LONGER_TRAINING})[request["operation"]]
    torch.set_num_threads(1)
    os.chdir(folder)
    said: dict[str, Any] = {}
    code = DONE
    if faults is not None and "mode" in request:
        faults.faults_arm(str(folder).encode(), ctypes.c_long(request["nth"]), request["mode"], request["error"])
    try:
        {"set_up": operation.set_up, "run": operation.run}[request["do"]](folder, inputs)
    except BertpipeError as error:
        code, said = MENDABLE, {"error": f"{type(error).__name__}: {error}"}
    except BaseException:
        code, said = BROKEN, {"error": traceback.format_exc()}
    if faults is not None:
        faults.faults_disarm()
        faults.faults_seen.restype = ctypes.c_long
        said["seen"] = faults.faults_seen(-1)
        said["kinds"] = {kind: faults.faults_seen(number) for number, kind in enumerate(KINDS)}
        said["struck"] = bool(faults.faults_struck())
    os.write(writing, json.dumps(said).encode())
    return code


if __name__ == "__main__":
    main()
