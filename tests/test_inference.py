import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertForPreTraining

from bertpipe.core.artifacts import MODEL_DIR
from bertpipe.core.errors import InputError, MissingInputError, ModelError
from bertpipe.core.params import InferParams, MlmExample, NspExample
from bertpipe.data.tokenization.tokenizer import CLS_ID, MASK_ID, SEP_ID, Tokenizer
from bertpipe.inference.predictor import Predictor, load_predictor
from bertpipe.stages.infer import run_infer_examples
from exports import save_model_with
from models import PIECES, WORDS, save_changed, save_tiny_huggingface, save_tiny_model
from vocabularies import byte_level, llama_like, with_word_ends

VOCAB = 5 + len(WORDS)


def word_id(word: str) -> int:
    return 5 + WORDS.index(word)


def favouring(directory: Path, token_ids: list[int], architecture: str = "bert") -> Predictor:
    """Return a predictor of our kind whose MLM head prefers the given ids, in their order, everywhere."""
    bert = save_tiny_model(directory, architecture=architecture)
    with torch.no_grad():
        bert.mlm_decoder.bias.zero_()
        for rank, token_id in enumerate(token_ids):
            bert.mlm_decoder.bias[token_id] = 1000.0 - 100.0 * rank
    save_changed(directory, bert)
    return load_predictor(str(directory))


# Next sentence


@pytest.mark.parametrize(("bias", "is_next"), [([0.0, 40.0], True), ([40.0, 0.0], False)])
def test_class_one_of_our_models_means_next(tmp_path: Path, bias: list[float], is_next: bool) -> None:
    bert = save_tiny_model(tmp_path / "own")
    with torch.no_grad():
        bert.nsp_head.bias.copy_(torch.tensor(bias))
    save_changed(tmp_path / "own", bert)
    answer = load_predictor(str(tmp_path / "own")).next_sentence("the cat sat", "on the mat")
    assert answer.is_next is is_next
    assert answer.probability_next == pytest.approx(float(is_next), abs=1e-9)
    assert answer.probability_next + answer.probability_not_next == pytest.approx(1)


@pytest.mark.parametrize(("bias", "is_next"), [([40.0, 0.0], True), ([0.0, 40.0], False)])
def test_notebook_fault_huggingfaces_nsp_label_was_read_the_wrong_way_round(
    huggingface: Path, bias: list[float], is_next: bool
) -> None:
    network = BertForPreTraining.from_pretrained(huggingface)
    with torch.no_grad():
        network.cls.seq_relationship.bias.copy_(torch.tensor(bias))
    network.save_pretrained(huggingface)
    answer = load_predictor(str(huggingface)).next_sentence("the cat sat", "the dog ran")
    assert answer.is_next is is_next


def test_a_label_zero_trains_huggingface_to_the_class_we_call_next(huggingface: Path) -> None:
    """What class 0 means is said by Hugging Face's loss: training on label 0 makes `next` more probable."""
    before = load_predictor(str(huggingface)).next_sentence("the cat sat", "on the mat")
    network = BertForPreTraining.from_pretrained(huggingface).eval()
    given = AutoTokenizer.from_pretrained(huggingface)("the cat sat", "on the mat", return_tensors="pt")
    labels = torch.full_like(given["input_ids"], -100)
    labels[0, 1] = given["input_ids"][0, 1]
    optimizer = torch.optim.SGD(network.cls.seq_relationship.parameters(), lr=0.5)
    network(**given, labels=labels, next_sentence_label=torch.tensor([0])).loss.backward()
    optimizer.step()
    network.save_pretrained(huggingface)
    after = load_predictor(str(huggingface)).next_sentence("the cat sat", "on the mat")
    assert after.probability_next > before.probability_next


