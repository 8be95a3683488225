"""File systems that lack something: the work is done with one note, or refused before it begins."""

import errno
import fcntl
import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from bertpipe.core import filesystem
from bertpipe.core.atomic import atomic_directory, atomic_file, check_target, check_target_file, lock_path
from bertpipe.core.errors import BusyError, WriteError
from bertpipe.core.locks import exclusive_lock, is_held
from bertpipe.core.manifest import Kind

KIND = Kind(name="thing", entries=["a"])


@pytest.fixture(autouse=True)
def _first_note() -> Iterator[None]:
    filesystem._note_once.cache_clear()
    yield
    filesystem._note_once.cache_clear()


def refuse(code: int) -> Callable[..., None]:
    def refused(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refused


def without_flush_of_folders(patch: pytest.MonkeyPatch, code: int) -> None:
    flush = os.fsync

    def files_only(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(code, os.strerror(code))
        flush(handle)

    patch.setattr(os, "fsync", files_only)


def without_modes(patch: pytest.MonkeyPatch, code: int) -> None:
    patch.setattr(os, "chmod", refuse(code))


def without_locks(patch: pytest.MonkeyPatch, code: int) -> None:
    patch.setattr(fcntl, "flock", refuse(code))


LACKS: dict[str, tuple[Callable[[pytest.MonkeyPatch, int], None], list[int], str]] = {
    "folders": (without_flush_of_folders, [errno.EINVAL, errno.ENOSYS, errno.EACCES], "cannot flush the names"),
    "modes": (without_modes, [errno.EPERM, errno.ENOTSUP, errno.ENOSYS], "does not keep permissions"),
    "locks": (without_locks, [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK], "has no locks"),
}


@pytest.mark.parametrize(("lack", "code"), [(lack, code) for lack, (_, codes, _) in LACKS.items() for code in codes])
def test_what_a_file_system_lacks_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, lack: str, code: int
) -> None:
    take_away, _, said = LACKS[lack]
    take_away(monkeypatch, code)
    for text in ("first", "second"):
        with atomic_directory(tmp_path / "directory", kind=KIND) as staging:
            (staging / "a").write_text(text)
        with atomic_file(tmp_path / "file") as temporary:
            temporary.write_text(text)
    assert (tmp_path / "directory" / "a").read_text() == (tmp_path / "file").read_text() == "second"
    assert {entry.name for entry in tmp_path.iterdir()} == {"directory", "file"}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert said in record.getMessage()
    assert os.strerror(code) in record.getMessage()


@pytest.mark.parametrize("lack", LACKS)
def test_a_broken_disk_is_not_a_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lack: str) -> None:
    LACKS[lack][0](monkeypatch, errno.EIO)
    with pytest.raises(WriteError, match=r"file cannot be written .*check the disk"), atomic_file(tmp_path / "file"):
        pass


def test_flushing_a_file_may_be_lacking_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "fsync", refuse(errno.ENOSYS))
    with atomic_file(tmp_path / "file") as temporary:
        temporary.write_text("text")
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        f"the file system of an output cannot flush {what} to the disk" for what in ("a file", "the names in a folder")
    ]


# Locks without locks


def write_holder(lock: Path, **changed: Any) -> None:  # noqa: ANN401
    holder = {"process": 1, "host": os.uname().nodename, "since": "2026-01-02 03:04:05 UTC", **changed}
    lock.write_text(json.dumps(holder))


def test_a_lock_file_of_a_running_process_keeps_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch, errno.ENOSYS)
    lock = tmp_path / "lock"
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    write_holder(lock, process=other.pid)
    assert is_held(lock)
    with (
        pytest.raises(BusyError, match=rf"a test is already under way \(process {other.pid} .*lock file is .*lock\)"),
        exclusive_lock(lock, what="a test"),
    ):
        pytest.fail("two at once")
    assert lock.exists()
    other.communicate(b"\n")
    assert not is_held(lock)
    with exclusive_lock(lock, what="a test"):
        assert json.loads(lock.read_text())["process"] == os.getpid()
    assert not lock.exists()


