"""`make clean`: what the pipeline wrote goes, what a user put there stays."""

import shutil
from pathlib import Path

from bertpipe.core.artifacts import DATA, MODEL
from bertpipe.core.atomic import atomic_directory
from scripts.clean import remove_outputs

PROJECT = Path(__file__).parent.parent


def test_outputs_of_the_stages_are_removed_and_the_files_of_a_user_stay(tmp_path: Path) -> None:
    shutil.copy(PROJECT / "dvc.yaml", tmp_path)
    for file in ("data/raw/dataset.zip", "reports/timing.csv", "reports/metrics.json", "data/text/notes.txt"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("x")
    for place, kind in {"data/parquet": DATA, "data/text/mine": DATA, "models/bert": MODEL}.items():
        with atomic_directory(tmp_path / place, kind=kind) as staging:
            (staging / kind.entries[0]).write_text("x")  # type: ignore[index]
    (tmp_path / "models/bert/mine.txt").write_text("x")
    assert remove_outputs(tmp_path) == [tmp_path / "models/bert"]
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["data/text/notes.txt", "dvc.yaml", "models/bert/mine.txt", "reports/metrics.json"]
