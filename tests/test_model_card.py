"""The model card: what the hub reads in its front matter, and what people read."""

import ast
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from bertpipe.core.artifacts import write_json
from bertpipe.data.tokenization.tokenizer import Tokenizer
from bertpipe.export import model_card
from bertpipe.inference.predictor import load_predictor
from exports import METRICS, export_of, piece_tokenizer, save_model_with, word_tokenizer

FACTS: dict[str, Any] = {
    "params": {"train": {"seed": 3, "learning_rate": 0.00012345, "init": None}, "masking": {"rate": 0.15}},
    "init": {},
    "overrides": {"train.epochs": 3},
    "data_sha256": {"train.parquet": "1" * 64, "test.parquet": "2" * 64},
    "versions": {"bertpipe": "0.1.0", "torch": "2.13.0"},
    "epochs_done": 3,
}
SUMMARY: dict[str, Any] = {
    "source": {"file": "dataset.zip", "sha256": "3" * 64, "subset": "full"},
    "documents": 1500,
    "splits": {
        "train": {"rows": 9000, "tokens": 123456, "supervised_tokens": 7000, "next_rows": 4500},
        "test": {"rows": 100, "tokens": 2000, "supervised_tokens": 300, "next_rows": 50},
    },
    "sha256": FACTS["data_sha256"],
}


def card(folder: Path, facts: dict[str, Any] | None = None, summary: dict[str, Any] | None = None) -> ModelCard:
    save_model_with(folder / "bert", word_tokenizer(), FACTS if facts is None else facts)
    if summary is not None:
        (folder / "data").mkdir()
        write_json(folder / "data" / "summary.json", summary)
    directory, _ = export_of(folder / "bert", data=folder / "data")
    return ModelCard.load(directory / "README.md")


def test_the_front_matter_is_what_the_hub_reads(tmp_path: Path) -> None:
    data = card(tmp_path).data
    assert (data.language, data.license) == ("en", "mit")
    assert (data.library_name, data.pipeline_tag) == ("transformers", "fill-mask")
    assert {"bert", "masked-language-modeling", "next-sentence-prediction"} <= set(data.tags)
    assert data.model_name == "A BERT for | tests"


def test_every_figure_of_the_model_is_in_the_index_of_results(tmp_path: Path) -> None:
    results = {(result.task_type, result.metric_name): result for result in card(tmp_path).data.eval_results}
    expected = {("fill-mask", name.replace("_", " ")): value for name, value in METRICS["mlm"]["model"].items()}
    expected |= {("text-classification", name): METRICS["nsp"]["model"][name] for name in ("loss", "accuracy")}
    assert {key: result.metric_value for key, result in results.items()} == expected
    one = results["fill-mask", "top1 accuracy"]
    assert (one.metric_type, one.dataset_split) == ("accuracy", "test")
    assert one.dataset_name == f"test.parquet (SHA-256 {'2' * 64})"


def test_the_figures_stand_beside_the_simple_predictors(tmp_path: Path) -> None:
    text = card(tmp_path).text
    for line in (
        "| predictor | loss | perplexity | bits per byte | top1 accuracy | top5 accuracy |",
        "| **this model** | 2.5000 | 12.2500 | 0.5000 | 0.3750 | 0.6250 |",
        "| constant | 6.5000 |  |  | 0.0625 | 0.2500 |",
        "| two neighbours |  |  |  | 0.4062 |  |",
        "| **this model** | 0.1875 | 0.9375 |",
        "| word overlap |  | 0.5938 |",
    ):
        assert f"\n{line}\n" in text
    assert "1,234 masked tokens" in text
    assert "567 pairs" in text


def test_what_a_count_table_reaches_is_said_to_prove_nothing(tmp_path: Path) -> None:
    remarks = [line for line in card(tmp_path).text.splitlines() if "shows nothing that counting words" in line]
    assert remarks == [
        "Masked-language modelling: *two neighbours* reaches 0.4062 and the model 0.3750, so this figure shows nothing "
        "that counting words does not."
    ]


def test_training_and_data_are_told_with_their_hashes(tmp_path: Path) -> None:
    text = card(tmp_path, summary=SUMMARY).text
    for line in (
        "| train.learning_rate | 0.00012345 |",
        "| masking.rate | 0.15 |",
        "| epochs done | 3 |",
        f"| train.parquet | `{'1' * 64}` |",
        "| train | 9,000 | 123,456 | 7,000 | 4,500 |",
        f"Made from: file `dataset.zip`, sha256 `{'3' * 64}`, subset `full`.",
        "Given on the command line, in place of the params file: `train.epochs: 3`.",
        "Made with bertpipe 0.1.0, torch 2.13.0.",
        "| vocabulary | 19 entries, WordLevel |",
        "| norm epsilon | 1e-12 |",
    ):
        assert f"\n{line}\n" in text, line
    assert "train.init" not in text
    assert "1,500 documents" in text
    assert "from random weights" in text
    assert "generated" not in text


