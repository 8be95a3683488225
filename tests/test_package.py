"""What the package says of itself where it is installed from."""

import re
import runpy
import tomllib
from email import message_from_string, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from hatchling.build import build_wheel
from ruamel.yaml import YAML

from bertpipe import __version__

PROJECT = Path(__file__).parent.parent
_TARGET = re.compile(r"\]\(([^)]*)\)")


@pytest.fixture(scope="module")
def wheel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(PROJECT)
        return folder / build_wheel(str(folder))


@pytest.fixture(scope="module")
def metadata(wheel_file: Path) -> EmailMessage:
    """Return the METADATA of the wheel."""
    with ZipFile(wheel_file) as wheel:
        (file,) = (each for each in wheel.namelist() if each.endswith(".dist-info/METADATA"))
        found = message_from_string(wheel.read(file).decode("utf-8"), policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found


def test_the_description_has_no_link_that_a_package_index_cannot_follow(metadata: EmailMessage) -> None:
    described = metadata.get_payload()
    targets = _TARGET.findall(described)
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []
    assert "![" not in described
    assert "](" not in _TARGET.sub("", described)


def test_the_description_is_the_readme_otherwise(metadata: EmailMessage) -> None:
    described, readme = metadata.get_payload(), (PROJECT / "README.md").read_text(encoding="utf-8")
    assert metadata["Description-Content-Type"] == "text/markdown"
    words = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", readme)
    assert (
        re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", described).split()
        == re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", words).split()
    )
    assert "go from and to Hugging Face,\n" in described


def test_the_rest_is_what_pyproject_says(metadata: EmailMessage) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (metadata["Name"], metadata["Version"]) == ("bertpipe", __version__)
    assert metadata["Summary"] == project["description"]
    assert metadata["License-Expression"] == project["license"]


def test_what_new_projects_are_made_from_is_in_the_wheel(wheel_file: Path) -> None:
    paths = [PROJECT / "dvc.yaml", PROJECT / "params.yaml", *(PROJECT / "params").rglob("*.yaml")]
    expected = {f"bertpipe/project/{path.relative_to(PROJECT)}": path.read_bytes() for path in paths}
    with ZipFile(wheel_file) as wheel:
        packed = {name: wheel.read(name) for name in wheel.namelist() if name.startswith("bertpipe/project/")}
        assert "bertpipe/commands/project_readme.md.jinja" in wheel.namelist()
    assert packed == expected


def test_a_release_gives_links_and_pictures_of_the_readme_whole_addresses() -> None:
    path = PROJECT / "scripts" / "readme_links.py"
    script: dict[str, Any] = runpy.run_path(str(path))
    change = script["with_whole_addresses"]
    assert change("![a\nb](c.png) [d](e/f.md#g) [h](https://i/j) [k](#l)", "https://host/owner/name", "v1") == (
        "![a\nb](https://host/owner/name/raw/v1/c.png) [d](https://host/owner/name/blob/v1/e/f.md#g) "
        "[h](https://i/j) [k](#l)"
    )
    whole = change((PROJECT / "README.md").read_text(encoding="utf-8"), "https://host/owner/name", "v1")
    assert "![losses of the default run](https://host/owner/name/raw/v1/docs/images/loss.png)" in whole
    assert [target for target in _TARGET.findall(whole) if not target.startswith("https://")] == []


def test_the_citation_names_no_person() -> None:
    cited = YAML(typ="safe", pure=True).load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert cited["authors"] == [{"name": "The bertpipe developers"}]
    assert (
        cited["license"]
        == tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["license"]
    )
