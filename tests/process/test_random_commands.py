"""Random command lines in random folders: an answer or a clear error, nothing half-written, no file of the user's gone.

`make torture` tries ten thousand; the tests by themselves two hundred.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from bertpipe.core.manifest import MANIFEST_NAME
from bertpipe.core.params import Params, cores
from bertpipe.core.params_file import merged_text
from bertpipe.stages.evaluate import run_evaluate
from torture.command_cases import Case, make_case
from torture.forks import FULL, TESTS

pytestmark = [pytest.mark.promise("Random command lines"), pytest.mark.slow]

CASES = 10_000 if FULL else 200
LONGEST_MESSAGE = 500
_CONTROLS = re.compile(r"\x1b\[[0-?]*[@-~]")
"""Colours and movements of the cursor."""
Tree = dict[str, str]


@pytest.fixture(scope="module")
def project(
    tiny: Params, sample_zip: Path, parquet: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a folder with params, a zip, its Parquet files, a model and its tables; read only."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "params.yaml").write_text(merged_text(TESTS.parent / "params" / "tiny.yaml"), encoding="utf-8")
    (folder / "data" / "raw").mkdir(parents=True)
    shutil.copy(sample_zip, folder / "data" / "raw" / "dataset.zip")
    shutil.copytree(parquet, folder / "data" / "parquet")
    shutil.copytree(trained / "model", folder / "models" / "bert")
    (folder / "reports").mkdir()
    for table in ("history", "epochs", "timing"):
        shutil.copy(trained / f"{table}.csv", folder / "reports")
    run_evaluate(
        tiny.evaluate, tiny.runtime, model=folder / "models" / "bert", data=folder / "data" / "parquet",
        out=folder / "reports" / "metrics.json",
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def servers() -> "Iterator[list[subprocess.Popen[bytes]]]":
    """Return a process for each core that runs command lines in forks of itself."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_PROXY": "*"}
    command = [sys.executable, "-m", "torture.command_server"]
    started = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(cores())
    ]
    yield started
    for server in started:
        server.communicate(timeout=60)


def test_a_command_line_answers_or_says_what_is_wrong_and_keeps_the_users_files(
    project: Path,
    servers: "list[subprocess.Popen[bytes]]",
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    def run(number: int) -> list[str]:
        return [
            f"case {case}: {fault}"
            for case in range(number, CASES, len(servers))
            for fault in faults(case, project, tmp_path / f"{number}", servers[number])
        ]

    with ThreadPoolExecutor(len(servers)) as pool:
        found = [fault for faults in pool.map(run, range(len(servers))) for fault in faults]
    assert not found, "\n".join(found[:20])
    record_property("cases", CASES)


def faults(number: int, project: Path, place: Path, server: "subprocess.Popen[bytes]") -> list[str]:
    """Return what is wrong with how a random command line ended."""
    shutil.rmtree(place, ignore_errors=True)
    folder = place / "project"
    shutil.copytree(project, folder)
    case = make_case(number, folder)
    before = tree(folder)
    shown = {"stdout": str(place / "stdout"), "stderr": str(place / "stderr")}
    request = {
        "folder": str(folder), "arguments": case.arguments, "environment": case.environment, "encoding": case.encoding,
    }  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps({**request, **shown}).encode() + b"\n")
    server.stdin.flush()
    code = json.loads(server.stdout.readline())["exit"]
    said, complaint = (
        _CONTROLS.sub("", Path(name).read_bytes().decode(case.encoding, "replace")) for name in shown.values()
    )
    what = f"{case} ended with {code}:"
    wrong = [f"{what} {fault}" for fault in (*_said(case, code, said, complaint), *_left(case, code, folder, before))]
    return [f"{fault}\n{complaint[-1500:]}" if fault is wrong[0] else fault for fault in wrong]


def _said(case: Case, code: int, said: str, complaint: str) -> Iterator[str]:
    if code not in {0, 1, 2}:
        yield "not an exit code of ours"
    if "Traceback" in complaint or "panicked" in complaint:
        yield "a traceback"
    if "Warning" in complaint:
        yield "a warning of a library"
    if code == 1:
        messages = [line for line in complaint.splitlines() if line.startswith("error: ")]
        if len(messages) != 1:
            yield f"{len(messages)} errors"
        elif len(messages[0]) > LONGEST_MESSAGE + len("error: "):
            yield f"a message of {len(messages[0])} characters"
    if code == 0 and "--json" in case.arguments and "--" not in case.arguments:
        is_lines = "--input" in " ".join(case.arguments) and not case.outputs
        try:
            for line in said.splitlines() if is_lines else [said]:
                json.loads(line)
        except ValueError as error:
            yield f"standard output is not JSON ({error}): {said[:500]}"


def _left(case: Case, code: int, folder: Path, before: Tree) -> Iterator[str]:
    """Yield what was lost or left behind. A command that succeeds may write its outputs, and nothing else."""
    after = tree(folder)
    may_write = code == 0 or (code == 1 and case.arguments[0] == "infer")  # some lines have a reason in their place
    outputs = [os.path.normpath(output) for output in case.outputs] if may_write else []
    for name, digest in before.items():
        if after.get(name) == digest:
            continue
        holder = next((out for out in outputs if name == out or name.startswith(f"{out}/") or out == "."), None)
        if holder is None or (name != holder and not _is_ours(folder / holder, name, after, before)):
            yield f"{name!r} is {'changed' if name in after else 'gone'}"
    for name in after:
        if "bertpipe-" in Path(name).name and Path(name).name != MANIFEST_NAME and name not in {*before, *outputs}:
            yield f"{name!r} is left"
    if (
        not outputs
        and code != 0
        and (new := {name for name in after if name not in before and not name.startswith(".bertpipe/")})
    ):
        yield f"{sorted(new)[:3]} are new"


def _is_ours(directory: Path, name: str, after: Tree, before: Tree) -> bool:
    """Return whether a file of an output directory was written by bertpipe before: it is part of the project's own."""
    return not name.startswith("mine/") and before[name] != after.get(name) and (directory / MANIFEST_NAME).exists()


def tree(folder: Path) -> Tree:
    """Return the digest of every file, and where every link leads, by relative name."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*files, *(each for each in folders if (Path(place) / each).is_symlink())):
            path = Path(place) / name
            content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
            found[str(path.relative_to(folder))] = sha256(content).hexdigest()
    return found
