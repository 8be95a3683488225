"""The comparison of clients: what counts as the same, and what each client is asked about."""

from pathlib import Path

import pytest
import typer

from bertpipe.model.huggingface.weights import COUNTERPARTS
from clients.__main__ import _chosen, difference, rows
from clients.environments import CLIENTS
from clients.models import expected_of, make_models

IDS = [[[2, 7, 3], [0, 0, 0]], [[2, 3], [0, 0]]]


@pytest.mark.parametrize(
    ("answer", "expected", "shown", "is_same"),
    [
        (IDS, IDS, "0", True),
        ([IDS[0], [[2, 3], [0, 1]]], IDS, "rows [1]", False),
        ([IDS[0], [[2, 3], []]], IDS, "rows [1]", False),
        (IDS[:1], IDS, "1 rows, not 2", False),
        ([[1.5, 2.0]], [[1.5, 2.00001]], "1.0e-05", True),
        ([[1.5, 2.0]], [[1.5, 2.001]], "1.0e-03", False),
        ([[1.5, float("nan")]], [[1.5, 2.0]], "nan", False),
        ([[7, 0.5]], [[8, 0.5]], "1.0e+00", False),
    ],
)
def test_what_counts_as_the_same(answer: list[object], expected: list[object], shown: str, is_same: bool) -> None:
    assert difference(answer, expected) == (shown, is_same)


def test_answers_of_another_shape_are_not_the_same() -> None:
    assert difference([[1.5, 2.0]], [[1.5, 2.0, 3.0]])[1] is False


def test_a_client_comes_with_the_one_whose_files_it_reads() -> None:
    assert _chosen(["transformers.js"]) == ["onnx", "transformers.js"]
    assert _chosen([*CLIENTS]) == [*CLIENTS]
    with pytest.raises(typer.BadParameter, match="netscape: take some of transformers, "):
        _chosen(["netscape"])


def test_bertpipes_answers_about_the_models_are_whole(tmp_path: Path) -> None:
    models = make_models(tmp_path)
    assert [model.is_wordpiece for model in models] == [True, True, False, True, True, True, False]
    assert {model.counterpart.model_type for model in models} == {each.model_type for each in COUNTERPARTS.values()}
    for model in models:
        expected = expected_of(model)
        answers = {model.name: {f"someone: {what}": answer for what, answer in expected.items()}}
        found = list(rows("a client", answers, {model.name: expected}))
        assert [row[-1] for row in found] == ["ok"] * len(expected)
        longest = max(len(ids) for ids, *_ in expected["encoded"])
        assert longest > model.predictor.max_positions == max(len(ids) for ids, *_ in expected["cut"])
        assert 0 < len(expected["nsp logits that fit"]) < len(expected["nsp logits"])
