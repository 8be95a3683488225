"""Params files that extend another one: what is merged, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bertpipe.core.errors import ParamsError
from bertpipe.core.params_file import load_params, merged_text

PROJECT = Path(__file__).parent.parent
BASE = PROJECT / "params.yaml"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write(tmp_path / "params.yaml", BASE.read_text(encoding="utf-8"))


def overlay(base: Path, text: str, name: str = "params/mine.yaml", extends: str = "../params.yaml") -> Path:
    return write(base.parent / name, f"extends: {extends}\n{text}")


def parsed(text: str) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return content


def fault(path: Path) -> str:
    with pytest.raises(ParamsError) as caught:
        load_params(path)
    return str(caught.value)


def test_values_that_differ_are_put_into_the_base(base: Path) -> None:
    mine = overlay(base, "train: {epochs: 3}\nprobe:\n  whole:\n    epochs: 5\n")
    expected = parsed(BASE.read_text(encoding="utf-8"))
    expected["train"]["epochs"] = 3
    expected["probe"]["whole"]["epochs"] = 5
    assert parsed(merged_text(mine)) == expected
    loaded = load_params(mine)
    assert (loaded.train.epochs, loaded.probe.whole.epochs) == (3, 5)
    assert (loaded.probe.frozen, loaded.model) == (load_params(base).probe.frozen, load_params(base).model)


def test_a_list_and_a_mapping_of_the_users_own_keys_are_replaced(base: Path) -> None:
    base.write_text(base.read_text(encoding="utf-8").replace("corpora: {}", "corpora: {theirs: a}"), encoding="utf-8")
    assert load_params(base).data.corpora == {"theirs": "a"}
    mine = overlay(base, "data: {corpora: {mine: b}}\ninfer:\n  examples:\n    - {task: mlm, text: 'a [MASK]'}\n")
    loaded = load_params(mine)
    assert loaded.data.corpora == {"mine": "b"}
    assert [example.task for example in loaded.infer.examples] == ["mlm"]
    assert parsed(merged_text(mine))["data"]["corpora"] == {"mine": "b"}


def test_an_overlay_may_extend_an_overlay_in_another_folder(base: Path) -> None:
    overlay(base, "train: {epochs: 3, batch_size: 5}\n")
    mine = overlay(base, "train: {epochs: 4}\n", "mine.yml", "params/mine.yaml")
    loaded = load_params(mine)
    assert (loaded.train.epochs, loaded.train.batch_size) == (4, 5)
    assert loaded.train.seed == load_params(base).train.seed
    assert load_params(write(base.parent / "all.yaml", merged_text(mine))) == loaded


def test_the_base_may_be_in_the_home_folder(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(base.parent))
    mine = write(tmp_path / "else" / "where.yaml", "extends: ~/params.yaml\ntrain: {epochs: 4}\n")
    assert load_params(mine).train.epochs == 4
    mine.write_text("extends: ~nobody-of-this-name/params.yaml\n", encoding="utf-8")
    assert fault(mine).startswith(f"{mine} extends ~nobody-of-this-name/params.yaml: ")


def test_aliases_of_the_base_are_not_changed_together(base: Path) -> None:
    content = parsed(base.read_text(encoding="utf-8"))
    content["probe"]["frozen"] = content["probe"]["whole"]
    with base.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(content, file)
    assert "&" in base.read_text(encoding="utf-8")
    loaded = load_params(overlay(base, "probe: {whole: {epochs: 99}}\n"))
    assert (loaded.probe.whole.epochs, loaded.probe.frozen.epochs) == (99, content["probe"]["frozen"]["epochs"])


def test_all_faults_are_named_at_once_each_with_its_file(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = base.read_text(encoding="utf-8").replace("\n  films: 300", "\n  films: 3").replace("\n  tied: true", "\n")
    base.write_text(f"{text}\nbottom: 1\n", encoding="utf-8")
    mine = overlay(base, "model: {heads: 3, epoch: 1}\ntrain: {epochs: 0}\ntop: 2\n").relative_to(base.parent)
    monkeypatch.chdir(base.parent)
    known = "is not known: check its spelling, or remove it"
    below = f"[in {mine.parent}/../params.yaml]"
    head, *lines = fault(mine).splitlines()
    assert head == f"{mine} has 6 fault(s):"
    assert {line.strip() for line in lines} == {
        f"sample.films: Input should be greater than or equal to 20 (given: 3) {below}",
        "model.tied: is missing: add it",
        f"model.epoch: {known} (given: 1)",
        "train.epochs: Input should be greater than or equal to 1 (given: 0)",
        f"top: {known} (given: 2)",
        f"bottom: {known} (given: 1) {below}",
    }


def test_a_fault_of_values_that_do_not_go_together_names_them(base: Path) -> None:
    (line,) = fault(overlay(base, "model: {heads: 3}\n")).splitlines()[1:]
    assert line.strip() == "model: embedding_dim 64 is not a multiple of heads 3: try 2 or 4 heads"


def test_a_list_that_is_longer_than_the_bases_has_its_own_faults(base: Path) -> None:
    examples = "    - {task: mlm, text: a}\n" * 20 + "    - {task: nsp, first: a}\n"
    (line,) = fault(overlay(base, f"infer:\n  examples:\n{examples}")).splitlines()[1:]
    assert line.strip() == "infer.examples.20.second: is missing: add it"


@pytest.mark.parametrize("section", ["", " 3", " [1]"])
def test_a_section_that_is_none_is_a_fault(base: Path, section: str) -> None:
    (line,) = fault(overlay(base, f"train:{section}\n")).splitlines()[1:]
    assert line.strip().startswith("train: Input should be an object")


def test_a_cycle_is_named(base: Path) -> None:
    first = overlay(base, "", "a.yaml", "b.yaml")
    second = overlay(base, "", "b.yaml", "c/../a.yaml")
    (base.parent / "c").mkdir()
    again = f"{base.parent}/c/../a.yaml"
    assert fault(first) == f"{first} extends {second} extends {again}: that is a cycle, remove one line `extends`"
    own = overlay(base, "", "own.yaml", "own.yaml")
    assert fault(own) == f"{own} extends {own}: that is a cycle, remove one line `extends`"


def test_a_missing_base_is_named(base: Path) -> None:
    mine = overlay(base, "", extends="params.yaml")
    assert fault(mine) == (
        f"no params file at {mine.parent}/params.yaml, which {mine} extends: correct its line `extends`"
    )


@pytest.mark.parametrize("value", ["", "null", "3", "[a.yaml]", "''", '"a\\0.yaml"'])
def test_a_base_that_is_not_a_path_is_refused(base: Path, value: str) -> None:
    mine = write(base.parent / "mine.yaml", f"extends: {value}\n")
    assert fault(mine).startswith(f"{mine} extends ")
    assert fault(mine).endswith("which is not a path: write `extends: ../params.yaml`")


@pytest.mark.parametrize(("content", "said"), [("- 1", "holds no sections"), ("a: [", "is not YAML")])
def test_a_base_that_is_not_a_params_file_is_named(base: Path, content: str, said: str) -> None:
    mine = overlay(base, "train: {epochs: 4}\n")
    base.write_text(content, encoding="utf-8")
    assert fault(mine).startswith(f"{mine.parent}/../params.yaml {said}")


def test_what_extends_nothing_stays_as_it_is() -> None:
    assert merged_text(BASE) == BASE.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted((PROJECT / "params").rglob("*.yaml")), ids=lambda path: path.name)
def test_the_projects_own_hold_only_what_differs_and_keep_the_comments(path: Path) -> None:
    content = parsed(path.read_text(encoding="utf-8"))
    below = parsed(merged_text(path.parent / content.pop("extends")))

    def repeated(own: dict[str, Any], others: dict[str, Any]) -> list[str]:
        pairs = [(name, value, others.get(name)) for name, value in own.items()]
        nested = [n for _, a, b in pairs if isinstance(a, dict) and isinstance(b, dict) for n in repeated(a, b)]
        return nested + [name for name, a, b in pairs if not isinstance(a, dict) and a == b]

    assert repeated(content, below) == []
    text = merged_text(path)
    assert "extends" not in parsed(text)
    for comment in ("# Every number of the pipeline", "# expected SHA-256 of the zip", "# of several processes, after"):
        assert comment in text
    assert "\n  sha256: null " in text
