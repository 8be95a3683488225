"""Copies of the project in which real DVC runs, for tests of the pipeline."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import bertpipe
from bertpipe.core.params_file import merged_text

PROJECT = Path(__file__).parent.parent
COPIED = ("dvc.yaml", ".dvcignore", ".dvc/config")
OUTPUTS = ("data", "models", "reports")


@dataclass(frozen=True)
class Copy:
    """A copy of the project with the tiny params, a git repository of its own and an empty cache."""

    folder: Path
    environment: Mapping[str, str]

    def run(self, *command: str) -> str:
        """Run a command in the copy and return its standard output."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def dvc(self, *arguments: str) -> str:
        """Run DVC in the copy and return its standard output."""
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def outputs(self) -> dict[str, bytes]:
        """Return the bytes of everything the pipeline wrote."""
        found = (path for name in OUTPUTS for path in (self.folder / name).rglob("*") if path.is_file())
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes() for path in found if path.name != ".gitignore"
        }


def make_copy(folder: Path) -> Copy:
    """Make a copy of the project in an empty folder."""
    copy = copy_in(folder)
    shutil.copytree(PROJECT / "src", copy.folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in COPIED:
        (copy.folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, copy.folder / name)
    (copy.folder / "params.yaml").write_text(merged_text(PROJECT / "params" / "tiny.yaml"), encoding="utf-8")
    script = folder / "bin" / "bertpipe"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bertpipe "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    copy.run("git", "init", "--quiet")
    return copy


def copy_in(folder: Path) -> Copy:
    """Return the copy that `make_copy` has made, or makes, in a folder."""
    identity = {f"GIT_{who}_{what}": "nobody" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    # The package itself is read from where it stands: its files are those of the copy.
    source = str(Path(bertpipe.__file__).parent.parent)
    environment = os.environ | identity | {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": source,
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "global"),
        "DVC_SYSTEM_CONFIG_DIR": str(folder / "system"),
        "NO_COLOR": "1",
    }  # fmt: skip
    return Copy(folder / "project", environment)


@contextlib.contextmanager
def started_in(folder: Path, environment: Mapping[str, str], *command: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a command in a process group of its own, which ends with the block."""
    process = subprocess.Popen(
        command, cwd=folder, env=dict(environment), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