def test_our_nsp_answer_is_the_networks_on_cls_a_sep_b_sep(own: Path) -> None:
    bert = load_predictor(str(own)).bert
    ids = [CLS_ID, *map(word_id, ("the", "cat")), SEP_ID, *map(word_id, ("the", "dog", "ran")), SEP_ID]
    with torch.inference_mode():
        hidden = bert(torch.tensor([ids]), torch.tensor([8]), torch.tensor([4]))
        expected = bert.nsp_logits(hidden).softmax(-1)[0].tolist()
    answer = load_predictor(str(own)).next_sentence("The cat", "The dog ran")
    assert [answer.probability_not_next, answer.probability_next] == pytest.approx(expected, abs=1e-6)
    assert answer.warnings == ()


def test_nsp_on_huggingface_equals_a_direct_call(huggingface: Path) -> None:
    network = BertForPreTraining.from_pretrained(huggingface).eval()
    given = AutoTokenizer.from_pretrained(huggingface)("The cats sat.", "The dog ran on", return_tensors="pt")
    with torch.inference_mode():
        expected = network(**given).seq_relationship_logits.softmax(-1)[0, 0].item()
    answer = load_predictor(str(huggingface)).next_sentence("The cats sat.", "The dog ran on")
    assert answer.probability_next == pytest.approx(expected, abs=1e-6)


def test_a_sentence_too_long_is_cut_where_it_is_longer(own: Path) -> None:
    predictor = load_predictor(str(own))  # 17 positions: 14 words
    answer = predictor.next_sentence("cat " * 13, "dog dog dog")
    assert answer.probability_next == predictor.next_sentence("cat " * 11, "dog dog dog").probability_next
    assert len(answer.warnings) == 1
    assert "17 tokens at most: the last 2 of the first sentence's 13 tokens were left out" in answer.warnings[0]


def test_two_sentences_too_long_are_both_cut(own: Path) -> None:
    predictor = load_predictor(str(own))
    answer = predictor.next_sentence("cat " * 20, "dog " * 30)
    assert answer.probability_next == predictor.next_sentence("cat " * 7, "dog " * 7).probability_next
    assert [warning.partition(": ")[2] for warning in answer.warnings] == [
        "the last 13 of the first sentence's 20 tokens were left out",
        "the last 23 of the second sentence's 30 tokens were left out",
    ]


@pytest.mark.parametrize("empty", ["", " \n"])
def test_an_empty_sentence_is_refused_by_name(own: Path, empty: str) -> None:
    predictor = load_predictor(str(own))
    with pytest.raises(InputError, match="the first sentence is empty"):
        predictor.next_sentence(empty, "the cat")
    with pytest.raises(InputError, match="the second sentence is empty"):
        predictor.next_sentence("the cat", empty)
    with pytest.raises(InputError, match="the text is empty"):
        predictor.fill_masks(empty, 1)


def test_a_text_of_which_the_tokenizer_keeps_nothing_is_refused(own: Path) -> None:
    with pytest.raises(InputError, match="holds no word"):
        load_predictor(str(own)).next_sentence('""', "the cat")


# Masked words


def test_our_mlm_answer_is_the_networks_on_cls_a_sep(own: Path) -> None:
    predictor = load_predictor(str(own))
    ids = [CLS_ID, word_id("the"), word_id("cat"), word_id("sat"), MASK_ID, word_id("."), SEP_ID]
    with torch.inference_mode():
        hidden = predictor.bert(torch.tensor([ids]), torch.tensor([7]), torch.tensor([7]))
        best = predictor.bert.mlm_logits(hidden)[0, 4].softmax(-1).topk(3)
    (mask,) = predictor.fill_masks("The cat sat [MASK].", 3).masks
    assert mask.position == 4
    assert [candidate.token_id for candidate in mask.candidates] == best.indices.tolist()
    assert [candidate.probability for candidate in mask.candidates] == pytest.approx(best.values.tolist(), abs=1e-6)


