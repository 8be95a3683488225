import json
import math
from pathlib import Path

import pytest
import torch

from bertpipe.commands.inspect import run_inspect
from bertpipe.core.errors import InputError, MissingInputError
from bertpipe.data.tokenization.tokenizer import CLS_ID, PAD_ID, SEP_ID
from bertpipe.inference.inspection import Inspection, Step
from bertpipe.inference.predictor import load_predictor
from bertpipe.model.store import load_model
from models import WORDS, save_changed, save_tiny_huggingface, save_tiny_model

VOCAB, HIDDEN, HEADS, POSITIONS = 5 + len(WORDS), 6, 3, 17


@pytest.fixture(params=["bert", "notebook"])
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(architecture: str, tmp_path: Path) -> Path:
    save_tiny_model(tmp_path / "model", architecture=architecture)
    return tmp_path / "model"


def step(inspection: Inspection, name: str) -> Step:
    (found,) = (step for step in inspection.steps if step.name == name)
    return found


def values(inspection: Inspection, name: str) -> torch.Tensor:
    return torch.tensor([row.values for row in step(inspection, name).rows])


def test_tokens_ids_and_segments(model: Path) -> None:
    inspection = run_inspect("The cat", "dog ran .", model=model)
    tokens = [(t.position, t.token, t.segment) for t in inspection.tokens]
    assert tokens == [
        (0, "[CLS]", "A"),
        (1, "the", "A"),
        (2, "cat", "A"),
        (3, "[SEP]", "A"),
        (4, "dog", "B"),
        (5, "ran", "B"),
        (6, ".", "B"),
        (7, "[SEP]", "B"),
        (8, "[PAD]", "padding"),
        (9, "[PAD]", "padding"),
    ]
    ids = [CLS_ID, 5, 6, SEP_ID, 11, 12, 10, SEP_ID, PAD_ID, PAD_ID]
    assert [t.token_id for t in inspection.tokens] == ids
    assert "2 [PAD]" in " ".join(inspection.notes)


def test_the_steps_their_axes_and_their_shapes(model: Path, architecture: str) -> None:
    inspection = run_inspect("The cat", "dog ran .", model=model)
    seq = 10
    hidden = (("batch", "seq", "hidden"), (1, seq, HIDDEN))
    norm = [("LayerNorm of the sum", *hidden)] if architecture == "bert" else []
    assert [(s.name, s.axes, s.shape) for s in inspection.steps] == [
        ("token ids", ("batch", "seq"), (1, seq)),
        ("token embedding", *hidden),
        ("position embedding", *hidden),
        ("segment embedding", *hidden),
        ("sum of the three", *hidden),
        *norm,
        ("padding mask", ("batch", "seq"), (1, seq)),
        ("encoder layer 1", *hidden),
        ("encoder layer 2", *hidden),
        ("NSP logits", ("batch", "class"), (1, 2)),
        ("NSP probabilities", ("batch", "class"), (1, 2)),
        ("MLM logits", ("batch", "seq", "vocab"), (1, seq, VOCAB)),
    ]
    assert [row.label for row in step(inspection, "token embedding").rows] == ["[CLS]", "the", "cat"]
    assert values(inspection, "token embedding").shape == (3, 5)


def test_the_embeddings_add_up(model: Path, architecture: str) -> None:
    inspection = run_inspect("The cat", "dog ran .", model=model)
    names = ("token embedding", "position embedding", "segment embedding")
    token, position, segment = (values(inspection, name) for name in names)
    torch.testing.assert_close(token + position + segment, values(inspection, "sum of the three"))
    matrix = load_model(model).bert.embeddings.token.weight[[CLS_ID, 5, 6], :5]
    scale = 1.0 if architecture == "bert" else math.sqrt(HIDDEN)
    torch.testing.assert_close(token, matrix.detach() * scale)


def test_the_mask_hides_the_padding_only(model: Path) -> None:
    inspection = run_inspect("The cat", "dog ran .", model=model)
    assert step(inspection, "padding mask").rows[0].values == (1, 1, 1, 1, 1, 1, 1, 1, 0, 0)


def test_the_last_steps_are_the_networks_own_answers_without_padding(model: Path) -> None:
    inspection = run_inspect("The cat", "dog ran .", model=model)
    bert = load_model(model).bert
    ids = torch.tensor([[t.token_id for t in inspection.tokens if t.segment != "padding"]])
    with torch.inference_mode():
        hidden = bert(ids, torch.tensor([8]), torch.tensor([4]))
        mlm, nsp = bert.mlm_logits(hidden), bert.nsp_logits(hidden)
    torch.testing.assert_close(values(inspection, "encoder layer 2"), hidden[0, :3, :5].clone())
    torch.testing.assert_close(values(inspection, "MLM logits"), mlm[0, :3, :5].clone())
    torch.testing.assert_close(values(inspection, "NSP logits")[:, 0], nsp[0].clone())
    answer = load_predictor(str(model)).next_sentence("The cat", "dog ran .")
    rows = {row.label: row.values[0] for row in step(inspection, "NSP probabilities").rows}
    assert rows == pytest.approx({"not next": answer.probability_not_next, "next": answer.probability_next}, abs=1e-6)


