"""`report --compare`: runs side by side on one page."""

import json
import shutil
from pathlib import Path

import pytest

from bertpipe.commands.compare_runs import run_comparison
from bertpipe.core.artifacts import read_json, write_json
from bertpipe.core.errors import BertpipeError, InputError, MissingInputError, WriteError
from exports import METRICS


@pytest.fixture(scope="module")
def runs(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the projects of two runs, of different learning rates and with other figures."""
    folder = tmp_path_factory.mktemp("runs")
    for name, rate in (("one", 0.001), ("two", 0.004)):
        (folder / name / "models").mkdir(parents=True)
        shutil.copytree(trained / "model", folder / name / "models" / "bert")
        config = read_json(folder / name / "models/bert/config.json")
        config["facts"]["params"]["train"]["learning_rate"] = rate
        (folder / name / "models/bert/config.json").write_text(json.dumps(config), encoding="utf-8")
        (folder / name / "reports").mkdir()
        for file in ("history.csv", "epochs.csv", "timing.csv", "answers.json"):
            shutil.copy(trained / file, folder / name / "reports")
        write_json(folder / name / "reports/metrics.json", METRICS)
    return folder / "one", folder / "two"


def section(page: Path, name: str) -> str:
    return page.read_text(encoding="utf-8").split(f'<section id="{name}"')[1].split("</section>")[0]


def compare(*names: Path | str, out: Path) -> Path:
    run_comparison([str(name) for name in names], out=out)
    return out


def test_params_that_differ_come_first_and_the_equal_ones_not_at_all(runs: tuple[Path, Path], tmp_path: Path) -> None:
    page = compare(*runs, out=tmp_path / "page.html")
    params = section(page, "params")
    assert params.count("<tr>") == 2  # the header, and the learning rate
    assert all(text in params for text in ("train.learning_rate", "0.001", "0.004"))
    assert "train.seed" not in page.read_text(encoding="utf-8").split('<script type="application/json"')[0]
    content = page.read_text(encoding="utf-8")
    charts = json.loads(content.split('id="content">')[1].split("</script>")[0])["charts"]
    assert {"mlm-training-step", "mlm-training-seconds", "nsp-held-out rows-step"} - {*charts} <= {
        "nsp-held-out rows-step"
    }
    assert len({value["name"] for value in charts["mlm-training-seconds"]["data"]["values"]}) == 2
    assert "All runs have the same versions" in section(page, "again")


def test_a_model_finds_the_reports_of_its_project(runs: tuple[Path, Path], tmp_path: Path) -> None:
    pages = [
        compare(*(run / part for run in runs), out=tmp_path / name) for part, name in (("", "a"), ("models/bert", "b"))
    ]
    figures = [section(page, "course").count("<figure") for page in pages]
    assert figures[0] == figures[1] == 12


def test_a_run_may_be_given_twice(runs: tuple[Path, Path], tmp_path: Path) -> None:
    page = compare(runs[0], runs[0], out=tmp_path / "page.html")
    assert " (2)</th>" in section(page, "figures")
    assert "All runs have the same params" in section(page, "params")


def test_what_a_run_lacks_is_said(runs: tuple[Path, Path], trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "model", tmp_path / "alone")
    page = compare(runs[0], tmp_path / "alone", out=tmp_path / "page.html")
    assert "history.csv does not exist" in section(page, "params")


def test_reports_of_another_run_are_not_taken(runs: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "other")
    config = read_json(tmp_path / "other/models/bert/config.json")
    config["facts"]["epochs_done"] += 1
    (tmp_path / "other/models/bert/config.json").write_text(json.dumps(config), encoding="utf-8")
    page = compare(runs[1], tmp_path / "other", out=tmp_path / "page.html")
    assert "they are of another run" in section(page, "params")


def test_other_vocabularies_data_and_questions_are_said(runs: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "other")
    config = read_json(tmp_path / "other/models/bert/config.json")
    config["sha256"]["tokenizer.json"] = config["facts"]["data_sha256"]["test.parquet"] = "0" * 64
    (tmp_path / "other/models/bert/config.json").write_text(json.dumps(config), encoding="utf-8")
    page = compare(runs[1], tmp_path / "other", out=tmp_path / "page.html")
    assert "different vocabularies" in section(page, "params")
    assert "different test splits" in section(page, "params")
    assert "Not all runs were asked the same questions" in section(page, "learning")


def test_a_folder_without_a_run_is_named(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="dvc checkout"):
        compare(tmp_path, runs[1], out=tmp_path / "page.html")


@pytest.mark.parametrize(("number", "kind"), [(1, InputError), (21, InputError)])
def test_too_few_and_too_many_runs_are_refused(
    runs: tuple[Path, Path], tmp_path: Path, number: int, kind: type[BertpipeError]
) -> None:
    with pytest.raises(kind, match=f"got {number} runs"):
        compare(*[runs[0]] * number, out=tmp_path / "page.html")


def test_a_file_that_report_did_not_write_stays(runs: tuple[Path, Path], tmp_path: Path) -> None:
    page = compare(*runs, out=tmp_path / "page.html")
    compare(*runs, out=page)
    page.write_text("<html>my notes</html>", encoding="utf-8")
    with pytest.raises(WriteError, match="not a page that this version"):
        compare(*runs, out=page)
    assert page.read_text(encoding="utf-8") == "<html>my notes</html>"
