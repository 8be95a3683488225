"""The processes that train together: who they are, and what they tell each other.

`torchrun` starts them and says who is who, in the environment. PyTorch's process groups carry the messages: NCCL
between GPUs, Gloo for everything on the host.
"""

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from bertpipe.core.errors import BertpipeError, WorldError, first_line
from bertpipe.data.sampling import WHOLE, Share
from bertpipe.training.distributed.environment import environment_number, is_launched, restarts
from bertpipe.training.distributed.liveness import Absence, Member, call_roll

_Told = TypeVar("_Told")
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All processes of a run, as one of them sees them; a run in one process is a world of one."""

    share: Share = WHOLE
    """Which of them this is."""
    local_size: int = 1
    """How many there are on its machine."""
    restarted: bool = False
    """Whether other processes were in their place before, one of which failed or left."""
    _timeout_s: float = 0.0
    _store: Any = None
    """A `torch.distributed.Store` that all reach."""
    _members: tuple[Member, ...] = ()
    """The process of each rank."""

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.share.rank == 0

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum of every process's tensor, made in place."""
        if self.share.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def highest(self, tensor: Tensor) -> Tensor:
        """Return the largest of every process's values, made in place."""
        if self.share.size > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor

    def told(self, message: _Told) -> _Told:
        """Return what the leader says, as JSON has it; what the others say counts for nothing."""
        return self._gathered(message)[0]

    def scattered(self, tensor: Tensor | None, *, like: Tensor) -> Tensor:
        """Return the leader's tensor, or this process's part of it where `like` is a part of such a tensor."""
        if self.share.size == 1:
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

    def agree(self, what: str, facts: Mapping[str, Any], *, mend: str) -> None:
        """Go on if all processes have the same facts.

        Args:
            what: what the facts are of, for the message.
            facts: names and values; a difference is named.
            mend: what to do about a difference, for the message.

        Raises:
            WorldError: a process differs from the leader, or failed; all processes raise it.
        """
        told = self._exchange(None, dict(facts))
        for rank, theirs in enumerate(told):
            differing = [name for name, value in theirs.items() if value != told[0].get(name)]
            if differing:
                raise WorldError(
                    f"{self._name(rank)} has {what} that differ from those of {self._name(0)} in "
                    f"{', '.join(differing)}: {mend}",
                    shown=self.leads,
                )

    @contextmanager
    def together(self) -> Iterator[None]:
        """End the block in every process with the error, if it ends with a BertpipeError in one of them.

        Raises:
            WorldError: another process failed.
        """
        try:
            yield
        except WorldError:
            raise  # all know of it
        except BertpipeError as error:
            self._exchange(error, {})
        else:
            self._exchange(None, {})

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Say which process does not answer, where messages within the block fail.

        Raises:
            WorldError: a message failed; the first of those that still answer shows it.
        """
        try:
            yield
        except RuntimeError as error:
            if self.share.size == 1 or not _is_of_messages(error):
                raise
            members = self._members or (Member("", 0, ""),) * self.share.size  # not introduced yet
            timed_out = "timed out" in str(error).lower()
            absence = call_roll(self._store, self.share.rank, members, timed_out=timed_out)
            what = self._said_of(absence) or f"the processes lost each other ({first_line(error)})"
            raise WorldError(
                f"{what}; the next run goes on from the last checkpoint", shown=absence.mine_to_say
            ) from error

    def _said_of(self, absence: Absence) -> str | None:
        """Return who is missing; None where nobody is."""
        missing = absence.ended or absence.silent
        if not missing:
            return None
        names = ", ".join(map(self._name, missing))
        if absence.ended or not absence.hanging:
            unsure = "at least one of them " if len(missing) > 1 and not absence.ended else ""
            return f"{names}: {unsure}ended while the others waited for it"
        return (
            f"{names}: no answer for {self._timeout_s:g} s (runtime.timeout_s), the others waited: it hangs, or its "
            "machine is cut off"
        )

    def _exchange(self, error: BertpipeError | None, facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return every process's facts; where one has an error, raise that of the first, which the leader shows."""
        told = self._gathered((None if error is None else str(error), facts))
        failed = [rank for rank, (text, _) in enumerate(told) if text is not None]
        if not failed:
            return [theirs for _, theirs in told]
        if error is not None and failed[0] == self.share.rank == 0:
            raise error
        where = f"{self._name(failed[0])}: " if failed[0] else ""
        raise WorldError(f"{where}{told[failed[0]][0]}", shown=self.leads) from error

    def _gathered(self, message: _Told) -> list[_Told]:
        if self.share.size == 1:
            return [message]
        return [json.loads(text) for text in self._texts(json.dumps(message, default=str))]

    def _texts(self, text: str) -> list[bytes]:
        """Return every process's text. PyTorch's own messages of objects are pickles, which can run code."""
        mine = torch.frombuffer(bytearray(text, encoding="utf-8"), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.share.size)]
        dist.all_gather(sizes, torch.tensor([len(mine)]))
        longest = max(int(size) for size in sizes)
        texts = [torch.zeros(longest, dtype=torch.uint8) for _ in sizes]
        dist.all_gather(texts, torch.nn.functional.pad(mine, (0, longest - len(mine))))
        return [text[: int(size)].numpy().tobytes() for text, size in zip(texts, sizes, strict=True)]

    def introduced(self) -> "World":
        """Return this world, knowing the process of each rank."""
        return replace(self, _members=tuple(Member(**told) for told in self._gathered(asdict(Member.me()))))

    def _name(self, rank: int) -> str:
        return f"rank {rank} ({self._members[rank]})" if self._members else f"rank {rank}"


