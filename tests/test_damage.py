"""Damaged checkpoints are found, named and left out."""

import shutil
from pathlib import Path

import pytest

from bertpipe.core.errors import DataError
from bertpipe.core.params import Params
from bertpipe.training.checkpoint import check_checkpoint, checkpoints_in
from runs import SMALL, Crash, at_step, crash, results, train

pytestmark = pytest.mark.promise("Damage")


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "records.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "one bit", "gone", "unreadable"])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(
    tiny: Params, parquet: Path, tmp_path: Path, crashed: Path, whole: dict[str, bytes], name: str, damage: str
) -> None:
    shutil.copytree(crashed, tmp_path / "run")
    newest, before = checkpoints_in(next((tmp_path / "run" / "state").iterdir()))
    assert (newest.name, before.name) == ("step-000000007", "step-000000006")
    spoil(newest / name, damage)
    notes: list[str] = []
    summary = train(tiny, tmp_path / "run", parquet, **SMALL, options={"on_note": notes.append})
    assert summary["resumed_after_step"] == 6
    assert str(newest / name) in notes[0]
    assert notes[0].endswith("it is skipped")
    assert results(tmp_path / "run") == whole


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_checkpoint_does_not_push_out_the_good_ones_after_it(
    tiny: Params, parquet: Path, tmp_path: Path, crashed: Path, whole: dict[str, bytes], keep: int
) -> None:
    """Its step is later than those of a run that has to begin before it."""
    shutil.copytree(crashed, tmp_path / "run")
    (run,) = (tmp_path / "run" / "state").iterdir()
    for checkpoint in checkpoints_in(run):
        spoil(checkpoint / "weights.safetensors", "one bit")
    runtime = {"keep_checkpoints": keep, "checkpoint_every_s": 0.0}
    with at_step(4, crash), pytest.raises(Crash):
        train(tiny, tmp_path / "run", parquet, **SMALL, runtime=runtime)
    assert [path.name[-1] for path in checkpoints_in(run)] == ["3", "2"][:keep]
    assert train(tiny, tmp_path / "run", parquet, **SMALL)["resumed_after_step"] == 3
    assert results(tmp_path / "run") == whole


def test_foreign_files_among_the_checkpoints_do_no_harm(
    tiny: Params, parquet: Path, tmp_path: Path, crashed: Path, whole: dict[str, bytes]
) -> None:
    shutil.copytree(crashed, tmp_path / "run")
    (run,) = (tmp_path / "run" / "state").iterdir()
    (run / "step-notes.txt").touch()
    shutil.copytree(checkpoints_in(run)[1], run / "step-backup")
    assert train(tiny, tmp_path / "run", parquet, **SMALL)["resumed_after_step"] == 7
    assert results(tmp_path / "run") == whole
    assert list((tmp_path / "run" / "state").iterdir()) == []


def spoil(path: Path, damage: str) -> None:
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "emptied":
        path.touch()
    elif damage == "one bit":
        content[len(content) // 2] ^= 0x01
        path.write_bytes(content)
    elif damage == "unreadable":
        path.mkdir()


def test_every_bit_of_a_manifest_counts(crashed: Path, tmp_path: Path) -> None:
    shutil.copytree(max((crashed / "state").glob("*/step-*")), tmp_path / "step")
    manifest = tmp_path / "step" / "manifest.json"
    content = manifest.read_bytes()
    assert check_checkpoint(tmp_path / "step") == 7
    for place in range(len(content)):
        if content[place] in b" \n":
            continue
        manifest.write_bytes(content[:place] + bytes([content[place] ^ 0x01]) + content[place + 1 :])
        with pytest.raises(DataError):
            check_checkpoint(tmp_path / "step")


def test_without_any_whole_checkpoint_a_run_begins_anew(
    tiny: Params, parquet: Path, tmp_path: Path, crashed: Path, whole: dict[str, bytes]
) -> None:
    shutil.copytree(crashed, tmp_path / "run")
    for manifest in (tmp_path / "run" / "state").rglob("manifest.json"):
        manifest.write_text("[]", encoding="utf-8")
    assert train(tiny, tmp_path / "run", parquet, **SMALL)["resumed_after_step"] == 0
    assert results(tmp_path / "run") == whole