def test_a_lock_file_of_another_machine_keeps_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch, errno.ENOSYS)
    lock = tmp_path / "lock"
    write_holder(lock, host="another")
    with pytest.raises(BusyError, match="process 1 on another"), exclusive_lock(lock, what="a test"):
        pytest.fail("two at once")


@pytest.mark.parametrize("content", ["", "{}", '{"process": 1', "[]"])
def test_a_lock_file_without_a_holder_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    without_locks(monkeypatch, errno.ENOSYS)
    lock = tmp_path / "lock"
    lock.write_text(content)
    with exclusive_lock(lock, what="a test"):
        assert json.loads(lock.read_text())["process"] == os.getpid()


# Without renames nothing begins


def test_without_renames_of_files_nothing_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", refuse(errno.ENOSYS))
    out, begun = tmp_path / "out", []
    with pytest.raises(WriteError, match="out cannot be written"), atomic_directory(out, kind=KIND):
        begun.append(out)
    for check in (lambda: check_target(out, KIND), lambda: check_target_file(out)):
        with pytest.raises(WriteError, match="out cannot be written"):
            check()
    assert not begun
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EBUSY, errno.EPERM, errno.ENOSYS])
def test_without_renames_of_folders_the_files_are_put_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    rename = os.replace

    def files_only(source: Path, target: Path) -> None:
        if Path(source).is_dir():
            raise OSError(code, os.strerror(code))
        rename(source, target)

    monkeypatch.setattr(os, "replace", files_only)
    out = tmp_path / "out"
    for text in ("first", "second"):
        with atomic_directory(out, kind=KIND) as staging:
            (staging / "a").mkdir()
            (staging / "a" / text).write_text(text)
        assert [file.read_text() for file in (out / "a").iterdir()] == [text]
    assert list(tmp_path.iterdir()) == [out]


def test_a_target_that_is_checked_leaves_nothing(tmp_path: Path) -> None:
    check_target(tmp_path / "a" / "b" / "out", KIND)
    check_target_file(tmp_path / "a" / "b" / "file")
    assert list(tmp_path.iterdir()) == []
    for path in (tmp_path, Path()):
        with pytest.raises(WriteError, match="is a directory, and the output is a file"):
            check_target_file(path)
        with pytest.raises(WriteError, match="is a directory, and the output is a file"), atomic_file(path):
            pytest.fail("the work began")


def test_a_name_of_any_length_has_room_for_what_stands_beside_it(tmp_path: Path) -> None:
    for name in ("n" * 255, "ñ" * 127, "字" * 85):
        with atomic_file(tmp_path / name) as temporary:
            temporary.write_text(name)
        assert (tmp_path / name).read_text() == name
        with atomic_directory(tmp_path / f"{name[:-1]}-", kind=KIND) as staging:
            (staging / "a").write_text(name)
    assert len(list(tmp_path.iterdir())) == 6
    assert lock_path(tmp_path / ("n" * 255), "training") != lock_path(tmp_path / ("n" * 254), "training")


# What must not be replaced


def test_a_pipe_and_a_device_are_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_target_file(pipe)
    check_target_file(Path("/dev/null"))
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        with atomic_file(pipe) as temporary:
            temporary.write_text("all of it")
        assert reader.communicate()[0] == b"all of it"
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with atomic_file(Path("/dev/null")) as temporary:
        temporary.write_text("nothing")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


def test_standard_output_may_be_an_output(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from bertpipe.core.artifacts import write_json; print('first', flush=True)\n"
        "write_json(Path('/dev/stdout'), {'a': 1})"
    )
    with (tmp_path / "shown").open("wb") as shown:
        subprocess.run([sys.executable, "-c", code], stdout=shown, check=True)
    assert (tmp_path / "shown").read_text() == 'first\n{\n  "a": 1\n}\n'
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert piped.stdout == 'first\n{\n  "a": 1\n}\n'
    assert Path("/dev/stdout").is_symlink()


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no /dev/shm that can be written")
def test_a_file_in_memory_is_replaced_as_any_other() -> None:
    with TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / "file"
        for text in ("the first", "second"):
            with atomic_file(path) as temporary:
                temporary.write_text(text)
        assert path.read_text() == "second"
        assert list(Path(folder).iterdir()) == [path]
