"""The tiny pipeline end to end under real `dvc repro`, from an empty state."""

import importlib.util
import json
import shlex
import shutil
from pathlib import Path

import pytest
from matplotlib.image import imread
from ruamel.yaml import YAML

from bertpipe.core.params_file import merged_text
from commands import Run
from conftest import TINY
from projects import Copy, copy_in

TIMED = (
    "reports/timing.csv", "reports/plots/throughput.png", "reports/plots/throughput.svg",
    "reports/plots/bertpipe-manifest.json",  # their hashes
    "reports/report.html",  # it shows the throughput
)  # fmt: skip
"""What depends on how fast the machine is."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("dvc") is None, reason="DVC is not installed"),
]


def test_everything_that_the_stages_promise_is_there(repro: Copy) -> None:
    names = set(repro.outputs())
    assert names >= {
        "data/raw/dataset.zip", "data/parquet/train.parquet", "data/parquet/test.parquet",
        "data/parquet/documents.parquet", "data/parquet/summary.json", "data/parquet/tokenizer.json",
        "models/bert/config.json", "models/bert/model.safetensors", "models/bert/tokenizer.json",
        "models/huggingface/README.md", "models/huggingface/config.json", "models/huggingface/model.safetensors",
        "reports/history.csv", "reports/epochs.csv", "reports/metrics.json", "reports/examples.json", *TIMED,
    }  # fmt: skip
    assert min(imread(repro.folder / "reports/plots/loss.png").shape[:2]) > 400


def test_nothing_is_left_in_flight(repro: Copy) -> None:
    work = repro.folder / ".bertpipe"
    assert [path for path in work.rglob("*") if path.is_file()] == []
    assert not [path for path in repro.folder.rglob(".*.*") if path.name.count(".") > 2]


def test_dvc_finds_it_up_to_date_and_a_second_repro_runs_nothing(repro: Copy) -> None:
    assert "up to date" in repro.dvc("status")
    before = {path: path.stat().st_mtime_ns for path in (repro.folder / "models").rglob("*")}
    shown = repro.dvc("repro")
    assert "Running stage" not in shown
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_machines_settings_bring_no_stage_to_run_again(repro: Copy) -> None:
    params = repro.folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    params.write_text(text.replace("log_every: 10", "log_every: 20"), encoding="utf-8")
    try:
        assert "up to date" in repro.dvc("status")
    finally:
        params.write_text(text, encoding="utf-8")


def test_the_trained_model_answers(repro: Copy, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repro.folder)
    answer = json.loads(run("infer", "mlm", "the film is [MASK] .", "--json").out)
    assert len(answer["masks"][0]["candidates"]) == 5


@pytest.mark.thorough
def test_two_runs_from_an_empty_state_give_equal_bytes(repro: Copy, workdir: Path, run: Run) -> None:
    """The other one is of the same commands in this process."""
    (workdir / "params.yaml").write_text(merged_text(TINY), encoding="utf-8")
    stages = YAML(typ="safe", pure=True).load(repro.folder / "dvc.yaml")["stages"]
    for name in ("download", "convert", "train", "evaluate", "plot", "examples", "export", "report"):
        command = stages[name]["cmd"].removeprefix("exec ").replace("${data.dir}", "data/parquet")
        _, *arguments = shlex.split(command)
        ended = run(*arguments)
        assert ended.code == 0, ended
    one, other = repro.outputs(), Copy(workdir, {}).outputs()
    assert one.keys() == other.keys()
    assert {name for name in one if one[name] != other[name]} <= set(TIMED)


@pytest.mark.thorough
def test_dvc_shows_metrics_and_the_difference_that_a_parameter_makes(repro: Copy, tmp_path: Path) -> None:
    shutil.copytree(repro.folder.parent, tmp_path, dirs_exist_ok=True)
    again = copy_in(tmp_path)
    again.run("git", "add", "--all")
    again.run("git", "commit", "--quiet", "--message", "first")
    (metrics,) = json.loads(again.dvc("metrics", "show", "--json")).values()
    shown = metrics["data"]["reports/metrics.json"]["data"]
    assert shown == json.loads((again.folder / "reports/metrics.json").read_text(encoding="utf-8"))
    params = again.folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    params.write_text(text.replace("top_k: 3", "top_k: 2"), encoding="utf-8")
    (changed,) = json.loads(again.dvc("params", "diff", "--json")).values()
    assert changed == {"infer.top_k": {"old": 3, "new": 2, "diff": -1}}
    assert "examples" in again.dvc("status")
    # Only the stage that takes the section runs.
    dry = again.dvc("repro", "--dry")
    assert "'examples'" in dry
    assert "Running stage 'train'" not in dry
