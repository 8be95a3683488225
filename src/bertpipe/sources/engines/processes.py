"""The same work on many things, by several processes, with the results in the things' order."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from bertpipe.core.errors import DataError

_Thing = TypeVar("_Thing")
_Result = TypeVar("_Result")
_AHEAD = 2
"""Things that are handed out for each process before the first of them must be back."""


def ordered_map(
    make_work: Callable[[], Callable[[_Thing], _Result]], things: Iterable[_Thing], *, processes: int
) -> Iterator[_Result]:
    """Yield `make_work()(thing)` for every thing, in order, holding only a few of them at a time.

    Args:
        make_work: called once in each process. With more than one process, it and the things and results are
            pickled, and the program's main module must be importable without running (`if __name__ == "__main__":`).
        things: what to work on; taken one after the other, as results are taken.
        processes: processes that work; with 1 it is this one.

    Raises:
        DataError: a process was ended from outside.
    """
    if processes == 1:
        yield from map(make_work(), things)
        return
    # A fresh interpreter: a fork would share the locks of whatever threads this process has.
    context = multiprocessing.get_context("spawn")
    ending, end = context.Pipe(duplex=False)
    with (
        ending,
        ProcessPoolExecutor(processes, mp_context=context, initializer=_start, initargs=(make_work, ending)) as pool,
    ):
        waiting: deque[Future[_Result]] = deque()
        iterator = iter(things)
        try:
            while True:
                waiting.extend(
                    pool.submit(_work_on, thing) for thing in islice(iterator, _AHEAD * processes - len(waiting))
                )
                if not waiting:
                    return
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise DataError(
                "a process was ended from outside, most likely because memory ran out: "
                "set runtime.processes to a smaller number"
            ) from error
        finally:
            end.close()  # nobody waits for work whose result nobody takes
            pool.shutdown(wait=True, cancel_futures=True)


_work: Callable[[Any], Any] | None = None


def _start(make_work: Callable[[], Callable[[Any], Any]], ending: Connection) -> None:
    global _work  # noqa: PLW0603 - one process, one work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process decides what an interruption means
    threading.Thread(target=_end_with_parent, args=(ending,), daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core for each process
    _work = make_work()


def _end_with_parent(ending: Connection) -> None:
    """Wait until the first process wants nothing more or is gone, then end this one: it would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel, ending])
    os._exit(1)


def _work_on(thing: Any) -> Any:  # noqa: ANN401
    assert _work is not None
    return _work(thing)
