"""`prepare`: from text to the contract's files, the same for any number of processes, with the right pairs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bertpipe.core.artifacts import (
    DOCUMENTS_NAME,
    RECORDS_NAME,
    ROWS_PER_GROUP,
    SPLITS,
    SUMMARY_NAME,
    TOKENIZER_NAME,
    document_schema,
    file_sha256,
    pair_schema,
)
from bertpipe.core.errors import DataError, ParamsError
from bertpipe.core.manifest import MANIFEST_NAME
from bertpipe.core.params import MaskingUnit, Params
from bertpipe.data.pair_dataset import PairDataset, read_dataset
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer, load_tokenizer
from bertpipe.sources.notebook.archive import open_archive
from bertpipe.sources.text.sentences import without_line_break_tags
from prepared import BERT_VOCABULARY, REVIEWS, Prepare, bytes_of, folder_of, preparer
from runs import train
from vocabularies import TEXTS, byte_level, unmarked


def halves(rows: PairDataset, row: int) -> tuple[list[int], list[int]]:
    """Return A and B of a row, after checking what stands around them."""
    token_ids = rows.token_ids[rows.offsets[row] : rows.offsets[row + 1]].tolist()
    start = int(rows.second_segment_start[row])
    assert (token_ids[0], token_ids[start - 1], token_ids[-1]) == (1, 2, 2)
    return token_ids[1 : start - 1], token_ids[start:-1]


def place(part: list[int], whole: list[int]) -> int:
    """Return where a part stands in a list; -1 if nowhere."""
    starts = (at for at in range(len(whole) - len(part) + 1) if whole[at : at + len(part)] == part)
    return next(starts, -1)


# What is written


def test_files_are_those_of_the_contract(prepare: Prepare, reviews: Path, tmp_path: Path) -> None:
    summary = prepare(reviews, tmp_path / "out")
    names = {DOCUMENTS_NAME, TOKENIZER_NAME, *(f"{split}.parquet" for split in SPLITS)}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {MANIFEST_NAME, RECORDS_NAME, SUMMARY_NAME, *names}
    assert summary["sha256"] == {name: file_sha256(tmp_path / "out" / name) for name in sorted(names)}
    assert json.loads((tmp_path / "out" / SUMMARY_NAME).read_text(encoding="utf-8")) == summary
    for split in SPLITS:
        with pq.ParquetFile(tmp_path / "out" / f"{split}.parquet") as file:
            assert file.schema_arrow.equals(pair_schema())
        rows = read_dataset(tmp_path / "out" / f"{split}.parquet")
        counts = summary["splits"][split]
        assert rows.row.tolist() == list(range(counts["rows"]))
        assert counts["tokens"] == len(rows.token_ids)
        assert counts["longest_row"] == rows.lengths.max() <= summary["max_length"] == 48
        assert counts["next_rows"] == int(rows.is_next.sum())
        assert counts["supervised_tokens"] == len(rows.masked_labels)
        assert (rows.masked_labels > 4).all()
    documents = pq.read_table(tmp_path / "out" / DOCUMENTS_NAME)
    assert documents.schema.equals(document_schema())
    assert documents["document"].to_pylist() == list(range(len(REVIEWS)))
    assert documents["text"].to_pylist() == REVIEWS
    assert summary["documents"] == len(REVIEWS) == summary["found"]["read"]
    assert summary["masked_tokens_known"] is True


def test_row_groups_have_their_fixed_number_of_rows(
    prepare: Prepare, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertpipe.data.parquet_writer.ROWS_PER_GROUP", 7)
    prepare(reviews, tmp_path / "out")
    with pq.ParquetFile(tmp_path / "out" / "train.parquet") as file:
        rows = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    assert len(rows) > 3
    assert set(rows[:-1]) == {7}
    assert ROWS_PER_GROUP != 7


@pytest.mark.parametrize(("pairs", "tokenizer"), [("bert", "wordpiece"), ("notebook", "words")])
def test_bytes_do_not_depend_on_the_number_of_processes(
    prepare: Prepare, reviews: Path, tmp_path: Path, pairs: str, tokenizer: str
) -> None:
    for processes in (1, 2, 3):
        prepare(reviews, tmp_path / str(processes), processes=processes, pairs=pairs, tokenizer=tokenizer)
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2") == bytes_of(tmp_path / "3")


def test_auto_takes_one_process_for_a_small_text(prepare: Prepare, reviews: Path, tmp_path: Path) -> None:
    prepare(reviews, tmp_path / "one")
    prepare(reviews, tmp_path / "auto", processes="auto")
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "auto")


# Pairs


def encoded_documents(out: Path) -> tuple[Tokenizer, dict[int, tuple[str, list[int]]]]:
    """Return the tokenizer, and of each document its split and its tokens."""
    tokenizer = load_tokenizer(out / TOKENIZER_NAME)
    rows = pq.read_table(out / DOCUMENTS_NAME).to_pylist()
    return tokenizer, {
        row["document"]: (row["split"], tokenizer.encode(without_line_break_tags(row["text"]))) for row in rows
    }


def test_a_and_b_come_from_the_right_documents(prepare: Prepare, reviews: Path, tmp_path: Path) -> None:
    prepare(reviews, tmp_path / "out")
    _, documents = encoded_documents(tmp_path / "out")
    for split in SPLITS:
        rows = read_dataset(tmp_path / "out" / f"{split}.parquet")
        assert 0 < rows.is_next.sum() < len(rows)
        for row in range(len(rows)):
            first, second = halves(rows, row)
            home, tokens = documents[int(rows.document[row])]
            assert home == split
            after = place(first, tokens) + len(first)
            assert after >= len(first)
            if rows.is_next[row]:
                assert place(second, tokens[after:]) >= 0
            else:
                others = [number for number, (_, other) in documents.items() if place(second, other) >= 0]
                assert any(documents[number][0] == split for number in others)
                assert tokens[after : after + len(second)] != second


def test_the_notebooks_pairs_come_from_one_document_whole_sentences_each(
    prepare: Prepare, reviews: Path, tmp_path: Path
) -> None:
    summary = prepare(reviews, tmp_path / "out", pairs="notebook", tokenizer="words", max_length=100)
    tokenizer, documents = encoded_documents(tmp_path / "out")
    ends = {tokenizer.backend.token_to_id(end) for end in ".?!"}
    rows = read_dataset(tmp_path / "out" / "train.parquet")
    for row in range(len(rows)):
        _, tokens = documents[int(rows.document[row])]
        for half in halves(rows, row):
            at = place(half, tokens)
            assert at == 0 or tokens[at - 1] in ends
            assert half[-1] in ends
            assert not ends & set(half[:-1])
    assert summary["splits"]["train"]["tokens_cut"] == 0
    assert summary["source"] == {"text": "reviews", "pairs": "notebook", "tokenizer": "words"}


FORMS = {
    "stops": lambda lines: " ".join(f"{line.capitalize()}." for line in lines),
    "lines": "\n".join,
    "some stops": lambda lines: "\n".join(f"{line}{'.' * (at % 2)}" for at, line in enumerate(lines)),
    "tabs": "\t".join,
    "emoticons": lambda lines: " :( ".join(line.capitalize() for line in lines),
    "brackets": lambda lines: " ".join(f"{line.capitalize()} (ah." for line in lines),
    "subtitles": lambda lines: "\n".join(f"- {line}" for line in lines),
}


@pytest.mark.parametrize("pairs", ["bert", "notebook"])
def test_all_forms_of_the_same_sentences_give_about_the_same_rows(prepare: Prepare, tmp_path: Path, pairs: str) -> None:
    words = [
        "baker",
        "river",
        "ladder",
        "teacher",
        "garden",
        "engine",
        "letter",
        "horse",
        "bridge",
        "painter",
        "kettle",
        "sailor",
    ]
    chance = np.random.default_rng(5)
    documents = [[f"the {' '.join(chance.choice(words, 7))} by the mill" for _ in range(7)] for _ in range(60)]
    rows = {}
    for name, form in FORMS.items():
        text = folder_of(tmp_path / name, map(form, documents))
        summary = prepare(text, tmp_path / "out" / name, pairs=pairs, language="de")
        splits = summary["splits"].values()
        assert [split["documents_without_pairs"] for split in splits] == [0, 0], name
        rows[name] = sum(split["rows"] for split in splits)
    assert max(rows.values()) <= 1.2 * min(rows.values()), rows


def test_a_line_is_a_sentence_where_the_params_say_so(prepare: Prepare, tmp_path: Path) -> None:
    wrapped = "\n".join(f"{'the river ' * 7}{number:02}" for number in range(12))
    text = folder_of(tmp_path / "text", [f"{wrapped}\nend {number}" for number in range(30)])
    for pairs in ("bert", "notebook"):
        for sentences in ("auto", "rules"):
            with pytest.raises(DataError, match=f"set prepare.sentences to lines .*it is {sentences}"):
                prepare(text, tmp_path / "out", sentences=sentences, pairs=pairs)
        summary = prepare(text, tmp_path / "out", sentences="lines", pairs=pairs)
        assert summary["splits"]["train"]["documents_without_pairs"] == 0


def test_no_document_is_in_both_splits(prepare: Prepare, tmp_path: Path) -> None:
    texts = [text for text in REVIEWS for _ in range(2)]
    summary = prepare(folder_of(tmp_path / "text", texts), tmp_path / "out")
    documents = pq.read_table(tmp_path / "out" / DOCUMENTS_NAME).to_pylist()
    split = {row["text"]: row["split"] for row in documents}
    assert len(split) == len(documents) == len(REVIEWS)
    assert set(split.values()) == set(SPLITS)
    assert summary["found"]["duplicates"] == len(REVIEWS)


def test_the_corpuss_own_splits_are_taken(prepare: Prepare, sample_zip: Path, tmp_path: Path) -> None:
    summary = prepare(sample_zip, tmp_path / "out", test_share="source")
    with open_archive(sample_zip) as archive, archive.open_member("bert_dataset/bert_test_data.csv") as raw:
        content = raw.read().decode("utf-8")
    rows = pq.read_table(tmp_path / "out" / DOCUMENTS_NAME).to_pylist()
    assert {row["split"] for row in rows if row["text"] in content} == {"test"}
    assert {row["split"] for row in rows if row["text"] not in content} == {"train"}
    assert summary["splits"]["test"]["documents"] == 12  # a fifth of 60


def test_a_validation_split_is_written_and_trained_on_no_more_than_the_test_split(
    tiny: Params, prepare: Prepare, tmp_path: Path
) -> None:
    texts = folder_of(tmp_path / "text", REVIEWS)
    plain = prepare(texts, tmp_path / "plain")
    summary = prepare(texts, tmp_path / "out", validation_share=0.3)
    assert list(summary["splits"]) == ["train", "test", "validation"]
    assert summary["splits"]["test"]["documents"] == plain["splits"]["test"]["documents"]
    train_documents, validation = (summary["splits"][split]["documents"] for split in ("train", "validation"))
    assert 0 < validation < train_documents
    assert train_documents + validation == plain["splits"]["train"]["documents"]
    assert set(summary["sha256"]) == set(plain["sha256"]) | {"validation.parquet"}
    # `train` reports the validation split, and never opens the test split.
    (tmp_path / "out" / "test.parquet").unlink()
    found = train(tiny, tmp_path / "run", tmp_path / "out")
    assert {name for name in found if name.startswith("validation_")} == {
        f"validation_{figure}" for figure in ("mlm_loss", "mlm_top1_accuracy", "nsp_loss", "nsp_accuracy")
    }
    assert not any(name.startswith("test_") for name in found)
    with pytest.raises(DataError, match=r"set prepare\.validation_share to 0\.0"):
        prepare(texts, tmp_path / "out.zip", validation_share=0.3)


def test_the_vocabulary_is_made_of_training_documents_alone(prepare: Prepare, reviews: Path, tmp_path: Path) -> None:
    prepare(reviews, tmp_path / "out", tokenizer="words")
    tokenizer, documents = encoded_documents(tmp_path / "out")
    seen = {token for split, tokens in documents.values() if split == "train" for token in tokens}
    assert seen >= set(range(len(SPECIAL_TOKENS), tokenizer.vocab_size))
    assert tokenizer.unknown_id in {
        token for split, tokens in documents.values() if split == "test" for token in tokens
    }


def test_spanish_keeps_accents_and_sentences(prepare: Prepare, tmp_path: Path) -> None:
    texts = [f"La Sra. Vega salió a las {n}. ¿Volvió? ¡Sí! El Dr. Paz también, desde EE. UU." for n in range(40)]
    prepare(folder_of(tmp_path / "text", texts), tmp_path / "out", language="es", max_length=128, short_share=0.0)
    tokenizer, _ = encoded_documents(tmp_path / "out")
    rows = read_dataset(tmp_path / "out" / "train.parquet")
    opening = {" ".join(tokenizer.tokens(halves(rows, row)[1][:2])) for row in range(len(rows))}
    assert opening == {"¿ volvió", "¡ sí", "el dr"}


def test_special_tokens_in_a_text_are_none(prepare: Prepare, tmp_path: Path) -> None:
    texts = [f"A [MASK] of {n}. And [SEP] more [CLS]. Then [PAD] ends it." for n in range(40)]
    prepare(folder_of(tmp_path / "text", texts), tmp_path / "out")
    rows = read_dataset(tmp_path / "out" / "train.parquet")
    assert np.bincount(rows.token_ids, minlength=5)[:5].tolist() == [0, len(rows), 2 * len(rows), 0, 0]


def test_special_tokens_with_other_ids_stand_in_the_rows_as_they_are(
    prepare: Prepare, reviews: Path, tmp_path: Path
) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(BERT_VOCABULARY), encoding="utf-8")
    prepare(reviews, tmp_path / "out", tokenizer=str(tmp_path / "vocab.txt"))
    rows = read_dataset(tmp_path / "out" / "train.parquet")
    assert set(rows.token_ids[rows.offsets[:-1]].tolist()) == {3}
    assert set(rows.token_ids[rows.offsets[1:] - 1].tolist()) == {4}
    assert set(rows.token_ids[rows.offsets[:-1] + rows.second_segment_start - 1].tolist()) == {4}
    assert not {0, 1, 5} & set(rows.token_ids.tolist())
    assert 5 in rows.masked_inputs


@pytest.mark.parametrize("unit", ["word", "span"])
def test_words_of_a_byte_level_vocabulary_are_masked_whole(tiny: Params, tmp_path: Path, unit: MaskingUnit) -> None:
    tokenizer = byte_level()
    tokenizer.save(tmp_path / "tokenizer.json")
    run = preparer(replace(tiny, masking=replace(tiny.masking, unit=unit)))
    run(
        folder_of(tmp_path / "text", [f"{' '.join(TEXTS)} Número {n}." for n in range(60)]),
        tmp_path / "out",
        tokenizer=str(tmp_path),
    )
    rows = read_dataset(tmp_path / "out" / "train.parquet")
    masked = np.zeros(len(rows.token_ids), dtype=np.bool_)
    masked[np.repeat(rows.offsets[:-1], np.diff(rows.masked_offsets)) + rows.masked_positions] = True
    joined = tokenizer.continues_word[rows.token_ids[1:]] & ~tokenizer.ends_word[rows.token_ids[:-1]]
    assert (masked[1:] & joined).any()
    assert np.array_equal(masked[1:][joined], masked[:-1][joined])


def test_words_that_a_vocabulary_does_not_mark_are_not_masked(tiny: Params, tmp_path: Path) -> None:
    unmarked().save(tmp_path / "tokenizer.json")
    run = preparer(replace(tiny, masking=replace(tiny.masking, unit="word")))
    with pytest.raises(ParamsError, match=r"masking\.unit is word, and .* do not show .*: set masking\.unit to token"):
        run(
            folder_of(tmp_path / "text", [f"{text} {n}" for n, text in enumerate(TEXTS * 9)]),
            tmp_path / "out",
            tokenizer=str(tmp_path),
        )
    assert not (tmp_path / "out").exists()


def test_words_are_one_in_both_forms_of_unicode(prepare: Prepare, tmp_path: Path) -> None:
    texts = [f"{review} La canci\u00f3n {number}." for number, review in enumerate(REVIEWS)]
    texts += [f"{review} La cancio\u0301n {number}." for number, review in enumerate(REVIEWS)]
    summary = prepare(folder_of(tmp_path / "texts", texts), tmp_path / "out", tokenizer="words")
    assert summary["found"]["duplicates"] == len(REVIEWS)
    tokenizer = load_tokenizer(tmp_path / "out" / TOKENIZER_NAME)
    assert tokenizer.encode("cancio\u0301n") == tokenizer.encode("canci\u00f3n") != [tokenizer.unknown_id]
