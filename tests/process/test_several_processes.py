"""Two and four processes, with real process groups, get what one process gets."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import several
from several import CASES, IN_TWO_PARTS, Case
from worlds import Worlds

TOLERANCE = {"float64": 1e-12, "float32": 1e-6}
"""Relative, of losses, at every one of 10 steps."""
BFLOAT16_TOLERANCE = 1e-2
"""A product of bfloat16 has eight bits, and which rows are padded how far decides how sums of them are rounded."""


@pytest.fixture(scope="module", params=[2, 4])
def everyone(
    request: pytest.FixtureRequest, worlds: Worlds, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """Return what each of several processes found."""
    out = tmp_path_factory.mktemp("several") / "found.json"
    ended = worlds("several", out, several.write_rows(out.parent / "rows.parquet"), size=request.param)
    assert [each.code for each in ended] == [0] * request.param, ended
    found: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))
    assert len(found) == request.param
    return found


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """Return what one process finds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {case.name: several.run(case) for case in CASES}
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_losses_and_evaluation_are_those_of_one_process(
    everyone: list[dict[str, Any]], alone: dict[str, Any], case: Case
) -> None:
    tolerance = BFLOAT16_TOLERANCE if case.precision == "bfloat16" else TOLERANCE[case.dtype]
    mine, theirs = everyone[0][case.name], alone[case.name]
    assert len(mine["steps"]) == len(theirs["steps"]) == 10
    for step, (found, expected) in enumerate(zip(mine["steps"], theirs["steps"], strict=True), start=1):
        assert found[:2] == pytest.approx(expected[:2], rel=tolerance), step
        assert found[2] == pytest.approx(expected[2], rel=10 * tolerance), step  # a norm is a sum of squares
        assert found[3:] == expected[3:], step
    assert mine["confusion"] == theirs["confusion"]
    assert mine["evaluation"] == pytest.approx(theirs["evaluation"], rel=10 * tolerance)  # after one more step


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_all_processes_have_the_same_weights_and_figures(everyone: list[dict[str, Any]], case: Case) -> None:
    assert all(found[case.name] == everyone[0][case.name] for found in everyone[1:])
    assert len({found[case.name]["weights"] for found in everyone}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("case", IN_TWO_PARTS, ids=lambda case: case.name)
def test_a_run_that_goes_on_with_as_many_processes_is_equal_to_the_bit(
    everyone: list[dict[str, Any]], case: Case
) -> None:
    """More than two summands are rounded by their order, and DDP orders them by its first pass."""
    assert everyone[0][f"{case.name} in two parts"] == everyone[0][case.name]


@pytest.mark.slow
def test_each_process_reads_its_row_groups_and_all_train_on_the_same_batches(
    everyone: list[dict[str, Any]], tmp_path: Path
) -> None:
    alone = several.shared_run(several.write_rows(tmp_path / "rows.parquet"))
    shared = [found["shared"] for found in everyone]
    for found in shared:
        assert found["rows"] == alone["rows"] == 52
        assert found["loss"] == pytest.approx(alone["loss"], rel=1e-6)
        for mine, theirs in zip(found["steps"], alone["steps"], strict=True):
            assert mine == pytest.approx(theirs, rel=1e-6)
    read = [found["bytes"] for found in shared]
    assert sum(read) == alone["bytes"]
    assert max(read) < 1.25 * alone["bytes"] / len(read)
