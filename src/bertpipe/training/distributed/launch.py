"""The running command once more, in several processes, by the engine behind `torchrun`."""

import logging
import os
import signal
import threading
import time
from collections.abc import Sequence

from bertpipe.core.errors import INTERRUPTIONS, Interrupted, StoppedError, WorldError
from bertpipe.core.params import RuntimeParams

_SAVING_S = 300
"""Seconds that processes have to save what they did when they are asked to stop, before they are ended."""
_LOOK_S = 1.0
_SAID = "the processes have said it themselves"


def processes_to_train_in(runtime: RuntimeParams) -> int:
    """Return how many processes `runtime.processes` asks for: of `auto`, as many as there are GPUs to be used."""
    if runtime.processes != "auto":
        return runtime.processes
    if runtime.device == "cpu":
        return 1
    import torch

    return max(1, torch.cuda.device_count())


def run_in_processes(arguments: Sequence[str], *, processes: int, max_restarts: int, parent: int) -> None:
    """Run `bertpipe` with some arguments in several processes on this machine, and return when all are done.

    They find each other through a free port of this machine, and share its standard output and error. A signal that
    asks this process to stop goes to all of them; so does, under DVC, the end of `parent`.

    Args:
        arguments: of the command line, without the program.
        processes: how many.
        max_restarts: how often all of them are started anew after one has failed.
        parent: the process that started this one.

    Raises:
        WorldError: a process failed, and no restart is left. It has said why itself, unless it was ended from outside.
        StoppedError: a signal came, and the processes have ended; they have said where.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    handled = [number for number in INTERRUPTIONS if signal.getsignal(number) is not signal.SIG_IGN]
    # Each process sets its own threads, see runtime.threads; torchrun warns of what it would take itself.
    os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_SAVING_S))
    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed"):  # our own messages follow
            logging.getLogger(name).setLevel(logging.CRITICAL)
    _end_with(parent)
    options = [
        "--standalone",
        f"--nproc-per-node={processes}",
        f"--max-restarts={max_restarts}",
        f"--signals-to-handle={','.join(number.name for number in handled)}",
    ]
    try:
        run.run(run.parse_args([*options, "-m", "bertpipe", *arguments]))  # type: ignore[no-untyped-call]
    except SignalException as stopped:
        raise StoppedError(_SAID, exit_code=Interrupted(stopped.sigval).exit_code, shown=False) from None
    except ChildFailedError as failed:
        # Who was ended by a signal goes before those that failed because of it in the same second.
        rank, failure = min(failed.failures.items(), key=lambda item: (item[1].timestamp, item[1].exitcode >= 0))
        code = failure.exitcode
        if code < 0:
            name = signal.Signals(-code).name
            reason = ", most likely because memory ran out" if -code == signal.SIGKILL else ""
            raise WorldError(f"rank {rank} (process {failure.pid}) was ended by {name}{reason}") from failed
        raise WorldError(_SAID, shown=False, exit_code=code) from failed


def _end_with(parent: int) -> None:
    """Under DVC, stop when its process ends: nobody would record what the processes leave."""
    if not os.environ.get("DVC_STAGE"):
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
