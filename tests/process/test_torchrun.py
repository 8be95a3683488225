"""`bertpipe train` in several real processes: started by torchrun or by itself, stopped, killed, gone on."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from bertpipe.core.params import Params
from bertpipe.core.params_file import merged_text
from bertpipe.training.checkpoint import checkpoints_in
from projects import make_copy, started_in
from runs import EACH_STEP, Crash, at_step, crash, train
from several_train import BROKEN_OFF, EXACT
from worlds import Worlds

TESTS = Path(__file__).parent.parent
PATIENCE_S = 120.0
pytestmark = [pytest.mark.promise("Several processes"), pytest.mark.slow]


def steps_of(folder: Path) -> list[int]:
    """Return the steps of the checkpoints of the one run in a folder, newest first."""
    (state,) = (folder / "state").iterdir()
    return [int(path.name.removeprefix("step-")) for path in checkpoints_in(state)]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_run_goes_on_from_one_process_to_two_and_back(
    worlds: Worlds, tiny: Params, parquet: Path, tmp_path: Path, parallel: str
) -> None:
    train(tiny, tmp_path / "whole", parquet, **EXACT)
    folder = tmp_path / "moved"
    with at_step(4, crash), pytest.raises(Crash):
        train(tiny, folder, parquet, runtime=EACH_STEP, **EXACT)
    assert steps_of(folder) == [3, 2]
    ended = worlds("several_train", folder, parquet, "9", parallel)
    assert steps_of(folder) == [8, 7], ended
    assert [each.code for each in ended] == [BROKEN_OFF] * 2
    said = list[str]()
    assert train(tiny, folder, parquet, options={"on_note": said.append}, **EXACT)["resumed_after_step"] == 8
    (note,) = said
    assert note.startswith(f"resuming after step 8 of 12; parallel {parallel} before and - now, processes 2 before ")
    assert not list((folder / "state").iterdir())
    for name in ("history.csv", "epochs.csv"):
        found, expected = (pd.read_csv(path / name) for path in (folder, tmp_path / "whole"))
        pd.testing.assert_frame_equal(found, expected, rtol=1e-6, check_exact=False)


def what_happens(worlds: Worlds, what: str, folder: Path, data: Path) -> str:
    """Return what a training in two processes says that cannot end."""
    ended = worlds("several_train", folder, data, what, "ddp")
    assert all(each.code > 0 for each in ended), ended
    (said,) = [line for each in ended for line in re.findall(r"^error: (.*)$", each.err, re.MULTILINE)]
    return str(said)


def test_a_signal_in_the_last_evaluation_is_followed(
    worlds: Worlds, tiny: Params, parquet: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "stopped"
    assert what_happens(worlds, "signal", folder, parquet).startswith(
        "stopped by SIGTERM after step 12 of 12; run the same command"
    )
    assert steps_of(folder)[0] == 12
    assert train(tiny, folder, parquet, **EXACT)["resumed_after_step"] == 12
    train(tiny, tmp_path / "whole", parquet, **EXACT)
    found, expected = (pd.read_csv(path / "epochs.csv") for path in (folder, tmp_path / "whole"))
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6, check_exact=False)


def test_a_signal_as_the_last_model_is_written_leaves_the_state(
    worlds: Worlds, tiny: Params, parquet: Path, tmp_path: Path
) -> None:
    """Who started torchrun hears of the signal alone, and DVC then throws the model away."""
    ended = worlds("several_train", tmp_path, parquet, "late signal", "ddp")
    assert [each.code for each in ended] == [0, 0], ended
    assert steps_of(tmp_path)[0] == 12
    assert train(tiny, tmp_path, parquet, **EXACT)["resumed_after_step"] == 12
    assert not list((tmp_path / "state").iterdir())


def test_nothing_takes_its_place_where_weights_differ(worlds: Worlds, parquet: Path, tmp_path: Path) -> None:
    assert re.fullmatch(
        r"rank 1 \(\S+, process \d+\) has weights that differ from those of rank 0 \(.*\) in weights: one of them "
        r"computes differently, .*; the next run resumes from the last checkpoint",
        what_happens(worlds, "drift", tmp_path / "drifted", parquet),
    )
    assert [path.name for path in (tmp_path / "drifted").iterdir()] == ["state"]


def test_a_process_that_cannot_read_is_named_and_the_steps_before_are_kept(
    worlds: Worlds, tiny: Params, parquet: Path, tmp_path: Path
) -> None:
    said = what_happens(worlds, "unreadable", tmp_path, parquet)
    assert re.match(
        r"rank 1 \(\S+, process \d+\): train.parquet is damaged; the state after step 6 of 12 is kept", said
    )
    assert steps_of(tmp_path)[0] == 6
    assert train(tiny, tmp_path, parquet, **EXACT)["resumed_after_step"] == 6


def test_processes_that_are_to_train_in_other_ways_are_named(worlds: Worlds, parquet: Path, tmp_path: Path) -> None:
    said = what_happens(worlds, "another way", tmp_path / "mixed", parquet)
    assert re.search(r"has params, data or sources that differ from those of .* in runtime.parallel: give all", said)


class Project:
    """A folder with data and params for two processes, and the commands that run there."""

    def __init__(self, folder: Path, data: Path, **runtime: Any) -> None:  # noqa: ANN401
        self.folder = folder
        folder.mkdir()
        yaml = YAML()
        content = yaml.load(merged_text(TESTS.parent / "params" / "tiny.yaml"))
        content["data"]["dir"] = str(data)
        content["train"]["epochs"] = 4
        content["runtime"] |= {"processes": 2, "checkpoint_every_s": 0.1, "timeout_s": 60, **runtime}
        yaml.dump(content, folder / "params.yaml")
        (folder / "reports").mkdir()

    arguments = ("train", "--out", "model")
    command = (sys.executable, "-m", "bertpipe", *arguments)

    def started(self) -> contextlib.AbstractContextManager["subprocess.Popen[str]"]:
        """Start the training."""
        return started_in(self.folder, self.environment(), *self.command)

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(TESTS.parent / "src")}

    def finish(self, worlds: Worlds) -> str:
        """Run the command line to the training's end in two processes that are there already; return what it said."""
        ended = worlds("bertpipe", *self.arguments, folder=self.folder)
        assert [each.code for each in ended] == [0, 0], ended
        assert sorted(each.out.count("Trained") for each in ended) == [0, 1]
        assert not list((self.folder / ".bertpipe" / "state").iterdir())
        return "".join(each.err for each in ended)

    def results(self) -> dict[str, bytes]:
        names = ("model/config.json", "model/model.safetensors", "reports/history.csv", "reports/epochs.csv")
        return {name: (self.folder / name).read_bytes() for name in names}

    def when_under_way(self, do: Callable[[], None]) -> None:
        """Do something once there is a checkpoint."""
        until = time.monotonic() + PATIENCE_S
        while not list(self.folder.glob(".bertpipe/state/*/step-*/manifest.json")):
            assert time.monotonic() < until, "no checkpoint"
            time.sleep(0.02)
        do()


