"""Who of several processes is missing, asked where a message between them has failed."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HANGING_S, _ENDED_S = 5.0, 1.5
"""Seconds for the others to answer before one counts as missing: where one waited in vain until its time ran out, and
where a connection broke, which its neighbours see at once."""
_LOOK_S = 0.1
_STORE_S = 5.0
"""Seconds more after which the store itself counts as lost."""
_BOOT, _NUMBERS = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


@dataclass(frozen=True, slots=True)
class Member:
    """A process and its machine."""

    host: str
    process: int
    numbering: str
    """Equal for processes that can ask for each other by their numbers."""

    @classmethod
    def me(cls) -> "Member":
        """Return this process."""
        host = os.uname().nodename
        try:  # containers may have the name of their host, or each other's
            numbering = f"{_BOOT.read_text(encoding='ascii').strip()} {_NUMBERS.readlink()}"
        except OSError:
            numbering = host
        return cls(host, os.getpid(), numbering)

    def __str__(self) -> str:
        return f"{self.host}, process {self.process}"

    def has_ended(self, asking: "Member") -> bool:
        """Return whether it is of the same machine and no longer there."""
        if self.numbering != asking.numbering:
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # it is another user's, and there
            return False
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """What a roll call found."""

    ended: Sequence[int]
    """Ranks of processes that have ended, as those on their machines saw."""
    silent: Sequence[int]
    """Ranks of processes that did not answer."""
    hanging: bool
    """Whether a process waited until its time ran out: then a silent one hangs."""
    mine_to_say: bool
    """Whether this process is the one to say it."""


def call_roll(store: Any, rank: int, members: Sequence[Member], *, timed_out: bool) -> Absence:  # noqa: ANN401
    """Return who is missing, a few seconds after each process that a message failed for has called this.

    Those who still wait for a live neighbour hear of the failure only when that one ends: they are silent, too.

    Args:
        store: a `torch.distributed.Store` that all reach; used for one roll call.
        rank: of this process.
        members: of each rank.
        timed_out: whether this process waited until its time ran out, and no connection broke.
    """
    found: list[Absence] = []

    def ask() -> None:
        with suppress(RuntimeError):  # the store is gone
            found.append(_ask(store, rank, members, timed_out))

    asking = threading.Thread(target=ask, daemon=True)  # because a store on a machine that froze never answers
    with _undisturbed():
        asking.start()
        asking.join(_HANGING_S + _STORE_S)
    return found[0] if found else _without_store(rank, members, timed_out)


def _without_store(rank: int, members: Sequence[Member], timed_out: bool) -> Absence:
    """Return what a process can say alone: with the store its keeper is lost, the first process or its machine."""
    keeper, me = members[0], members[rank]
    elsewhere = keeper.numbering != me.numbering
    lost = {other for other, member in enumerate(members) if elsewhere and member.numbering == keeper.numbering}
    if rank and not elsewhere:
        lost |= {0, *_ended(rank, members)}
    here = [other for other, member in enumerate(members) if member.numbering == me.numbering and other not in lost]
    return Absence(ended=(), silent=sorted(lost), hanging=timed_out, mine_to_say=rank == min(here))


def _ask(store: Any, rank: int, members: Sequence[Member], timed_out: bool) -> Absence:  # noqa: ANN401
    silent, hanging = set(range(len(members))), timed_out
    begun = time.monotonic()
    while True:
        # Each time anew: a process that leaves breaks its connections first, and may take a while to end.
        ended = _ended(rank, members)
        store.set(f"answer/{rank}", json.dumps({"timed_out": timed_out, "ended": ended}))
        arrived = {other for other in silent if store.check([f"answer/{other}"])}
        silent -= arrived
        hanging = any([hanging, *(answer["timed_out"] for answer in _answers(store, arrived))])
        if not silent or time.monotonic() > begun + (_HANGING_S if hanging else _ENDED_S):
            break
        time.sleep(_LOOK_S)
    seen = {other for answer in _answers(store, set(range(len(members))) - silent) for other in answer["ended"]}
    return Absence(
        ended=sorted(seen & silent),  # one that has answered ended because of the failure
        silent=sorted(silent),
        hanging=hanging,
        mine_to_say=store.add("said", 1) == 1,
    )


def _answers(store: Any, ranks: Iterable[int]) -> list[dict[str, Any]]:  # noqa: ANN401
    return [json.loads(store.get(f"answer/{rank}")) for rank in ranks]


def _ended(rank: int, members: Sequence[Member]) -> list[int]:
    return [other for other, member in enumerate(members) if member.has_ended(members[rank])]


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Go on through SIGTERM: torchrun sends it to those that are left, who end soon and have something to say."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