def test_generated_text_is_said_to_be_so(tmp_path: Path) -> None:
    text = card(tmp_path, summary=SUMMARY | {"source": SUMMARY["source"] | {"generated": True}}).text
    assert "The text is **generated**" in text
    assert "has learned the generator, not a language" in text
    assert "generated `" not in text


def test_a_start_from_another_model_is_said(tmp_path: Path) -> None:
    text = card(tmp_path, FACTS | {"init": {"name": "bert-base-uncased", "sha256": "4" * 64}}).text
    assert "pretrained from the weights of `bert-base-uncased` on" in text
    assert f"The weights it started from have the SHA-256 `{'4' * 64}`." in text
    assert "What it knows beyond the text above it has from `bert-base-uncased`" in text
    assert "knows the text above and nothing else" not in text


def test_the_card_says_which_tokenizer_class_to_use(tmp_path: Path) -> None:
    said = card(tmp_path).text
    assert "**Which tokenizer class**: `AutoTokenizer` or `PreTrainedTokenizerFast`." in said
    assert "return_token_type_ids: true" in said
    save_model_with(tmp_path / "pieces", piece_tokenizer())
    said = (export_of(tmp_path / "pieces")[0] / "README.md").read_text(encoding="utf-8")
    assert "**Which tokenizer class**: `AutoTokenizer`, `BertTokenizerFast` and `BertTokenizer` of transformers" in said
    assert "return_token_type_ids" not in said


def test_a_model_of_unknown_training_has_a_card_that_says_so(tmp_path: Path) -> None:
    text = card(tmp_path, {}).text
    assert "says nothing of its training" in text
    assert "The data were not at hand" in text


def test_both_conventions_of_nsp_are_told(tmp_path: Path) -> None:
    text = card(tmp_path).text
    assert "class 0 is *B follows A*, class 1 is *it does not*" in text
    assert "bertpipe's own models have the two the other way round" in text


@pytest.mark.parametrize("architecture", ["bert", "preln", "modern"])
@pytest.mark.parametrize("tokenizer", [word_tokenizer(), piece_tokenizer()], ids=["words", "pieces"])
def test_the_cards_code_gives_bertpipes_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], architecture: str, tokenizer: Tokenizer
) -> None:
    save_model_with(tmp_path / "bert", tokenizer, architecture=architecture, embedding_dim=12, heads=3)
    directory, _ = export_of(tmp_path / "bert")
    text = (directory / "README.md").read_text(encoding="utf-8")
    assert ("With transformers 4.48 or later, no custom code:" in text) == (architecture == "modern")
    assert ("transformers.js does not read this network" in text) == (architecture == "preln")
    fill, pair = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(fill.replace("OWNER/NAME", str(directory)), {})
    filled = [ast.literal_eval(line) for line in capsys.readouterr().out.splitlines()]
    exec(pair.replace("OWNER/NAME", str(directory)), {})
    said = capsys.readouterr().out
    predictor = load_predictor(str(tmp_path / "bert"), device="cpu")
    candidates = predictor.fill_masks("the cat's [MASK]", len(filled)).masks[0].candidates
    assert [answer["token"] for answer in filled] == [candidate.token_id for candidate in candidates]
    assert [answer["score"] for answer in filled] == pytest.approx([each.probability for each in candidates], rel=1e-4)
    answer = predictor.next_sentence('the "cat" sat', "on the mat")
    assert said == f"next {answer.probability_next:.4f}, not next {answer.probability_not_next:.4f}\n"


@pytest.mark.parametrize("part", ["## How to use", "## Results", "## Data", "## Network", "## Training", "## Limits"])
def test_no_part_is_missing_and_tables_are_whole(tmp_path: Path, part: str) -> None:
    lines = card(tmp_path, summary=SUMMARY).text.splitlines()
    assert part in lines
    section = lines[lines.index(part) + 1 :]
    assert section[0] == ""
    for number, line in enumerate(lines):
        if line.startswith("|---"):
            assert lines[number - 1].count("|") == lines[number + 1].count("|") == line.count("|")
        assert line == line.rstrip()


def test_the_template_is_a_resource_of_the_package(tmp_path: Path) -> None:
    """So it is in the wheel, which holds whatever is in the package's folder."""
    (template,) = (file for file in resources.files(model_card.__package__).iterdir() if file.name.endswith(".jinja"))
    text = template.read_text(encoding="utf-8")
    fixed = [line for line in text.splitlines() if line.startswith("#") and "{" not in line]
    assert {"## How to use", "## Results", "## Training", "## Limits"} <= set(fixed)
    written = card(tmp_path).text
    assert all(f"\n{line}\n" in written for line in fixed)