def workers_of(process: "subprocess.Popen[str]") -> list[int]:
    """Return the processes that a process has started, by their rank."""
    found = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process.pid:
                variables = (folder / "environ").read_bytes().split(b"\0")
                found[next(value for value in variables if value.startswith(b"RANK="))] = int(folder.name)
    return [found[rank] for rank in sorted(found)]


@pytest.fixture(scope="module")
def whole(worlds: Worlds, parquet: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return what an uninterrupted training leaves in processes that are there already."""
    project = Project(tmp_path_factory.mktemp("whole") / "project", parquet)
    project.finish(worlds)
    return project.results()


def test_ctrl_c_stops_all_processes_after_the_same_step(
    worlds: Worlds, parquet: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    project = Project(tmp_path / "project", parquet)
    with project.started() as process:
        project.when_under_way(lambda: process.send_signal(signal.SIGINT))
        said = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 130, said
    (step,) = re.findall(r"note: stopped by Ctrl-C after step (\d+) of 84; run the same command again to resume", said)
    assert f"note: resuming after step {step} of 84\n" in project.finish(worlds)
    assert project.results() == whole


def test_a_killed_process_is_started_anew_and_the_end_is_the_same(
    parquet: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    project = Project(tmp_path / "project", parquet, max_restarts=1)
    with project.started() as process:
        project.when_under_way(lambda: os.kill(workers_of(process)[1], signal.SIGKILL))
        said = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 0, said
    assert re.search(r"error: rank 1 \(\S+, process \d+\): ended while the others waited for it", said)
    assert "note: the processes were restarted: one of them failed, left or joined\n" in said
    assert "SIGTERM" not in said
    assert "note: resuming after step " in said
    assert project.results() == whole


def test_without_restarts_a_killed_process_ends_the_run_and_the_next_one_goes_on(
    worlds: Worlds, parquet: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    project = Project(tmp_path / "project", parquet)
    with project.started() as process:
        project.when_under_way(lambda: os.kill(workers_of(process)[0], signal.SIGKILL))
        said = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 1, said
    assert re.search(r"error: rank 0 \(process \d+\) was ended by SIGKILL, most likely because memory ran out", said)
    assert "note: resuming after step " in project.finish(worlds)
    assert project.results() == whole


def test_two_machines_start_anew_together(parquet: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Each has a torchrun of its own, and that of the process that was not killed counts no restart."""
    project = Project(tmp_path / "project", parquet)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = (
        sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=2",
        "--rdzv-id=pair", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}", "--local-addr=localhost",
        *project.command[1:],
    )  # fmt: skip
    environment = {**project.environment(), "OMP_NUM_THREADS": "1"}
    with contextlib.ExitStack() as stack:
        agents = [stack.enter_context(started_in(project.folder, environment, *command)) for _ in range(2)]
        project.when_under_way(lambda: os.kill(workers_of(agents[1])[0], signal.SIGKILL))
        said = [agent.communicate(timeout=PATIENCE_S)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    assert sum("note: the processes were restarted" in text for text in said) == 1
    assert project.results() == whole


def test_an_error_is_said_once(parquet: Path, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", parquet)
    done = subprocess.run(
        [*project.command, "--data", "nowhere"], cwd=project.folder, env=project.environment(), text=True,
        capture_output=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1, done.stderr
    assert "nowhere" in done.stderr


def test_dvc_trains_in_processes_that_the_command_starts_itself(
    worlds: Worlds, parquet: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    """Neither is warned by its libraries, and they leave the bytes of processes that were there already."""
    copy = make_copy(tmp_path / "copy")
    shutil.copy(Project(tmp_path / "project", Path("data/parquet")).folder / "params.yaml", copy.folder)
    shutil.copytree(parquet, copy.folder / "data" / "parquet")
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--single-item", "train"], cwd=copy.folder, env=dict(copy.environment),
        text=True, capture_output=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert re.search(r"processes +2", said)
    assert said.count("Trained") == 1
    assert "error" not in said
    assert not re.search(r"^(\[rank\d+\]:)?[WE]\d{4} ", said, re.MULTILINE)
    found = {name: (copy.folder / name).read_bytes() for name in ("reports/history.csv", "reports/epochs.csv")}
    found |= {f"model/{p.name}": p.read_bytes() for p in (copy.folder / "models" / "bert").iterdir()}
    assert {name: found[name] for name in whole} == whole
    assert not list((copy.folder / ".bertpipe" / "state").iterdir())
    assert "up to date" in copy.dvc("status", "train")
