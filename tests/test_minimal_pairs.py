"""`evaluate --minimal-pairs`: scores by masking, ties, groups, simple predictors, and what is refused."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertpipe.commands.minimal_pairs import run_minimal_pairs
from bertpipe.core.errors import DataError, MissingInputError, ModelError
from bertpipe.core.params import Params
from bertpipe.core.progress import Progress
from bertpipe.data.pair_dataset import read_dataset
from bertpipe.data.tokenization.tokenizer import load_tokenizer
from bertpipe.evaluation.baselines import token_counts
from bertpipe.evaluation.minimal_pairs import mean_log_frequencies, pair_figures, points
from bertpipe.inference.predictor import Predictor, load_predictor
from bertpipe.sources.minimal_pairs import minimal_pair_files, read_minimal_pairs
from models import save_tiny_huggingface, save_tiny_model
from texts import gz

PAIRS = [
    ("the cat sat on the mat .", "the cat sat the on mat ."),
    ("the dog ran .", "the dog the ran ."),
    ("the mat", "mat the"),
]


def write_lines(path: Path, lines: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def write_pairs(path: Path, pairs: Sequence[tuple[str, str]] = PAIRS, **fields: Any) -> Path:  # noqa: ANN401
    return write_lines(path, [{"sentence_good": good, "sentence_bad": bad, **fields} for good, bad in pairs])


def measure(
    params: Params,
    pairs: Path | Sequence[Path],
    model: Path,
    out: Path,
    *,
    data: Path = Path("none"),
    **changes: Any,  # noqa: ANN401
) -> dict[str, Any]:
    given = [pairs] if isinstance(pairs, Path) else pairs
    settings = {"group_by": None} | changes
    return run_minimal_pairs(params.runtime, pairs=given, model=model, data=data, out=out, **settings)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a tiny model that knows the words of `PAIRS`; read only."""
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_model(folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """Return a tiny Hugging Face model, whose vocabulary has pieces: `mats` is `mat ##s`."""
    folder = tmp_path_factory.mktemp("hf")
    save_tiny_huggingface(folder / "hf")
    return load_predictor(str(folder / "hf"), device="cpu")


def by_plain_loop(predictor: Predictor, masked_rows: Sequence[tuple[Sequence[int], int, int]]) -> list[float]:
    """Return the log-probability of a token in each row [ids, place, token], by all logits of the whole row."""
    found = []
    for ids, place, token in masked_rows:
        row = torch.tensor([[predictor.tokenizer.cls_id, *ids, predictor.tokenizer.sep_id]])
        length = torch.tensor([row.shape[1]])
        with torch.no_grad():
            logits = predictor.bert.mlm_logits(predictor.bert(row, length, length))[0, place + 1].double()
        found.append(float(logits[token] - logits.logsumexp(dim=0)))
    return found


# Scores


def test_the_score_is_that_of_a_plain_loop(model: Path) -> None:
    predictor = load_predictor(str(model), device="cpu")
    for sentence in [sentence for pair in PAIRS for sentence in pair]:
        ids = predictor.tokenizer.encode(sentence, "x").ids
        mask = predictor.tokenizer.mask_id
        expected = by_plain_loop(
            predictor, [((*ids[:place], mask, *ids[place + 1 :]), place, token) for place, token in enumerate(ids)]
        )
        (answer,) = predictor.answer_scores([predictor.ask_score(sentence, mask_rest_of_word=True)])
        assert answer.log_probabilities == pytest.approx(expected, abs=1e-5)
        assert answer.pseudo_log_likelihood == pytest.approx(sum(expected), abs=1e-5)


def test_the_pieces_that_follow_in_a_word_are_masked_too(pieces: Predictor) -> None:
    the, mat, s, sat, ting = pieces.tokenizer.encode("the mats satting", "x").ids
    mask = pieces.tokenizer.mask_id
    question = pieces.ask_score("the mats satting", mask_rest_of_word=True)
    assert question.masked_ends == (1, 3, 3, 5, 5)
    expected = by_plain_loop(
        pieces,
        [
            ((mask, mat, s, sat, ting), 0, the),
            ((the, mask, mask, sat, ting), 1, mat),
            ((the, mat, mask, sat, ting), 2, s),
            ((the, mat, s, mask, mask), 3, sat),
            ((the, mat, s, sat, mask), 4, ting),
        ],
    )
    (answer,) = pieces.answer_scores([question])
    assert answer.log_probabilities == pytest.approx(expected, abs=1e-5)
    (alone,) = pieces.answer_scores([pieces.ask_score("the mats satting")])
    assert alone.log_probabilities[2] == pytest.approx(answer.log_probabilities[2], abs=1e-5)
    assert alone.log_probabilities[1] != pytest.approx(answer.log_probabilities[1], abs=1e-3)


def test_a_word_longer_than_the_model_reads_is_scored(pieces: Predictor) -> None:
    question = pieces.ask_score("mat" + "s" * 40, mask_rest_of_word=True)
    (answer,) = pieces.answer_scores([question])
    assert len(answer.log_probabilities) == len(question.token_ids)
    assert np.isfinite(answer.log_probabilities).all()


def test_the_report_has_the_points_of_the_scores(tiny: Params, model: Path, tmp_path: Path) -> None:
    predictor = load_predictor(str(model), device="cpu")
    won = [
        predictor.score(good).pseudo_log_likelihood > predictor.score(bad).pseudo_log_likelihood for good, bad in PAIRS
    ]
    assert 0 < sum(won) < len(won), "the example tells nothing"
    report = measure(tiny, write_pairs(tmp_path / "p.jsonl"), model, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == report
    assert report["predictors"]["model"] == {
        "accuracy": sum(won) / 3, "group_mean_accuracy": sum(won) / 3, "ties": 0
    }  # fmt: skip
    assert report["groups"] == {
        "p": {"pairs": 3, "model": sum(won) / 3, "shorter_sentence": 2 / 3, "frequent_words": None}
    }


def test_how_pairs_are_put_together_changes_nothing(
    tiny: Params, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_pairs(tmp_path / "p.jsonl", PAIRS * 3)
    together = measure(tiny, path, model, tmp_path / "one.json")
    monkeypatch.setattr("bertpipe.commands.minimal_pairs._PAIRS_AT_ONCE", 2)
    seen: list[Progress] = []
    assert measure(tiny, path, model, tmp_path / "other.json", on_progress=seen.append) == together
    assert [report.completed for report in seen if report.label == "scoring pairs"] == [2, 4, 6, 8, 9]


# Ties, groups and predictors


def test_a_tie_counts_half_and_rounding_does_not_decide() -> None:
    good = np.array([-10.0, -10.0, -10.0, -10.0, 0.0])
    bad = np.array([-9.0, -11.0, -10.00005, -10.001, 0.0])
    assert points(good, bad).tolist() == [0.0, 1.0, 0.5, 1.0, 0.5]


def test_figures_over_pairs_and_over_groups_by_hand() -> None:
    overall, groups = pair_figures(["b", "a", "a", "a"], {"model": np.array([0.0, 1.0, 0.5, 0.0]), "other": None})
    # pairs: 1.5 / 4; groups: a 1.5 / 3, b 0 / 1, their mean 0.25
    assert overall == {"model": {"accuracy": 0.375, "group_mean_accuracy": 0.25, "ties": 1}, "other": None}
    assert groups == {"a": {"pairs": 3, "model": 0.5, "other": None}, "b": {"pairs": 1, "model": 0.0, "other": None}}
    assert list(groups) == ["a", "b"]


def test_mean_log_frequencies_by_hand() -> None:
    found = mean_log_frequencies([(0, 1), (2,)], np.array([3, 0, 1]))  # with one added: 4/7, 1/7 and 2/7
    assert found.tolist() == pytest.approx([(np.log(4 / 7) + np.log(1 / 7)) / 2, np.log(2 / 7)])


def test_words_are_counted_in_the_training_rows_without_special_tokens(parquet: Path) -> None:
    data, tokenizer = read_dataset(parquet / "train.parquet"), load_tokenizer(parquet / "tokenizer.json")
    counts = token_counts(data, tokenizer)
    assert not counts[list(tokenizer.special_ids)].any()
    word = int(counts.argmax())
    assert counts[word] == (data.token_ids == word).sum()


def test_the_predictors_stand_beside_the_model(tiny: Params, trained: Path, parquet: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(parquet / "tokenizer.json")
    counts = token_counts(read_dataset(parquet / "train.parquet"), tokenizer)
    words = [word for word in tokenizer.tokens(np.argsort(-counts)[:400].tolist()) if word.isalpha()]
    often, rarely = words[0], words[-1]
    pairs = write_pairs(tmp_path / "p.jsonl", [(often, rarely), (often, rarely), (often, f"{often} {often}")])
    report = measure(tiny, pairs, trained / "model", tmp_path / "out.json", data=parquet)
    assert report["predictors"]["shorter_sentence"] == pytest.approx(
        {"accuracy": 2 / 3, "group_mean_accuracy": 2 / 3, "ties": 2}  # 0.5, 0.5 and 1
    )
    assert report["predictors"]["frequent_words"] == pytest.approx(
        {"accuracy": 2.5 / 3, "group_mean_accuracy": 2.5 / 3, "ties": 1}  # 1, 1 and 0.5
    )


@pytest.mark.parametrize(
    ("fields", "group_by", "groups"),
    [
        ({"UID": "u", "field": "f"}, None, ["u"]),
        ({"linguistics_term": "t", "field": "f"}, None, ["t"]),
        ({"field": "f"}, None, ["f"]),
        ({}, None, ["p"]),
        ({"UID": "u", "level": 2}, "level", ["2"]),
        ({"UID": "u", "easy": True}, "easy", ["true"]),
    ],
)
def test_groups_are_those_of_a_field_or_the_file(
    tmp_path: Path, fields: Mapping[str, Any], group_by: str | None, groups: list[str]
) -> None:
    path = write_pairs(tmp_path / "p.jsonl", **fields)
    assert sorted({pair.group for pair in read_minimal_pairs([path], group_by=group_by)}) == groups


def test_folders_and_files_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "all" / "more").mkdir(parents=True)
    write_pairs(tmp_path / "all" / "b.jsonl", UID="u")
    plain = write_pairs(tmp_path / "all" / "more" / "c.jsonl")
    (tmp_path / "all" / "a.jsonl.gz").write_bytes(gz(plain.read_bytes()))
    (tmp_path / "all" / "README.md").write_text("about", encoding="utf-8")
    alone = write_pairs(tmp_path / "alone.json")
    files = minimal_pair_files([tmp_path / "all", alone])
    assert [file.name for file in files] == ["a.jsonl.gz", "b.jsonl", "c.jsonl", "alone.json"]
    read = read_minimal_pairs(files, group_by=None)
    assert [pair.group for pair in read] == ["a"] * 3 + ["u"] * 3 + ["c"] * 3 + ["alone"] * 3
    assert (read[4].good, read[4].bad, read[4].place) == (*PAIRS[1], f"{tmp_path / 'all' / 'b.jsonl'}:2")


# What the user is told


def test_notes_name_unknown_words_equal_tokens_and_long_sentences(tiny: Params, model: Path, tmp_path: Path) -> None:
    long = "the " * 16
    pairs = [*PAIRS, ("the cow sat", "the hen sat"), (long, "the"), ("the", long)]
    notes: list[str] = []
    report = measure(tiny, write_pairs(tmp_path / "p.jsonl", pairs), model, tmp_path / "out.json", on_note=notes.append)
    assert [report[name] for name in ("pairs", "unknown_tokens", "pairs_with_unknown_tokens")] == [6, 2, 1]
    assert report["pairs_of_equal_tokens"] == report["predictors"]["model"]["ties"] == 1
    assert "no predictor by word frequency" in notes[0]
    assert "1 of 6 pairs have words that are not in the vocabulary: 2 tokens" in notes[1]
    assert "1 of 6 pairs have two sentences of the same tokens" in notes[2]
    assert notes[3].endswith(f"the 15 around it, at {tmp_path / 'p.jsonl'}:5, {tmp_path / 'p.jsonl'}:6")


def test_frequencies_of_another_vocabulary_are_not_used(
    tiny: Params, model: Path, parquet: Path, tmp_path: Path
) -> None:
    notes: list[str] = []
    report = measure(
        tiny, write_pairs(tmp_path / "p.jsonl"), model, tmp_path / "out.json", data=parquet, on_note=notes.append
    )
    assert report["predictors"]["frequent_words"] is None
    assert f"{parquet} has another tokenizer than the model" in notes[0]


GOOD = {"sentence_good": "the cat", "sentence_bad": "cat the"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", r"p\.jsonl:2 is not JSON"),
        ("[1]", r"p\.jsonl:2 is a list, expected a JSON object with sentence_good and sentence_bad"),
        ('{"sentence_good": "x"}', r"p\.jsonl:2 has no field 'sentence_bad', it has 'sentence_good': write it"),
        (GOOD | {"sentence_bad": 3}, r"p\.jsonl:2: field 'sentence_bad' is a number, expected a sentence"),
        (GOOD | {"sentence_good": None}, r"p\.jsonl:2: field 'sentence_good' is null, expected a sentence"),
        (GOOD | {"sentence_good": " "}, r"p\.jsonl:2: field 'sentence_good' is empty"),
        (GOOD | {"sentence_good": "a \ud800"}, r"p\.jsonl:2: field 'sentence_good' holds '\\ud800'"),
        (GOOD | {"sentence_bad": "the [MASK]"}, r"p\.jsonl:2: field 'sentence_bad': there is a \[MASK\]"),
        (GOOD | {"sentence_bad": ";"}, r"p\.jsonl:2: field 'sentence_bad': .* holds no word that the tokenizer keeps"),
    ],
)
def test_a_wrong_line_is_named(tiny: Params, model: Path, tmp_path: Path, line: object, message: str) -> None:
    path = tmp_path / "p.jsonl"
    second = line if isinstance(line, str) else json.dumps(line)
    path.write_text(f"{json.dumps(GOOD)}\n{second}\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        measure(tiny, path, model, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({}, r"p\.jsonl:1 has no field 'kind', it has .*: write it, or name another field with --group-by"),
        ({"kind": None}, r"p\.jsonl:1: field 'kind' is null, expected the name of a group"),
        ({"kind": 0.5}, r"field 'kind' is a number"),
        ({"kind": " "}, r"field 'kind' is empty"),
    ],
)
def test_a_wrong_group_is_named(tmp_path: Path, group: dict[str, Any], message: str) -> None:
    path = write_lines(tmp_path / "p.jsonl", [GOOD | group])
    with pytest.raises(DataError, match=message):
        read_minimal_pairs([path], group_by="kind")


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(MissingInputError, match=r"none\.jsonl does not exist: name a file of minimal pairs"):
        minimal_pair_files([tmp_path / "none.jsonl"])
    with pytest.raises(MissingInputError, match=r"the folder .* has no file \.jsonl or \.ndjson"):
        minimal_pair_files([tmp_path / "folder"])
    (tmp_path / "empty.jsonl").write_text("\n\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"empty\.jsonl has no minimal pair"):
        read_minimal_pairs([tmp_path / "empty.jsonl"], group_by=None)


def test_a_model_without_a_trained_mlm_head_is_refused(tiny: Params, tmp_path: Path) -> None:
    save_tiny_huggingface(tmp_path / "hf", head="BertForNextSentencePrediction")
    with pytest.raises(ModelError, match="has no trained masked-word head"):
        measure(tiny, write_pairs(tmp_path / "p.jsonl"), tmp_path / "hf", tmp_path / "out.json")