def test_mlm_on_huggingface_equals_a_direct_call(huggingface: Path) -> None:
    network = BertForPreTraining.from_pretrained(huggingface).eval()
    given = AutoTokenizer.from_pretrained(huggingface)("The cats [MASK].", return_tensors="pt")
    with torch.inference_mode():
        best = network(**given).prediction_logits[0, 4].softmax(-1).topk(5)
    (mask,) = load_predictor(str(huggingface)).fill_masks("The cats [MASK].", 5).masks
    assert mask.position == 4
    assert [candidate.token for candidate in mask.candidates] == [PIECES[i] for i in best.indices.tolist()]
    assert [candidate.probability for candidate in mask.candidates] == pytest.approx(best.values.tolist(), abs=1e-6)


@pytest.mark.parametrize("kind", ["own", "huggingface"])
def test_notebook_fault_predict_mlm_failed_on_two_masks_and_on_none(kind: str, tmp_path: Path) -> None:
    if kind == "own":
        save_tiny_model(tmp_path / "model")
    else:
        save_tiny_huggingface(tmp_path / "model")
    predictor = load_predictor(str(tmp_path / "model"))
    answer = predictor.fill_masks("the [MASK] sat on [MASK]", 2)
    assert [mask.position for mask in answer.masks] == [2, 5]
    assert [len(mask.candidates) for mask in answer.masks] == [2, 2]
    assert any("each of the 2 [MASK] is filled on its own" in warning for warning in answer.warnings)
    with pytest.raises(InputError, match=r"no \[MASK\] in 'the cat': write \[MASK\] where"):
        predictor.fill_masks("the cat", 2)
    with pytest.raises(InputError, match=r"write \[MASK\], in capitals, where"):
        predictor.fill_masks("the [mask]", 2)


def test_the_text_is_filled_as_it_was_written(tmp_path: Path) -> None:
    predictor = favouring(tmp_path / "own", [word_id("mat"), word_id("dog")])
    answer = predictor.fill_masks('The  Cat "sat" on\tthe [MASK]! [MASK]', 2)
    assert answer.filled_text == 'The  Cat "sat" on\tthe mat! mat'
    assert [candidate.token for candidate in answer.masks[0].candidates] == ["mat", "dog"]
    probabilities = [candidate.probability for candidate in answer.masks[0].candidates]
    assert probabilities[0] > probabilities[1]
    assert probabilities == sorted(probabilities, reverse=True)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("the cat [MASK] on", "the cats on"),
        ("the cat[MASK] on", "the cats on"),
        ("[MASK] on", "s on"),
        ("cat [MASK] [MASK].", "catss."),
    ],
)
def test_a_word_piece_joins_the_word_before_it(huggingface: Path, text: str, filled: str) -> None:
    network = BertForPreTraining.from_pretrained(huggingface)
    with torch.no_grad():
        network.cls.predictions.bias.zero_()
        network.cls.predictions.bias[PIECES.index("##s")] = 1000.0
    network.save_pretrained(huggingface)
    assert load_predictor(str(huggingface)).fill_masks(text, 1).filled_text == filled


@pytest.mark.parametrize(
    ("make", "token", "text", "filled"),
    [
        (byte_level, "ĠniÃ±o", "El [MASK] pidió", "El niño pidió"),
        (byte_level, "ĠniÃ±o", "[MASK] pidió", "niño pidió"),
        (byte_level, ".", "El niño pidió [MASK]", "El niño pidió."),
        (llama_like, "▁niño", "El [MASK] pidió", "El niño pidió"),
        (with_word_ends, "el</w>", "Pidió [MASK] niño", "Pidió el niño"),
    ],
)
def test_tokens_of_any_vocabulary_are_filled_in_as_text(
    tmp_path: Path, make: Callable[[], Tokenizer], token: str, text: str, filled: str
) -> None:
    tokenizer = make()
    bert = save_model_with(tmp_path / "own", tokenizer)
    with torch.no_grad():
        bert.mlm_decoder.bias[tokenizer.backend.token_to_id(token)] = 1000.0
    save_changed(tmp_path / "own", bert)
    assert load_predictor(str(tmp_path / "own")).fill_masks(text, 1).filled_text == filled


