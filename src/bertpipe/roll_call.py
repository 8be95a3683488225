"""Who of several processes is missing, asked where a message between them has failed."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

_HANGING_S, _ENDED_S = 5.0, 1.0
"""Seconds for the others to answer before one counts as missing: where one waited in vain until its time ran out, and
where a connection broke, which its neighbours see at once."""
_REAPED_S = 0.5
"""Seconds until whoever started a process that ended has taken note of it."""
_LOOK_S = 0.1
_STORE_S = 5.0
"""Seconds more after which the store itself counts as lost."""


@dataclass(frozen=True, slots=True)
class Member:
    """A process and its machine."""

    host: str
    process: int

    @classmethod
    def me(cls) -> "Member":
        """Return this process."""
        return cls(os.uname().nodename, os.getpid())

    def __str__(self) -> str:
        return f"{self.host}, process {self.process}"

    def has_ended(self) -> bool:
        """Return whether it is of this machine and no longer there."""
        if self.host != os.uname().nodename:
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
        asking.join(_REAPED_S + _HANGING_S + _STORE_S)
    if found:
        return found[0]
    # Without a store, whoever kept it is lost: the first process, or its machine.
    return Absence(ended=(), silent=[0] if rank else [], hanging=timed_out, mine_to_say=rank <= 1)


def _ask(store: Any, rank: int, members: Sequence[Member], timed_out: bool) -> Absence:  # noqa: ANN401
    time.sleep(_REAPED_S)
    ended = [other for other, member in enumerate(members) if member.has_ended()]
    silent, answers = set(range(len(members))), dict[int, Any]()
    begun = time.monotonic()
    store.set(f"answer/{rank}", json.dumps({"timed_out": timed_out, "ended": ended}))
    while True:
        for other in [other for other in silent if store.check([f"answer/{other}"])]:
            answers[other] = json.loads(store.get(f"answer/{other}"))
            silent.remove(other)
        hanging = any(answer["timed_out"] for answer in answers.values())
        if not silent or time.monotonic() > begun + (_HANGING_S if hanging else _ENDED_S):
            break
        time.sleep(_LOOK_S)
    seen = {other for answer in answers.values() for other in answer["ended"]}
    return Absence(
        ended=sorted(seen & silent),  # one that has answered ended because of the failure
        silent=sorted(silent),
        hanging=hanging,
        mine_to_say=store.add("said", 1) == 1,
    )


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
