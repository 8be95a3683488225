"""The tiny pipeline end to end under real `dvc repro`, from an empty state."""

import importlib.util
import json

import pytest
from matplotlib.image import imread

from projects import Copy

TIMED = (
    "reports/timing.csv", "reports/plots/throughput.png", "reports/plots/throughput.svg",
    "reports/plots/bertpipe-manifest.json",  # their hashes
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


def test_the_trained_model_answers(repro: Copy) -> None:
    answer = json.loads(repro.run("bertpipe", "infer", "mlm", "the film is [MASK] .", "--json"))
    assert len(answer["masks"][0]["candidates"]) == 5
