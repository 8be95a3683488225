"""Ctrl-C, SIGTERM and SIGKILL to the real command line and to real DVC."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from commands import Ended, Run
from projects import Copy, make_copy, started_in

pytestmark = [
    pytest.mark.promise("Interruptions of real commands"),
    pytest.mark.skipif(importlib.util.find_spec("dvc") is None, reason="DVC is not installed"),
    pytest.mark.slow,
]

TRAINED = ("models/bert/config.json", "models/bert/model.safetensors", "reports/history.csv", "reports/epochs.csv")
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """Return a copy of the project whose training takes some seconds, with its data converted."""
    copy = make_copy(tmp_path_factory.mktemp("interrupted"))
    params = copy.folder / "params.yaml"
    yaml = YAML()
    content = yaml.load(params.read_text(encoding="utf-8"))
    content["train"]["epochs"] = 6
    content["runtime"]["checkpoint_every_s"] = 0.2
    yaml.dump(content, params)
    copy.dvc("repro", "convert")
    return copy


@pytest.fixture(scope="module")
def whole(project: Copy) -> dict[str, bytes]:
    """Return what an uninterrupted training leaves."""
    project.dvc("repro", "train")
    return trained(project)


@pytest.fixture(autouse=True)
def _from_nothing(request: pytest.FixtureRequest) -> None:
    """Begin a test of the project without state, model or record of a training, in DVC's run cache neither."""
    if "project" not in request.fixturenames:
        return
    project: Copy = request.getfixturevalue("project")
    request.getfixturevalue("whole")
    for path in (".bertpipe/state", "models", ".dvc/cache/runs"):
        shutil.rmtree(project.folder / path, ignore_errors=True)
    for path in ("reports/history.csv", "reports/epochs.csv", "reports/timing.csv"):
        (project.folder / path).unlink(missing_ok=True)
    lock = project.folder / "dvc.lock"
    yaml = YAML()
    content = yaml.load(lock.read_text(encoding="utf-8"))
    content["stages"].pop("train", None)
    yaml.dump(content, lock)


@pytest.fixture
def finish(project: Copy, run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return a function that runs the training's command to its end in this process, and returns where it resumed."""

    def finish() -> int:
        monkeypatch.chdir(project.folder)
        ended = run("train", "--json")
        assert ended.code == 0, ended
        return int(json.loads(ended.out)["resumed_after_step"])

    return finish


def trained(project: Copy) -> dict[str, bytes]:
    return {name: (project.folder / name).read_bytes() for name in TRAINED}


def wait_for(there: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)


def checkpoints(project: Copy) -> list[Path]:
    return list(project.folder.glob(".bertpipe/state/*/step-*/manifest.json"))


def said_by(process: "subprocess.Popen[str]") -> str:
    return process.communicate(timeout=PATIENCE_S)[0]


DVC_TRAIN = (sys.executable, "-m", "dvc", "repro", "train")
TRAIN = ("bertpipe", "train")


def test_dvc_and_training_killed_together_go_on(project: Copy, whole: dict[str, bytes]) -> None:
    with started_in(project.folder, project.environment, *DVC_TRAIN) as process:
        wait_for(lambda: checkpoints(project))
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not (project.folder / "models" / "bert").exists() or trained(project) != whole
    shown = subprocess.run(
        DVC_TRAIN, cwd=project.folder, env=dict(project.environment), capture_output=True, text=True, check=True
    )
    assert re.search(r"note: resuming after step [\d,]+ of 126", shown.stderr), shown.stderr
    assert trained(project) == whole
    assert "up to date" in project.dvc("status", "train")
    # DVC's run cache knows the run, though it was made in two goes.
    shutil.rmtree(project.folder / "models")
    _from_lock(project)
    assert "is cached - skipping run" in project.dvc("repro", "train")
    assert trained(project) == whole


def _from_lock(project: Copy) -> None:
    lock = project.folder / "dvc.lock"
    yaml = YAML()
    content = yaml.load(lock.read_text(encoding="utf-8"))
    del content["stages"]["train"]
    yaml.dump(content, lock)


def test_ctrl_c_under_dvc_saves_and_goes_on(project: Copy, whole: dict[str, bytes], finish: Callable[[], int]) -> None:
    with started_in(project.folder, project.environment, *DVC_TRAIN) as process:
        wait_for(lambda: checkpoints(project))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        said = said_by(process)
    assert re.search(r"note: stopped by Ctrl-C after step [\d,]+ of 126; run the same command again to resume", said)
    assert "exited with 130" in said
    assert process.returncode != 0
    assert finish() > 0
    assert trained(project) == whole


def test_dvc_killed_alone_ends_the_training_with_its_state_saved(
    project: Copy, whole: dict[str, bytes], finish: Callable[[], int]
) -> None:
    with started_in(project.folder, project.environment, *DVC_TRAIN) as process:
        wait_for(lambda: checkpoints(project))
        (lock,) = project.folder.glob("models/.bert.bertpipe-training.lock")
        training = json.loads(lock.read_text(encoding="utf-8"))["process"]
        assert training != process.pid
        process.kill()
        said = said_by(process)  # to the end of the training, which holds the pipe too
    assert re.search(r"note: stopped by the end of the DVC process that waited for it after step [\d,]+", said), said
    assert not lock.exists()
    assert finish() > 0
    assert trained(project) == whole


def test_a_signal_to_a_training_saves_says_so_and_has_its_code(
    project: Copy, whole: dict[str, bytes], finish: Callable[[], int]
) -> None:
    with started_in(project.folder, project.environment, *TRAIN) as process:
        wait_for(lambda: checkpoints(project))
        process.send_signal(signal.SIGSTOP)  # it would be done before the other has begun
        refused = subprocess.run(
            TRAIN, cwd=project.folder, env=dict(project.environment), capture_output=True, text=True, check=False
        )
        assert refused.returncode == 1
        assert re.search(
            rf"error: a training into models/bert is already under way \(process {process.pid} on .*\): "
            "wait for it, or stop it",
            refused.stderr,
        )
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        said = said_by(process)
    assert process.returncode == 143
    stop = re.search(r"note: stopped by SIGTERM after step (\d+) of 126; run the same command again to resume", said)
    assert stop is not None, said
    shown = json.loads(project.run("bertpipe", "state", "--json"))
    (kept,) = shown["kept"]
    assert kept["done"] == f"{stop[1]} of 126 steps"
    assert not kept["held"]
    assert finish() == int(stop[1])
    assert trained(project) == whole
    assert "nothing is kept" in project.run("bertpipe", "state")


@pytest.mark.parametrize(
    ("command", "number", "code", "name"),
    [("convert", signal.SIGINT, 130, "Ctrl-C"), ("prepare", signal.SIGTERM, 143, "SIGTERM")],
)
def test_a_signal_to_another_command_leaves_what_was_there(
    project: Copy, command: str, number: int, code: int, name: str
) -> None:
    text = project.folder / "text.txt"
    text.write_text("\n\n".join(f"A text of number {n}. It goes on. It ends." for n in range(400)), encoding="utf-8")
    out = project.folder / "data" / ("parquet" if command == "convert" else "text")
    arguments = [] if command == "convert" else ["--text", "text.txt", "--out", "data/text"]
    if command == "prepare":
        project.run("bertpipe", "prepare", *arguments)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    partial = out.with_name(f".{out.name}.bertpipe-partial")
    with started_in(project.folder, project.environment, "bertpipe", command, *arguments) as process:
        wait_for(partial.exists)
        process.send_signal(number)
        said = said_by(process)
    assert process.returncode == code, said
    assert f"note: stopped by {name}; earlier outputs are unchanged" in said
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert not partial.exists()


def test_a_training_whose_reader_is_gone_goes_on_and_saves(
    project: Copy, whole: dict[str, bytes], finish: Callable[[], int]
) -> None:
    """`bertpipe train 2>&1 | head -3`: lines that nobody reads end nothing."""
    with started_in(project.folder, project.environment, *TRAIN) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        seen = {path.parent.name for path in checkpoints(project)}
        wait_for(lambda: {path.parent.name for path in checkpoints(project)} - seen)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_S) == 143
    assert finish() > 0
    assert trained(project) == whole


