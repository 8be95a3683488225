"""The README and docs/: short enough, linked, generated where they can be, and what they show can be run."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ruamel.yaml import YAML

PROJECT = Path(__file__).parent.parent
DOCS = PROJECT / "docs"
PAGES = [PROJECT / "README.md", *sorted(DOCS.rglob("*.md"))]
HISTORY = ("adr", "log.md")
"""Pages that speak of the code as it was."""
EXAMPLES = {"src/bertpipe/stages/lengths.py", "params/mine.yaml"}
"""Files that a page tells its reader to write."""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", PROJECT / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_is_short() -> None:
    assert len(text_of(PROJECT / "README.md").splitlines()) <= 200


def anchors(page: Path) -> set[str]:
    """Return what the headings of a page are linked by, on GitHub and on the site alike."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^a-z0-9-]", "", heading.lower().replace(" ", "-")) for heading in headings}


def test_the_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)#?([^)]*)\)", text_of(PROJECT / "README.md"))
    local = [(PROJECT / target, anchor) for target, anchor in links if "://" not in target]
    assert len(local) > 20
    assert [page for page, anchor in local if not page.exists() or (anchor and anchor not in anchors(page))] == []


def navigation(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        for value in entry.values():
            yield from navigation(value) if isinstance(value, list) else [value]


def test_every_page_is_in_the_navigation_of_the_site_once() -> None:
    config = YAML(typ="safe", pure=True).load(PROJECT / "mkdocs.yml")
    assert sorted(navigation(config["nav"])) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES[1:])
    assert config["theme"]["font"] is False, "a font would come from another server"


@pytest.mark.parametrize("name", ["commands.md", "params.md"])
def test_a_generated_page_is_what_the_code_says(reference: ModuleType, name: str) -> None:
    assert reference.PAGES.keys() == {"commands.md", "params.md"}
    assert text_of(reference.REFERENCE / name) == reference.PAGES[name](), "run `python scripts/reference.py`"


def test_a_stale_page_and_a_missing_one_are_named(
    reference: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "REFERENCE", tmp_path)
    monkeypatch.setattr("sys.argv", ["reference.py", "--check"])
    (tmp_path / "commands.md").write_text(reference.commands_page().replace("Fetch the zip", "Bring the zip"))
    assert reference.main() == 1
    assert capsys.readouterr().err.splitlines() == [
        f"error: docs/reference/{name} is stale: run `python scripts/reference.py`" for name in reference.PAGES
    ]
    assert not (tmp_path / "params.md").exists()
    monkeypatch.setattr("sys.argv", ["reference.py"])
    assert reference.main() == 0
    assert reference.stale() == []


def test_the_reference_has_arguments_options_limits_and_values(reference: ModuleType) -> None:
    commands, params = reference.commands_page(), reference.params_page()
    assert "bertpipe prepare --out PATH [OPTIONS]" in commands
    assert "| `--resume / --no-resume` |" in commands
    assert "| `TEXT` | A text with [MASK] in it. | from --input |" in commands
    assert "`sampled` or `full` | `full` |" in params
    assert "a number, above 0 and below 1 | `0.15` |" in params
    assert "`source` or a number, above 0 and below 1 | `0.1` |" in params


def shown_commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for command in re.findall(r"^\$ (?:.* -m )?bertpipe (.+)$", text_of(page), flags=re.MULTILINE):
            yield page.name, command.split("   #")[0]


def test_the_commands_that_pages_show_exist_with_their_options(reference: ModuleType) -> None:
    sections = dict(re.findall(r"^## bertpipe (.+?)\n(.*?)(?=^## |\Z)", reference.commands_page(), re.DOTALL | re.M))
    shown = list(shown_commands())
    assert len(shown) > 20
    for page, command in shown:
        words = command.split()
        name = " ".join(words[:2]) if words[0] == "infer" else words[0]
        assert name in sections, f"{page}: {command}"
        for option in re.findall(r"(?<= )--[a-z-]+", re.sub(r'"[^"]*"', "", command)):
            assert option in sections[name], f"{page}: {command}"


def test_the_files_that_pages_and_sources_name_exist() -> None:
    sources = [*(PROJECT / "src").rglob("*.py"), *(PROJECT / "scripts").glob("*.py"), PROJECT / "CONTRIBUTING.md"]
    pages = [page for page in PAGES if not set(HISTORY) & set(page.parts)]
    missing = [
        f"{file.relative_to(PROJECT)}: {name}"
        for file in [*pages, *sources]
        for name in re.findall(
            r"(?:docs|tests|scripts|benchmarks|clients|lessons|src/bertpipe|params)/[\w/.-]+\.\w+", text_of(file)
        )
        if not (PROJECT / name).exists() and name not in EXAMPLES
    ]
    assert missing == []


def test_the_python_that_the_api_page_shows_runs(
    workdir: Path, parquet: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place, target in {"data/parquet": parquet, "models/bert": trained / "model"}.items():
        (workdir / place).parent.mkdir(exist_ok=True)
        (workdir / place).symlink_to(target)
    (workdir / "params.yaml").symlink_to(PROJECT / "params.yaml")
    blocks = re.findall(r"```python\n(.*?)```", text_of(DOCS / "reference" / "python-api.md"), flags=re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block, "python-api.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 1 + 3 + 3 + 1 + 2 + 1
    assert (workdir / "metrics.json").is_file()
