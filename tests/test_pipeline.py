"""The tiny pipeline end to end under real `dvc repro`, from an empty state."""

import importlib.util
import json
import subprocess
import sys

import pytest
from matplotlib.image import imread

from projects import Copy, make_copy

TIMED = ("reports/timing.csv", "reports/plots/throughput.png", "reports/plots/throughput.svg")
"""What depends on how fast the machine is."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("dvc") is None, reason="DVC is not installed"),
]


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Copy, Copy]:
    """Return two copies in which the pipeline has run, side by side."""
    one, other = (make_copy(tmp_path_factory.mktemp(name)) for name in ("one", "other"))
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=copy.folder, env=copy.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for copy in (one, other)
    ]  # fmt: skip
    for process in running:
        shown, _ = process.communicate(timeout=300)
        assert process.returncode == 0, shown
    return one, other


def test_two_runs_from_an_empty_state_give_equal_bytes(copies: tuple[Copy, Copy]) -> None:
    one, other = (copy.outputs() for copy in copies)
    assert one.keys() == other.keys()
    assert {name for name in one if one[name] != other[name]} <= set(TIMED)


def test_everything_that_the_stages_promise_is_there(copies: tuple[Copy, Copy]) -> None:
    names = set(copies[0].outputs())
    assert names >= {
        "data/raw/dataset.zip", "data/parquet/train.parquet", "data/parquet/test.parquet",
        "data/parquet/documents.parquet", "data/parquet/summary.json", "data/parquet/tokenizer.json",
        "models/bert/config.json", "models/bert/model.safetensors", "models/bert/tokenizer.json",
        "models/huggingface/README.md", "models/huggingface/config.json", "models/huggingface/model.safetensors",
        "reports/history.csv", "reports/epochs.csv", "reports/metrics.json", "reports/examples.json", *TIMED,
    }  # fmt: skip
    assert min(imread(copies[0].folder / "reports/plots/loss.png").shape[:2]) > 400


def test_nothing_is_left_in_flight(copies: tuple[Copy, Copy]) -> None:
    work = copies[0].folder / ".bertpipe"
    assert [path for path in work.rglob("*") if path.is_file()] == []
    assert not [path for path in copies[0].folder.rglob(".*.*") if path.name.count(".") > 2]


def test_dvc_finds_it_up_to_date_and_a_second_repro_runs_nothing(copies: tuple[Copy, Copy]) -> None:
    copy = copies[0]
    assert "up to date" in copy.dvc("status")
    before = {path: path.stat().st_mtime_ns for path in (copy.folder / "models").rglob("*")}
    shown = copy.dvc("repro")
    assert "Running stage" not in shown
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_dvc_shows_metrics_and_the_difference_that_a_parameter_makes(copies: tuple[Copy, Copy]) -> None:
    copy = copies[1]
    copy.run("git", "add", "--all")
    copy.run("git", "commit", "--quiet", "--message", "first")
    (metrics,) = json.loads(copy.dvc("metrics", "show", "--json")).values()
    shown = metrics["data"]["reports/metrics.json"]["data"]
    assert shown == json.loads((copy.folder / "reports/metrics.json").read_text(encoding="utf-8"))
    params = copy.folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    params.write_text(text.replace("top_k: 3", "top_k: 2"), encoding="utf-8")
    (changed,) = json.loads(copy.dvc("params", "diff", "--json")).values()
    assert changed == {"infer.top_k": {"old": 3, "new": 2, "diff": -1}}
    assert "examples" in copy.dvc("status")
    # Only the stage that takes the section runs.
    dry = copy.dvc("repro", "--dry")
    assert "'examples'" in dry
    assert "Running stage 'train'" not in dry


def test_the_machines_settings_bring_no_stage_to_run_again(copies: tuple[Copy, Copy]) -> None:
    copy = copies[0]
    params = copy.folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    params.write_text(text.replace("log_every: 10", "log_every: 20"), encoding="utf-8")
    try:
        assert "up to date" in copy.dvc("status")
    finally:
        params.write_text(text, encoding="utf-8")


def test_the_trained_model_answers(copies: tuple[Copy, Copy]) -> None:
    answer = json.loads(copies[0].run("bertpipe", "infer", "mlm", "the film is [MASK] .", "--json"))
    assert len(answer["masks"][0]["candidates"]) == 5
