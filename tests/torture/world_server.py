"""A process that has imported everything and forks itself for each of several processes that train together.

One JSON object per line comes in and one goes out. This process never computes, so that a fork has no threads to miss.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from tempfile import TemporaryFile
from typing import IO, Any, NoReturn

import torch._dynamo  # an optimizer imports it
import torch.distributed.fsdp  # noqa: F401 - spares each process its imports

import several
import several_train
import world_cases
from bertpipe.cli import app
from bertpipe.model import flops
from bertpipe.stages import train  # noqa: F401
from commands import Ended

PROGRAMS: Mapping[str, Callable[[], object]] = {
    "bertpipe": app.main,
    "several": several.main,
    "several_train": several_train.main,
    "world_cases": world_cases.main,
}


def main() -> None:
    """Answer each request with how each process ended, by rank."""
    flops._PEAK_WIDTH["cpu"] = 64  # spares each training a second
    for line in sys.stdin:
        request = json.loads(line)
        written = [(TemporaryFile(), TemporaryFile()) for _ in range(request["size"])]  # noqa: SIM115
        children = list[int]()
        for rank, files in enumerate(written):
            child = os.fork()
            if child == 0:
                _run(request, rank, files)
            children.append(child)
        codes = {}
        for _ in children:  # takes note of each that ends, as torchrun does
            child, status = os.wait()
            codes[child] = os.waitstatus_to_exitcode(status)
        ended = [Ended(codes[child], *map(_text, files)) for child, files in zip(children, written, strict=True)]
        sys.stdout.write(json.dumps([asdict(each) for each in ended]) + "\n")
        sys.stdout.flush()


def _run(request: dict[str, Any], rank: int, files: tuple[IO[bytes], IO[bytes]]) -> NoReturn:
    """Run a program as torchrun would start it, and end with its exit code."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for handle, file in enumerate(files, start=1):
        os.dup2(file.fileno(), handle)
    os.chdir(request["folder"])
    size = str(request["size"])
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=size, LOCAL_WORLD_SIZE=size)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(request["port"]), TORCHELASTIC_RUN_ID="worlds")
    sys.argv = [request["program"], *request["arguments"]]
    app._PARENT = os.getppid()  # known since the import, of which this process is a fork
    try:
        PROGRAMS[request["program"]]()
    except SystemExit as ended:
        _end(ended.code)
    except BaseException:
        traceback.print_exc()
        _end(70)
    _end(0)


def _end(code: object) -> NoReturn:
    """End this process at once: connections that go with an exception's frames wait for processes that have ended."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _text(file: IO[bytes]) -> str:
    with file:
        file.seek(0)
        return file.read().decode()


if __name__ == "__main__":
    main()
