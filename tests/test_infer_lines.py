"""`infer` on many inputs: batches of any lengths, the order of the answers, bad lines, and each kind of output."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer, BertForPreTraining, BertModel

from bertpipe.commands import infer_lines
from bertpipe.commands.infer_lines import run_infer_lines
from bertpipe.core.errors import InputError, MissingInputError, ModelError
from bertpipe.data.tokenization.model_tokenizer import ModelTokenizer
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, word_level_tokenizer
from bertpipe.inference import engine, lines, predictor
from bertpipe.inference.lines import blocks_of_lines
from bertpipe.inference.predictor import load_predictor
from models import WORDS, save_tiny_huggingface, tiny_bert

TEXTS = [
    "the cat sat on the mat .",
    "dog",
    "the dog ran on the cat on the mat",
    "ran .",
    "the mat on the dog . the cat",
]


def random_texts(count: int) -> list[str]:
    generator = np.random.default_rng(5)
    return [" ".join(generator.choice(WORDS, size=generator.integers(1, 15))) for _ in range(count)]


def answers(task: Any, model: Path, lines: list[Any], folder: Path, **options: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    source, out = folder / "in.jsonl", folder / "out.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    run_infer_lines(task, model=str(model), source=str(source), out=out, **options)
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_batches_are_of_rows_of_like_length_and_within_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_TOKENS_PER_BATCH", 12)
    monkeypatch.setattr(engine, "_MAX_ROWS", 3)
    rows = [
        engine.Row(token_ids=tuple(range(length)), second_segment_start=length) for length in (5, 1, 4, 1, 30, 1, 6, 1)
    ]
    bert = tiny_bert("bert", vocab_size=30, max_positions=30)
    batches = [chosen.tolist() for chosen, _ in engine.states_at(bert, rows)]
    assert batches == [[1, 3, 5], [7, 2], [0, 6], [4]]  # 30 tokens are one batch, though they are too many


@pytest.mark.parametrize("tokens", [1, 40, 10_000])
def test_answers_do_not_depend_on_the_batches(own: Path, monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    monkeypatch.setattr(engine, "_TOKENS_PER_BATCH", tokens)
    monkeypatch.setattr(predictor, "_MAX_LOGITS", 3 * 13)  # three masks at a time
    asked = load_predictor(str(own))
    texts = random_texts(37)
    masked = [text.replace("the", "[MASK]") if "the" in text else f"{text} [MASK]" for text in texts]
    pairs = list(zip(texts, reversed(texts), strict=True))
    together = asked.answer_mlm([asked.ask_mlm(text, 3) for text in masked])
    for text, answer in zip(masked, together, strict=True):
        alone = asked.fill_masks(text, 3)
        assert [[c.token for c in mask.candidates] for mask in answer.masks] == [
            [c.token for c in mask.candidates] for mask in alone.masks
        ]
        for mine, theirs in zip(answer.masks, alone.masks, strict=True):
            expected = pytest.approx([c.probability for c in theirs.candidates], rel=1e-4)
            assert [c.probability for c in mine.candidates] == expected
    for (first, second), answer in zip(pairs, asked.answer_nsp([asked.ask_nsp(*pair) for pair in pairs]), strict=True):
        assert answer.probability_next == pytest.approx(asked.next_sentence(first, second).probability_next, rel=1e-4)
    scores = asked.answer_scores([asked.ask_score(text) for text in texts])
    vectors = asked.answer_embeddings([asked.ask_embedding(text) for text in texts])
    for text, score, vector in zip(texts, scores, vectors, strict=True):
        assert score.log_probabilities == pytest.approx(asked.score(text).log_probabilities, rel=1e-4)
        np.testing.assert_allclose(vector.vector, asked.embed(text).vector, rtol=1e-4, atol=1e-5)


def test_a_score_is_the_sum_over_tokens_each_masked_alone(huggingface: Path) -> None:
    """The definition, spelled out with transformers."""
    network = BertForPreTraining.from_pretrained(huggingface).eval()
    tokenizer = AutoTokenizer.from_pretrained(huggingface)
    text = "the cats sat on dog."
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    expected = []
    for position in range(1, ids.shape[1] - 1):
        masked = ids.clone()
        masked[0, position] = tokenizer.mask_token_id
        with torch.inference_mode():
            logits = network(input_ids=masked).prediction_logits[0, position].double()
        expected.append(float(logits.log_softmax(0)[ids[0, position]]))
    answer = load_predictor(str(huggingface)).score(text)
    assert answer.tokens == ("the", "cat", "##s", "sat", "on", "dog", ".")
    assert answer.log_probabilities == pytest.approx(expected, abs=1e-5)
    assert answer.pseudo_log_likelihood == pytest.approx(sum(expected), abs=1e-4)
    assert answer.pseudo_perplexity == pytest.approx(math.exp(-sum(expected) / 7), rel=1e-4)


def test_a_long_text_is_scored_in_windows(own: Path) -> None:
    words = (TEXTS[2] + " ") * 3  # 27 words, and the model reads 15
    answer = load_predictor(str(own)).score(words)
    assert len(answer.log_probabilities) == 27
    assert answer.warnings == (
        "the model reads 17 tokens at most: each of the 27 tokens is scored with the 15 around it",
    )
    middle = load_predictor(str(own)).score(" ".join(words.split()[13 - 7 : 13 + 8])).log_probabilities[7]
    assert answer.log_probabilities[13] == pytest.approx(middle, rel=1e-5)


def test_a_score_of_a_mask_is_refused(own: Path) -> None:
    with pytest.raises(InputError, match=r"there is a \[MASK\] in 'the \[MASK\]': a score needs a text without masks"):
        load_predictor(str(own)).score("the [MASK]")


def test_a_vector_is_the_mean_over_all_tokens(huggingface: Path) -> None:
    network = BertModel.from_pretrained(huggingface).eval()
    given = AutoTokenizer.from_pretrained(huggingface)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = network(**given).last_hidden_state
    real = given["attention_mask"][:, :, None]
    expected = (states * real).sum(1) / real.sum(1)
    asked = load_predictor(str(huggingface))
    got = asked.answer_embeddings([asked.ask_embedding(text) for text in TEXTS])
    np.testing.assert_allclose(np.stack([answer.vector for answer in got]), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_vectors_need_no_heads(tmp_path: Path) -> None:
    save_tiny_huggingface(tmp_path / "hf", head="BertModel")
    assert load_predictor(str(tmp_path / "hf")).embed("the cat").vector.shape == (6,)
    for task in ("nsp", "mlm", "score"):
        with pytest.raises(ModelError, match=r"has no trained (next-sentence|masked-word) head: train it with"):
            run_infer_lines(task, model=str(tmp_path / "hf"), source="-", out=None)


def test_a_bad_line_does_not_end_the_rest_and_order_is_kept(own: Path, tmp_path: Path) -> None:
    lines = [
        {"text": "the cat sat on the [MASK] .", "id": 7},
        {"text": "no mask"},
        "a [MASK]",
        {"texts": "the [MASK]"},
        {"text": None},
        ["the [MASK]"],
        {"text": "  "},
        {"text": "[MASK]"},
    ]
    rows = answers("mlm", own, lines, tmp_path, top_k=2)
    assert [row["line"] for row in rows] == list(range(1, 9))
    assert [row["input"] for row in rows] == lines
    assert ["answer" in row for row in rows] == [True, False, True, False, False, False, False, True]
    assert ["error" in row for row in rows] == [False, True, False, True, True, True, True, False]
    assert [rows[index]["error"] for index in (3, 4, 5, 6)] == [
        "it has no 'text': write an object with 'text'",
        "'text' is not a string: write an object with 'text'",
        "it is a list: write one object per line (jq -c '.[]' OLD > NEW)",
        "the text is empty: write some words",
    ]
    expected = load_predictor(str(own)).fill_masks("the cat sat on the [MASK] .", 2).to_dict()
    for mine, theirs in zip(
        rows[0]["answer"]["masks"][0]["candidates"], expected["masks"][0]["candidates"], strict=True
    ):
        assert mine["token"] == theirs["token"]
        assert mine["probability"] == pytest.approx(theirs["probability"], rel=1e-4)


def test_many_blocks_keep_their_order(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(infer_lines._BLOCK, "nsp", 4)
    texts = random_texts(11)
    rows = answers("nsp", own, [{"first": text, "second": "the cat"} for text in texts], tmp_path)
    assert [row["input"]["first"] for row in rows] == texts
    asked = load_predictor(str(own))
    for row, text in zip(rows, texts, strict=True):
        expected = asked.next_sentence(text, "the cat").probability_next
        assert row["answer"]["probability_next"] == pytest.approx(expected, rel=1e-4)


TEXT, PAIR = ("text",), ("first", "second")


@pytest.mark.parametrize(
    ("raw", "fields", "expected"),
    [
        (b'{"text": "a"}\n\n "b"\r\n{"text": "c"', TEXT, [(1, ("a",), None), (3, ("b",), None), (4, (), "not JSON")]),
        (
            b"\xef\xbb\xbfa b\r\nc\xffd\ne",
            TEXT,
            [(1, ("a b",), None), (2, (), "not UTF-8 (byte 2)"), (3, ("e",), None)],
        ),
        (b"a\tb\nc\na\tb\tc\n", PAIR, [(1, ("a", "b"), None), (2, (), "1 parts"), (3, (), "3 parts")]),
        (b"", TEXT, []),
        (b"\n \n", TEXT, []),
    ],
    ids=["JSON", "text", "pairs", "nothing", "empty lines"],
)
def test_lines_of_standard_input(
    raw: bytes, fields: tuple[str, ...], expected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
    (*blocks,) = blocks_of_lines("-", fields, size=2)
    assert all(len(block) <= 2 for block in blocks)
    lines = [line for block in blocks for line in block]
    assert [(line.number, line.values) for line in lines] == [(number, values) for number, values, _ in expected]
    for line, (_, _, said) in zip(lines, expected, strict=True):
        assert (line.error is None) if said is None else (said in (line.error or ""))


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("1e999", r"1e999 is too large a number, write it as a string"),
        ("-1" + "0" * 400 + ".5", r"is too large a number"),
        ("9" * 5000, r"it has a number of 5,000 digits, write it as a string"),
    ],
)
def test_a_number_that_the_answer_could_not_repeat_is_named(tmp_path: Path, number: str, said: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(f'{{"text": "a", "n": 1e308}}\n{{"text": "b", "n": {number}}}\n', encoding="utf-8")
    (block,) = blocks_of_lines(str(path), ["text"], size=9)
    assert block[0].given == {"text": "a", "n": 1e308}
    assert said in (block[1].error or "")
    assert len(block[1].error or "") < 200


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
@pytest.mark.parametrize("is_json", [False, True])
def test_questions_have_any_line_ends_and_the_marks_of_joined_files(tmp_path: Path, end: str, is_json: bool) -> None:
    expected = [f"a\x85b\u2028c {number}" for number in range(3)]
    lines = [json.dumps({"text": text}, ensure_ascii=False) if is_json else text for text in expected]
    path = tmp_path / ("in.jsonl" if is_json else "in.txt")
    path.write_bytes("".join(f"\ufeff{line}{end}" for line in lines).encode())
    (block,) = blocks_of_lines(str(path), ["text"], size=9)
    assert [(line.number, line.values, line.error) for line in block] == [
        (number, (text,), None) for number, text in enumerate(expected, start=1)
    ]


def test_a_folder_of_questions_is_read_as_one_file(tmp_path: Path) -> None:
    for name, content in {
        "part-1.json": '"c"',
        "part-0.json": '"a"\n\n"b"\n',
        "_SUCCESS": "",
        ".part-0.crc": "x",
    }.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (block,) = blocks_of_lines(str(tmp_path), ["text"], size=9)
    assert [(line.number, line.values) for line in block] == [(1, ("a",)), (3, ("b",)), (4, ("c",))]
    (tmp_path / "notes.txt").write_text("d", encoding="utf-8")
    with pytest.raises(InputError, match=r"has files of JSON lines and others: name a folder with files of one kind"):
        next(blocks_of_lines(str(tmp_path), ["text"], size=9))


def test_what_is_not_a_file_of_lines_is_named(tmp_path: Path) -> None:
    for name in ("x.parquet", "x.zip", "x.tar.gz"):
        (tmp_path / name).write_bytes(b"PAR1")
        with pytest.raises(InputError, match=rf"{name} is not a file of lines: write what it holds as JSON lines"):
            next(blocks_of_lines(str(tmp_path / name), ["text"], size=9))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.csv", b"text\n", "is not a file of lines: write what it holds as JSON lines"),
        ("x.txt.xz", b"", r"is packed: unpack it, or pipe it in \(xzcat x\.txt\.xz \| bertpipe"),
        ("x.txt", "\ufeffthe cat".encode("utf-16-le"), "is not UTF-8 text: it looks like UTF-16, convert it: iconv"),
        ("x.txt", b"\x1f\x8b\x08\0", "is not UTF-8 text: it looks like gzip"),
        ("x.txt", b"%PDF-1.4\nthe cat", "is not UTF-8 text: it looks like PDF"),
        ("x.txt", b"version https://git-lfs.github.com/spec/v1\n", "is a pointer .*: fetch it with `git lfs pull`"),
    ],
)
def test_a_file_that_is_no_text_is_named_once(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        next(blocks_of_lines(str(tmp_path / name), ["text"], size=9))


def test_a_question_may_begin_as_another_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("ORC is what?\nRar!\n", encoding="utf-8")
    (block,) = blocks_of_lines(str(tmp_path / "x.txt"), ["text"], size=9)
    assert [line.values for line in block] == [("ORC is what?",), ("Rar!",)]


def test_a_line_of_utf16_without_its_mark_is_a_bad_line(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes("the cat\n".encode("utf-16-le"))
    (block,) = blocks_of_lines(str(tmp_path / "x.txt"), ["text"], size=9)
    assert [line.error for line in block] == [
        "it holds a NUL character, which text does not have: is the file UTF-16?"
    ] * 2


def test_a_folder_without_questions_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"has no file: name files with one input per line"):
        next(blocks_of_lines(str(tmp_path), ["text"], size=9))


def test_a_line_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_LONGEST_LINE", 1000)
    (tmp_path / "in.txt").write_text(f"{'x' * 1000}\nshort\n{'y' * 1001}", encoding="utf-8")
    for source in ("/dev/zero", str(tmp_path / "in.txt")):
        with pytest.raises(InputError, match=rf"{source} has a line of more than 1,000 characters"):
            list(blocks_of_lines(source, ["text"], size=9))


def test_a_word_is_found_in_both_forms_of_unicode(tmp_path: Path) -> None:
    tokenizer = ModelTokenizer(word_level_tokenizer([*SPECIAL_TOKENS, "canci\u00f3n"]))
    assert tokenizer.encode("cancio\u0301n", "the text").ids == (5,)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".npy"])
def test_half_a_character_is_a_bad_line_in_every_output(own: Path, tmp_path: Path, suffix: str) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / f"out{suffix}"
    lines = [r'{"text": "the cat"}', r'{"text": "the \ud83d"}', r'{"x": "\ud83d"}', r'"\ude00"', r'{"text": "a dog"}']
    source.write_text("\n".join(lines), encoding="utf-8")
    result = run_infer_lines("embed", model=str(own), source=str(source), out=out)
    assert (result["answered"], result["failed"]) == (2, 3)
    if suffix == ".parquet":
        rows = pq.read_table(out).to_pylist()
        assert [row["embedding"] is None for row in rows] == [False, True, True, True, False]
        assert rows[1]["text"] == r"the \ud83d"
        assert "half a character at 5" in rows[1]["error"]


def test_a_file_is_read_as_its_name_says(tmp_path: Path) -> None:
    for name, values in (("a.txt", ('{"text": "x"}',)), ("a.jsonl", ("x",)), ("a.NDJSON", ("x",))):
        (tmp_path / name).write_text('{"text": "x"}\n', encoding="utf-8")
        ((line,),) = blocks_of_lines(str(tmp_path / name), ("text",), size=9)
        assert line.values == values, name
    (tmp_path / "a.jsonl.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(InputError, match=r"a\.jsonl\.gz is packed: unpack it, or pipe it in"):
        list(blocks_of_lines(str(tmp_path / "a.jsonl.gz"), ("text",), size=9))
    with pytest.raises(MissingInputError, match=r"there is no file .*none\.jsonl"):
        list(blocks_of_lines(str(tmp_path / "none.jsonl"), ("text",), size=9))


def test_vectors_as_parquet(own: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("the cat\n\n[CLS\x00\n\xff", encoding="latin-1")
    facts = run_infer_lines("embed", model=str(own), source=str(tmp_path / "in.txt"), out=tmp_path / "v.parquet")
    rows = pq.read_table(tmp_path / "v.parquet").to_pylist()
    assert [row["line"] for row in rows] == [1, 3, 4]
    np.testing.assert_allclose(rows[0]["embedding"], load_predictor(str(own)).embed("the cat").vector, rtol=1e-5)
    assert rows[0]["error"] is None
    assert rows[2]["embedding"] is None
    assert rows[2]["error"].startswith("it is not UTF-8 (byte 1): if it is Latin-1")
    assert (facts["lines"], facts["answered"], facts["failed"]) == (3, 1, 2)
    assert facts["first_error"] == f"line 3: {rows[1]['error']}"
    assert "NUL" in rows[1]["error"]


def test_vectors_as_npy(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(infer_lines._BLOCK, "embed", 2)
    texts = ["the cat", "  ", *random_texts(10)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    run_infer_lines("embed", model=str(own), source=str(tmp_path / "in.jsonl"), out=tmp_path / "v.npy")
    matrix = np.load(tmp_path / "v.npy")
    assert (matrix.shape, matrix.dtype) == ((12, 6), np.float32)
    assert np.isnan(matrix[1]).all()
    asked = load_predictor(str(own))
    for index in (0, 5, 11):
        np.testing.assert_allclose(matrix[index], asked.embed(texts[index]).vector, rtol=1e-4, atol=1e-5)


def test_what_was_there_stays_where_the_model_fails(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("earlier")
    with pytest.raises(MissingInputError):
        run_infer_lines("mlm", model=str(own), source=str(tmp_path / "none.txt"), out=out)
    with pytest.raises(InputError, match=r"v\.npy is for the vectors of `infer embed`"):
        run_infer_lines("mlm", model=str(own), source=("a [MASK]",), out=tmp_path / "v.npy")
    assert out.read_text() == "earlier"
    assert not (tmp_path / "v.npy").exists()


def test_the_same_lines_give_the_same_bytes(own: Path, tmp_path: Path) -> None:
    lines = [{"text": text} for text in random_texts(40)]
    first = answers("score", own, lines, tmp_path)
    assert first == answers("score", own, lines, tmp_path)


def test_rows_of_npy_are_the_lines_of_the_file(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(infer_lines._BLOCK, "embed", 1)
    (tmp_path / "in.txt").write_text("\nthe cat\n\n\nthe dog\n")
    run_infer_lines("embed", model=str(own), source=str(tmp_path / "in.txt"), out=tmp_path / "v.npy")
    matrix = np.load(tmp_path / "v.npy")
    assert np.isnan(matrix).all(axis=1).tolist() == [True, False, True, True, False]
    np.testing.assert_allclose(matrix[4], load_predictor(str(own)).embed("the dog").vector, rtol=1e-5)


def test_half_a_character_is_a_bad_line_or_passes_through(own: Path, tmp_path: Path) -> None:
    lines = [
        '{"text": "the [MASK] \\ud83d"}',
        '{"text": "the [MASK]", "id": "\\ud83d"}',
        "[" * 100_000,
        '{"text": NaN}',
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    out = tmp_path / "out.jsonl"
    facts = run_infer_lines("mlm", model=str(own), source=str(tmp_path / "in.jsonl"), out=out)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert ["answer" in row for row in rows] == [False, True, False, False]
    assert "has half a character at 12" in rows[0]["error"]
    assert rows[1]["input"]["id"] == "\ud83d"
    assert "NaN is not JSON" in rows[3]["error"]
    assert facts["failed"] == 3


@pytest.mark.parametrize(
    ("raw", "fields", "values"),
    [
        (b'\xef\xbb\xbf{"text": "a"}\n', TEXT, ("a",)),
        (b'"Hm" said he\n', TEXT, ('"Hm" said he',)),
        (b'"Hm"\tb\n', PAIR, ('"Hm"', "b")),
        (b'"a b"\n', TEXT, ("a b",)),
    ],
    ids=["mark before JSON", "quotation", "quotation in a pair", "JSON string"],
)
def test_what_standard_input_is(
    raw: bytes, fields: tuple[str, ...], values: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
    ((line,),) = blocks_of_lines("-", fields, size=9)
    assert (line.values, line.error) == (values, None)


def test_scores_do_not_depend_on_how_many_rows_are_made_at_a_time(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = load_predictor(str(own))
    whole = asked.answer_scores([asked.ask_score(text) for text in TEXTS])
    monkeypatch.setattr(predictor, "_MAX_SCORE_ROWS", 4)
    parts = asked.answer_scores([asked.ask_score(text) for text in TEXTS])
    for one, other in zip(whole, parts, strict=True):
        assert one.tokens == other.tokens
        assert one.log_probabilities == pytest.approx(other.log_probabilities, rel=1e-4)