def test_a_background_job_hears_no_ctrl_c(project: Copy, whole: dict[str, bytes]) -> None:
    """A shell has its background jobs ignore it."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", "bertpipe train --json & wait"], cwd=project.folder, env=dict(project.environment), text=True,
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for(lambda: checkpoints(project))
    (lock,) = project.folder.glob("models/.bert.bertpipe-training.lock")
    os.kill(json.loads(lock.read_text(encoding="utf-8"))["process"], signal.SIGINT)
    assert json.loads(process.communicate(timeout=PATIENCE_S)[0])["resumed_after_step"] == 0
    assert trained(project) == whole


SIGNAL_AT_IMPORT = """import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in os.environ["AT_IMPORT_OF"].split():
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))
sys.meta_path.insert(0, Finder())
"""
"""What Python runs as it starts: a signal comes as a certain library is read."""


@pytest.mark.parametrize(
    ("start", "libraries", "number", "said"),
    [
        ("bertpipe", "bertpipe.cli", signal.SIGINT, "Ctrl-C"),
        ("bertpipe", "typer", signal.SIGHUP, "the end of the terminal (SIGHUP)"),
        ("module", "pydantic", signal.SIGTERM, "SIGTERM"),
        ("bertpipe", "torch", signal.SIGINT, "Ctrl-C"),
        ("module", "torch.nn rich", signal.SIGTERM, "SIGTERM"),
    ],
)
def test_a_signal_while_libraries_are_read_is_not_lost(
    tmp_path: Path, start: str, libraries: str, number: int, said: str
) -> None:
    """Neither is what is said of it when another one comes, as `rich` is read."""
    done = with_a_signal(tmp_path, start, libraries, number)
    assert (done.code, done.err) == (128 + number, f"note: stopped by {said}; earlier outputs are unchanged\n")


def test_a_signal_while_an_error_is_said_leaves_the_error(tmp_path: Path) -> None:
    done = with_a_signal(tmp_path, "bertpipe", "rich", signal.SIGINT)
    assert (done.code, done.err.count("\n")) == (1, 1), done
    assert done.err.startswith("error: there is no model at models/bert")


def with_a_signal(folder: Path, start: str, libraries: str, number: int) -> Ended:
    """Return how a command without its model ends that gets a signal as it reads libraries."""
    (folder / "sitecustomize.py").write_text(SIGNAL_AT_IMPORT, encoding="utf-8")
    settings = {"PYTHONPATH": str(folder), "AT_IMPORT_OF": libraries, "SIGNAL": str(int(number))}
    command = [sys.executable, "-m", "bertpipe"] if start == "module" else [Path(sys.executable).with_name("bertpipe")]
    done = subprocess.run(
        [*command, "inspect", "A film."],
        cwd=folder, env=os.environ | settings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)
