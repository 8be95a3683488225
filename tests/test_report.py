"""`report`: the figures it adds, and the page that holds them."""

import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertpipe.core.artifacts import EPOCHS_COLUMNS, HISTORY_COLUMNS, TIMING_COLUMNS, write_csv, write_json
from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.core.params import Params
from bertpipe.data.batching import Batcher
from bertpipe.data.pair_dataset import read_dataset
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, load_tokenizer, word_level_tokenizer
from bertpipe.evaluation.breakdown import (
    Bucket,
    PairVerdicts,
    TokenGuesses,
    by_value,
    confident_mistakes,
    guesses,
    nsp_cells,
    row_at,
)
from bertpipe.evaluation.evaluate import Evaluation, evaluate
from bertpipe.inference.attention import attention_of, head_habits
from bertpipe.inference.engine import Row
from bertpipe.inference.words import nearest, plane, whole_words
from bertpipe.model.loading import load_any_model
from bertpipe.model.store import load_model, save_model
from bertpipe.report.content import Rows, Table, sentences_of
from bertpipe.report.learning import learning_section
from bertpipe.stages.report import run_report
from commands import Run
from exports import METRICS
from models import save_tiny_huggingface, save_tiny_model, tiny_bert
from prepared import Prepare, folder_of

CPU = torch.device("cpu")
SECTIONS = ["data", "course", "learning", "again", "examples", "mistakes", "attention", "words"]
HOSTILE = "</script><script>window.hit = 1</script><img src=x onerror=hit()>{{ 7 * 7 }}<!--"
EXAMPLES = [
    {"task": "mlm", "inputs": {"text": f"the [MASK] {HOSTILE}"}, "model": "m", "expect": "film", "as_expected": False,
     "answer": {"filled_text": "", "warnings": [], "masks": [
         {"position": 2, "candidates": [{"token": HOSTILE, "token_id": 9, "probability": 0.5}]}]}},
    {"task": "nsp", "inputs": {"first": "the film .", "second": "the music ."}, "model": "m", "expect": None,
     "as_expected": None, "answer": {"is_next": True, "probability_next": 0.75, "probability_not_next": 0.25}},
    {"task": "nsp", "inputs": {"first": "a", "second": "b"}, "model": "hub/name", "expect": True, "as_expected": None,
     "answer": None, "reason": "there is no network"},
]  # fmt: skip


class Page(HTMLParser):
    """What a page holds, as a browser reads it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.parents: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.parents.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.parents and self.parents.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        (self.scripts if self.parents and self.parents[-1] == "script" else self.texts).append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts))

    def with_attribute(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.tags if name in attributes]

    @property
    def content(self) -> Any:  # noqa: ANN401
        return json.loads(self.scripts[0])


def write_tables(folder: Path, *, epochs: int, intervals: int) -> None:
    """Write the tables of a run of some epochs, with as many intervals of a step in each."""
    steps = range(1, epochs * intervals + 1)
    history = [(step, 1 + (step - 1) // intervals, 1e-3, 6 / step, 0.7, 6 / step + 0.7, 1.0) for step in steps]
    ends = [(epoch, epoch * intervals, 5 / epoch, 0.1 * epoch, 0.69, 0.5, 5.7) for epoch in range(1, epochs + 1)]
    write_csv(folder / "history.csv", HISTORY_COLUMNS, history)
    write_csv(folder / "epochs.csv", EPOCHS_COLUMNS, ends)
    write_csv(
        folder / "timing.csv", TIMING_COLUMNS, [(step, 0.5 * step, 900, 1800.0 + step, 30.0, 0.25) for step in steps]
    )
    write_json(folder / "metrics.json", METRICS)
    write_json(folder / "examples.json", EXAMPLES)
    write_json(folder / "answers.json", answers_after(epochs))


def answers_after(epochs: int) -> dict[str, Any]:
    """Return what a training writes that is asked one question: it knows the answer from the second epoch on."""
    found = [[{"token_id": 5 if epoch < 2 else 6, "probability": 0.1 * epoch}] for epoch in range(1, epochs + 1)]
    return {
        "questions": [{"token_ids": [1, 5, 3, 2, 6, 2], "second_segment_start": 4, "position": 2, "label": 6}],
        "epochs": [{"epoch": epoch, "step": epoch, "answers": [answer]} for epoch, answer in enumerate(found, start=1)],
    }


def report(params: Params, folder: Path, model: Path, data: Path, *, out: str = "report.html", **paths: Any) -> Page:  # noqa: ANN401
    names = {
        "history": "csv",
        "epochs": "csv",
        "timing": "csv",
        "metrics": "json",
        "examples": "json",
        "answers": "json",
    }
    files = {name: folder / f"{name}.{kind}" for name, kind in names.items()}
    facts = run_report(
        params.evaluate, params.runtime, model=model, data=data, out=folder / out, **(files | paths)
    )  # fmt: skip
    assert facts["sections"] == SECTIONS
    assert facts["bytes"] == (folder / out).stat().st_size < 3_000_000
    return Page((folder / out).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the tables of a run."""
    folder = tmp_path_factory.mktemp("report")
    write_tables(folder, epochs=3, intervals=5)
    return folder


