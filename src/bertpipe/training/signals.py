"""A request to stop: Ctrl-C, SIGTERM, the end of the terminal, or that of the DVC process that waits for this one."""

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
    """What asked the process to stop, if anything did."""

    parent: int
    """The process that started this one, as it was at the start."""
    _signal: int | None = None
    _at_once: bool = False

    @property
    def interruption(self) -> Interrupted | None:
        """What the request is to end in; None while there is none.

        The end of DVC is a request too, because nobody would record what the run leaves; and so is that of torchrun,
        because nobody would look after its processes.
        """
        if self._signal is not None:
            return Interrupted(self._signal)
        waiting = "torchrun" if _is_torchruns() else "DVC" if os.environ.get("DVC_STAGE") else None
        if waiting and os.getppid() != self.parent:
            return Interrupted(signal.SIGTERM, f"the end of the {waiting} process that waited for it")
        return None

    def check(self) -> None:
        """Raise Interrupted if there is a request."""
        interruption = self.interruption
        if interruption is not None:
            raise interruption

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal raise Interrupted anywhere in the block: for work that can be done again from its start."""
        self._at_once = True
        try:
            self.check()
            yield
        finally:
            self._at_once = False

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal; a second one ends the process without more saving.

        Not so under torchrun, which passes on its own: of a signal to all processes of a job each gets two. It ends
        what takes too long itself.
        """
        if self._signal is not None and not _is_torchruns():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._signal = self._signal or number
        if self._at_once:
            raise Interrupted(number)


def _is_torchruns() -> bool:
    return os.environ.get("TORCHELASTIC_RUN_ID") is not None


@contextmanager
def stop_requests(parent: int) -> Iterator[StopRequest]:
    """Yield what becomes a request to stop when a signal arrives within the block.

    Signals are the main thread's alone; in another thread the request sees DVC's end only. Signals that whoever started
    the process has it ignore, such as `nohup`, stay ignored.

    Args:
        parent: the process that started this one.
    """
    request = StopRequest(parent)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    heard = [number for number in INTERRUPTIONS if signal.getsignal(number) is not signal.SIG_IGN]
    earlier = {number: signal.signal(number, request.receive) for number in heard}
    try:
        yield request
    except WorldError:  # torchrun sends SIGTERM to the processes that are left, which end and still have to say why
        earlier[signal.SIGTERM] = signal.SIG_IGN
        raise
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
