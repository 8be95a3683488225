"""A process that has imported everything and forks itself for each command line.

One JSON object per line comes in and one goes out. The command runs in the fork, in its folder, with its environment.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401 - spares each case its import
import pyarrow.parquet  # noqa: F401
import pydantic.dataclasses  # noqa: F401
import sentencex  # noqa: F401
import tokenizers  # noqa: F401
import torch
import torch._dynamo  # an optimizer imports it
import transformers  # noqa: F401

from bertpipe.cli.app import main as run_command
from bertpipe.commands import inspect, probe  # noqa: F401
from bertpipe.model import flops
from bertpipe.sources import web
from bertpipe.stages import convert, evaluate, export, infer, plot, prepare, train  # noqa: F401

LIMIT_S = 120
"""Of work, after which a command counts as hanging: SIGPROF ends it, or SIGALRM where it waits ten times as long."""


def main() -> None:
    """Answer requests until there are no more."""
    flops._PEAK_WIDTH["cpu"] = 64  # spares each training a second
    web.sleep = lambda _: None  # and each download half a minute between its tries
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(_run(request))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps({"exit": os.waitstatus_to_exitcode(status)}) + "\n")
        sys.stdout.flush()


def _run(request: dict[str, Any]) -> int:
    """Run a command line as a process of its own would, and return its exit code."""
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)  # not by the clock: other programs may have the processor
    signal.alarm(10 * LIMIT_S)
    torch.set_num_threads(1)
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    for number, name in ((0, os.devnull), (1, request["stdout"]), (2, request["stderr"])):
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
        os.close(handle)
    encoding = request["encoding"]
    sys.stdin = Path("/dev/fd/0").open(encoding=encoding)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding=encoding, errors="strict", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv = ["bertpipe", *request["arguments"]]
    code: object = 0
    try:
        run_command()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 70
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:
        traceback.print_exc(file=sys.__stderr__)
        code = 71
    return code if isinstance(code, int) else 0 if code is None else 1


if __name__ == "__main__":
    main()