@pytest.fixture(scope="module")
def page(tiny: Params, folder: Path, trained: Path, parquet: Path) -> Page:
    """Return the page of a whole run."""
    return report(tiny, folder, trained / "model", parquet)


# Figures


def test_guesses_add_up_to_the_evaluation(tiny: Params, parquet: Path, trained: Path) -> None:
    bert, test = load_model(trained / "model").bert, read_dataset(parquet / "test.parquet")
    tokens, verdicts = guesses(bert, test, batch_size=7, device=CPU)
    batcher = Batcher(dataset=test, masking=None, seed=0)
    whole = Evaluation.of(evaluate(bert, batcher, batch_size=tiny.evaluate.batch_size, device=CPU))
    assert len(tokens.row) == whole.mlm_tokens
    assert tokens.is_right.mean() == pytest.approx(whole.mlm_top1_accuracy)
    assert -np.log(tokens.label_probability).mean() == pytest.approx(whole.mlm_loss, rel=1e-5)
    assert (verdicts.called_next == verdicts.is_next).mean() == pytest.approx(whole.nsp_accuracy)
    cells = {(cell.is_next, cell.called_next): cell.rows for cell in nsp_cells(verdicts, 1)}
    assert whole.nsp_confusion == (
        (cells[False, False], cells[False, True]), (cells[True, False], cells[True, True])
    )  # fmt: skip
    assert (np.diff(tokens.row) >= 0).all()  # in the order of the rows, not of their lengths
    # Each stands where the row has its label.
    for index in (0, len(tokens.row) // 2, len(tokens.row) - 1):
        row = row_at(test, int(tokens.row[index]))
        place = row.masked_positions.tolist().index(tokens.position[index])
        assert row.masked_labels[place] == tokens.label[index]


def test_tokens_are_counted_in_ranges_of_a_value() -> None:
    values, right = np.array([0, 3, 4, 9, 9, 100]), np.array([True, True, False, True, False, False])
    assert by_value(values, right, (0, 1, 3, 5, 9)) == [
        Bucket(first=0, last=0, tokens=1, right=1),
        Bucket(first=3, last=4, tokens=2, right=1),
        Bucket(first=9, last=None, tokens=3, right=1),
    ]


def test_the_surest_mistakes_come_first() -> None:
    tokens = TokenGuesses(
        row=np.arange(5),
        position=np.ones(5, dtype=np.int64),
        label=np.array([7, 7, 7, 7, 7]),
        guess=np.array([7, 8, 8, 9, 8]),
        probability=np.array([0.99, 0.2, 0.8, 0.5, 0.8]),
        label_probability=np.full(5, 0.1),
    )
    assert confident_mistakes(tokens, 3).tolist() == [2, 4, 3]


def test_pairs_are_counted_by_class_and_verdict() -> None:
    verdicts = PairVerdicts(
        is_next=np.array([True, True, True, False, False]),
        probability_next=np.array([0.6, 0.9, 0.1, 0.7, 0.5]),
    )
    assert [(cell.is_next, cell.called_next, cell.rows, cell.surest) for cell in nsp_cells(verdicts, 1)] == [
        (True, True, 2, (1,)), (True, False, 1, (2,)), (False, True, 1, (3,)), (False, False, 1, (4,)),
    ]  # fmt: skip


@pytest.mark.parametrize("architecture", ["bert", "preln", "modern", "notebook"])
def test_attention_is_what_the_layers_attend_to(architecture: str) -> None:
    bert = tiny_bert(architecture, vocab_size=13)
    row = Row(token_ids=(1, 5, 6, 2, 7, 2), second_segment_start=4)
    weights = attention_of(bert, row)
    assert weights.shape == (2, 3, 6, 6)
    assert weights.sum(axis=-1) == pytest.approx(1.0)
    ids, lengths, start = torch.tensor([row.token_ids]), torch.tensor([6]), torch.tensor([4])
    with torch.inference_mode():
        first = next(bert.encoder_layers())
        hidden = bert.embeddings(ids, lengths, start)
        query, key, _ = first.split_heads(hidden)
        expected = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(dim=-1)
    assert weights[0] == pytest.approx(expected[0].numpy(), abs=1e-5)


def test_habits_of_a_head_are_means_over_its_tokens() -> None:
    weights = np.array([[[[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.0, 1.0, 0.0]]]])
    (habits,) = head_habits(weights, np.array([False, False, True]))
    assert (habits.layer, habits.head) == (1, 1)
    assert habits.to_first == pytest.approx((0.5 + 0.1 + 0.0) / 3)
    assert habits.to_separators == pytest.approx((0.2 + 0.3 + 0.0) / 3)
    assert habits.to_itself == pytest.approx((0.5 + 0.6 + 0.0) / 3)
    assert habits.to_previous == pytest.approx((0.1 + 1.0) / 3)
    assert habits.to_next == pytest.approx((0.3 + 0.3) / 3)


def test_nearest_words_have_the_highest_cosine() -> None:
    vectors = np.array([[1.0, 0.0], [5.0, 0.0], [0.0, 2.0], [3.0, 4.0], [0.0, 0.0]])
    assert nearest(vectors, [0, 2], 2) == [[(1, 1.0), (3, 0.6)], [(3, 0.8), (0, 0.0)]]


def test_the_map_is_on_the_directions_of_the_largest_variance() -> None:
    vectors = np.array([[0.0, 9.0, 1.0], [0.0, -9.0, 1.0], [2.0, 0.0, 1.0], [-2.0, 0.0, 1.0]])
    points, share = plane(vectors)
    assert points == pytest.approx(np.array([[9.0, 0.0], [-9.0, 0.0], [0.0, 2.0], [0.0, -2.0]]), abs=1e-9)
    assert share == pytest.approx(1.0)
    assert plane(-vectors)[0] == pytest.approx(-points, abs=1e-9)
    assert plane(np.ones((1, 3)))[0].tolist() == [[0.0, 0.0]]


def test_words_are_whole_and_the_most_frequent_first() -> None:
    tokenizer = word_level_tokenizer([*SPECIAL_TOKENS, "la", ".", "مرحبا", "猫", "7", "[unknown-10]", "é"])
    counts = np.array([9, 9, 9, 9, 9, 2, 8, 5, 7, 6, 6, 0])
    assert list(whole_words(tokenizer, counts).items()) == [(8, "猫"), (7, "مرحبا"), (5, "la")]
    assert list(whole_words(tokenizer, None).values()) == ["la", "مرحبا", "猫", "é"]


def test_pieces_of_words_are_no_words(tmp_path: Path) -> None:
    save_tiny_huggingface(tmp_path / "hf")
    tokenizer = load_any_model(tmp_path / "hf").tokenizer.tokenizer
    assert list(whole_words(tokenizer, None).values()) == ["the", "cat", "sat", "on", "mat", "dog"]


def test_a_row_is_shown_as_the_model_reads_it(parquet: Path) -> None:
    tokenizer, test = load_tokenizer(parquet / "tokenizer.json"), read_dataset(parquet / "test.parquet")
    row = row_at(test, 3)
    sentences = sentences_of(row, tokenizer)
    assert [sentence.name for sentence in sentences] == ["A", "B"]
    tokens = [token for sentence in sentences for token in sentence.tokens]
    assert len(tokens) == len(row.token_ids) - 3
    answers = [token.answer for token in tokens if token.answer is not None]
    assert answers == tokenizer.tokens(row.masked_labels[row.masked_labels != 0].tolist())


# The page


def test_the_page_needs_nothing_else(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "embed", "img", "base"}
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    (policy,) = (a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert not re.search(r"url\(|@import", (Path(__file__).parent.parent / "src/bertpipe/report/page.css").read_text())
    assert "$schema" not in json.dumps(page.content)


def test_each_picture_has_its_words_and_its_table(page: Page) -> None:
    pictures = page.with_attribute("data-chart")
    names = {picture["data-chart"] for picture in pictures}
    assert names == set(page.content["charts"]) == {
        "mlm-loss", "nsp-loss", "mlm-accuracy", "nsp-accuracy", "learning-rate", "throughput", "frequency", "position",
        "attention", "map",
    }  # fmt: skip
    assert all(picture["role"] == "img" for picture in pictures)
    assert all(picture.get("aria-label") or picture.get("aria-labelledby") == "attention-said" for picture in pictures)
    assert page.text.count("The numbers as a table") == len(names)
    (loss,) = (picture["aria-label"] for picture in pictures if picture["data-chart"] == "mlm-loss")
    assert loss == (
        "Loss on masked words (MLM), line chart. training: 6 at optimizer step 1, 0.4 at optimizer step 15. "
        f"held-out rows: 5 at optimizer step 5, 1.667 at optimizer step 15. Level lines: constant predictor: "
        f"{METRICS['mlm']['constant']['loss']:.4g}."
    )


def test_text_of_the_world_stays_text(page: Page, folder: Path) -> None:
    source = (folder / "report.html").read_text(encoding="utf-8")
    assert HOSTILE not in source
    assert html.escape("<img src=x onerror=hit()>") in source
    assert f"the [MASK] {HOSTILE}" in page.text
    assert len(page.scripts) == 3  # content, library, and the page's own
    assert "window.hit" not in "".join(page.scripts[1:])
    assert not page.with_attribute("onerror")


def test_answers_and_reasons_are_there(page: Page) -> None:
    assert "not as expected" in page.text
    assert "no answer: there is no network" in page.text
    assert "0.75" in page.text


def test_equal_inputs_give_equal_bytes(tiny: Params, folder: Path, trained: Path, parquet: Path, page: Page) -> None:
    assert page.texts
    report(tiny, folder, trained / "model", parquet, out="again.html")
    assert (folder / "again.html").read_bytes() == (folder / "report.html").read_bytes()


def test_the_attention_of_every_layer_and_head_is_there(tiny: Params, page: Page) -> None:
    for example in page.content["attention"]:
        percent = np.array(example["percent"])
        seq = len(example["tokens"])
        assert percent.shape == (tiny.model.layers, tiny.model.heads, seq, seq)
        assert np.abs(percent.sum(axis=-1) - 100).max() <= seq / 2  # of rounding


def test_a_model_alone_has_a_page(tiny: Params, tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "own", architecture="modern")
    none = dict.fromkeys(("history", "epochs", "timing", "metrics", "examples"))
    page = report(tiny, tmp_path, tmp_path / "own", tmp_path / "gone", **none)
    assert {picture["data-chart"] for picture in page.with_attribute("data-chart")} == {"map"}
    assert "the files at the default places are another model's" in page.text
    assert f"{tmp_path / 'gone' / 'summary.json'} does not exist" in page.text
    assert page.content["attention"] == []


@pytest.mark.parametrize("architecture", ["bert", "preln", "modern", "notebook"])
def test_each_architecture_has_a_page(tiny: Params, tmp_path: Path, parquet: Path, architecture: str) -> None:
    size = load_tokenizer(parquet / "tokenizer.json").vocab_size
    bert = tiny_bert(architecture, vocab_size=size, max_positions=64)
    save_model(tmp_path / "own", bert, parquet / "tokenizer.json", facts={})
    page = report(tiny, tmp_path, tmp_path / "own", parquet)
    assert {"frequency", "attention", "map"} <= set(page.content["charts"])
    assert "does not exist" in page.text  # the tables of a run


def test_a_hugging_face_model_has_a_page(tiny: Params, folder: Path, parquet: Path, tmp_path: Path) -> None:
    save_tiny_huggingface(tmp_path / "hf", head="BertForMaskedLM")
    page = report(tiny, folder, tmp_path / "hf", parquet, out="hf.html")
    assert "the model has another tokenizer than" in page.text
    assert "attention" in page.content["charts"]


@pytest.mark.parametrize(("epochs", "intervals"), [(1, 1), (1, 3), (0, 0), (2, 700)])
def test_a_run_of_any_length(
    tiny: Params, tmp_path: Path, trained: Path, parquet: Path, epochs: int, intervals: int
) -> None:
    write_tables(tmp_path, epochs=epochs, intervals=intervals)
    page = report(tiny, tmp_path, trained / "model", parquet)
    assert ("mlm-loss" in page.content["charts"]) == (epochs > 0)
    if epochs:
        values = page.content["charts"]["mlm-loss"]["data"]["values"]
        assert len(values) <= 400 + epochs + 2


def test_other_data_than_the_models_are_left_out(
    tiny: Params, folder: Path, trained: Path, parquet: Path, tmp_path: Path
) -> None:
    shutil.copytree(parquet, tmp_path / "data")
    summary = json.loads((tmp_path / "data/summary.json").read_text(encoding="utf-8"))
    summary["sha256"]["train.parquet"] = "0" * 64
    (tmp_path / "data/summary.json").write_text(json.dumps(summary), encoding="utf-8")
    page = report(tiny, folder, trained / "model", tmp_path / "data", out="other.html")
    assert f"the model was not trained on what is now in {tmp_path / 'data'}" in page.text
    assert "frequency" not in page.content["charts"]
    assert "Without the training data the words are in the order of their ids" in page.text


@pytest.mark.parametrize(
    ("name", "content"),
    [("metrics", "[]"), ("metrics", '{"mlm": 3}'), ("examples", '{"a": 1}'), ("examples", '[{"task": "mlm"}]'),
     ("history", "step\n1\n"), ("examples", "[3]")],
)  # fmt: skip
def test_a_damaged_file_is_named_and_the_earlier_page_stays(
    tiny: Params, folder: Path, trained: Path, parquet: Path, tmp_path: Path, name: str, content: str
) -> None:
    damaged, out = tmp_path / "damaged", tmp_path / "report.html"
    damaged.write_text(content, encoding="utf-8")
    earlier = '<meta name="generator" content="bertpipe report">earlier'
    out.write_text(earlier, encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(str(damaged))):
        report(tiny, folder, trained / "model", parquet, out=str(out), **{name: damaged})
    assert out.read_text(encoding="utf-8") == earlier


def test_without_a_model_there_is_no_page(tiny: Params, folder: Path, parquet: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="bertpipe train"):
        report(tiny, folder, tmp_path / "gone/model", parquet, out="none.html")
    assert not (folder / "none.html").exists()


@pytest.mark.usefixtures("project")
def test_another_model_does_not_get_the_figures_of_the_run(run: Run) -> None:
    shutil.copytree("models/bert", "models/other")
    ended = run("report", "--model", "models/other", "--out", "other.html", "--metrics", "reports/metrics.json")
    assert ended.code == 0
    page = Page(Path("other.html").read_text(encoding="utf-8"))
    assert "mlm-loss" not in page.content["charts"]
    assert "throughput: the files at the default places are another model's" in page.text
    assert f"{METRICS['mlm']['model']['loss']:.4g}" in page.text
    assert "left out: the throughput" in ended.err
    assert {"frequency", "map"} <= set(page.content["charts"])  # of the model and its data


@pytest.mark.parametrize("tokenizer", ["words", "wordpiece"])
def test_texts_of_any_script_are_shown(tiny: Params, prepare: Prepare, tmp_path: Path, tokenizer: str) -> None:
    sentences = ["ذهب الولد إلى المدرسة اليوم.", "猫が庭で眠る。", "Le chat </script> dort ici.", "שלום לכל העולם כאן."]
    texts = [" ".join(sentences[at % 4] for at in range(first, first + 4)) + f" Word{first}." for first in range(60)]
    prepare(folder_of(tmp_path / "texts", texts), tmp_path / "data", tokenizer=tokenizer, vocab_size=200)
    size = load_tokenizer(tmp_path / "data/tokenizer.json").vocab_size
    bert = tiny_bert(vocab_size=size, max_positions=tiny.prepare.max_length)
    save_model(tmp_path / "own", bert, tmp_path / "data/tokenizer.json", facts={})
    page = report(tiny, tmp_path, tmp_path / "own", tmp_path / "data")
    rows = [text for text in page.texts if "ال" in text or "שלום" in text or "猫" in text]
    assert rows
    assert "attention" in page.content["charts"]
    assert len(page.scripts) == 3


def test_the_answers_after_each_epoch_show_when_it_knew() -> None:
    tokenizer = word_level_tokenizer([*SPECIAL_TOKENS, "cat", "dog"])
    section = learning_section(answers_after(20), tokenizer)
    rows, table = section.blocks
    assert isinstance(rows, Rows)
    assert isinstance(table, Table)
    ((_, (first, second)),) = rows.rows
    assert [(token.text, token.answer) for token in first.tokens] == [("cat", None), ("[MASK]", "dog")]
    assert table.columns[-1] == "epoch 20"
    assert len(table.columns) == 2 + 8
    assert "✓" not in str(table.rows[0][2])
    assert str(table.rows[0][-1]).endswith("✓")
    assert second.name == "B"
