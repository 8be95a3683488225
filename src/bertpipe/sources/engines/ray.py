"""Ray Data as an engine: a task a shard, on this machine or on a cluster (https://docs.ray.io/en/latest/data/data.html)."""

import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, TypeVar

from bertpipe.core.errors import INTERRUPTIONS, BertpipeError, DataError, first_line

LOCAL = "local"
"""The address of a Ray that is started here, and ends with the work."""
_AUTO = "auto"
_CONNECT_S = 10
"""Seconds in which something has to answer at the address of a cluster."""
_TRIES_TO_JOIN = "RAY_gcs_server_port_wait_time_s"
"""How often Ray tries, half a minute each, to join what answers and may be no Ray; 20 times where nobody says."""
_TRIES = 3
"""Tries of a shard whose worker was lost, after the first one."""

_Thing = TypeVar("_Thing")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class RayEngine:
    """A Ray cluster.

    Where the program that calls this has joined one already, that one is used, and is left as it is.
    """

    address: str
    """`local` starts one here, `auto` joins the one of this machine, HOST:PORT one elsewhere."""
    processes: int
    """Cores of one that is started here."""

    def __post_init__(self) -> None:
        """Refuse an address of another form.

        Raises:
            DataError: it is none of the three.
        """
        _, _, port = self.address.rpartition(":")
        if self.address not in {LOCAL, _AUTO} and not (
            "//" not in self.address and ":" in self.address and port.isdigit()
        ):
            raise DataError(
                f"--address {self.address} is not the address of a Ray cluster: write local, auto or HOST:PORT"
            )

    def map(self, function: Callable[[_Thing], _Result], things: Sequence[_Thing]) -> Generator[_Result]:
        """Yield `function(thing)` for every thing, in order; see `Engine`.

        Raises:
            BertpipeError: what the function raises.
            DataError: Ray is not installed, does not answer at the address, or has lost a worker `_TRIES` times more.
        """
        with self._joined() as ray, closing(_outcomes(ray, function, things)) as outcomes:
            early: dict[int, Any] = {}
            wanted = 0
            for number, outcome in outcomes:
                if isinstance(outcome, BertpipeError):
                    raise outcome
                early[number] = outcome
                while wanted in early:
                    yield early.pop(wanted)
                    wanted += 1

    @contextmanager
    def session(self) -> Iterator[None]:
        """Join the cluster once for all that is mapped in the block.

        Raises:
            DataError: as `map`.
        """
        with self._joined():
            yield

    @contextmanager
    def _joined(self) -> Iterator[Any]:
        """Yield Ray's module, joined to the cluster."""
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # these two are read as the module is
        os.environ["RAY_DEDUP_LOGS"] = os.environ.get(
            "RAY_DEDUP_LOGS", "0"
        )  # it would print what it held back at the very end
        try:
            import ray  # noqa: PLC0415
            import ray.data  # noqa: PLC0415
        except ImportError as error:
            raise DataError(f"--engine ray needs Ray Data ({error}): pip install 'bertpipe[ray]'") from error
        _silence()
        # What Ray tells of lost workers it prints, and standard output is the result's.
        with redirect_stdout(sys.stderr):
            if ray.is_initialized():
                yield ray
                return
            try:
                self._join(ray)
                yield ray
            finally:
                ray.shutdown()

    def _join(self, ray: Any) -> None:  # noqa: ANN401
        settings: dict[str, Any] = (
            {"num_cpus": self.processes, "include_dashboard": False} if self.address == LOCAL else {}
        )
        if self.address not in {LOCAL, _AUTO}:
            _check_answer(self.address)
        os.environ[_TRIES_TO_JOIN] = os.environ.get(_TRIES_TO_JOIN, "1")
        handlers = {number: signal.getsignal(number) for number in INTERRUPTIONS}
        try:
            ray.init(address=self.address, log_to_driver=False, logging_level=logging.CRITICAL, **settings)
        except (ConnectionError, RuntimeError, ValueError) as error:
            if self.address == LOCAL:
                raise DataError(f"no Ray could be started here: {first_line(error)}") from error
            raise DataError(
                f"no Ray cluster could be joined at {self.address}: {first_line(error)}; see that it runs the same "
                "version of Ray, and set RAY_AUTH_MODE=token here if it asks for a token"
            ) from error
        finally:
            for number, handler in handlers.items():  # Ray puts its own in the place of some
                signal.signal(number, handler)


def _silence() -> None:
    """Let Ray write to its own log files alone: an error arrives as an exception."""
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)


def _outcomes(
    ray: Any,  # noqa: ANN401
    function: Callable[[_Thing], _Result],
    things: Sequence[_Thing],
) -> Generator[tuple[int, Any]]:
    """Yield the number of each thing and what became of it, in the order in which they are done."""
    rows = [{"number": number, "thing": thing} for number, thing in enumerate(things)]
    with warnings.catch_warnings():
        # Of its own defaults, and of `max_retries`, for which Ray 2.60 has no other place; without, it tries for ever.
        warnings.filterwarnings("ignore", ".* is deprecated", DeprecationWarning)
        ray.data.DataContext.get_current().enable_progress_bars = False
        data = ray.data.from_items(rows, override_num_blocks=max(1, len(rows)))  # a block is a task
        done = data.map(_Work(function).on_row, num_cpus=1, max_retries=_TRIES)
    try:
        for row in done.iter_rows():
            yield row["number"], row["outcome"]
    except ray.exceptions.RaySystemError as error:
        reason = next((line for line in str(error).splitlines() if "System error" in line), first_line(error))
        raise DataError(
            f"a machine of the Ray cluster cannot do the work ({reason}): install this version of bertpipe on each"
        ) from error
    except ray.exceptions.RayTaskError:
        raise  # the function has a fault of its own
    except ray.exceptions.RayError as error:
        raise DataError(
            f"Ray lost the worker of a shard {1 + _TRIES} times, most likely because memory ran out "
            f"({first_line(error)}): make smaller shards, or give Ray fewer cores"
        ) from error


@dataclass(frozen=True, slots=True)
class _Work:
    """The function as Ray maps it."""

    function: Callable[[Any], Any]

    def on_row(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the result for a row's thing, or the error that it raises."""
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core for each task
        try:
            outcome = self.function(row["thing"])
        except BertpipeError as error:
            outcome = error
        return {"number": row["number"], "outcome": outcome}


def _check_answer(address: str) -> None:
    """Raise DataError if nothing answers at a HOST:PORT: Ray itself would try for a quarter of an hour."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise DataError(
            f"nothing answers at {address} within {_CONNECT_S} s ({error}): start the cluster there with "
            "`ray start --head`, or name another --address"
        ) from error
