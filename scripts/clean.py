"""Remove what the pipeline wrote, and nothing else: files of a manifest that are unchanged."""

import sys
from pathlib import Path

from ruamel.yaml import YAML

from bertpipe.core.atomic import remove_own

PROJECT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Remove the outputs of the stages, and name the directories that stay."""
    for path in remove_outputs(PROJECT):
        sys.stdout.write(f"{path.relative_to(PROJECT)} holds files that bertpipe did not write: it stays\n")


def remove_outputs(project: Path) -> list[Path]:
    """Remove the outputs that dvc.yaml has DVC cache (git has the others), and return the directories that stay."""
    stages = YAML(typ="safe", pure=True).load(project / "dvc.yaml")["stages"].values()
    outs = [out for stage in stages for out in stage.get("do", stage).get("outs", []) if isinstance(out, str)]
    for file in (out for out in outs if Path(out).suffix):
        (project / file).unlink(missing_ok=True)
    found = sorted(path for out in outs for path in project.glob(out.replace("${key}", "*")) if path.is_dir())
    for directory in found:
        remove_own(directory)
    return [directory for directory in found if directory.exists()]


if __name__ == "__main__":
    main()
