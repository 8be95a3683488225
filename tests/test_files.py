"""What appears under a name is whole: against errors, ended processes, other processes and a disk that refuses."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bertpipe.core import locks
from bertpipe.core.artifacts import write_json
from bertpipe.core.atomic import atomic_directory, atomic_file, scratch_directory
from bertpipe.core.errors import BusyError, WriteError
from bertpipe.core.manifest import MANIFEST_NAME, Kind

pytestmark = pytest.mark.promise("Whole files")

KIND = Kind(name="thing", entries=("a", "b"))


class BrokenError(Exception):
    pass


@pytest.fixture(params=[0o022, 0o077, 0o002], ids=oct)
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_appears_when_its_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "new"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("error", [BrokenError, KeyboardInterrupt])
def test_an_earlier_file_survives_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file.txt"
    path.write_text("earlier", encoding="utf-8")

    def fail() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text(encoding="utf-8") == "earlier"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


def test_whoever_has_the_earlier_file_open_reads_it_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("earlier", encoding="utf-8")
    with path.open(encoding="utf-8") as reader:
        with atomic_file(path) as temporary:
            temporary.write_text("new", encoding="utf-8")
        assert reader.read() == "earlier"
    assert path.read_text(encoding="utf-8") == "new"


def test_a_files_permissions_follow_the_umask(tmp_path: Path, mask: int) -> None:
    with atomic_file(tmp_path / "file.txt"):
        pass
    assert mode(tmp_path / "file.txt") == 0o666 & ~mask


def test_a_directory_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "earlier.txt").touch()
    with atomic_directory(path, kind=None) as staging:
        (staging / "new.txt").write_text("new", encoding="utf-8")
        assert [entry.name for entry in path.iterdir()] == ["earlier.txt"]
    assert [entry.name for entry in path.iterdir()] == ["new.txt"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [BrokenError, KeyboardInterrupt])
def test_an_earlier_directory_survives_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "earlier.txt").write_text("earlier", encoding="utf-8")

    def fail() -> None:
        with atomic_directory(path, kind=None) as staging:
            (staging / "earlier.txt").write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(error):
        fail()
    assert (path / "earlier.txt").read_text(encoding="utf-8") == "earlier"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_link_stays_and_what_it_leads_to_changes(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "out", tmp_path / "deep" / "elsewhere"
    path.symlink_to(elsewhere)
    for number in range(3):
        with atomic_directory(path, kind=KIND) as staging:
            (staging / f"{number}.txt").touch()
        assert path.is_symlink()
        assert {entry.name for entry in elsewhere.iterdir()} == {f"{number}.txt", MANIFEST_NAME}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["deep", "out"]
    assert [entry.name for entry in elsewhere.parent.iterdir()] == ["elsewhere"]


def test_a_scratch_directory_is_private_and_goes_away(tmp_path: Path, mask: int) -> None:
    with scratch_directory(tmp_path / "out.zip") as scratch:
        (scratch / "x").touch()
        assert mode(scratch) == 0o700
        with pytest.raises(BusyError), scratch_directory(tmp_path / "out.zip"):
            pytest.fail("two at once")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".out.zip.bertpipe-scratch").mkdir()  # a process was ended in the midst of its work
    (tmp_path / ".out.zip.bertpipe-scratch" / "half").touch()
    with scratch_directory(tmp_path / "out.zip") as scratch:
        assert list(scratch.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_directory_comes_back_if_the_second_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "earlier.txt").touch()
    replace = Path.replace

    def replace_unless_new(self: Path, target: Path) -> Path:
        if target == path and not self.name.endswith("-earlier"):
            raise BrokenError
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_unless_new)

    def change() -> None:
        with atomic_directory(path, kind=None):
            pass

    with pytest.raises(BrokenError):
        change()
    assert [entry.name for entry in path.iterdir()] == ["earlier.txt"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("complete", [True, False])
def test_the_next_writer_settles_a_change_that_a_process_ended_in(tmp_path: Path, complete: bool) -> None:
    path, earlier = tmp_path / "out", tmp_path / ".out.bertpipe-earlier"
    earlier.mkdir()
    (earlier / "earlier.txt").touch()
    if complete:
        path.mkdir()
        (path / "newer.txt").touch()
    with pytest.raises(BrokenError), atomic_directory(path, kind=None):
        raise BrokenError
    assert [entry.name for entry in path.iterdir()] == ["newer.txt" if complete else "earlier.txt"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_an_earlier_directory_that_was_half_removed_goes_away_with_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    path, unlink, calls = tmp_path / "out", Path.unlink, 0

    def write(content: str) -> None:
        with atomic_directory(path, kind=KIND) as staging:
            for name in ("a", "b"):
                (staging / name).write_text(content, encoding="utf-8")

    def fail_once(self: Path) -> None:
        nonlocal calls
        calls += self.parent.name == ".out.bertpipe-earlier"
        if calls == failing and self.parent.name == ".out.bertpipe-earlier":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
        unlink(self)

    write("first")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail_once)
        with pytest.raises(WriteError, match="bertpipe-earlier"):
            write("second")
    write("third")
    assert (path / "a").read_text(encoding="utf-8") == "third"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


# What another process is at, or was at


def leave_partial(path: Path, *, directory: bool) -> None:
    """Let a process begin to write `path`, and end it there."""
    whole, inner = ("atomic_directory", "partial / 'half'") if directory else ("atomic_file", "partial")
    more = ", kind=Kind(name='x', entries=())" if directory else ""
    code = (
        f"import os, sys; from pathlib import Path; from bertpipe.core.atomic import {whole}\n"
        "from bertpipe.core.manifest import Kind\n"
        f"with {whole}(Path(sys.argv[1]){more}) as partial:\n"
        f"    ({inner}).write_text('half')\n"
        "    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -signal.SIGKILL


@pytest.mark.parametrize("directory", [False, True])
def test_what_a_killed_process_left_goes_away_with_the_next_write(tmp_path: Path, directory: bool) -> None:
    path = tmp_path / "out"
    leave_partial(path, directory=directory)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".out.bertpipe-partial", ".out.bertpipe-partial.lock"]
    with atomic_directory(path, kind=KIND) if directory else atomic_file(path) as partial:
        if directory:
            assert list(partial.iterdir()) == []
        else:
            assert partial.stat().st_size == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("whole", [atomic_file, partial(atomic_directory, kind=KIND)], ids=["file", "directory"])
def test_what_is_being_written_is_private_and_nobody_elses(tmp_path: Path, mask: int, whole: Any) -> None:  # noqa: ANN401
    path = tmp_path / "out"
    with whole(path) as temporary:
        assert mode(temporary) & 0o077 == 0
        with pytest.raises(BusyError, match=r"out.* wait for it, or stop it"), whole(path):
            pytest.fail("two at once")
        assert temporary.exists()
    assert path.exists()


def test_a_lock_file_that_its_last_holder_removes_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, take, taken = tmp_path / "lock", locks.try_lock, []

    def removed_first(handle: int) -> bool:
        if not taken:
            lock.unlink()
        taken.append(take(handle))
        return taken[-1]

    monkeypatch.setattr(locks, "try_lock", removed_first)
    with locks.exclusive_lock(lock, what="a test"):
        assert taken == [True, True]
        assert locks.is_held(lock)
    assert not locks.is_held(lock)
    assert list(tmp_path.iterdir()) == []


def _listed(path: Path) -> tuple[str, ...] | None:
    """Return the names in a directory; None if there is none, or if another took its place while they were read."""
    try:
        handle = os.open(path, os.O_RDONLY)  # while it is open no other directory gets its number
    except FileNotFoundError:
        return None
    try:
        names = tuple(sorted(os.listdir(handle)))  # noqa: PTH208 (of a handle)
        return names if os.path.samestat(path.stat(), os.fstat(handle)) else None
    except FileNotFoundError:
        return None
    finally:
        os.close(handle)


def test_two_changes_of_a_directory_at_once_leave_one_of_them_whole(tmp_path: Path) -> None:
    path, done, refused, seen = tmp_path / "out", [], [], []

    def write(number: int) -> None:
        for turn in range(40):
            try:
                with atomic_directory(path, kind=KIND) as staging:
                    for name in "ab":
                        (staging / name).write_text(f"{number} {turn}", encoding="utf-8")
                done.append(number)
            except BusyError:
                refused.append(number)
            seen.append(_listed(path))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) + len(refused) == len(seen) == 160
    assert done
    assert {names for names in seen if names} == {("a", "b", MANIFEST_NAME)}
    assert (path / "a").read_text(encoding="utf-8") == (path / "b").read_text(encoding="utf-8")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


# What the operating system refuses


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        (errno.ENOSPC, "make room on the disk"),
        (errno.EDQUOT, "make room on the disk"),
        (errno.EROFS, "make its folder writable"),
        (errno.EACCES, "make its folder writable"),
        (errno.EIO, "check the disk"),
    ],
    ids=errno.errorcode.get,
)
@pytest.mark.parametrize("by", ["python", "rust"])
def test_a_refused_write_names_the_output_and_what_to_do(tmp_path: Path, code: int, fix: str, by: str) -> None:
    path = tmp_path / "out"
    path.write_text("earlier", encoding="utf-8")
    error = OSError(code, os.strerror(code)) if by == "python" else Exception(f"I/O error: words (os error {code})")
    with pytest.raises(WriteError) as caught, atomic_file(path):
        raise error
    said = (
        f"{path} cannot be written ({os.strerror(code)}): {fix} and run the command again; nothing half-written is left"
    )
    assert str(caught.value) == said
    assert path.read_text(encoding="utf-8") == "earlier"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_an_error_that_is_not_the_operating_systems_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="other"), atomic_file(tmp_path / "out"):
        raise ValueError("other")


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"file/out cannot be written \(File exists at .*file\): fix this"):
        write_json(tmp_path / "file" / "out", {})


def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path: Path) -> None:
    """The limit on a file's size stands in for the disk's: the kernel refuses the write itself."""
    code = """
