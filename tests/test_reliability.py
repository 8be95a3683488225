"""docs/explanation/reliability.md says what the tests hold, with the counts of the last full run."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def reliability() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reliability", PROJECT / "scripts" / "reliability.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_made_from_the_counts(reliability: ModuleType) -> None:
    page = reliability.PAGE.read_text(encoding="utf-8")
    assert page == reliability.inserted(page, json.loads(reliability.COUNTS.read_text(encoding="utf-8")))


def test_every_promise_is_held_by_tests_and_every_test_holds_a_known_one(reliability: ModuleType) -> None:
    marked: dict[str, set[str]] = {}
    for file in sorted((PROJECT / "tests").rglob("test_*.py")):
        for name in re.findall(r'mark\.promise\("([^"]+)"\)', file.read_text(encoding="utf-8")):
            marked.setdefault(name, set()).add(str(file.relative_to(PROJECT)))
    assert marked.keys() == reliability.PROMISES.keys()
    for name, files in marked.items():
        patterns = reliability.PROMISES[name].file.split(", ")
        assert {str(path.relative_to(PROJECT)) for pattern in patterns for path in PROJECT.glob(pattern)} >= files
