"""Who is missing where a message failed; the store of several processes is a dictionary here."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from bertpipe.training.distributed import liveness
from bertpipe.training.distributed.liveness import Absence, Member, call_roll


class Store:
    """What a `torch.distributed.Store` keeps, in this process."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def set(self, name: str, value: str) -> None:
        self.kept[name] = value

    def get(self, name: str) -> bytes:
        return self.kept[name].encode()

    def check(self, names: list[str]) -> bool:
        return all(name in self.kept for name in names)

    def add(self, name: str, more: int) -> int:
        self.kept[name] = str(int(self.kept.get(name, "0")) + more)
        return int(self.kept[name])


class FrozenStore(Store):
    """One that answers nothing: its machine froze."""

    def check(self, names: list[str]) -> bool:
        threading.Event().wait(600)
        return super().check(names)


class LostStore(Store):
    """One whose process has ended."""

    def set(self, name: str, value: str) -> None:
        raise RuntimeError(f"Broken pipe: {name}, {value}")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("_HANGING_S", 1.5), ("_ENDED_S", 1.5), ("_STORE_S", 0.3)):
        monkeypatch.setattr(liveness, name, seconds)


def ended_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


def members(*processes: int) -> list[Member]:
    return [replace(Member.me(), process=process) for process in processes]


HERE = os.getpid()


def called_by_all(ranks: dict[int, bool], of: list[Member]) -> dict[int, Absence]:
    """Return what those find that call the roll at the same time; the value is whether their time ran out."""
    store, found = Store(), dict[int, Absence]()

    def call(rank: int, timed_out: bool) -> Callable[[], None]:
        return lambda: found.update({rank: call_roll(store, rank, of, timed_out=timed_out)})

    threads = [threading.Thread(target=call(rank, timed_out)) for rank, timed_out in ranks.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_nobody_is_missing_where_all_answer_and_one_says_it() -> None:
    found = called_by_all({0: False, 1: False, 2: False}, members(HERE, HERE, HERE))
    assert all(not absence.silent and not absence.ended and not absence.hanging for absence in found.values())
    assert sorted(absence.mine_to_say for absence in found.values()) == [False, False, True]


def test_one_that_has_ended_is_told_from_one_that_still_waits() -> None:
    found = called_by_all({1: False, 3: False}, members(HERE, HERE, ended_process(), HERE))
    for absence in found.values():
        assert (absence.ended, absence.silent, absence.hanging) == ([2], [0, 2], False)


def test_one_that_answered_and_ended_is_not_missing() -> None:
    store, all_of_them = Store(), members(HERE, ended_process())
    store.set("answer/1", '{"timed_out": false, "ended": []}')
    absence = call_roll(store, 0, all_of_them, timed_out=False)
    assert (absence.ended, absence.silent) == ([], [])


def test_of_another_container_nobody_knows_who_has_ended() -> None:
    absence = call_roll(
        Store(), 0, [*members(HERE), Member(os.uname().nodename, ended_process(), "another container")], timed_out=False
    )
    assert (absence.ended, absence.silent) == ([], [1])


def test_one_whose_time_ran_out_tells_those_whose_connections_broke_of_it() -> None:
    found = called_by_all({0: False, 1: True}, members(HERE, HERE, HERE))
    for absence in found.values():
        assert (absence.ended, absence.silent, absence.hanging) == ([], [2], True)


@pytest.mark.parametrize("store", [FrozenStore(), LostStore()])
def test_with_the_store_its_keeper_is_missing(store: Store) -> None:
    absences = [call_roll(store, rank, members(HERE, HERE, HERE), timed_out=True) for rank in (1, 2)]
    assert [absence.silent for absence in absences] == [[0], [0]]
    assert [absence.mine_to_say for absence in absences] == [True, False]
    assert all(absence.hanging for absence in absences)


def test_with_the_first_machine_all_of_its_processes_are_missing_and_each_other_machine_says_it() -> None:
    machines = ["a", "a", "b", "b", "c"]
    of = [Member(machine, 1 + number, machine) for number, machine in enumerate(machines)]
    absences = [call_roll(LostStore(), rank, of, timed_out=False) for rank in (2, 3, 4)]
    assert [absence.silent for absence in absences] == [[0, 1]] * 3
    assert [absence.mine_to_say for absence in absences] == [True, False, True]


def test_without_a_store_the_first_that_is_left_on_the_machine_says_it() -> None:
    of = members(ended_process(), ended_process(), HERE, HERE)
    absences = [call_roll(LostStore(), rank, of, timed_out=False) for rank in (2, 3)]
    assert [absence.silent for absence in absences] == [[0, 1]] * 2
    assert [absence.mine_to_say for absence in absences] == [True, False]


def test_a_process_that_takes_a_while_to_end_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([False, False, False])
    monkeypatch.setattr(Member, "has_ended", lambda self, _: self.process == 1 and next(looks, True))
    absence = call_roll(Store(), 0, members(HERE, 1, HERE), timed_out=False)
    assert (absence.ended, absence.silent) == ([1], [1, 2])
