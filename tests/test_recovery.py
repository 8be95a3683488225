"""The vocabulary of a zip that came without it, recovered from its texts and held to the truth."""

import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.peers.notebook_data import Notebook, notebook, sentences_of, words_of
from bertpipe.core.artifacts import vocabulary_schema
from bertpipe.data.tokenization.tokenizer import load_tokenizer
from bertpipe.sources.notebook.recovery.rank_alignment import fill, rank
from bertpipe.sources.notebook.recovery.sentences import Lexicon, sentence_table
from bertpipe.sources.sample.reviews import generate_reviews
from bertpipe.stages.convert import run_convert
from datasets import write_zip
from defaults import DEFAULTS


def convert(folder: Path, zip_file: Path, recover: str = "labels", max_length: int = 512) -> dict[str, Any]:
    params: dict[str, Any] = {"subset": "full", "max_length": max_length, "max_reject_rate": 0.0, "recover": recover}
    return run_convert(
        replace(DEFAULTS.convert, **params),
        zip_file=zip_file,
        out=folder / recover,
        rejects_report=folder / "rejects.parquet",
    )


def reviews(count: int, *, seed: int = 3) -> list[str]:
    """Return distinct reviews of the embedded sample, some with words that no other one has."""
    chance = random.Random(seed)
    texts = dict.fromkeys(review.text for review in generate_reviews(seed=seed, films=60, reviews=2 * count))
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [
        text + f" {chance.choice(['The', 'Our'])} {''.join(chance.choices(letters, k=6))} said it, and left."
        for text in list(texts)[:count]
    ]


def write(path: Path, made: Notebook) -> Path:
    """Write the rows as the notebook's zip, which has no vocabulary."""
    return write_zip(path, *([row.fields for row in made.rows[split]] for split in ("train", "test")))


@pytest.fixture(scope="module")
def made() -> Notebook:
    texts = reviews(700)
    return notebook(texts[:500], texts[500:], without_rows=3)


