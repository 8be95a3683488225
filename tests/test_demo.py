"""What stands behind the page of `demo`, and a Space's files; the page itself: tests/process/test_demo_page.py."""

import re
import runpy
import socket
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bertpipe.commands.demo import answer, free_port, load_predictors, run_demo
from bertpipe.commands.inspect import run_inspect
from bertpipe.core.errors import InputError, ModelError, WriteError
from bertpipe.export.space.page import ALL_HEADS, LAST, MOST_TOKENS, Answer
from bertpipe.inference.attention import attention_of
from bertpipe.inference.predictor import Predictor, load_predictor
from exports import export_of, piece_tokenizer, save_model_with, word_tokenizer
from models import save_tiny_huggingface

PROJECT = Path(__file__).parent.parent
SPACE_FILES = {"app.py", "page.py", "requirements.txt"}
KINDS = {
    "words": {"architecture": "bert"},
    "pieces": {"architecture": "bert"},
    "preln": {"architecture": "preln"},
    "modern": {"architecture": "modern", "embedding_dim": 12},
}


@pytest.fixture
def model(tmp_path: Path) -> str:
    save_model_with(tmp_path / "model", word_tokenizer())
    return str(tmp_path / "model")


@pytest.fixture
def predictors(model: str) -> dict[str, Predictor]:
    return load_predictors([model])


Ask = Callable[..., Answer]


@pytest.fixture
def ask(predictors: dict[str, Predictor], model: str) -> Ask:
    def asked(text: str, second: str = "", layer: str = LAST, head: str = ALL_HEADS, name: str = model) -> Answer:
        return answer(predictors, name, text, second, layer, head)

    return asked


def candidates_of(predictor: Predictor, text: str) -> list[tuple[int, str, str]]:
    return [
        (number, found.token, f"{found.probability:.4f}")
        for number, mask in enumerate(predictor.fill_masks(text, 5).masks, start=1)
        for found in mask.candidates
    ]


def verdict_of(predictor: Predictor, first: str, second: str) -> str:
    found = predictor.next_sentence(first, second)
    return (
        f"{'yes' if found.is_next else 'no'}: next {found.probability_next:.4f}, "
        f"not next {found.probability_not_next:.4f}"
    )


def test_the_answers_are_the_predictors(ask: Ask, model: str) -> None:
    predictor = load_predictor(model)
    text, second = "the [MASK] sat on [MASK] .", "the dog sat ?"
    found = ask(text, second)
    assert found.candidates == candidates_of(predictor, text)
    assert len(found.candidates) == 10
    assert found.filled == predictor.fill_masks(text, 5).filled_text
    assert found.verdict == verdict_of(predictor, text, second)
    assert ask(text).verdict == ""
    assert ask("the cat", second).candidates == []


def test_attention_is_of_the_layer_and_the_head_that_are_asked_for(
    ask: Ask, predictors: dict[str, Predictor], model: str
) -> None:
    predictor = predictors[model]
    row = predictor.ask_nsp("the cat", "sat").row
    weights = 100 * attention_of(predictor.bert, row)
    assert ask("the cat", "sat").tokens == ["[CLS]", "the", "cat", "[SEP]", "sat", "[SEP]"]
    assert ask("the cat", "sat").attention == pytest.approx(weights[-1].mean(axis=0))
    assert ask("the cat", "sat", "1", "3").attention == pytest.approx(weights[0, 2])


def test_the_walk_is_that_of_inspect(ask: Ask, model: str) -> None:
    steps = run_inspect("the cat", "sat", model=model).steps
    walk = ask("the cat", "sat").walk
    assert [part.split(" [")[0] for part in walk.split("\n\n")] == [step.name for step in steps]
    assert all(step.meaning in walk for step in steps)
    assert "batch 1, seq 8, hidden 6" in walk


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("the cat",), "there is no [MASK] in 'the cat': write [MASK] where you want a word"),
        (("the [mask]",), "write [MASK], in capitals"),
        (("",), "empty"),
        (("  ", "\n"), "empty"),
        (("[MASK]", "", "3"), "there is no layer '3' in this model: choose 1 to 2, or 'last'"),
        (("[MASK]", "", "last", "-1"), "there is no head '-1' in this model: choose 1 to 3, or 'mean of all'"),
        (("[MASK]", "", "²"), "there is no layer '²' in this model"),
        (("the cat " * 9 + "[MASK]",), "the input has 21 tokens, and the model reads 17 at most"),
        (("the cat " * 9, "sat"), "the input has 22 tokens, and the model reads 17 at most"),
        (("[MASK]" + " the" * 20 + " [MASK]",), "use fewer masks at a time"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_input_is_text(ask: Ask, asked: tuple[str, ...], message: str) -> None:
    assert message in ask(*asked).messages


def test_an_error_costs_only_what_it_is_about(ask: Ask) -> None:
    found = ask("the cat")
    assert found.tokens == ["[CLS]", "the", "cat", "[SEP]"]
    assert found.walk
    assert ask("[MASK]", "", "9").candidates


def test_an_unknown_model_is_named_with_those_that_there_are(ask: Ask, model: str) -> None:
    found = ask("[MASK]", name="<b>")
    assert found == Answer(messages=f"there is no model '<b>' on this page: choose one of {model}")


def test_a_model_without_a_head_answers_the_rest(tmp_path: Path) -> None:
    save_tiny_huggingface(tmp_path / "masks", head="BertForMaskedLM")
    name = str(tmp_path / "masks")
    found = answer(load_predictors([name]), name, "the [MASK]", "sat", LAST, ALL_HEADS)
    assert len(found.candidates) == 5
    assert "head" in found.messages
    assert found.verdict == ""


def test_the_message_says_that_not_all_attention_is_shown(tmp_path: Path) -> None:
    save_model_with(tmp_path / "long", word_tokenizer(), max_positions=64)
    name = str(tmp_path / "long")
    found = answer(load_predictors([name]), name, "the cat sat " * 15 + "[MASK]", "", LAST, ALL_HEADS)
    assert f"attention is shown among the first {MOST_TOKENS} of 48 tokens" in found.messages


def test_a_port_that_is_taken_is_an_error_and_the_next_free_one_is_found() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of '127.0.0.1' cannot be listened on .*in use.*--port"):
            free_port("127.0.0.1", port)
    found = free_port("127.0.0.1", None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", found))
        taken.listen()
        assert free_port("127.0.0.1", None) > found


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "", "a" * 300, "é\ud800"])
def test_an_address_that_this_machine_has_not_is_an_error(host: str) -> None:
    with pytest.raises(InputError, match="cannot be listened on") as raised:
        free_port(host or "..", 7999)
    assert len(str(raised.value)) <= 500


