"""Requests to stop: Ctrl-C, SIGTERM, the end of the terminal, or of the DVC process that waits for this one."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from bertpipe.core.errors import INTERRUPTIONS, Interrupted, WorldError


@dataclass(slots=True)
class StopRequest:
    """What asked the process to stop, if anything."""

    parent: int
    """The process that started this one, as it was at the start."""
    _signal: int | None = None
    _interruptible: bool = False

    @property
    def interruption(self) -> Interrupted | None:
        """The error that the request asks for; None while there is no request.

        The end of DVC is a request too, because nothing would record the run's outputs; so is the end of torchrun,
        because nothing would manage its processes.
        """
        if self._signal is not None:
            return Interrupted(self._signal)
        waiting = "torchrun" if _is_under_torchrun() else "DVC" if os.environ.get("DVC_STAGE") else None
        if waiting and os.getppid() != self.parent:
            return Interrupted(signal.SIGTERM, f"the end of the {waiting} process that waited for it")
        return None

    def check(self) -> None:
        """Raise Interrupted if there is a request."""
        interruption = self.interruption
        if interruption is not None:
            raise interruption

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a signal raise Interrupted anywhere in the block: for work that can be repeated from its start."""
        self._interruptible = True
        try:
            self.check()
            yield
        finally:
            self._interruptible = False

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Note a signal; a second one ends the process without saving.

        Under torchrun it does not: each process gets a signal to the whole job twice, once passed on by torchrun, which
        itself ends processes that take too long.
        """
        if self._signal is not None and not _is_under_torchrun():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._signal = self._signal or number
        if self._interruptible:
            raise Interrupted(number)


def _is_under_torchrun() -> bool:
    return os.environ.get("TORCHELASTIC_RUN_ID") is not None


@contextmanager
def stop_requests(parent: int) -> Iterator[StopRequest]:
    """Yield the request to stop that a signal within the block makes.

    Only the main thread gets signals; in another thread only the end of DVC is a request. Signals that were ignored
    when the process started, for example by `nohup`, stay ignored.
    """
    request = StopRequest(parent)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    handled = [number for number in INTERRUPTIONS if signal.getsignal(number) is not signal.SIG_IGN]
    earlier = {number: signal.signal(number, request.receive) for number in handled}
    try:
        yield request
    except WorldError:  # torchrun sends SIGTERM to the other processes, which still have to report their error
        earlier[signal.SIGTERM] = signal.SIG_IGN
        raise
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