import resource, signal, sys
from pathlib import Path
from bertpipe.core.errors import WriteError
from bertpipe.core.artifacts import write_json
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
path = Path(sys.argv[1])
write_json(path, ["x" * 4000])
try:
    write_json(path, ["y" * 9000])
except WriteError as error:
    print(error)
"""
    path = tmp_path / "out.json"
    said = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True).stdout
    assert said.startswith(f"{path} cannot be written (File too large")
    assert json.loads(path.read_text(encoding="utf-8")) == ["x" * 4000]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.json"]


def test_a_directorys_permissions_follow_the_umask_down_to_its_files(tmp_path: Path, mask: int) -> None:
    with atomic_directory(tmp_path / "out", kind=None) as staging:
        (staging / "inner").mkdir(mode=0o700)
        private = staging / "inner" / "private.txt"
        private.touch(mode=0o600)
    assert mode(tmp_path / "out") == mode(tmp_path / "out" / "inner") == 0o777 & ~mask
    assert mode(tmp_path / "out" / "inner" / "private.txt") == 0o666 & ~mask


def test_a_lock_that_could_not_be_removed_at_once_is_not_published(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "out", kind=KIND) as staging:
        (staging / "a").touch()
        (staging / "inner").mkdir()
        for left in (staging / ".a.bertpipe-partial.lock", staging / "inner" / ".b.bertpipe-partial.lock"):
            left.touch()
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["a", MANIFEST_NAME]
