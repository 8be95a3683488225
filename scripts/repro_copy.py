"""Run the whole pipeline on other params, in a copy of this project under `.bertpipe/runs/NAME`.

The copy shares DVC's cache, so a stage that has run before with the same inputs is restored, not run again. In an
earlier copy the copied files are updated; results, the state of interrupted commands and all other files stay.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ruamel.yaml import YAML

from bertpipe.core.artifacts import PARAMS_FILE, REPORT_FILE
from bertpipe.core.atomic import atomic_directory
from bertpipe.core.errors import ParamsError, WriteError
from bertpipe.core.manifest import Kind
from bertpipe.core.params_file import change_paths, load_params, merged_text, yaml_text

KEYWORDS = ("sample", "imdb", "wordpiece", "words")
"""Values of params that are not paths, even if a file has such a name."""
PROJECT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Copy, reproduce, and say where the results are; returns DVC's exit code, or 1 for wrong params."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("params", type=Path, help="a params file, such as params/notebook.yaml")
    parser.add_argument("--check", action="store_true", help="check the params, and run nothing")
    arguments = parser.parse_args()
    params = arguments.params
    if not params.is_file():
        sys.stderr.write(f"error: no params file at {params}: the included ones are in params/\n")
        return 1
    copy = PROJECT / ".bertpipe" / "runs" / params.stem
    try:
        load_params(params)
        if arguments.check:
            return 0
        update(copy, PROJECT, project_files(), with_absolute_paths(merged_text(params), PROJECT))
    except (ParamsError, WriteError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    run = ["git", "init", "--quiet"], ["dvc", "cache", "dir", "--local", str(PROJECT / ".dvc" / "cache")]
    for command in run:
        subprocess.run(command, cwd=copy, check=True, stdout=subprocess.DEVNULL)
    code = run_to_its_end(["dvc", "repro"], copy)
    outcome = (
        "did not finish; its state, which the same command resumes, is"
        if code
        else "is done; its model and reports are"
    )
    sys.stdout.write(f"\nThe run on {params} {outcome} in {copy.relative_to(PROJECT)}\n")
    if not code:
        sys.stdout.write(f"The report on it: {copy / REPORT_FILE}\n")
    return code


def update(copy: Path, project: Path, names: Sequence[Path], params: str) -> None:
    """Copy the files of the project as they are now; other files in the copy stay.

    Args:
        copy: the folder of the copy, new or earlier.
        project: the project's folder.
        names: the files, relative to the project.
        params: the content of the copy's params.yaml, merged, because DVC knows no overlays.

    Raises:
        WriteError: a file that would be replaced was changed in the copy, or does not come from the project.
    """
    kind = Kind(name="copy of the project", entries=[PARAMS_FILE.name, *map(str, names)])
    with atomic_directory(copy, kind=kind) as staging:
        for name in names:
            target = staging / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(project / name, target)
        (staging / PARAMS_FILE).write_text(params, encoding="utf-8")


def with_absolute_paths(params: str, project: Path) -> str:
    """Return a params file for a copy in another folder: what it names by a path is the project's.

    A hub name and a keyword stay, as does what is not in the project and does not look like a path.
    """
    content, changed = YAML().load(params), []

    def absolute(value: str) -> str:
        path = Path(os.path.normpath(project / Path(value).expanduser()))
        is_path = value.startswith((".", "~")) or (path.exists() and value not in KEYWORDS)
        if Path(value).is_absolute() or "://" in value or not is_path:
            return value
        changed.append(value)
        return str(path)

    change_paths(content, absolute)
    data = content["data"]
    written = {"data/parquet", *(f"data/text/{name}" for name in data["corpora"])}
    for name, path in data["corpora"].items():
        data["corpora"][name] = absolute(path)
    if os.path.normpath(data["dir"]) not in written:
        data["dir"] = absolute(data["dir"])
    return yaml_text(content) if changed else params


def run_to_its_end(command: list[str], folder: Path) -> int:
    """Return the exit code of a command; after a signal, wait until it has saved its state."""
    process: subprocess.Popen[bytes] | None = None

    def stop(number: int, _frame: object) -> None:
        if number == signal.SIGTERM and process is not None:  # a terminal's Ctrl-C reaches the command by itself
            process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    process = subprocess.Popen(command, cwd=folder, env=environment())
    return process.wait()


def environment() -> dict[str, str]:
    """Return the environment with the path of the IMDB zip made absolute, because the copy is another folder."""
    local_zip = os.environ.get("BERTPIPE_IMDB_ZIP")
    return {**os.environ, **({"BERTPIPE_IMDB_ZIP": str(Path(local_zip).resolve())} if local_zip else {})}


def project_files() -> list[Path]:
    """Return the files that git tracks or would track, relative to the project, without the pipeline's outputs."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = [Path(name) for name in listing.split("\0") if name and name != "dvc.lock"]
    return [name for name in names if (PROJECT / name).is_file() and name.parts[0] != "reports"]


if __name__ == "__main__":
    sys.exit(main())
