"""`make repro PARAMS=...`: what stays of an earlier copy, and who is waited for."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import repro_copy


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_of_an_earlier_copy_the_state_of_interrupted_commands_stays(tmp_path: Path) -> None:
    kept = tmp_path / ".bertpipe" / "state" / "run" / "step-000000004"
    kept.mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (tmp_path / "params.yaml").touch()
    repro_copy.clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".bertpipe"]
    assert kept.is_dir()
    repro_copy.clear(tmp_path / "none")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 7), (signal.SIGINT, 0)])
def test_a_command_that_saves_is_waited_for(tmp_path: Path, number: int, code: int) -> None:
    """SIGTERM is passed on; a terminal has sent Ctrl-C to the command as well."""
    command = [
        sys.executable, "-c",
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), pathlib.Path('saved').touch(), sys.exit(7)))\n"
        "pathlib.Path('ready').touch(); time.sleep(1.5)",
    ]  # fmt: skip

    def signal_when_ready() -> None:
        while not (tmp_path / "ready").exists():
            threading.Event().wait(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=signal_when_ready)
    thread.start()
    assert repro_copy.run_to_its_end(command, tmp_path) == code
    thread.join()
    assert (tmp_path / "saved").exists() == (number == signal.SIGTERM)