def test_attention_is_that_of_the_last_layer_and_never_goes_to_padding(model: Path) -> None:
    inspection = run_inspect("The cat", "dog ran .", model=model)
    assert [(a.head, a.position) for a in inspection.attention] == [(h, p) for h in (1, 2, 3) for p in range(8)]
    assert all(a.most_attended_position < 8 for a in inspection.attention)
    bert = load_model(model).bert
    ids = torch.tensor([[t.token_id for t in inspection.tokens if t.segment != "padding"]])
    with torch.inference_mode():
        hidden = bert.layers[0](bert.embeddings(ids, torch.tensor([8]), torch.tensor([4])), None)
        weights = bert.layers[1].attention_weights(hidden, None)[0]
    for link in inspection.attention:
        row = weights[link.head - 1, link.position]
        assert link.weight == pytest.approx(row.max().item(), abs=1e-6)
        assert link.most_attended_position == row.argmax().item()
        assert link.token == inspection.tokens[link.position].token
        assert link.most_attended_token == inspection.tokens[link.most_attended_position].token


def test_a_head_made_to_look_at_one_word_is_seen_to(tmp_path: Path) -> None:
    """Keys of the last layer see one direction of the hidden states only; queries are constant: all agree."""
    bert = save_tiny_model(tmp_path / "model")
    with torch.no_grad():
        last = bert.layers[-1].query_key_value
        last.weight[: 2 * HIDDEN] = 0
        last.bias[: 2 * HIDDEN] = 0
        last.bias[:HIDDEN] = 50
        last.weight[HIDDEN : 2 * HIDDEN, 0] = 1
    save_changed(tmp_path / "model", bert)
    inspection = run_inspect("the cat sat", None, model=tmp_path / "model")
    ids = torch.tensor([[t.token_id for t in inspection.tokens][:5]])
    with torch.inference_mode():
        hidden = bert.layers[0](bert.embeddings(ids, torch.tensor([5]), torch.tensor([5])), None)
    assert {a.most_attended_position for a in inspection.attention} == {hidden[0, :, 0].argmax().item()}


def test_one_sentence_is_all_of_segment_a_and_its_nsp_answer_is_called_meaningless(model: Path) -> None:
    inspection = run_inspect("The cat", None, model=model)
    assert [t.segment for t in inspection.tokens] == ["A", "A", "A", "A", "padding", "padding"]
    assert any("one sentence only" in note for note in inspection.notes)


@pytest.mark.parametrize(("words", "padding"), [(13, 2), (14, 1), (15, 0)])
def test_padding_shrinks_where_the_model_has_no_room(model: Path, words: int, padding: int) -> None:
    inspection = run_inspect("cat " * words, None, model=model)
    assert sum(t.segment == "padding" for t in inspection.tokens) == padding
    assert step(inspection, "padding mask").shape == (1, words + 2 + padding)
    assert any("[PAD]" in note for note in inspection.notes) == (padding > 0)


def test_too_long_empty_and_unknown_input(model: Path) -> None:
    with pytest.raises(InputError, match=f"18 tokens, and the model reads {POSITIONS} at most"):
        run_inspect("cat " * 16, None, model=model)
    with pytest.raises(InputError, match="the second sentence is empty"):
        run_inspect("cat", " ", model=model)
    assert any("'zebra'" in note for note in run_inspect("the zebra", None, model=model).notes)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="there is no model at"):
        run_inspect("the cat", None, model=tmp_path / "nothing")


def test_a_hugging_face_model_is_inspected_too(tmp_path: Path) -> None:
    save_tiny_huggingface(tmp_path / "hf", head="BertForMaskedLM")
    inspection = run_inspect("the cats", "sat on.", model=tmp_path / "hf")
    names = [token.token for token in inspection.tokens[:8]]
    assert names == ["[CLS]", "the", "cat", "##s", "[SEP]", "sat", "on", "."]
    assert "has no next-sentence head" in inspection.notes[-1]


def test_it_is_plain_data(model: Path) -> None:
    inspection = run_inspect("The cat", "dog ran .", model=model)
    content = json.loads(json.dumps(inspection.to_dict(), allow_nan=False))
    assert content["architecture"] == inspection.architecture
    assert content["steps"][0]["rows"][0]["values"] == [CLS_ID, 5, 6, SEP_ID, 11]
    assert run_inspect("The cat", "dog ran .", model=model) == inspection
