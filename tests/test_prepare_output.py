"""What `prepare` leaves: the notebook's zip, or a directory, whole or not at all; and what it says of bad text."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bertpipe.core.artifacts import DOCUMENTS_NAME, SPLITS, TOKENIZER_NAME
from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.core.params import Params
from bertpipe.core.progress import Progress
from bertpipe.data.tokenization.tokenizer import load_tokenizer
from bertpipe.sources.notebook.archive import open_archive
from bertpipe.stages.convert import run_convert
from prepared import BERT_VOCABULARY, REVIEWS, Prepare, bytes_of, folder_of
from texts import write_files

# The notebook's zip


@pytest.mark.parametrize(("pairs", "tokenizer"), [("bert", "wordpiece"), ("notebook", "words")])
def test_the_zip_holds_the_rows_of_the_directory(
    prepare: Prepare, tiny: Params, reviews: Path, tmp_path: Path, pairs: str, tokenizer: str
) -> None:
    direct = prepare(reviews, tmp_path / "direct", pairs=pairs, tokenizer=tokenizer)
    assert prepare(reviews, tmp_path / "text.zip", pairs=pairs, tokenizer=tokenizer) == direct
    for subset, step in (("full", 1), ("sampled", 10)):
        run_convert(
            replace(tiny.convert, subset=subset),
            zip_file=tmp_path / "text.zip",
            out=tmp_path / subset,
            rejects_report=tmp_path / "rejects.parquet",
        )
        for split in SPLITS:
            table = pq.read_table(tmp_path / "direct" / f"{split}.parquet").to_pylist()[::step]
            rows = [{**row, "row": number} for number, row in enumerate(table)]
            again = pq.read_table(tmp_path / subset / f"{split}.parquet").to_pylist()
            texts = [
                {row["document"]: row["text"] for row in pq.read_table(folder / DOCUMENTS_NAME).to_pylist()}
                for folder in (tmp_path / "direct", tmp_path / subset)
            ]
            assert [texts[0][row.pop("document")] for row in rows] == [texts[1][row.pop("document")] for row in again]
            assert again == rows
    with open_archive(tmp_path / "text.zip") as archive:
        words = archive.file.read("bert_dataset/vocab.txt").decode("utf-8").splitlines()
        member = archive.file.read("bert_dataset/tokenizer.json")
    made = tmp_path / "direct" / TOKENIZER_NAME
    assert words == load_tokenizer(made).tokens(range(direct["vocabulary"]["size"]))
    assert member == (tmp_path / "full" / TOKENIZER_NAME).read_bytes() == made.read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_the_zip_refuses_special_tokens_with_other_ids(prepare: Prepare, reviews: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(BERT_VOCABULARY), encoding="utf-8")
    with pytest.raises(DataError, match=r"vocab\.txt has .* as \(0, 3, 4, 5, 2\), and the notebook's zip needs 0 to 4"):
        prepare(reviews, tmp_path / "text.zip", tokenizer=str(tmp_path / "vocab.txt"))
    assert not (tmp_path / "text.zip").exists()


# Whole or nothing


@pytest.mark.parametrize(
    ("texts", "changes", "said"),
    [
        (["<br />"], {}, "holds no document with any word in it"),
        (
            ["One. Two. Three."],
            {},
            r"holds 1 document\(s\) and none of them is in the .* split: give a folder of several",
        ),
        ([f"One {n}. Two." for n in range(9)], {"test_share": 1e-9}, "none of them is in the test split: bring more"),
        ([f"One {n}. Two." for n in range(9)], {"test_share": "source"}, "belongs to no split"),
        ([f"Only one {n}." for n in range(30)], {}, r"0 have pairs of sentences, .* documents of several sentences"),
        (["One. Two.", *(f"Only {n}." for n in range(30))], {"seed": 4}, "0 have pairs of sentences"),
        ([f"One {n}. Two." for n in range(30)], {"tokenizer": "nowhere.json"}, "no such file: write wordpiece"),
    ],
)
@pytest.mark.parametrize("given_tokenizer", [False, True], ids=["made", "given"])
def test_what_cannot_be_done_is_said_and_the_earlier_output_stays(
    prepare: Prepare, tmp_path: Path, texts: list[str], changes: dict[str, Any], said: str, given_tokenizer: bool
) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(BERT_VOCABULARY), encoding="utf-8")
    changes = {**({"tokenizer": str(tmp_path / "vocab.txt")} if given_tokenizer else {}), **changes}
    text = folder_of(tmp_path / "text", texts)
    earlier = write_files(tmp_path / "out", {"notes.txt": b"1"})
    with pytest.raises((DataError, MissingInputError), match=said):
        prepare(text, earlier, **changes)
    assert bytes_of(earlier) == {"notes.txt": b"1"}
    assert {path.name for path in tmp_path.iterdir()} == {"out", "text", "vocab.txt"}


def test_text_that_is_not_there_is_named(prepare: Prepare, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="nowhere does not exist"):
        prepare(tmp_path / "nowhere", tmp_path / "out")


@pytest.mark.parametrize("out", ["", "out", "deeper/out.zip"])
def test_an_output_within_the_text_is_refused(prepare: Prepare, tmp_path: Path, out: str) -> None:
    text = folder_of(tmp_path / "text", REVIEWS[:9])
    with pytest.raises(DataError, match=r"lies in .*text, where the next run would read it"):
        prepare(text, text / out)
    assert len(list(text.iterdir())) == 9


def test_the_notebooks_recipe_works_with_a_vocabulary_without_an_end_of_sentence(
    prepare: Prepare, reviews: Path, tmp_path: Path
) -> None:
    rows = {}
    for size in (len(BERT_VOCABULARY), len(BERT_VOCABULARY) - 1):
        (tmp_path / "vocab.txt").write_text("\n".join(BERT_VOCABULARY[:size]), encoding="utf-8")
        summary = prepare(reviews, tmp_path / "out", tokenizer=str(tmp_path / "vocab.txt"), pairs="notebook")
        rows[size] = summary["splits"]["train"]["rows"]
    assert max(rows.values()) < 1.1 * min(rows.values())


def test_progress_runs_over_the_bytes_of_the_text(prepare: Prepare, reviews: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    prepare(reviews, tmp_path / "out", on_progress=told.append)
    assert list(dict.fromkeys(report.label for report in told)) == ["making the vocabulary", "preparing"]
    size = sum(len(text.encode("utf-8")) for text in REVIEWS)
    assert {report.total for report in told} == {size}
    assert told[-1].completed == size


# Notes


def noted(prepare: Prepare, tmp_path: Path, texts: list[str], **changes: object) -> list[str]:
    said: list[str] = []
    prepare(folder_of(tmp_path / "texts", texts), tmp_path / "out", on_note=said.append, **changes)
    return said


def test_ordinary_text_gives_no_note(prepare: Prepare, tmp_path: Path) -> None:
    assert noted(prepare, tmp_path, REVIEWS) == []


def test_long_words_are_said(prepare: Prepare, tmp_path: Path) -> None:
    texts = [
        f"{review} {'acgt' * 30}{number}. {'tgca' * 30}. The end {number}." for number, review in enumerate(REVIEWS)
    ]
    first, *_ = noted(prepare, tmp_path, texts)
    assert "words of the training documents have more than 100 characters and become [UNK]" in first


def test_many_unknown_words_are_said(prepare: Prepare, tmp_path: Path) -> None:
    vocabulary = [*BERT_VOCABULARY, "the", "film", "is"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    said = noted(prepare, tmp_path, REVIEWS, tokenizer=str(tmp_path / "vocab.txt"))
    assert any(re.match(r"\d\d% of the words are \[UNK\]", note) for note in said)


def test_pairs_that_are_left_out_are_said(prepare: Prepare, tmp_path: Path) -> None:
    texts = [f"{review} Thank you for your letter." for review in REVIEWS]
    opened = [f"The letter has number {number} and more. Thank you for your letter." for number in range(90)]
    said = noted(prepare, tmp_path, texts + opened)
    assert any(re.match(r"\d+ of \d+ pairs of sentences are left out: .* the same B", note) for note in said)
