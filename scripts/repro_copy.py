"""Run the whole pipeline on other params, in a copy of this project under `.bertpipe/runs/NAME`.

The copy shares DVC's cache, so a stage that has run before with the same inputs is restored, not run again. What an
interrupted command of an earlier copy left to go on from stays.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Copy, reproduce, and say where the results are; returns DVC's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("params", type=Path, help="a params file, such as params/notebook.yaml")
    params = parser.parse_args().params
    if not params.is_file():
        sys.stderr.write(f"error: no params file at {params}: the ones that come along are in params/\n")
        return 1
    copy = PROJECT / ".bertpipe" / "runs" / params.stem
    clear(copy)
    for name in project_files():
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, target)
    shutil.copyfile(params, copy / "params.yaml")
    (copy / "dvc.lock").unlink(missing_ok=True)
    run = ["git", "init", "--quiet"], ["dvc", "cache", "dir", "--local", str(PROJECT / ".dvc" / "cache")]
    for command in run:
        subprocess.run(command, cwd=copy, check=True, stdout=subprocess.DEVNULL)
    code = run_to_its_end(["dvc", "repro"], copy)
    outcome = "did not end; what it left, and goes on from, is" if code else "is done; its model and reports are"
    sys.stdout.write(f"\nThe run on {params} {outcome} in {copy.relative_to(PROJECT)}\n")
    return code


def clear(copy: Path) -> None:
    """Remove an earlier copy, but for the state of interrupted commands."""
    for path in copy.iterdir() if copy.is_dir() else ():
        if path.is_dir() and path.name != ".bertpipe":
            shutil.rmtree(path)
        elif not path.is_dir():
            path.unlink()


def run_to_its_end(command: list[str], folder: Path) -> int:
    """Return the exit code of a command; one that is to stop has the time it needs to save."""
    process: subprocess.Popen[bytes] | None = None

    def stop(number: int, _frame: object) -> None:
        if number == signal.SIGTERM and process is not None:  # a terminal's Ctrl-C reaches the command by itself
            process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    process = subprocess.Popen(command, cwd=folder, env=environment())
    return process.wait()


def environment() -> dict[str, str]:
    """Return our environment, with a relative path to the IMDB zip made absolute: the copy is another folder."""
    local_zip = os.environ.get("BERTPIPE_IMDB_ZIP")
    return {**os.environ, **({"BERTPIPE_IMDB_ZIP": str(Path(local_zip).resolve())} if local_zip else {})}


def project_files() -> list[Path]:
    """Return the files git tracks or would track, relative to the project."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [Path(name) for name in listing.split("\0") if name and (PROJECT / name).is_file()]


if __name__ == "__main__":
    sys.exit(main())
