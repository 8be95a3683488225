"""The tiny pipeline once more under real `dvc repro`, from an empty state."""

import importlib.util
import json

import pytest

from projects import Copy, make_copy
from test_pipeline import TIMED

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("dvc") is None, reason="DVC is not installed"),
]


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """Return another copy in which the pipeline has run."""
    copy = make_copy(tmp_path_factory.mktemp("again"))
    copy.dvc("repro")
    return copy


def test_two_runs_from_an_empty_state_give_equal_bytes(repro: Copy, again: Copy) -> None:
    one, other = (copy.outputs() for copy in (repro, again))
    assert one.keys() == other.keys()
    assert {name for name in one if one[name] != other[name]} <= set(TIMED)


def test_dvc_shows_metrics_and_the_difference_that_a_parameter_makes(again: Copy) -> None:
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
