"""The processes that train together, and their collective operations.

`torchrun` starts them and sets their ranks in the environment. They communicate in PyTorch's process groups: NCCL
between GPUs, Gloo for everything on the host.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from bertpipe.core.errors import BertpipeError, DataError, WorldError, first_line
from bertpipe.data.sampling import SINGLE, DataParallelRank
from bertpipe.training.distributed.environment import environment_number, is_launched, restarts

_Message = TypeVar("_Message")
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_POLL_S = 0.05
_ANSWER_S = 3.0
"""Seconds in which every remaining process answers after a collective has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All processes of a run, as one of them sees them."""

    dp: DataParallelRank = SINGLE
    """Which of them this process is."""
    local_size: int = 1
    """How many are on this machine."""
    restarted: bool = False
    """Whether the processes were restarted, because one failed, left or joined."""
    _timeout_s: float = 0.0
    _side_group: Any = None
    """A Gloo group of all, used only after a collective in the main group has failed."""
    _names: tuple[str, ...] = ()
    """The host and process of each rank."""
    _group: Any = None
    """Where messages go; None: the main group."""
    _row_groups: list[Any] = field(default_factory=list)
    """The groups of all exchanges of rows."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes and reports."""
        return self.dp.rank == 0

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of every process's tensor, made in place."""
        if self.dp.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def all_reduce_max(self, tensor: Tensor) -> Tensor:
        """Return the largest of every process's values, made in place."""
        if self.dp.size > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor

    def broadcast(self, message: _Message) -> _Message:
        """Return the main process's message, sent as JSON; the messages of the others are ignored."""
        return self._gathered(message)[0]

    def broadcast_or_shard(self, tensor: Tensor | None, *, like: Tensor) -> Tensor:
        """Return the main process's tensor, or this process's shard of it if `like` is sharded."""
        if self.dp.size == 1:
            assert tensor is not None
            return tensor
        whole = torch.empty(like.shape, dtype=like.dtype, device=like.device)
        if tensor is not None:
            whole.copy_(tensor)
        mesh = getattr(like, "device_mesh", None)
        if mesh is not None:
            from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415

            return distribute_tensor(whole, mesh, like.placements)  # type: ignore[attr-defined]
        dist.broadcast(whole, src=0)
        return whole

    def assert_equal(self, what: str, facts: Mapping[str, Any], *, advice: str) -> None:
        """Check that all processes have the same facts; the message names those that differ, and says what to do.

        Raises:
            WorldError: a process differs from the main process, or failed; all processes raise it.
        """
        everyone = self._exchange(None, dict(facts))
        for rank, theirs in enumerate(everyone):
            differing = [name for name, value in theirs.items() if value != everyone[0].get(name)]
            if differing:
                raise WorldError(
                    f"{self._name(rank)} has {what} that differ from those of {self._name(0)} in "
                    f"{', '.join(differing)}: {advice}",
                    shown=self.is_main,
                )

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise in every process the BertpipeError that the block raises in one of them.

        Raises:
            WorldError: another process failed.
        """
        try:
            yield
        except WorldError:
            raise  # in all processes already
        except BertpipeError as error:
            self._exchange(error, {})
        else:
            self._exchange(None, {})

    def exchange(self) -> "RowExchange | None":
        """Return how the processes exchange the rows of a data set; None for one process. All of them call it.

        Each has a group of its own, because a thread may read one data set while another one is evaluated.
        """
        if self.dp.size == 1:
            return None
        group = dist.new_group(backend="gloo", timeout=timedelta(seconds=self._timeout_s))
        self._row_groups.append(group)
        return RowExchange(world=replace(self, _group=group))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Name the process that does not answer if a collective within the block fails.

        Raises:
            WorldError: a collective failed; the first of the processes that still answer shows it.
        """
        try:
            yield
        except RuntimeError as error:
            if self.dp.size == 1 or not _is_of_collective(error):
                raise
            ended, silent = self._missing()
            what = f"the processes lost each other ({first_line(error)})"
            if ended:
                what = f"{', '.join(map(self._name, ended))}: ended while the others waited for it"
            elif silent:
                what = (
                    f"{', '.join(map(self._name, silent))}: no answer for {self._timeout_s:g} s (runtime.timeout_s), "
                    "the others waited: it hangs, or its machine is cut off"
                )
            first = min({*range(self.dp.size)} - {*ended, *silent})
            raise WorldError(
                f"{what}; the next run resumes from the last checkpoint", shown=self.dp.rank == first
            ) from error

    def _missing(self) -> tuple[list[int], list[int]]:
        """Return the ranks that ended and the ranks that do not answer: all that are left send each other a message.

        `torch.distributed.monitored_barrier` names a late rank to rank 0 only, and an ended one to none (PyTorch 2.13).
        """
        assert dist.group.WORLD is not None
        for group in (dist.group.WORLD, *self._row_groups):
            group.abort()  # processes that wait for this one fail, too
        others = [rank for rank in range(self.dp.size) if rank != self.dp.rank]
        greetings: dict[int, list[Any]] = {}
        for other in others:
            with suppress(RuntimeError):  # the connection is closed
                greetings[other] = [
                    dist.isend(torch.zeros(1), other, group=self._side_group),
                    dist.irecv(torch.zeros(1), other, group=self._side_group),
                ]
        ended, silent = [other for other in others if other not in greetings], list[int]()
        until = time.monotonic() + _ANSWER_S
        for other, works in greetings.items():
            try:
                for work in works:
                    work.wait(timedelta(seconds=max(_POLL_S, until - time.monotonic())))
            except RuntimeError as error:
                (silent if "timed out" in str(error).lower() else ended).append(other)
        return sorted(ended), silent

    def _exchange(self, error: BertpipeError | None, facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return every process's facts, or raise the first error of any; the main process shows it."""
        everyone = self._gathered((None if error is None else str(error), facts))
        failed = [rank for rank, (text, _) in enumerate(everyone) if text is not None]
        if not failed:
            return [theirs for _, theirs in everyone]
        if error is not None and failed[0] == self.dp.rank == 0:
            raise error
        where = f"{self._name(failed[0])}: " if failed[0] else ""
        raise WorldError(f"{where}{everyone[failed[0]][0]}", shown=self.is_main) from error

    def _gathered(self, message: _Message) -> list[_Message]:
        if self.dp.size == 1:
            return [message]
        return [json.loads(text) for text in self._texts(json.dumps(message, default=str))]

    def _texts(self, text: str) -> list[bytes]:
        """Return every process's text. PyTorch's own collectives for objects use pickle, which can run code."""
        mine = torch.frombuffer(bytearray(text, encoding="utf-8"), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.dp.size)]
        dist.all_gather(sizes, torch.tensor([len(mine)]), group=self._group)
        longest = max(int(size) for size in sizes)
        texts = [torch.zeros(longest, dtype=torch.uint8) for _ in sizes]
        dist.all_gather(texts, torch.nn.functional.pad(mine, (0, longest - len(mine))), group=self._group)
        return [text[: int(size)].numpy().tobytes() for text, size in zip(texts, sizes, strict=True)]

    def _name(self, rank: int) -> str:
        return f"rank {rank} ({self._names[rank]})" if self._names else f"rank {rank}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowExchange:
    """Messages between the processes that read a data set together, through the hosts' memory."""

    world: World

    @property
    def dp(self) -> DataParallelRank:
        """Which process this is."""
        return self.world.dp

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise in every process the error that the block raises in one of them.

        Raises:
            DataError: one of them cannot read its rows; all of them still answer.
        """
        try:
            with self.world.together():
                yield
        except BertpipeError as error:
            raise DataError(str(error), shown=self.world.is_main) from error

    def all_gather(self, values: NDArray[np.int64], sizes: Sequence[int]) -> list[NDArray[np.int64]]:
        """Return every process's values, of which there are `sizes`."""
        mine = torch.zeros(max(sizes), dtype=torch.int64)
        mine[: len(values)] = torch.from_numpy(values)
        everyone = [torch.empty_like(mine) for _ in sizes]
        dist.all_gather(everyone, mine, group=self.world._group)
        return [theirs.numpy()[:size] for theirs, size in zip(everyone, sizes, strict=True)]

    def all_to_all(self, parts: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Send each process its part, and return what each has sent to this one."""
        sizes = torch.tensor([len(part) for part in parts])
        coming = torch.empty_like(sizes)
        dist.all_to_all_single(coming, sizes, group=self.world._group)
        found = torch.empty(int(coming.sum()), dtype=torch.uint8)
        dist.all_to_all_single(
            found, torch.from_numpy(np.concatenate(parts)), coming.tolist(), sizes.tolist(), group=self.world._group
        )
        return [part.numpy() for part in torch.split(found, coming.tolist())]


ALONE = World()
"""A run in one process."""


@contextmanager
def init_distributed(device_type: str, *, timeout_s: float) -> Iterator[World]:
    """Yield the world of the processes that `torchrun` started, or of one process.

    A process without an answer for `timeout_s` seconds counts as hanging.

    Raises:
        WorldError: the environment is not complete, or the processes cannot join.
    """
    if not is_launched():
        yield ALONE
        return
    dp = _rank_of_environment()
    timeout = timedelta(seconds=timeout_s)
    at = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        store, _, _ = next(rendezvous("env://", timeout=timeout))
        store.set_timeout(timeout)
        attempt = _attempt(store, dp, timeout_s)
        store = PrefixStore(f"attempt {attempt}", store)
        backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=dp.rank, world_size=dp.size, timeout=timeout)
        side_group = dist.new_group(backend="gloo", timeout=timeout)
    except (RuntimeError, ValueError) as error:
        raise WorldError(f"rank {dp.rank} of {dp.size} cannot join the others: {_advice(error, at)}") from error
    try:
        local_size = environment_number("LOCAL_WORLD_SIZE", 1)
        world = World(dp=dp, local_size=local_size, _timeout_s=timeout_s, _side_group=side_group)
        with world.watched():
            restarted = world.all_reduce_max(torch.tensor([attempt > 1, restarts() > 0])).any()
            names = world._gathered(f"{os.uname().nodename}, process {os.getpid()}")
            world = replace(world, restarted=bool(restarted), _names=tuple(names))
        with world.watched():
            yield world
    finally:
        dist.destroy_process_group()


def _attempt(store: Any, dp: DataParallelRank, timeout_s: float) -> int:  # noqa: ANN401
    """Return how many times processes have joined with this store, with this time: the same number for all.

    torchrun keeps its store when it restarts the processes (PyTorch 2.13), with the addresses of those that have ended,
    and each machine has a restart count of its own. So rank 0 counts, and repeats the number until each rank has it.
    """
    if dp.rank:
        store.delete_key(f"number/{dp.rank}")  # of an earlier attempt
        number = int(store.get(f"number/{dp.rank}"))
        store.set(f"heard/{number}/{dp.rank}", "")
        return number
    number, until = int(store.add("attempts", 1)), time.monotonic() + timeout_s
    while missing := [rank for rank in range(1, dp.size) if not store.check([f"heard/{number}/{rank}"])]:
        if time.monotonic() > until:
            raise WorldError(f"ranks {', '.join(map(str, missing))} have not come within {timeout_s:g} s")
        for rank in missing:
            store.set(f"number/{rank}", str(number))
        time.sleep(_POLL_S)
    return number


def _rank_of_environment() -> DataParallelRank:
    missing = [name for name in _VARIABLES if os.environ.get(name) is None]
    if missing:
        raise WorldError(
            f"RANK is set in the environment, but not {', '.join(missing)}: start the processes with torchrun, which "
            "sets them all, or unset RANK"
        )
    dp = DataParallelRank(rank=environment_number("RANK", 0), size=environment_number("WORLD_SIZE", 1))
    if not 0 <= dp.rank < dp.size:
        raise WorldError(f"RANK is {dp.rank} and WORLD_SIZE {dp.size}: ranks are counted from 0 up to the size")
    return dp


def _advice(error: Exception, at: str) -> str:
    """Return what went wrong and what to do."""
    text = first_line(error)
    low = text.lower()
    if "eaddrinuse" in low or "address already in use" in low:
        return f"the port of {at} is taken: set another MASTER_PORT, or `torchrun --master-port` ({text})"
    if "timed out" in low or "timeout" in low or "connect" in low:
        return f"there is no answer at {at}: check that all processes run and that the port is open ({text})"
    if "interface" in low or "resolve" in low:
        return f"name the network interface in GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME ({text})"
    return text


def _is_of_collective(error: RuntimeError) -> bool:
    """Return whether an error comes from a collective; Gloo's are plain RuntimeErrors."""
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "closed by peer"))
