"""The lesson's source: both languages, and the notebooks made from it."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import jupytext
import pytest

PROJECT = Path(__file__).parent.parent
TEXT_CELLS = re.compile(r"^# %% \[markdown\](.*)$", flags=re.MULTILINE)


@pytest.fixture(scope="module")
def lessons() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lessons", PROJECT / "scripts" / "lessons.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def source() -> str:
    return (PROJECT / "lessons" / "lesson.py").read_text(encoding="utf-8")


def headings(text: str) -> list[str]:
    return re.findall(r"^(#+)(?: ([\d.]+))?", text, flags=re.MULTILINE)


def test_the_notebooks_are_what_the_source_says(lessons: ModuleType) -> None:
    assert lessons.stale() == [], "run `python scripts/lessons.py`"


def test_a_stale_notebook_and_a_missing_one_are_named(
    lessons: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lesson.py").write_text(source(), encoding="utf-8")
    monkeypatch.setattr(lessons, "LESSONS", tmp_path)
    monkeypatch.setattr("sys.argv", ["lessons.py", "--check"])
    (tmp_path / "lesson.ipynb").write_text(lessons.page("lesson.ipynb").replace("epochs = 5", "epochs = 6"))
    assert lessons.main() == 1
    assert capsys.readouterr().err.splitlines() == [
        f"error: lessons/{name} is stale: run `python scripts/lessons.py`" for name in lessons.NOTEBOOKS
    ]
    assert not (tmp_path / "leccion.ipynb").exists()
    monkeypatch.setattr("sys.argv", ["lessons.py"])
    assert lessons.main() == 0
    assert lessons.stale() == []


def test_each_text_is_there_in_both_languages_with_the_same_headings() -> None:
    assert set(TEXT_CELLS.findall(source())) == {' lang="en"', ' lang="es"'}
    texts = [cell for cell in jupytext.reads(source(), fmt="py:percent").cells if cell.cell_type == "markdown"]
    assert len(texts) > 50
    assert [cell.metadata["lang"] for cell in texts] == ["en", "es"] * (len(texts) // 2)
    for english, spanish in zip(texts[::2], texts[1::2], strict=True):
        assert headings(english.source) == headings(spanish.source), english.source
        assert english.source != spanish.source
        assert 0.6 < len(spanish.source) / len(english.source) < 1.7, spanish.source


def test_both_notebooks_have_the_same_code_and_no_outputs(lessons: ModuleType) -> None:
    made = {language: lessons.notebook(source(), language).cells for language in ("en", "es")}
    for english, spanish in zip(made["en"], made["es"], strict=True):
        assert english.id == spanish.id
        assert english.cell_type == spanish.cell_type
        if english.cell_type == "code":
            assert english == spanish
            assert english.outputs == []
            assert "#" not in re.sub(r'"[^"]*"', "", english.source), "a comment would be in one language alone"


def test_a_program_without_text_cells_is_a_notebook_of_code(lessons: ModuleType) -> None:
    (cell,) = lessons.notebook("# %%\nprint(1)\n", "es").cells
    assert (cell.cell_type, cell.source, cell.id) == ("code", "print(1)", "cell-001")