ALONE = World()
"""A run in one process."""


@contextmanager
def joined(device_type: str, *, timeout_s: float) -> Iterator[World]:
    """Yield the world that `torchrun` has made this process a part of, or a world of one.

    Args:
        device_type: `cpu` or `cuda`: where the tensors are that are added up.
        timeout_s: seconds without an answer after which a process counts as hanging.

    Raises:
        WorldError: the environment does not say who is who, or the processes do not find each other.
    """
    if not is_launched():
        yield ALONE
        return
    share = _share_of_environment()
    timeout = timedelta(seconds=timeout_s)
    at = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        store, _, _ = next(rendezvous("env://", timeout=timeout))
        store.set_timeout(timeout)
        attempt = _attempt(store, share, timeout_s)
        store = PrefixStore(f"attempt {attempt}", store)
        backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=share.rank, world_size=share.size, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        raise WorldError(f"rank {share.rank} of {share.size} cannot join the others: {_mend(error, at)}") from error
    try:
        world = World(
            share=share,
            local_size=environment_number("LOCAL_WORLD_SIZE", 1),
            restarted=attempt > 1,
            _timeout_s=timeout_s,
            _store=store,
        )
        with world.watched():
            counted = world.highest(torch.tensor(restarts())).item()  # torchrun may have made a new store
            world = replace(world.introduced(), restarted=world.restarted or counted > 0)
        with world.watched():
            yield world
    finally:
        dist.destroy_process_group()


def _attempt(store: Any, share: Share, timeout_s: float) -> int:  # noqa: ANN401
    """Return how many times processes have come together in a store, this time included: the same number for all.

    torchrun keeps its store when it starts processes anew, with the addresses of those that have ended; and its count
    of restarts is each machine's own. So each process asks with a word of its own, and the first one answers with the
    number until all have heard it.
    """
    if share.rank:
        word = uuid.uuid4().hex
        store.set(f"asks/{share.rank}", word)
        number = int(store.get(f"answer/{word}"))
        store.set(f"heard/{number}/{share.rank}", "")
        return number
    number, missing = int(store.add("attempts", 1)), set(range(1, share.size))
    until = time.monotonic() + timeout_s
    while missing:
        for rank in sorted(missing):
            if store.check([f"asks/{rank}"]):  # it may be the word of one that has ended; then it does no harm
                store.set(f"answer/{store.get(f'asks/{rank}').decode()}", str(number))
            if store.check([f"heard/{number}/{rank}"]):
                missing.remove(rank)
        if missing and time.monotonic() > until:
            raise WorldError(f"ranks {', '.join(map(str, sorted(missing)))} have not come within {timeout_s:g} s")
        time.sleep(_LOOK_S)
    return number


def _share_of_environment() -> Share:
    missing = [name for name in _VARIABLES if os.environ.get(name) is None]
    if missing:
        raise WorldError(
            f"RANK is set in the environment, but not {', '.join(missing)}: start the processes with torchrun, which "
            "sets them all, or unset RANK"
        )
    share = Share(rank=environment_number("RANK", 0), size=environment_number("WORLD_SIZE", 1))
    if not 0 <= share.rank < share.size:
        raise WorldError(f"RANK is {share.rank} and WORLD_SIZE {share.size}: ranks are counted from 0 up to the size")
    return share


def _mend(error: Exception, at: str) -> str:
    """Return what went wrong and what to do."""
    text = first_line(error)
    low = text.lower()
    if "eaddrinuse" in low or "address already in use" in low:
        return f"the port of {at} is taken: set another MASTER_PORT, or `torchrun --master-port` ({text})"
    if "timed out" in low or "timeout" in low or "connect" in low:
        return f"there is no answer at {at}: see that all processes run and that the port is open ({text})"
    if "interface" in low or "resolve" in low:
        return f"name the network interface in GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME ({text})"
    return text


def _is_of_messages(error: RuntimeError) -> bool:
    """Return whether an error comes from messages between processes; Gloo's are plain RuntimeErrors."""
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "closed by peer"))
