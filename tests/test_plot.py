import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from bertpipe.core.artifacts import EPOCHS_COLUMNS, HISTORY_COLUMNS, TIMING_COLUMNS, write_csv, write_json
from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.core.manifest import MANIFEST_NAME
from bertpipe.core.progress import Progress
from bertpipe.stages import plot
from bertpipe.stages.plot import run_plot

NAMES = ("loss", "accuracy", "learning_rate", "throughput")
METRICS = {
    "mlm": {"constant": {"loss": 5.8, "top1_accuracy": 0.06}, "two_neighbours": {"top1_accuracy": 0.21}},
    "nsp": {"sentence_b_alone": {"accuracy": 0.51}, "word_overlap": {"accuracy": 0.64}},
}


def write_run(directory: Path, *, epochs: int, intervals: int) -> dict[str, Path | None]:
    """Write the tables of a run of some epochs, with as many intervals in each, and return their paths."""
    total = epochs * intervals
    history: list[Sequence[object]] = []
    timing: list[Sequence[object]] = []
    for number in range(1, total + 1):
        mlm, nsp = 3 + 5 * math.exp(-number / 40) + 0.2 * math.sin(3 * number), 0.7 - 0.1 * number / total
        history.append((10 * number, 1 + (number - 1) // intervals, 1e-3, mlm, nsp, mlm + nsp, 1.0))
        timing.append((10 * number, 0.5 * number, 900, 1800.0 + number, 30.0))
    rows = [(e, 10 * e * intervals, 8 - e / 2, 0.1 + e / 50, 0.69, 0.5 + e / 50, 8.7) for e in range(1, epochs + 1)]
    paths = {name: directory / f"{name}.csv" for name in ("history", "epochs", "timing")}
    write_csv(paths["history"], HISTORY_COLUMNS, history)
    write_csv(paths["epochs"], EPOCHS_COLUMNS, rows)
    write_csv(paths["timing"], TIMING_COLUMNS, timing)
    write_json(directory / "metrics.json", METRICS)
    return {**paths, "metrics": directory / "metrics.json"}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """Return the figures that would be saved, by name; they are laid out, and their files are empty."""
    seen: dict[str, Figure] = {}

    def keep(figure: Figure, stem: Path) -> list[str]:
        seen[stem.name] = figure
        figure.draw_without_rendering()
        names = [f"{stem.name}.{kind}" for kind in ("png", "svg")]
        for name in names:
            (stem.parent / name).touch()
        return names

    monkeypatch.setattr(plot, "_save", keep)
    return seen


def line(axis: Axes, label: str) -> Any:  # noqa: ANN401
    (found,) = (line for line in axis.get_lines() if str(line.get_label()).startswith(label))
    return found


def horizontal(axis: Axes) -> dict[str, float]:
    """Return the height of each horizontal line by its label."""
    return {
        str(line.get_label()): line.get_ydata()[0]
        for line in axis.get_lines()
        if len(line.get_ydata()) == 2 and line.get_linestyle() in {"--", ":", "-."}
    }


@pytest.mark.parametrize(("epochs", "intervals"), [(10, 30), (1, 30), (1, 1), (0, 0)])
def test_every_picture_is_drawn_as_png_and_svg(tmp_path: Path, epochs: int, intervals: int) -> None:
    paths = write_run(tmp_path, epochs=epochs, intervals=intervals)
    result = run_plot(**paths, out=tmp_path / "plots")
    expected = [f"{name}.{kind}" for name in NAMES for kind in ("png", "svg")]
    assert result["files"] == expected
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {*expected, MANIFEST_NAME}
    for name in NAMES:
        pixels = imread(tmp_path / "plots" / f"{name}.png")
        assert pixels.std() > 0.02  # not a blank sheet
        assert ElementTree.parse(tmp_path / "plots" / f"{name}.svg").getroot().tag.endswith("svg")


def test_the_pictures_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    paths = write_run(tmp_path, epochs=3, intervals=7)
    run_plot(**paths, out=tmp_path / "first")
    with mpl.rc_context({"axes.facecolor": "pink", "svg.hashsalt": "other"}):  # a user's own matplotlibrc
        run_plot(**paths, out=tmp_path / "second")
    for file in (tmp_path / "first").iterdir():
        content = file.read_bytes()
        assert content == (tmp_path / "second" / file.name).read_bytes()
        assert mpl.__version__.encode() not in content
        assert b"dc:date" not in content


def test_the_loss_panels_show_the_tables_numbers(tmp_path: Path, figures: dict[str, Figure]) -> None:
    paths = write_run(tmp_path, epochs=2, intervals=50)
    run_plot(**paths, out=tmp_path / "plots")
    table = np.genfromtxt(tmp_path / "history.csv", delimiter=",", names=True)
    tests = np.genfromtxt(tmp_path / "epochs.csv", delimiter=",", names=True)
    for axis, column, unit in zip(
        figures["loss"].axes, ("mlm_loss", "nsp_loss"), ("nats per masked token", "nats per pair"), strict=True
    ):
        raw, smooth = line(axis, "training, each interval"), line(axis, "training, mean of 5 intervals")
        assert raw.get_xdata() == pytest.approx(table["step"])
        assert raw.get_ydata() == pytest.approx(table[column])
        assert smooth.get_ydata()[20] == pytest.approx(table[column][18:23].mean())
        assert smooth.get_ydata()[0] == pytest.approx(table[column][:3].mean())
        assert smooth.get_linewidth() > raw.get_linewidth()
        marks = line(axis, "held-out rows")
        assert marks.get_xdata() == pytest.approx([500, 1000])
        assert marks.get_ydata() == pytest.approx(tests[column])
        assert unit in axis.get_ylabel()
        assert axis.get_xlabel() == "optimizer step"
    mlm, nsp = figures["loss"].axes
    assert horizontal(mlm) == {"constant predictor: 5.80": 5.8}
    assert horizontal(nsp) == {"chance, ln 2: 0.69": math.log(2)}


def test_accuracy_stands_beside_simple_predictors(tmp_path: Path, figures: dict[str, Figure]) -> None:
    run_plot(**write_run(tmp_path, epochs=2, intervals=3), out=tmp_path / "plots")
    mlm, nsp = figures["accuracy"].axes
    assert line(mlm, "model").get_ydata() == pytest.approx([12, 14])
    assert line(nsp, "model").get_ydata() == pytest.approx([52, 54])
    assert horizontal(mlm) == pytest.approx({"constant predictor: 6.0 %": 6, "counts of two neighbours: 21.0 %": 21})
    assert horizontal(nsp) == pytest.approx(
        {"chance: 50.0 %": 50, "sentence B alone: 51.0 %": 51, "word overlap: 64.0 %": 64}
    )


@pytest.mark.parametrize("content", [None, {}, {"mlm": {"constant": {"loss": None}}, "nsp": None}])
def test_what_is_not_known_has_no_line(tmp_path: Path, figures: dict[str, Figure], content: object) -> None:
    paths = write_run(tmp_path, epochs=2, intervals=3)
    if content is None:
        paths["metrics"] = None
    else:
        write_json(tmp_path / "metrics.json", content)
    run_plot(**paths, out=tmp_path / "plots")
    assert horizontal(figures["loss"].axes[0]) == {}
    assert horizontal(figures["accuracy"].axes[0]) == {}
    assert list(horizontal(figures["accuracy"].axes[1])) == ["chance: 50.0 %"]


def test_throughput_has_its_median_and_may_be_absent(tmp_path: Path, figures: dict[str, Figure]) -> None:
    paths = write_run(tmp_path, epochs=1, intervals=5)
    run_plot(**paths, out=tmp_path / "plots")
    (axis,) = figures["throughput"].axes
    assert horizontal(axis) == {"median: 1,803 tokens/s": 1803.0}
    (tmp_path / "timing.csv").unlink()
    names = run_plot(**paths, out=tmp_path / "plots")["files"]
    assert "throughput.png" not in names
    assert not (tmp_path / "plots" / "throughput.png").exists()  # the earlier one is gone


def test_one_point_has_a_marker_and_no_legend_covers_it(tmp_path: Path, figures: dict[str, Figure]) -> None:
    run_plot(**write_run(tmp_path, epochs=1, intervals=1), out=tmp_path / "plots")
    for figure in figures.values():
        for axis in figure.axes:
            points = [line for line in axis.get_lines() if len(line.get_xdata()) == 1]
            assert points
            assert all(line.get_marker() == "o" for line in points)
            legend = axis.get_legend()
            if legend is not None:
                assert legend.get_window_extent().y1 < axis.get_window_extent().y0


def test_nothing_is_cut_off(tmp_path: Path, figures: dict[str, Figure]) -> None:
    run_plot(**write_run(tmp_path, epochs=10, intervals=30), out=tmp_path / "plots")
    for figure in figures.values():
        width, height = figure.bbox.width, figure.bbox.height
        drawn = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert drawn.x0 >= 0
        assert drawn.y0 >= 0
        assert drawn.x1 <= width
        assert drawn.y1 <= height


def test_an_empty_cell_is_a_gap(tmp_path: Path, figures: dict[str, Figure]) -> None:
    paths = write_run(tmp_path, epochs=2, intervals=3)
    text = (tmp_path / "epochs.csv").read_text().splitlines()
    cells = text[1].split(",")
    cells[EPOCHS_COLUMNS.index("mlm_loss")] = ""
    (tmp_path / "epochs.csv").write_text("\n".join([text[0], ",".join(cells), text[2]]) + "\n")
    run_plot(**paths, out=tmp_path / "plots")
    assert np.isnan(line(figures["loss"].axes[0], "held-out rows").get_ydata()).tolist() == [True, False]


@pytest.mark.parametrize("name", ["history", "epochs"])
def test_a_missing_table_names_the_command_that_makes_it(tmp_path: Path, name: str) -> None:
    paths = write_run(tmp_path, epochs=1, intervals=1)
    (tmp_path / f"{name}.csv").unlink()
    with pytest.raises(MissingInputError, match=rf"{name}\.csv does not exist: run `bertpipe train`"):
        run_plot(**paths, out=tmp_path / "plots")


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read as CSV"),
        ("step,epoch\n1,1\n", "lacks the column learning_rate"),
        (",".join(HISTORY_COLUMNS) + "\n1,1,0.1,much,1,1,1\n", "not a number"),
        (",".join(HISTORY_COLUMNS) + "\n1,1,0.1,1,1,1,1,1,1,1,1\n", "more cells than its header"),
        (b"\xff\xfe\x00", "cannot be read as CSV"),
    ],
)
def test_a_malformed_table_is_refused_and_leaves_the_earlier_pictures(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    paths = write_run(tmp_path, epochs=1, intervals=1)
    run_plot(**paths, out=tmp_path / "plots")
    before = sorted((tmp_path / "plots").iterdir())
    (tmp_path / "history.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        run_plot(**paths, out=tmp_path / "plots")
    assert sorted((tmp_path / "plots").iterdir()) == before


@pytest.mark.usefixtures("figures")
@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zip", ".tar", ".zst"])
def test_a_table_is_read_as_csv_whatever_its_name(tmp_path: Path, suffix: str) -> None:
    paths = write_run(tmp_path, epochs=1, intervals=1)
    table = (tmp_path / "history.csv").rename(tmp_path / f"history.csv{suffix}")
    assert run_plot(**{**paths, "history": table}, out=tmp_path / "plots")["intervals"] == 1
    table.write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(DataError, match=r"history\.csv\..* cannot be read as CSV: .*; train again"):
        run_plot(**{**paths, "history": table}, out=tmp_path / "plots")


def test_progress_names_each_picture(tmp_path: Path) -> None:
    reports: list[Progress] = []
    run_plot(**write_run(tmp_path, epochs=1, intervals=2), out=tmp_path / "plots", on_progress=reports.append)
    assert [report.detail for report in reports] == [*NAMES, ""]
    assert reports[-1].completed == reports[-1].total == 4
