"""The running command in several processes, started by the library behind `torchrun`."""

import logging
import os
import signal
import threading
import time
from collections.abc import Sequence

from bertpipe.core.errors import INTERRUPTIONS, Interrupted, StoppedError, WorldError
from bertpipe.core.params import RuntimeParams

_SAVING_S = 300
"""Seconds that processes have to save their state when they are asked to stop, before they are killed."""
_LOOK_S = 1.0
_SAID = "the processes have said it themselves"


def processes_to_train_in(runtime: RuntimeParams) -> int:
    """Return the number of processes that `runtime.processes` asks for; `auto`: one per GPU that is used."""
    if runtime.processes != "auto":
        return runtime.processes
    if runtime.device == "cpu":
        return 1
    import torch

    return max(1, torch.cuda.device_count())


def run_in_processes(arguments: Sequence[str], *, processes: int, max_restarts: int, parent: int) -> None:
    """Run `bertpipe` with some arguments in several processes on this machine, and return when all are done.

    They join through a free port of this machine, and share standard output and error. A signal that asks this process
    to stop is sent to all of them; under DVC, so is the end of `parent`.

    Raises:
        WorldError: a process failed, and no restart is left. It has reported why, unless it was killed.
        StoppedError: a signal came, and the processes have ended; they have reported where.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    handled = [number for number in INTERRUPTIONS if signal.getsignal(number) is not signal.SIG_IGN]
    # Each process sets its own threads, see runtime.threads; without this torchrun prints a warning.
    os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_SAVING_S))
    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed"):  # our own messages say it better
            logging.getLogger(name).setLevel(logging.CRITICAL)
    _stop_with(parent)
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
        # Of the same second, a process that was killed comes first, and one that torchrun ended because of it last.
        rank, failure = min(
            failed.failures.items(),
            key=lambda item: (item[1].timestamp, item[1].exitcode == -signal.SIGTERM, item[1].exitcode >= 0),
        )
        code = failure.exitcode
        if code < 0:
            name = signal.Signals(-code).name
            reason = ", most likely because memory ran out" if -code == signal.SIGKILL else ""
            raise WorldError(f"rank {rank} (process {failure.pid}) was ended by {name}{reason}") from failed
        raise WorldError(_SAID, shown=False, exit_code=code) from failed


def _stop_with(parent: int) -> None:
    """Under DVC, stop when its process ends: nothing would record the outputs."""
    if not os.environ.get("DVC_STAGE"):
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
