"""A request to stop: Ctrl-C, SIGTERM, or the end of the DVC process that waits for this one."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from bertpipe.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STAGE_VARIABLE = "DVC_STAGE"
"""DVC sets it for the commands that it runs."""


@dataclass(slots=True)
class StopRequest:
    """What asked the process to stop, if anything did."""

    _signal: int | None = None
    _parent: int = field(default_factory=os.getppid)
    _at_once: bool = False

    @property
    def interruption(self) -> Interrupted | None:
        """What the request is to end in; None while there is none.

        DVC's own end is a request too: nobody would record what the run leaves.
        """
        if self._signal is not None:
            return Interrupted(self._signal)
        if os.environ.get(_STAGE_VARIABLE) and os.getppid() != self._parent:
            return Interrupted(signal.SIGTERM, "the end of the DVC process that waited for it")
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
        """Take a signal; a second one ends the process without more saving."""
        if self._signal is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._signal = number
        if self._at_once:
            raise Interrupted(number)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Yield what becomes a request to stop when a signal arrives within the block.

    Signals are the main thread's alone; in another thread the request sees DVC's end only.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    earlier = {number: signal.signal(number, request.receive) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
