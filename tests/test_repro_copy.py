"""`make repro PARAMS=...`: what stays of an earlier copy, and who is waited for."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertpipe.core.errors import WriteError
from scripts import repro_copy


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_of_an_earlier_copy_everything_stays_that_was_not_copied(tmp_path: Path) -> None:
    project, copy = tmp_path / "project", tmp_path / "copy"
    (project / "src").mkdir(parents=True)
    for name in ("params.yaml", "src/old.py"):
        (project / name).write_text("first", encoding="utf-8")
    repro_copy.update(copy, {name: project / name for name in ("params.yaml", "src/old.py")})
    stays = [".bertpipe/state/run/step-000000004/x", ".git/HEAD", "models/bert/config.json", "src/mine.py", "notes.md"]
    for name in stays:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("precious", encoding="utf-8")
    for name in ("params.yaml", "src/new.py"):
        (project / name).write_text("second", encoding="utf-8")
    repro_copy.update(copy, {name: project / name for name in ("params.yaml", "src/new.py")})
    for name in stays:
        assert (copy / name).read_text(encoding="utf-8") == "precious"
    assert not (copy / "src" / "old.py").exists()
    assert (copy / "params.yaml").read_text(encoding="utf-8") == (copy / "src" / "new.py").read_text(encoding="utf-8")


def test_what_was_edited_in_the_copy_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("first", encoding="utf-8")
    repro_copy.update(tmp_path / "copy", {"params.yaml": tmp_path / "params.yaml"})
    (tmp_path / "copy" / "params.yaml").write_text("edited", encoding="utf-8")
    with pytest.raises(WriteError, match=r"copy holds params\.yaml, which was changed since"):
        repro_copy.update(tmp_path / "copy", {"params.yaml": tmp_path / "params.yaml"})
    assert (tmp_path / "copy" / "params.yaml").read_text(encoding="utf-8") == "edited"


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