def test_candidates_are_as_many_as_there_are_tokens_at_most(own: Path) -> None:
    (mask,) = load_predictor(str(own)).fill_masks("the [MASK]", 1000).masks
    assert sorted(candidate.token_id for candidate in mask.candidates) == list(range(VOCAB))
    assert math.fsum(candidate.probability for candidate in mask.candidates) == pytest.approx(1)
    with pytest.raises(InputError, match="top_k is 0"):
        load_predictor(str(own)).fill_masks("the [MASK]", 0)


def test_a_long_text_is_read_around_its_mask(own: Path) -> None:
    predictor = load_predictor(str(own))  # 15 words fit
    answer = predictor.fill_masks("dog " * 20 + "[MASK]" + " cat" * 20, 3)
    inner = predictor.fill_masks("dog " * 7 + "[MASK]" + " cat" * 7, 3)
    assert answer.masks[0].position == 21
    assert inner.masks[0].position == 8
    assert answer.masks[0].candidates == inner.masks[0].candidates
    assert answer.warnings == (
        "the model reads 17 tokens at most: of 41 tokens it read numbers 14 to 28, with every [MASK]",
    )
    assert answer.filled_text.count("dog") >= 20
    assert answer.filled_text.endswith("cat " * 19 + "cat")


@pytest.mark.parametrize(("before", "after", "read"), [(0, 20, "1 to 15"), (20, 0, "7 to 21")])
def test_the_window_stays_within_the_text(own: Path, before: int, after: int, read: str) -> None:
    answer = load_predictor(str(own)).fill_masks("dog " * before + "[MASK]" + " cat" * after, 1)
    assert f"numbers {read}," in answer.warnings[0]


def test_masks_too_far_apart_are_refused(own: Path) -> None:
    with pytest.raises(InputError, match=r"there are 16 tokens, and the model reads 15 at most"):
        load_predictor(str(own)).fill_masks("[MASK]" + " cat" * 14 + " [MASK]", 1)
    assert len(load_predictor(str(own)).fill_masks("[MASK]" + " cat" * 13 + " [MASK] cat", 1).masks) == 2


def test_unknown_words_are_named(own: Path, huggingface: Path) -> None:
    text = "The zebra, the zebra and [UNK] a [MASK]"
    answer = load_predictor(str(own)).fill_masks(text, 1)
    assert "not in the vocabulary, read as [UNK]: 'zebra', ',', 'and', 'a'" in answer.warnings
    many = load_predictor(str(huggingface)).next_sentence("the aa bb cc", "dog dd ee ff gg")
    assert many.warnings == ("not in the vocabulary, read as [UNK]: 'aa', 'bb', 'cc', 'dd', 'ee' and 2 more",)


def test_a_vocabulary_without_words_makes_the_answer_meaningless_and_says_so(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "own", words=[f"[unknown-{number}]" for number in range(5, 11)])
    predictor = load_predictor(str(tmp_path / "own"))
    for warnings in (
        predictor.next_sentence("the cat", "the dog").warnings,
        predictor.fill_masks("the [MASK]", 11).warnings,
    ):
        assert len(warnings) == 1
        assert "vocabulary has no words" in warnings[0]


def test_an_id_without_a_word_is_named_and_warned_of(tmp_path: Path) -> None:
    """`model.vocab_size` may be larger than the tokenizer."""
    save_tiny_model(tmp_path / "own", words=("cat", "dog"), nameless_ids=2)
    answer = load_predictor(str(tmp_path / "own")).fill_masks("cat [MASK]", 9)
    tokens = {candidate.token_id: candidate.token for candidate in answer.masks[0].candidates}
    assert (tokens[6], tokens[7], tokens[8]) == ("dog", "[unknown-7]", "[unknown-8]")
    assert any("[unknown-ID]" in warning for warning in answer.warnings)


def test_the_same_question_gets_the_same_answer(own: Path) -> None:
    first, second = load_predictor(str(own)), load_predictor(str(own))
    assert first.fill_masks("the [MASK]", 5) == second.fill_masks("the [MASK]", 5) == first.fill_masks("the [MASK]", 5)