@pytest.fixture(scope="module")
def folder(made: Notebook, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the zip, converted in each of the three ways."""
    path = tmp_path_factory.mktemp("recovery")
    write(path / "x.zip", made)
    for recover in ("nothing", "words", "labels"):
        convert(path, path / "x.zip", recover)
    return path


def test_words_are_right_and_nearly_all_are_found(made: Notebook, folder: Path) -> None:
    names = load_tokenizer(folder / "labels" / "tokenizer.json").tokens(range(len(made.vocabulary)))
    found = {number: name for number, name in enumerate(names) if not name.startswith("[unknown-")}
    assert all(made.vocabulary[number] == name for number, name in found.items())
    in_rows = {token for rows in made.rows.values() for row in rows for token in row.true}
    assert len(in_rows & found.keys()) >= 0.99 * len(in_rows)


@pytest.mark.parametrize("split", ["train", "test"])
def test_true_tokens_stand_under_the_masks(made: Notebook, folder: Path, split: str) -> None:
    rows = pq.read_table(folder / "labels" / f"{split}.parquet").to_pylist()
    assert len(rows) == len(made.rows[split])
    restored = right = 0
    for row, truth in zip(rows, made.rows[split], strict=True):
        for at, (token, true) in enumerate(zip(row["token_ids"], truth.true, strict=True)):
            restored += token != 3
            right += token == true
            assert token in {true, 3}, (row["row"], at)
    assert right == restored >= 0.9995 * sum(len(row.true) for row in made.rows[split])


def test_the_ways_to_recover_differ_in_tokens_and_labels_alone(made: Notebook, folder: Path) -> None:
    plain, words, labels = (
        pq.read_table(folder / way / "train.parquet").to_pylist() for way in ("nothing", "words", "labels")
    )
    corrected = 0
    for stored, named, true, row in zip(plain, words, labels, made.rows["train"], strict=True):
        assert named == stored | {"token_ids": named["token_ids"]}
        assert true == named | {"masked_labels": true["masked_labels"]}
        for at, old, new in zip(
            stored["masked_positions"], stored["masked_labels"], true["masked_labels"], strict=True
        ):
            corrected += old != new
            assert new == (row.true[at] if old and true["token_ids"][at] != 3 else old)
    assert corrected > 1000


def test_counts_are_those_of_the_truth(made: Notebook, folder: Path) -> None:
    summary = json.loads((folder / "labels" / "summary.json").read_text(encoding="utf-8"))
    counts = summary["recovery"]["splits"]["train"]
    rows = made.rows["train"]
    labels = [
        (true, label)
        for row in rows
        for true, label in zip(
            row.true,
            [b for a, b in zip(*(json.loads(row.fields[at]) for at in (1, 2)), strict=True) if a != 0],
            strict=True,
        )
        if label != 0
    ]
    assert counts["words"] == sum(len(row.true) - 3 for row in rows)
    assert counts["labels"] == len(labels)
    wrong = sum(true != label for true, label in labels)
    assert wrong - 5 <= counts["labels_wrong"] <= wrong
    apart = [(row.follows, row.fields[4]) for row in rows]
    assert counts["not_next_but_consecutive"] == pytest.approx(apart.count((1, "0")), abs=2)
    assert counts["not_next_and_reversed"] == pytest.approx(apart.count((-1, "0")), abs=2)
    assert counts["next_but_not_consecutive"] <= 2
    assert summary["masked_tokens_known"] is True
    words = summary["recovery"]["words"]
    assert words["read"] + words["by_rank"] + words["unknown"] + 5 == len(made.vocabulary)
    assert words["by_rank"] > 50


def test_the_table_of_words_tells_how_each_was_found(made: Notebook, folder: Path) -> None:
    path = folder / "labels" / "vocabulary.parquet"
    assert pq.read_schema(path).equals(vocabulary_schema())
    table = pq.read_table(path).to_pylist()
    assert [row["id"] for row in table] == list(range(len(made.vocabulary)))
    assert table[3] == {"id": 3, "word": "[MASK]", "evidence": "special", "votes": 0, "confidence": 1.0}
    for row in table[5:]:
        assert (row["word"] is None) == (row["evidence"] == "unknown") == (row["confidence"] == 0)
        assert (row["votes"] > 0) == (row["evidence"] == "read")


def test_two_conversions_give_equal_bytes(made: Notebook, folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "x.zip", made)
    convert(tmp_path, tmp_path / "x.zip")
    for path in (folder / "labels").iterdir():
        assert (tmp_path / "labels" / path.name).read_bytes() == path.read_bytes(), path.name


def test_rows_are_matched_before_they_are_cut(made: Notebook, folder: Path, tmp_path: Path) -> None:
    summary = convert(tmp_path, folder / "x.zip", max_length=16)
    whole = json.loads((folder / "labels" / "summary.json").read_text(encoding="utf-8"))
    assert summary["recovery"] == whole["recovery"]
    assert summary["splits"]["train"]["rows_cut"] > 100
    cut = pq.read_table(tmp_path / "labels" / "train.parquet").to_pylist()
    for row, truth in zip(cut, made.rows["train"], strict=True):
        start, real_start = row["second_segment_start"], truth.true.index(2) + 1
        kept = [*truth.true[: start - 1], 2, *truth.true[real_start : real_start + row["length"] - start - 1], 2]
        assert all(token in {true, 3} for token, true in zip(row["token_ids"], kept, strict=True))


def test_ids_that_are_no_words_of_the_texts_stay_without_words(made: Notebook, tmp_path: Path) -> None:
    rows = {split: [row.fields for row in rows] for split, rows in made.rows.items()}
    texts = [row[0] for row in rows["train"]]
    foreign = [[texts[-1 - number], *row[1:]] for number, row in enumerate(rows["train"])]
    summary = convert(tmp_path, write_zip(tmp_path / "x.zip", foreign, rows["test"][:1]))
    assert summary["masked_tokens_known"] is False
    counts = summary["recovery"]["splits"]["train"]
    assert counts["words_restored"] < 0.05 * counts["words_masked"]


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.skipif("BERTPIPE_IMDB_ZIP" not in os.environ, reason="BERTPIPE_IMDB_ZIP names no zip")
def test_the_vocabulary_of_imdb_is_recovered(tmp_path: Path) -> None:
    params: dict[str, Any] = {"subset": "sampled", "max_length": 512, "max_reject_rate": 0.0, "recover": "words"}
    summary = run_convert(
        replace(DEFAULTS.convert, **params),
        zip_file=Path(os.environ["BERTPIPE_IMDB_ZIP"]),
        out=tmp_path / "out",
        rejects_report=tmp_path / "rejects.parquet",
    )
    assert summary["vocabulary"]["size"] == 100_687
    assert summary["vocabulary"]["known"] >= 0.998 * 100_687
    check = summary["recovery"]["rank_check"]
    assert check["right"] >= 0.999 * check["found"]
    for counts in summary["recovery"]["splits"].values():
        assert counts["words_masked"] - counts["words_restored"] <= 0.0005 * counts["words"]
        assert counts["labels_wrong"] == pytest.approx(0.25 * counts["labels"], rel=0.02)
    names = load_tokenizer(tmp_path / "out" / "tokenizer.json").tokens(range(12))
    assert names[5:] == ["the", ".", ",", "and", "a", "of", "to"]


# The pieces


def test_sentences_end_as_the_notebook_ends_them() -> None:
    texts = ["One two. No. Three four five! Tail", "", 'Only <br />a "tail" here', "Ends. Well it does?"]
    lexicon = Lexicon()
    table = sentence_table(texts, lexicon)
    words = lexicon.words()
    cut = [
        [words[code] for code in table.codes[start : start + length]]
        for start, length in zip(table.starts, table.lengths, strict=True)
    ]
    assert cut == [sentence for text in texts for sentence in sentences_of(text)]
    assert table.text.tolist() == [0, 0, 0, 2, 3]


@pytest.mark.parametrize("text", ['It\'s (a) "test"; really: yes!<br />İstanbul\x1cnow', "a\xa0b\x85c\u2028d", ""])
def test_words_are_those_of_basic_english(text: str) -> None:
    lexicon = Lexicon()
    codes = lexicon.encode(text)
    words = lexicon.words()
    assert [words[code] for code in codes] == words_of(text)


def test_ranks_fill_a_gap_that_holds_as_many_words_as_ids() -> None:
    words = ["the", "b", "c", "d", "e", "rare", "other"]
    counts = np.array([9, 3, 3, 3, 3, 1, 1])
    ranked = rank(words, counts)
    assert [words[code] for code in ranked] == ["the", "b", "c", "d", "e", "other", "rare"]
    known = np.array([-1] * 5 + [0, 1, -1, -1, 4, -1, -1, -1])  # the, b, ?, ?, e, then three ids for two words
    assert fill(known, ranked, hints={}) == {7: 2, 8: 3}
    assert fill(known, ranked, hints={5: [12, 99]}) == {7: 2, 8: 3, 12: 5}
    assert fill(known, ranked, hints={5: [11, 12]}) == {7: 2, 8: 3}  # two places, so none


def test_a_hint_parts_a_gap_in_two() -> None:
    ranked = rank(["a", "b", "c", "d", "e"], np.ones(5, dtype=np.int64))
    known = np.array([-1] * 5 + [0, -1, -1, -1, -1, 4])  # a, four ids for b, c and d, e
    assert fill(known, ranked, hints={}) == {}
    assert fill(known, ranked, hints={2: [8]}) == {8: 2, 9: 3}


def test_a_word_out_of_rank_does_not_mislead_the_others() -> None:
    words = ["a", "b", "c", "d", "e"]
    ranked = rank(words, np.ones(5, dtype=np.int64))
    known = np.array([-1] * 5 + [0, 4, 1, -1, 3])  # a, e (out of rank), b, ?, d
    assert fill(known, ranked, hints={}) == {8: 2}
