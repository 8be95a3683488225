"""Names of files as they come from other systems: every command reads them, or says before the work what is wrong."""

import json
import shutil
from pathlib import Path

import pytest

from bertpipe.core.artifacts import read_json
from commands import Run

pytestmark = pytest.mark.usefixtures("project")

LATIN = "rese\udcf1as"
"""A name in Latin-1, which is not UTF-8, as Python has it."""
NAMES = [LATIN, "an\u0303o", "[red]a :dog:", "a\nb", "-a", "a.", " a ", "'a\" $HOME `x`", "x" * 240, "\x1b[2J"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_inputs_and_outputs_of_any_name(run: Run, name: str) -> None:
    """Whatever the name holds, JSON is JSON."""
    folder, zip_file = Path(f"in/{name}"), Path(f"in/{name[:200]}.zip")
    shutil.copytree("text", folder)
    shutil.copy("data/raw/dataset.zip", zip_file)
    Path("in/zips").mkdir()
    shutil.copy(zip_file, f"in/zips/{zip_file.name}")
    rows = "".join(f'"film {number}",{"ab"[number % 2]}\n' for number in range(40))
    Path(f"in/{name[:200]}.csv").write_text("text,label\n" + rows, encoding="utf-8")
    Path(f"in/{name[:200]}.txt").write_text("the [MASK]\n", encoding="utf-8")
    commands = {
        "prepare": ("prepare", "--text", folder, "--out", "mine"),
        "convert": ("convert", "--zip", zip_file, "--out", "converted"),
        "convert zips": ("convert", "--zip", "in/zips", "--out", "zips"),
        "download": ("download", f"--source={zip_file}", f"--out=out/{name}"),
        "probe": ("probe", "--out", f"out/{name}.json"[-250:], "--", f"in/{name[:200]}.csv"),
        "infer": ("infer", "mlm", "--input", f"in/{name[:200]}.txt", "--out", f"out/{name[:200]}.jsonl"),
    }
    for told, arguments in commands.items():
        options = arguments if "--" not in arguments else (arguments[0], "--json", *arguments[1:])
        ended = run(*options) if "--json" in options else run(*options, "--json")
        assert (told, ended.code) == (told, 0), ended.err
        json.loads(ended.out).items()
        ended.out.encode("utf-8")
    for file in ("mine/summary.json", "converted/summary.json", "zips/summary.json"):
        assert json.dumps(read_json(Path(file)), ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize("option", ["data", "model", "init", "out"])
def test_a_directory_of_models_or_tables_has_a_name_in_utf8(run: Run, option: str) -> None:
    before = sorted(Path().rglob("*"))
    ended = (
        run("train", f"--{option}", f"models/{LATIN}")
        if option != "model"
        else run("infer", "score", "a", "--model", LATIN)
    )
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: the path ")
    assert ended.err.endswith(
        "is not UTF-8, and the libraries that read and write models and tables need that: rename the "
        "folder, or name another one\n"
    )
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("command", ["plot", "export", "train", "evaluate", "convert"])
def test_the_longest_name_is_written(run: Run, command: str) -> None:
    """Temporary names are longer."""
    name = "ñ" * 120
    assert run(command, "--out", name).code == 0
    assert Path(name).exists()
    assert [path.name for path in Path().iterdir() if path.name.endswith(".lock")] == []


def test_a_path_that_cannot_be_looked_up_is_one_line(run: Run) -> None:
    Path("loop").symlink_to("loop")
    long = "/".join(["y" * 200] * 30)
    commands = (
        ("infer", "mlm", "[MASK]", "--model"), ("plot", "--history"), ("convert", "--zip"), ("train", "--data"),
        ("train", "--init"), ("infer", "mlm", "--input"), ("probe",), ("convert", "--params"), ("export", "--model"),
    )  # fmt: skip
    for command in commands:
        ended = run(*command, long)
        assert (ended.code, ended.out) == (1, "")
        line = ended.err.splitlines(keepends=True)[-1]
        assert line.startswith("error: ...yyy")
        assert line.endswith("cannot be used (File name too long): name another path, or correct this one\n")
        assert len(line) < 500
        assert run(*command, "loop").code == 1
    for command in (("train", "--out"), ("export", "--out"), ("prepare", "--out", "x", "--text")):
        assert run(*command, "loop").err == "error: loop is a link that leads to itself: name another path\n"