def test_a_tokenizers_own_truncation_does_not_cut_silently(huggingface: Path) -> None:
    path = huggingface / "tokenizer.json"
    content = json.loads(path.read_text())
    content["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    path.write_text(json.dumps(content))
    assert load_predictor(str(huggingface)).fill_masks("the cat sat [MASK]", 1).masks[0].position == 4


# Which model is meant


@pytest.mark.parametrize("name", [str(MODEL_DIR), "./nothing", "a/b/c", "/no/such/model", "../up", "owner/"])
def test_a_local_name_that_is_not_there_never_asks_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bertpipe.model.huggingface.load.load_huggingface", None)  # a call would be a TypeError
    with pytest.raises(MissingInputError, match="run `bertpipe train` first"):
        load_predictor(name)


@pytest.mark.parametrize("name", ["owner/name", "bert-base-uncased"])
def test_a_hub_name_that_cannot_be_had_names_both_possibilities(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str | Path) -> None:
        assert source == name
        raise ModelError("the hub cannot be reached")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bertpipe.model.huggingface.load.load_huggingface", refuse)
    with pytest.raises(ModelError, match=f"no directory {name} here, so it was taken for a hub name: the hub cannot"):
        load_predictor(name)


def test_what_exists_is_local_even_if_it_reads_like_a_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner").mkdir()
    save_tiny_model(tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    assert load_predictor("owner/name").fill_masks("the [MASK]", 1).masks
    with pytest.raises(ModelError, match=r"owner is not a model directory: it has no config\.json"):
        load_predictor("owner")


# The stage


def examples(*chosen: NspExample | MlmExample, top_k: int = 2) -> InferParams:
    return InferParams(top_k=top_k, examples=chosen)


def test_examples_are_asked_and_judged(tmp_path: Path) -> None:
    bert = save_tiny_model(tmp_path / "own")
    with torch.no_grad():
        bert.nsp_head.bias.copy_(torch.tensor([0.0, 40.0]))
        bert.mlm_decoder.bias[[word_id("mat"), word_id("dog")]] = torch.tensor([1000.0, 900.0])
    save_changed(tmp_path / "own", bert)
    infer = examples(
        NspExample(task="nsp", first="the cat", second="sat .", expect=True),
        NspExample(task="nsp", first="the cat", second="sat .", expect=False),
        NspExample(task="nsp", first="the cat", second="sat ."),
        MlmExample(task="mlm", text="the [MASK]", expect="Dog"),
        MlmExample(task="mlm", text="the [MASK]", expect="cat"),
    )
    out = tmp_path / "examples.json"
    counts = run_infer_examples(infer, model=tmp_path / "own", out=out)
    assert counts == {"asked": 5, "answered": 5, "expected": 4, "as_expected": 2, "file": str(out)}
    rows = json.loads(out.read_text())
    assert [row["as_expected"] for row in rows] == [True, False, None, True, False]
    assert rows[0]["inputs"] == {"first": "the cat", "second": "sat ."}
    assert rows[0]["answer"]["is_next"] is True
    assert rows[3]["model"] == str(tmp_path / "own")
    assert [c["token"] for c in rows[3]["answer"]["masks"][0]["candidates"]] == ["mat", "dog"]
    assert rows[3]["answer"]["filled_text"] == "the mat"


def test_examples_are_the_same_bytes_each_time_with_six_digits(own: Path, tmp_path: Path) -> None:
    infer = examples(MlmExample(task="mlm", text="the [MASK]"), top_k=13)
    files = [tmp_path / "first.json", tmp_path / "second.json"]
    for file in files:
        run_infer_examples(infer, model=own, out=file)
    assert files[0].read_bytes() == files[1].read_bytes()
    for candidate in json.loads(files[0].read_text())[0]["answer"]["masks"][0]["candidates"]:
        assert candidate["probability"] == float(f"{candidate['probability']:.6g}")


def test_an_examples_own_model_that_cannot_be_had_does_not_fail_the_others(own: Path, tmp_path: Path) -> None:
    save_tiny_huggingface(tmp_path / "mlm-only", head="BertForMaskedLM")
    infer = examples(
        MlmExample(task="mlm", text="the [MASK]", model="./not/there", expect="cat"),
        NspExample(task="nsp", first="the cat", second="sat .", model=str(tmp_path / "mlm-only"), expect=True),
        MlmExample(task="mlm", text="the [MASK]", model=str(tmp_path / "mlm-only")),
        MlmExample(task="mlm", text="the [MASK]"),
    )
    out = tmp_path / "examples.json"
    counts = run_infer_examples(infer, model=own, out=out)
    assert (counts["asked"], counts["answered"], counts["expected"]) == (4, 2, 0)
    rows = json.loads(out.read_text())
    assert rows[0]["answer"] is None
    assert "there is no model at ./not/there" in rows[0]["reason"]
    assert rows[0]["as_expected"] is None
    assert "no trained next-sentence head" in rows[1]["reason"]
    assert rows[2]["answer"]["masks"]
    assert "reason" not in rows[3]


def test_the_trained_model_must_be_there(tmp_path: Path) -> None:
    infer = examples(MlmExample(task="mlm", text="the [MASK]"))
    with pytest.raises(MissingInputError):
        run_infer_examples(infer, model=tmp_path / "nothing", out=tmp_path / "examples.json")
    assert not (tmp_path / "examples.json").exists()


def test_an_example_that_cannot_be_answered_is_named(own: Path, tmp_path: Path) -> None:
    infer = examples(MlmExample(task="mlm", text="the [MASK]"), MlmExample(task="mlm", text="the cat"))
    with pytest.raises(InputError, match=r"infer\.examples\.1: there is no \[MASK\]"):
        run_infer_examples(infer, model=own, out=tmp_path / "examples.json")


def test_each_model_is_loaded_once(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def counting(name: str | Path, *, device: str) -> Predictor:
        loaded.append(name)
        return load_predictor(name, device=device)

    monkeypatch.setattr("bertpipe.stages.infer.load_predictor", counting)
    question = MlmExample(task="mlm", text="the [MASK]")
    missing = MlmExample(task="mlm", text="the [MASK]", model="./not/there")
    run_infer_examples(examples(question, missing, question, missing), model=own, out=tmp_path / "examples.json")
    assert loaded == [str(own), "./not/there"]


# Messages


LONG = "word " * 5000


@pytest.mark.parametrize(
    "ask",
    [
        lambda predictor: predictor.fill_masks(LONG, 1),
        lambda predictor: predictor.fill_masks(LONG + "\ud83d", 1),
        lambda predictor: predictor.fill_masks("[MASK]" + LONG + "[MASK]", 1),
        lambda predictor: predictor.score(LONG + "[MASK]"),
        lambda predictor: predictor.embed("\u200b" * 5000),
        lambda predictor: predictor.next_sentence(LONG, "\x00" * 5000),
    ],
)
def test_a_message_never_has_the_whole_text(own: Path, huggingface: Path, ask: Callable[[Predictor], object]) -> None:
    for model in (own, huggingface):
        try:
            answer = ask(load_predictor(str(model)))
        except InputError as error:
            assert len(str(error)) <= 300  # noqa: PT017
        else:
            assert all(len(warning) <= 500 for warning in answer.warnings)  # type: ignore[attr-defined]


def test_a_warning_never_has_a_whole_word(own: Path) -> None:
    warnings = load_predictor(str(own)).fill_masks(f"{'x' * 9000} {'y' * 9000} [MASK]", 1).warnings
    assert any("not in the vocabulary" in warning and "xxx" in warning for warning in warnings)
    assert all(len(warning) <= 500 for warning in warnings)


def test_a_message_too_long_keeps_its_beginning_and_its_end() -> None:
    assert str(ModelError("m" * 500)) == "m" * 500
    message = str(ModelError("begin" + "m" * 9000 + "end"))
    assert 490 < len(message) <= 500
    assert (message[:5], message[-3:]) == ("begin", "end")
