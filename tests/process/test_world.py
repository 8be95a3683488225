"""Messages between processes, and what is said where they fail."""

import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from bertpipe.core.errors import WorldError
from bertpipe.training.distributed.environment import local_rank, rank
from bertpipe.training.distributed.world import ALONE, init_distributed
from bertpipe.training.signals import stop_requests
from worlds import TESTS, Worlds, free_port

NAME = r"rank 1 \(\S+, process \d+\)"


@pytest.fixture(scope="module")
def lines(worlds: Worlds) -> list[list[str]]:
    """Return what two processes print whose errors are shared, one case after the other in the same two."""
    ended = worlds("world_cases", "messages", "differs", "fails", "leader_fails")
    return [each.out.splitlines() for each in ended]


def of_case(lines: list[str], case: str) -> list[str]:
    begin = lines.index(f"-- {case}") + 1
    ends = [at for at in range(begin, len(lines)) if lines[at].startswith("-- ")]
    return lines[begin : ends[0] if ends else None]


def test_messages_arrive(lines: list[list[str]]) -> None:
    for mine in lines:
        assert of_case(mine, "messages") == [
            "total [2.0, 10.0]",
            "highest [5, 1]",
            "told {'from': 0}",
            "scattered [3.0, 4.0]",
            "together",
        ]


def test_processes_with_other_params_are_named(lines: list[list[str]]) -> None:
    for number, mine in enumerate(lines):
        (text,) = of_case(mine, "differs")
        assert re.fullmatch(
            rf"WorldError, shown {number == 0}: {NAME} has params that differ from those of rank 0 \(.*\) in seed: "
            "give all the same",
            text,
        )


def test_an_error_of_one_process_ends_all_and_the_first_shows_it(lines: list[list[str]]) -> None:
    for number, mine in enumerate(lines):
        (text,) = of_case(mine, "fails")
        assert re.fullmatch(rf"WorldError, shown {number == 0}: {NAME}: train.parquet is damaged", text)


def test_an_error_of_the_first_reaches_those_who_wait_for_it_elsewhere(lines: list[list[str]]) -> None:
    assert of_case(lines[0], "leader_fails") == ["DataError, shown True: the disk is full"]
    assert of_case(lines[1], "leader_fails") == ["WorldError, shown False: the disk is full"]


def said_last(worlds: Worlds, case: str, size: int) -> list[str]:
    """Return what is shown after a case in which one process is lost."""
    last = [ended.out.splitlines()[-1] for ended in worlds("world_cases", case, size=size)]
    return [line.removeprefix("WorldError, shown True: ") for line in last if "shown True" in line]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "size", "rank"), [("hangs", 2, 1), ("hangs", 4, 1), ("freezes", 3, 0)])
def test_a_process_that_hangs_is_named_within_the_time_set(worlds: Worlds, case: str, size: int, rank: int) -> None:
    (text,) = said_last(worlds, case, size)
    assert re.fullmatch(
        rf"rank {rank} \(\S+, process \d+\): no answer for 2 s \(runtime.timeout_s\), the others waited: it hangs, or "
        "its machine is cut off; the next run resumes from the last checkpoint",
        text,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("case", "size", "rank"), [("ends", 2, 1), ("ends", 4, 1), ("first_ends", 4, 0)])
def test_a_process_that_has_ended_is_named(worlds: Worlds, case: str, size: int, rank: int) -> None:
    """Of four, the one opposite still waits for a neighbour: it hears of the failure, and is not named."""
    (text,) = said_last(worlds, case, size)
    assert re.fullmatch(
        rf"rank {rank} \(\S+, process \d+\): ended while the others waited for it; the next run .*", text
    )


def test_a_process_that_lost_another_says_so_through_torchruns_signal() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(WorldError), stop_requests(os.getppid()):
            raise WorldError("rank 1: ended while the others waited for it")
        signal.raise_signal(signal.SIGTERM)  # would end this process
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_replica_ends_while_its_groups_threads_are_at_work() -> None:
    """They may wait for the GIL, and the group's end waits for them."""
    ended = subprocess.run(
        [sys.executable, TESTS / "replicas.py", "100"], env=os.environ | {"PYTHONPATH": str(TESTS.parent / "src")},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert ended.stdout == "all are gone\n"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in {
        "RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return monkeypatch


def fault() -> str:
    with pytest.raises(WorldError) as caught, init_distributed("cpu", timeout_s=1.0):
        pass
    return str(caught.value)


def test_a_port_that_is_taken_is_named(environment: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        environment.setenv("MASTER_PORT", str(port))
        text = fault()
    assert text.startswith(
        f"rank 0 of 2 cannot join the others: the port of 127.0.0.1:{port} is taken: set another MASTER_PORT, or "
        "`torchrun --master-port`"
    )


def test_a_first_process_that_never_comes_is_named(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RANK", "1")
    port = os.environ["MASTER_PORT"]
    assert fault().startswith(
        f"rank 1 of 2 cannot join the others: there is no answer at 127.0.0.1:{port}: check that all processes run"
    )


@pytest.mark.parametrize("name", ["WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])
def test_an_environment_that_says_half_is_no_world(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.delenv(name)
    assert fault() == (
        f"RANK is set in the environment, but not {name}: start the processes with torchrun, which sets them all, or "
        "unset RANK"
    )


def test_a_rank_beyond_the_size_is_refused(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RANK", "2")
    assert fault() == "RANK is 2 and WORLD_SIZE 2: ranks are counted from 0 up to the size"


def test_a_rank_that_is_no_number_is_refused(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RANK", "first")
    assert fault() == "RANK is 'first' in the environment, and has to be a whole number"


def test_a_backend_that_is_not_there_is_named(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("WORLD_SIZE", "1")
    with (
        pytest.raises(WorldError, match=r"rank 0 of 1 cannot join the others: .*NCCL"),
        init_distributed("cuda", timeout_s=1.0),
    ):
        pass


def test_a_run_in_one_process_is_a_world_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert (rank(), local_rank()) == (0, 0)
    with init_distributed("cpu", timeout_s=1.0) as world:
        assert world is ALONE
        assert world.is_main
        world.assert_equal("params", {"any": 1}, advice="look")
        assert world.broadcast("me") == "me"
