"""Run the whole pipeline on other params, in a copy of this project under `.bertpipe/runs/NAME`.

The copy shares DVC's cache, so a stage that has run before with the same inputs is restored, not run again.
"""

import argparse
import os
import shutil
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
    shutil.rmtree(copy, ignore_errors=True)
    for name in project_files():
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, target)
    shutil.copyfile(params, copy / "params.yaml")
    (copy / "dvc.lock").unlink(missing_ok=True)
    run = ["git", "init", "--quiet"], ["dvc", "cache", "dir", "--local", str(PROJECT / ".dvc" / "cache")]
    for command in run:
        subprocess.run(command, cwd=copy, check=True, stdout=subprocess.DEVNULL)
    finished = subprocess.run(["dvc", "repro"], cwd=copy, check=False, env=environment())
    outcome = "failed; what it left" if finished.returncode else "is done; its model and reports"
    sys.stdout.write(f"\nThe run on {params} {outcome} are in {copy.relative_to(PROJECT)}\n")
    return finished.returncode


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
