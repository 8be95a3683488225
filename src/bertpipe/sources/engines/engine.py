"""Who does the same work on many shards: processes of this machine, or a Ray cluster."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, TypeVar

from bertpipe.core.errors import DataError
from bertpipe.core.params import cores
from bertpipe.core.progress import Progress
from bertpipe.sources.engines.processes import ordered_map
from bertpipe.sources.engines.ray import LOCAL, RayEngine

EngineName = Literal["processes", "ray"]


_Thing = TypeVar("_Thing")
_Result = TypeVar("_Result")


class Engine(Protocol):
    """Maps a function over shards; which one does makes no difference to a result."""

    def session(self) -> AbstractContextManager[None]:
        """Get ready once for all that is mapped in the block."""
        ...

    def map(self, function: Callable[[_Thing], _Result], things: Sequence[_Thing]) -> Generator[_Result]:
        """Yield `function(thing)` for every thing, in order.

        Args:
            function: can be pickled. It may be called again on a thing whose worker was lost, so it writes files whole
                and under names of their own.
            things: can be pickled, as results can.

        Raises:
            BertpipeError: what the function raises, or a worker is lost.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """Processes of this machine; one alone is this process."""

    count: int

    def session(self) -> AbstractContextManager[None]:
        """Do nothing: each `map` starts processes of its own."""
        return nullcontext()

    def map(self, function: Callable[[_Thing], _Result], things: Sequence[_Thing]) -> Generator[_Result]:
        """Yield `function(thing)` for every thing, in order; see `Engine`."""
        yield from ordered_map(partial(_same, function), things, processes=min(self.count, max(1, len(things))))


def make_engine(name: EngineName, *, address: str | None, processes: Literal["auto"] | int) -> Engine:
    """Return an engine.

    Args:
        name: `processes` or `ray`.
        address: of a Ray cluster: `local` or None starts one here, `auto` joins the one on this machine, HOST:PORT one
            elsewhere.
        processes: how many work at a time on this machine; `auto` takes one for each core.

    Raises:
        DataError: there is an address where no Ray is asked for; or Ray is not installed.
    """
    count = cores() if processes == "auto" else processes
    if name == "ray":
        return RayEngine(address=address or LOCAL, processes=count)
    if address is not None:
        raise DataError(f"--address {address} is of a Ray cluster: give --engine ray too, or leave it out")
    return Processes(count=count)


def with_progress(
    results: Generator[_Result], sizes: Sequence[int], label: str, on_progress: Callable[[Progress], None]
) -> Iterator[_Result]:
    """Yield the results for shards of these sizes in bytes, and report each; the work stops when this is closed."""
    done, total = 0, sum(sizes)
    with closing(results):
        on_progress(Progress(label=label, completed=0, total=total, unit="bytes"))
        for result, size in zip(results, sizes, strict=True):
            done += size
            on_progress(Progress(label=label, completed=done, total=total, unit="bytes"))
            yield result


def _same(function: Callable[[_Thing], _Result]) -> Callable[[_Thing], _Result]:
    return function
