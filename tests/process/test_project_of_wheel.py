"""A project from an installed wheel: its README, followed command by command, and no file of the checkout is read."""

import os
import re
import subprocess
import sys
import sysconfig
import textwrap
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hatchling.build import build_wheel

from prepared import REVIEWS, folder_of

PROJECT = Path(__file__).parents[2]
GUARD = f"""
import os, sys

def refuse(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], (str, bytes)):
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if path.startswith({str(PROJECT)!r} + "/") and not path.startswith({sysconfig.get_path("purelib")!r}):
            raise RuntimeError("read a file of the checkout: " + path)

sys.addaudithook(refuse)
"""
"""Runs at the start of each Python process of the environment."""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Installed:
    """An environment with bertpipe's wheel, and with what it depends on from this one."""

    folder: Path
    environment: Mapping[str, str]

    def run(self, command: str, *, within: Path) -> str:
        """Run a line of a shell in a folder and return its standard output."""
        done = subprocess.run(
            ["sh", "-c", command], cwd=within, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(PROJECT)
        wheel = folder / build_wheel(str(folder))
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--disable-pip-version-check", str(wheel)], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    (site / "checkout_guard.py").write_text(GUARD, encoding="utf-8")
    # A folder in a .pth is put on the path, and the .pth files within it, such as the editable install's, are not read.
    (site / "dependencies.pth").write_text(
        f"import checkout_guard\n{sysconfig.get_path('purelib')}\n", encoding="utf-8"
    )
    dvc = folder / "venv/bin/dvc"
    dvc.write_text(f'#!/bin/sh\nexec "{python}" -m dvc "$@"\n', encoding="utf-8")
    dvc.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "COV"))}
    identity = {f"GIT_{who}_{what}": "nobody" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = kept | identity | {
        "PATH": f"{folder / 'venv/bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "global"),
        "DVC_SYSTEM_CONFIG_DIR": str(folder / "system"),
        "DVC_NO_ANALYTICS": "1",
        "NO_COLOR": "1",
    }  # fmt: skip
    return Installed(folder, environment)


def commands_in(readme: Path) -> list[str]:
    return re.findall(r"^ *\$ (.+)$", readme.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_the_package_is_read_from_where_it_is_installed(installed: Installed) -> None:
    said = installed.run("python -c 'import bertpipe; print(bertpipe.__file__)'", within=installed.folder)
    assert Path(said.strip()).is_relative_to(installed.folder)
    script = installed.folder / "guarded.py"
    script.write_text(
        textwrap.dedent(f"""
        try:
            open({str(PROJECT / "params.yaml")!r})
        except RuntimeError:
            print("refused")
    """)
    )
    assert installed.run(f"python {script}", within=installed.folder) == "refused\n"


def test_the_readme_of_a_project_can_be_followed(installed: Installed, tmp_path: Path) -> None:
    said = installed.run("bertpipe init 'my año' --recipe tiny", within=tmp_path)
    assert "dvc repro" in said
    project = tmp_path / "my año"
    said_by = {command: installed.run(command, within=project) for command in commands_in(project / "README.md")}
    assert [command.split()[0] for command in said_by] == ["git", "dvc", "dvc", "bertpipe", "git", "git", "dvc", "dvc"]
    answer = next(said for command, said in said_by.items() if command.startswith("bertpipe infer mlm"))
    assert " is slow and sad." in answer
    assert "metrics.json" in said_by["dvc metrics diff"]
    assert (project / "models/huggingface/model.safetensors").is_file()
    assert "up to date" in installed.run("dvc repro", within=project)
    installed.run("dvc get . models/huggingface --rev HEAD --out ../given", within=project)
    assert (tmp_path / "given/model.safetensors").stat().st_size > 0
    assert (
        installed.run(
            "git status --porcelain --untracked-files=all -- . ':!dvc.lock' ':!reports' ':!params.yaml'", within=project
        )
        == ""
    )


def test_a_project_of_ones_own_text_in_another_repository(installed: Installed, tmp_path: Path) -> None:
    folder_of(tmp_path / "my 're\"views' $HOME", REVIEWS)
    installed.run("git init --quiet", within=tmp_path)
    text = "'my '\"'\"'re\"views'\"'\"' $HOME'"
    installed.run(f"bertpipe init inner --git --recipe tiny --text {text}", within=tmp_path)
    project = tmp_path / "inner"
    assert installed.run("dvc repro evaluate && bertpipe infer mlm 'This is a [MASK].'", within=project)
    assert (project / "data/text/my_re_views_HOME/train.parquet").is_file()
    assert not (project / "data/raw").exists()