def test_without_gradio_one_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ModelError, match=re.escape("install it with `pip install 'bertpipe[demo]'`")):
        run_demo(["none"], host="127.0.0.1", port=None, on_note=print)


@pytest.fixture(params=KINDS)
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """Return a model, and its export with a Space."""
    tokenizer = word_tokenizer() if request.param == "words" else piece_tokenizer()
    save_model_with(tmp_path / request.param, tokenizer, **KINDS[request.param])
    return tmp_path / request.param, export_of(tmp_path / request.param, space=True)[0]


@pytest.fixture
def app(exported: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Return what the Space's app.py defines."""
    monkeypatch.syspath_prepend(exported[1])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield runpy.run_path(str(exported[1] / "app.py"))
    sys.modules.pop("page", None)


def test_a_space_answers_as_the_model_does(app: dict[str, Any], exported: tuple[Path, Path]) -> None:
    predictor = load_predictor(str(exported[0]))
    text, second = "the [MASK] sat on [MASK] .", "dog sat ?"
    found = app["ask"]("", text, second, LAST, ALL_HEADS)
    assert found.candidates == candidates_of(predictor, text)
    assert found.filled == predictor.fill_masks(text, 5).filled_text
    assert found.verdict == verdict_of(predictor, text, second)
    weights = 100 * attention_of(predictor.bert, predictor.ask_nsp(text, second).row)
    for layer, head, expected in ((LAST, ALL_HEADS, weights[-1].mean(axis=0)), ("1", "3", weights[0, 2])):
        attention = app["ask"]("", text, second, layer, head).attention
        assert attention == [pytest.approx(row, abs=1e-3) for row in expected.tolist()]
    assert found.tokens == answer({"m": predictor}, "m", text, second, LAST, ALL_HEADS).tokens
    assert "encoder layer 2 [batch 1" in found.walk


def test_what_is_wrong_with_the_input_of_a_space_is_text(app: dict[str, Any]) -> None:
    for asked, message in (
        (("the cat", "", LAST, ALL_HEADS), "there is no [MASK]"),
        (("", "", LAST, ALL_HEADS), "the text is empty"),
        (("", "sat", LAST, ALL_HEADS), "the first text is empty"),
        (("the " * 20 + "[MASK]", "", LAST, ALL_HEADS), "the input has 23 tokens, and the model reads 17 at most"),
        (("[MASK]", "", "7", ALL_HEADS), "there is no such layer in this model: choose 1 to 2, or 'last'"),
        (("[MASK]", "", LAST, "x"), "there is no such head in this model: choose 1 to 3, or 'mean of all'"),
    ):
        assert message in app["ask"]("", *asked).messages


def test_a_space_is_in_the_manifest_and_the_card(exported: tuple[Path, Path]) -> None:
    _, directory = exported
    manifest = (directory / "bertpipe-manifest.json").read_text(encoding="utf-8")
    assert all(f'"{name}"' in manifest for name in SPACE_FILES)
    card = (directory / "README.md").read_text(encoding="utf-8")
    assert "\nsdk: gradio\n" in card
    assert "\napp_file: app.py\n" in card
    assert "\nlibrary_name: transformers\n" in card
    version = re.search(r"\nsdk_version: (\d+)\.(\d+)\.\d+\n", card)
    assert version
    assert f"gradio>={version[1]}.{version[2]},<{int(version[1]) + 1}\n" in (directory / "requirements.txt").read_text()
    assert {path.name for path in directory.iterdir()} >= SPACE_FILES


def test_without_a_space_there_is_none(exported: tuple[Path, Path]) -> None:
    model, directory = exported
    export_of(model)
    assert not SPACE_FILES & {path.name for path in directory.iterdir()}
    assert "sdk" not in (directory / "README.md").read_text(encoding="utf-8")


def test_a_file_of_somebody_else_is_no_spaces(tmp_path: Path) -> None:
    save_model_with(tmp_path / "model", word_tokenizer())
    directory, _ = export_of(tmp_path / "model")
    (directory / "app.py").write_text("mine")
    with pytest.raises(WriteError, match=r"app\.py, which bertpipe did not write"):
        export_of(tmp_path / "model", space=True)
    assert (directory / "app.py").read_text() == "mine"


def test_the_packages_of_a_space_are_in_the_ranges_of_ours() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ours = [*project["dependencies"], *project["optional-dependencies"]["demo"]]
    for line in (PROJECT / "src/bertpipe/export/space/requirements.txt").read_text(encoding="utf-8").splitlines():
        name = re.split(r"[<>=]", line)[0]
        (own,) = (each for each in ours if re.split(r"[<>=]", each)[0] == name)
        assert line.startswith(own), f"{line} in requirements.txt and {own} in pyproject.toml"
        assert ",<" in line
