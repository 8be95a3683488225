"""The lesson runs from top to bottom in an empty folder, without a network, and its numbers say what its text says."""

import json
import math
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

LESSONS = Path(__file__).parents[2] / "lessons"
SMALL = "reviews = 700\nepochs = 3"
NAMES = (
    "before", "after", "shares", "metrics", "exercise_1", "exercise_2", "question", "swapped", "averages", "printed",
    "mean_loss", "epoch_wrong", "epoch_right", "doubled", "lost", "without_segments", "dead", "failing", "correct",
    "odd_fault", "scales", "seeds", "reloaded", "replaced", "nsp_readings", "masks_answered", "parsed_s", "sliced_s",
    "none_fault", "files_left", "random_labels", "padding",
)  # fmt: skip
"""Variables of the lesson that the tests look at."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: ANN401
    folder = tmp_path_factory.mktemp("lesson")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HF_HOME": str(folder / "hub"), "OMP_WAIT_POLICY": "PASSIVE", "HOME": str(folder)}.items():
            patch.setenv(name, value)
        for name in ("PYTHONWARNINGS", "MPLBACKEND"):
            patch.delenv(name, raising=False)
        lesson = nbformat.read(LESSONS / "leccion.ipynb", as_version=4)
        (parameters,) = [cell for cell in lesson.cells if "parameters" in cell.metadata.get("tags", [])]
        parameters.source = SMALL
        values = f"json.dumps({{name: globals()[name] for name in {NAMES!r}}}, default=float)"
        lesson.cells.append(
            nbformat.v4.new_code_cell(
                f"values = {values}\n_ = Path('values.json').write_text(values)\n"
                f"rejected = rejects.to_json('rejects.json', orient='records')"
            )
        )
        NotebookClient(
            lesson, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        ).execute()
    lesson.folder = folder
    return lesson


@pytest.fixture(scope="module")
def values(executed: Any) -> dict[str, Any]:  # noqa: ANN401
    return json.loads((executed.folder / "values.json").read_text())


def outputs(executed: Any) -> list[Any]:  # noqa: ANN401
    return [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]


def test_it_shows_pictures_and_tables_and_no_warnings(executed: Any) -> None:  # noqa: ANN401
    assert {output.output_type for output in outputs(executed)} == {"stream", "display_data"}
    assert "".join(output.text for output in outputs(executed) if output.get("name") == "stderr").strip() == ""
    pictures = [output for output in outputs(executed) if "image/png" in output.get("data", {})]
    assert len(pictures) == 4, "embeddings, live curves, loss and accuracy"
    tables = [output for output in outputs(executed) if "text/html" in output.get("data", {})]
    assert len(tables) == 2 + 2 + 1


def test_it_writes_into_one_folder_of_its_own(executed: Any) -> None:  # noqa: ANN401
    assert {path.name for path in executed.folder.iterdir() if not path.name.startswith(".")} - {"hub"} == {
        "bertpipe-lesson", "rejects.json", "values.json",
    }  # fmt: skip


def test_masks_have_the_shares_of_the_text(values: dict[str, Any]) -> None:
    expected = {"chosen": 0.15, "[MASK]": 0.8, "same": 0.1, "other": 0.1, "is_next": 0.5}
    assert values["shares"] == pytest.approx(expected, abs=0.03)


def test_the_network_learns(values: dict[str, Any]) -> None:
    before, after = values["before"], values["after"]
    assert after["MLM loss"] < before["MLM loss"] - 1.5
    assert after["MLM accuracy"] > before["MLM accuracy"] + 0.1
    assert before["NSP loss"] == pytest.approx(math.log(2), abs=0.05)


def test_the_lessons_own_evaluation_is_bertpipes(values: dict[str, Any]) -> None:
    for task, accuracy in (("mlm", "top1_accuracy"), ("nsp", "accuracy")):
        figures = values["metrics"][task]["model"]
        assert values["after"][f"{task.upper()} loss"] == pytest.approx(figures["loss"], abs=1e-4)
        assert values["after"][f"{task.upper()} accuracy"] == pytest.approx(figures[accuracy], abs=1e-6)


def test_the_solutions_agree_with_bertpipe(values: dict[str, Any]) -> None:
    assert len(values["exercise_1"]) == 2
    for theirs, ours in values["exercise_1"]:
        assert theirs == pytest.approx(ours, abs=1e-5)
    (word,) = values["exercise_2"]
    shown = values["question"].replace("[MASK]", word)
    assert shown.lower().replace(" ", "") != values["question"].lower().replace(" ", "")


def test_the_second_solution_shows_bertpipes_word(executed: Any, values: dict[str, Any]) -> None:  # noqa: ANN401
    (shown,) = [output.text for output in outputs(executed) if str(values["exercise_2"]) in output.get("text", "")]
    asked, _, filled = shown.strip().partition(str(values["exercise_2"]))
    before, after = asked.strip().split("[MASK]")
    assert filled.strip().removeprefix(before.rstrip()).removesuffix(after).strip() == values["exercise_2"][0]


def test_swapped_losses_praise_what_has_learned_nothing(values: dict[str, Any]) -> None:
    lazy, trained = values["swapped"]["lazy"], values["swapped"]["trained"]
    assert lazy["NSP swapped"] < 0.001
    assert lazy["NSP right"] > 1
    assert lazy["MLM swapped"] < trained["MLM right"] < lazy["MLM right"]
    assert lazy["MLM swapped"] < trained["MLM swapped"]
    assert lazy["NSP swapped"] < trained["NSP swapped"]
    assert trained["MLM swapped"] != pytest.approx(trained["MLM right"], rel=0.05)


def test_averages_come_out_as_the_text_says(values: dict[str, Any]) -> None:
    averages = values["averages"]
    assert averages["batches + 1"] < averages["batches"]
    assert averages["words"] == pytest.approx(values["after"]["MLM loss"], abs=1e-4)
    assert averages["batches"] != averages["words"]
    assert values["printed"] == pytest.approx(2 * values["mean_loss"] + 1)
    assert math.isnan(values["epoch_wrong"])
    assert values["epoch_right"] == 2.0


def test_the_networks_faults_come_out_as_the_text_says(values: dict[str, Any]) -> None:
    assert values["doubled"]["wrong"] == pytest.approx(2, abs=0.05)
    assert values["doubled"]["right"] == pytest.approx(1, abs=0.05)
    assert values["lost"] == pytest.approx({"wrong": 0.19, "right": 0.1}, abs=0.01)
    assert values["without_segments"]["NSP loss"] != values["after"]["NSP loss"]
    assert values["dead"] == 43_498
    assert len(values["failing"]) > 30
    assert values["correct"] == []
    assert values["odd_fault"] == "RuntimeError"
    assert values["scales"]["Adam, L2"] < 0.7
    assert 0.99 < values["scales"]["AdamW"] < values["scales"]["AdamW, no decay"]


def test_the_runs_faults_come_out_as_the_text_says(values: dict[str, Any]) -> None:
    assert values["seeds"]["with"][0] == values["seeds"]["with"][1]
    assert values["seeds"]["without"][0] != values["seeds"]["without"][1]
    assert values["reloaded"] == values["after"]["MLM loss"]
    assert values["replaced"] == pytest.approx(values["before"]["MLM loss"])
    assert sum(values["nsp_readings"].values()) == pytest.approx(1)
    assert values["nsp_readings"]["0 = next"] == pytest.approx(values["after"]["NSP accuracy"], abs=0.1)


def test_the_faults_of_input_come_out_as_the_text_says(executed: Any, values: dict[str, Any]) -> None:  # noqa: ANN401
    wrong, right = zip(*(values["masks_answered"][count] for count in "012"), strict=True)
    assert wrong == ("RuntimeError", "1 word", "RuntimeError")
    assert right[0].startswith("there is no [MASK]")
    assert right[1:] == ("1 x [MASK]", "2 x [MASK]")
    assert values["sliced_s"] < values["parsed_s"]
    assert values["none_fault"] == "TypeError"
    (reject,) = json.loads((executed.folder / "rejects.json").read_text())
    assert (reject["line"], reject["column"]) == (2, "BERT Input")
    assert values["random_labels"] > values["after"]["MLM loss"] + 0.3
    assert 0 < values["padding"]["at the end"] < values["padding"]["stored"] < 1
    assert values["files_left"] == {"remove first": False, "replace last": True}
