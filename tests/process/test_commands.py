"""`bertpipe` as a user starts it, in a process of its own."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bertpipe import __version__
from bertpipe.core.artifacts import write_json
from bertpipe.core.params_file import merged_text
from commands import Ended, Run
from exports import METRICS
from prepared import REVIEWS, folder_of
from test_security import SECRETS

PARAMS = Path(__file__).parent.parent.parent / "params"

pytestmark = pytest.mark.usefixtures("workdir")


def process(*arguments: str, **environment: str) -> Ended:
    """Run one command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bertpipe", *arguments],
        capture_output=True, text=True, check=False, env=os.environ | environment,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def model(workdir: Path, trained: Path) -> None:
    """Fill the working folder with params and a model at their default places."""
    (workdir / "params.yaml").write_text(merged_text(PARAMS / "tiny.yaml"), encoding="utf-8")
    shutil.copytree(trained / "model", workdir / "models/bert")


def test_a_process_ends_as_main_does() -> None:
    assert process("--version") == Ended(0, f"bertpipe {__version__}\n", "")
    ended = process("convert", "--params", "none.yaml", NO_COLOR="1")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "error: no params file at none.yaml: run in the project's folder, or name one with --params\n"


@pytest.mark.usefixtures("model")
def test_a_pipe_is_answered_line_by_line_and_a_bad_line_is_named_at_the_end() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bertpipe", "infer", "mlm", "--top-k", "1"],
        input='{"text": "the [MASK] ."}\n{"text": "no mask"}\n"a [MASK]"', capture_output=True, text=True, check=False,
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["line"] for row in rows] == [1, 2, 3]
    assert ["answer" in row for row in rows] == [True, False, True]
    assert done.returncode == 1
    assert done.stderr.startswith("error: 1 of 3 inputs have no answer; the first is line 2: there is no [MASK] in")


@pytest.mark.usefixtures("model")
def test_the_same_question_gets_the_same_bytes_in_any_process() -> None:
    one, other = (process("infer", "nsp", "the film .", "the music .", "--json", PYTHONHASHSEED=s) for s in "12")
    assert one.code == 0
    assert one == other
    answer: dict[str, Any] = json.loads(one.out)
    assert answer["probability_next"] + answer["probability_not_next"] == pytest.approx(1, abs=1e-5)


@pytest.mark.promise("Security")
def test_a_hub_that_fails_does_not_tell_the_token(tmp_path: Path) -> None:
    environment = os.environ | SECRETS | {
        "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9",
    }  # fmt: skip
    command = [sys.executable, "-m", "bertpipe", "infer", "nsp", "a", "b", "--model", "owner/name"]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert "the Hugging Face hub cannot be reached" in done.stderr
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for value in SECRETS.values():
        assert value not in done.stdout + done.stderr
        assert value.encode() not in written


def other_tools(folder: Path) -> dict[str, str]:
    """Return variables as notebooks, builds, shells and clusters set them, some of them broken."""
    (folder / "matplotlibrc").write_bytes(b"figure.figsize: 1, 1\nunknown: \xff\n")
    return {
        "MPLBACKEND": "module://not_installed.backend_inline", "MATPLOTLIBRC": str(folder / "matplotlibrc"),
        "MPLCONFIGDIR": "/proc/none", "HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none", "HF_HOME": "/proc/none",
        "PYTHONWARNINGS": "error", "FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "COLUMNS": "²", "LINES": "-1",
        "TERMINAL_WIDTH": "wide", "TERM": "dumb", "TQDM_MININTERVAL": "often", "OMP_NUM_THREADS": "none",
        "OMP_DISPLAY_ENV": "true", "OMP_SCHEDULE": "soon", "OMP_PROC_BIND": "x", "MKL_NUM_THREADS": "x",
        "TORCH_LOGS": "bogus", "NUMPY_MADVISE_HUGEPAGE": "x",
        "NPY_DISABLE_CPU_FEATURES": "x", "NPY_ENABLE_CPU_FEATURES": "y",
        "SOURCE_DATE_EPOCH": "today", "TZ": "Nowhere/None", "LC_ALL": "xx_YY.none",
        "JPY_PARENT_PID": "1", "COLAB_GPU": "1", "CUDA_VISIBLE_DEVICES": "", "TRANSFORMERS_VERBOSITY": "info",
    }  # fmt: skip


NOBODY = """import os, pwd, sys
def getpwuid(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = getpwuid
for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
    os.environ.pop(name, None)
from bertpipe.cli.app import main
sys.argv = ["bertpipe", *sys.argv[1:]]
main()
"""
"""Runs bertpipe for a user without a name."""


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.usefixtures("model")
def test_what_other_tools_set_decides_nothing(
    workdir: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory, run: Run
) -> None:
    """As the command in this process, which has none of it."""
    hostile = other_tools(tmp_path_factory.mktemp("settings"))
    (workdir / "reports").mkdir()
    for name in ("history", "epochs", "timing"):
        shutil.copy(trained / f"{name}.csv", workdir / "reports")
    write_json(workdir / "reports/metrics.json", METRICS)
    commands = ("plot", "--json"), ("export",), ("infer", "score", "the film .", "--json")
    for command in commands:
        expected = run(*command)
        assert expected.code == 0
        written = files(workdir)
        done = subprocess.run(
            [sys.executable, "-c", NOBODY, *command],
            capture_output=True, text=True, check=False, env=os.environ | {"HF_HUB_OFFLINE": "1"} | hostile,
        )  # fmt: skip
        assert Ended(done.returncode, done.stdout, done.stderr) == expected
        assert files(workdir) == written


@pytest.mark.usefixtures("model")
def test_files_of_the_current_folder_are_not_imported(workdir: Path) -> None:
    """Neither by the command nor by the processes that it starts."""
    for name in ("random", "types", "token", "numpy"):
        (workdir / f"{name}.py").write_text("raise SystemExit('imported by mistake')\n", encoding="utf-8")
    params = (workdir / "params.yaml").read_text(encoding="utf-8")
    (workdir / "params.yaml").write_text(re.sub("processes: .*", "processes: 2", params), encoding="utf-8")
    folder_of(workdir / "text", REVIEWS)
    done = subprocess.run(
        [Path(sys.executable).with_name("bertpipe"), "prepare", "--text", "text", "--out", "mine"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "by mistake" in done.stderr) == (0, False), done.stderr


def test_a_current_folder_that_was_removed_is_said(workdir: Path) -> None:
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$0" -P -m bertpipe "$@"'
    command = ["/bin/sh", "-c", script, sys.executable, "state"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: the current folder has been removed: change to another one\n"
