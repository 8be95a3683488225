"""Our network on their weights, and theirs on ours: transformers' own loading and forward pass are the judges."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    BertConfig,
    BertForPreTraining,
    MegatronBertForPreTraining,
    ModernBertForMaskedLM,
    ModernBertForSequenceClassification,
)

from bertpipe.core.errors import ModelError
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, word_level_tokenizer
from bertpipe.export.huggingface import save_huggingface
from bertpipe.model.bert import Bert
from bertpipe.model.huggingface.config import ACTIVATIONS
from bertpipe.model.huggingface.load import load_huggingface
from bertpipe.model.huggingface.weights import copy_from_huggingface, to_huggingface
from models import WORDS, save_tiny_huggingface, tiny_bert, tiny_params

Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]
TOLERANCES = {torch.float64: {"rtol": 0.0, "atol": 1e-9}, torch.float32: {"rtol": 1e-5, "atol": 1e-5}}
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "odd sizes": {"hidden_size": 15, "num_attention_heads": 5, "num_hidden_layers": 3, "intermediate_size": 19},
    "one layer, one head": {"num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 7, "intermediate_size": 1},
    "tanh": {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5},
    "relu": {"hidden_act": "relu", "layer_norm_eps": 0.1},
    "untied": {"tie_word_embeddings": False},
    "long": {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 512},
}


def save(directory: Path, changes: dict[str, Any]) -> BertForPreTraining:
    network = save_tiny_huggingface(directory, **changes)
    if changes.get("hidden_size") == 32:  # logits of the size that trained models have
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(0.3)
        network.save_pretrained(directory)
    return network


def assert_equal_logits(ours: Bert, theirs: BertForPreTraining, *, dtype: torch.dtype, longest: int, seed: int) -> None:
    """Compare all logits on rows of all kinds: the longest, the shortest, no B, nearly no A, padding of any width."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([longest, 3, longest // 2 + 1, max(longest - 1, 3), longest])
    starts = torch.tensor([longest // 3, 2, longest // 2 + 1, 2, longest - 1])  # the third has one segment
    token_ids = torch.randint(0, ours.vocab_size, (len(lengths), longest), generator=generator)
    real = torch.arange(longest) < lengths[:, None]
    segments = ((torch.arange(longest) >= starts[:, None]) & real).long()
    theirs = theirs.to(dtype).eval()
    ours = ours.to(dtype).eval()
    with torch.inference_mode():
        expected = theirs(input_ids=token_ids, attention_mask=real.long(), token_type_ids=segments)
        hidden = ours(token_ids, lengths, starts)
        mlm, nsp = ours.mlm_logits(hidden), ours.nsp_logits(hidden)
    torch.testing.assert_close(mlm[real], expected.prediction_logits[real], **TOLERANCES[dtype])
    torch.testing.assert_close(nsp, expected.seq_relationship_logits.flip(1), **TOLERANCES[dtype])
    assert nsp.std() > 1e-3  # not all equal for want of signal
    assert mlm[real].std() > 1e-2


@pytest.mark.parametrize("dtype", TOLERANCES, ids=["float64", "float32"])
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_of_a_checkpoint_are_transformers(tmp_path: Path, shape: str, dtype: torch.dtype) -> None:
    save(tmp_path, SHAPES[shape])
    theirs = BertForPreTraining.from_pretrained(tmp_path)
    longest = theirs.config.max_position_embeddings
    assert_equal_logits(load_huggingface(tmp_path).bert, theirs, dtype=dtype, longest=longest, seed=1)


@settings(max_examples=25, deadline=None)
@given(
    heads=st.integers(1, 5),
    head_size=st.integers(1, 9),
    layers=st.integers(1, 4),
    inner=st.integers(1, 40),
    vocab=st.integers(6, 60),
    positions=st.integers(8, 40),
    seed=st.integers(0, 2**16),
    activation=st.sampled_from(["gelu", "gelu_new", "relu"]),
    tied=st.booleans(),
)
def test_logits_of_any_shape_are_equal_both_ways(
    heads: int, head_size: int, layers: int, inner: int, vocab: int, positions: int, seed: int, activation: str,
    tied: bool,
) -> None:  # fmt: skip
    config = BertConfig(
        vocab_size=vocab, hidden_size=heads * head_size, num_attention_heads=heads, num_hidden_layers=layers,
        intermediate_size=inner, max_position_embeddings=positions, hidden_act=activation, tie_word_embeddings=tied,
    )  # fmt: skip
    params = tiny_params(
        embedding_dim=heads * head_size, heads=heads, layers=layers, feed_forward_dim=inner, max_positions=positions,
        activation={"gelu_new": "gelu_tanh"}.get(activation, activation), tied=tied,
    )  # fmt: skip
    torch.manual_seed(seed)
    theirs, ours = BertForPreTraining(config).double(), Bert(params, vocab).double()
    for parameter in theirs.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    copy_from_huggingface(theirs.state_dict(), ours)
    expected = _all_logits(theirs, positions, vocab)
    for got, wanted in zip(_all_logits_of_ours(ours, positions, vocab), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-9)
    back = to_huggingface(ours)
    assert back.keys() <= theirs.state_dict().keys()
    if not tied:  # there it is a tensor of no effect, beside the decoder's own
        del back["cls.predictions.bias"]
    for name, tensor in back.items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name


@settings(max_examples=15, deadline=None)
@given(
    architecture=st.sampled_from(["preln", "modern"]),
    heads=st.integers(1, 4),
    head_size=st.integers(1, 5),
    layers=st.integers(1, 3),
    inner=st.integers(1, 20),
    positions=st.integers(8, 20),
    seed=st.integers(0, 2**16),
    activation=st.sampled_from(["gelu", "gelu_tanh", "relu"]),
    tied=st.booleans(),
)
def test_logits_of_the_other_architectures_are_transformers_both_ways(
    architecture: str, heads: int, head_size: int, layers: int, inner: int, positions: int, seed: int, activation: str,
    tied: bool,
) -> None:  # fmt: skip
    bert = tiny_bert(
        architecture, vocab_size=len(SPECIAL_TOKENS) + len(WORDS), seed=seed, embedding_dim=2 * heads * head_size,
        heads=heads, layers=layers, feed_forward_dim=inner, max_positions=positions, activation=activation, tied=tied,
        rotary_base=500.0,
    )  # fmt: skip
    tokenizer = word_level_tokenizer([*SPECIAL_TOKENS, *WORDS])
    ids = torch.arange(3 * positions).view(3, positions) % bert.vocab_size
    lengths, starts = torch.tensor([positions, 5, 3]), torch.tensor([4, 3, 2])
    real = torch.arange(positions) < lengths[:, None]
    segments = ((torch.arange(positions) >= starts[:, None]) & real).long()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        directory = Path(folder)
        save_huggingface(directory, bert, tokenizer)
        hidden = bert(ids, lengths, starts)
        if architecture == "modern":
            masked = ModernBertForMaskedLM.from_pretrained(directory).eval()
            mlm = masked(input_ids=ids, attention_mask=real.long()).logits
            pair = ModernBertForSequenceClassification.from_pretrained(directory / "nsp").eval()
            nsp = pair(input_ids=ids, attention_mask=real.long()).logits
            assert (pair.config.id2label[1], masked.config.id2label[1]) == ("next", "LABEL_1")
        else:
            theirs = MegatronBertForPreTraining.from_pretrained(directory).eval()
            answer = theirs(input_ids=ids, attention_mask=real.long(), token_type_ids=segments)
            mlm, nsp = answer.prediction_logits, answer.seq_relationship_logits.flip(1)
        torch.testing.assert_close(bert.mlm_logits(hidden)[real], mlm[real], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(bert.nsp_logits(hidden), nsp, rtol=1e-4, atol=1e-4)
        back = load_huggingface(directory)
    assert back.missing_heads == frozenset()
    assert back.bert.params.architecture == architecture
    assert back.bert.state_dict().keys() == bert.state_dict().keys()
    assert all(torch.equal(tensor, bert.state_dict()[name]) for name, tensor in back.bert.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"decoder_bias": False}, "no bias in its decoder"),
        ({"classifier_activation": "silu"}, "classifier_activation 'silu'"),
    ],
)
def test_what_is_not_computed_of_modernbert_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    bert = tiny_bert("modern", vocab_size=len(SPECIAL_TOKENS) + len(WORDS), embedding_dim=12)
    save_huggingface(tmp_path, bert, word_level_tokenizer([*SPECIAL_TOKENS, *WORDS]))
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(ModelError, match=said):
        load_huggingface(tmp_path)


def test_a_modernbert_without_nsp_lacks_that_head_alone(tmp_path: Path) -> None:
    bert = tiny_bert("modern", vocab_size=len(SPECIAL_TOKENS) + len(WORDS), embedding_dim=12)
    save_huggingface(tmp_path, bert, word_level_tokenizer([*SPECIAL_TOKENS, *WORDS]))
    shutil.rmtree(tmp_path / "nsp")
    back = load_huggingface(tmp_path)
    assert back.missing_heads == {"nsp"}
    assert any("no next-sentence head" in note for note in back.notes)
    assert torch.equal(back.bert.mlm_decoder.weight, bert.mlm_decoder.weight)


def test_an_nsp_folder_without_its_head_is_named(tmp_path: Path) -> None:
    bert = tiny_bert("modern", vocab_size=len(SPECIAL_TOKENS) + len(WORDS), embedding_dim=12)
    save_huggingface(tmp_path, bert, word_level_tokenizer([*SPECIAL_TOKENS, *WORDS]))
    weights = load_file(tmp_path / "nsp" / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, tmp_path / "nsp" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"folder nsp of .* lack 'classifier\.weight'"):
        load_huggingface(tmp_path)


def _all_logits(theirs: BertForPreTraining, positions: int, vocab: int) -> tuple[Tensor, Tensor]:
    token_ids = torch.arange(3 * positions).view(3, positions) % vocab
    segments = (torch.arange(positions) >= 4).long().expand_as(token_ids)
    with torch.inference_mode():
        answer = theirs.eval()(input_ids=token_ids, token_type_ids=segments)
    return answer.prediction_logits, answer.seq_relationship_logits.flip(1)


def _all_logits_of_ours(ours: Bert, positions: int, vocab: int) -> tuple[Tensor, Tensor]:
    token_ids = torch.arange(3 * positions).view(3, positions) % vocab
    with torch.inference_mode():
        hidden = ours.eval()(token_ids, torch.full((3,), positions), torch.full((3,), 4))
        return ours.mlm_logits(hidden), ours.nsp_logits(hidden)


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_takes_our_weights_whole(tied: bool) -> None:
    ours = tiny_bert(vocab_size=23, tied=tied)
    config = BertConfig(
        vocab_size=23, hidden_size=6, num_attention_heads=3, num_hidden_layers=2, intermediate_size=11,
        max_position_embeddings=17, tie_word_embeddings=tied,
    )  # fmt: skip
    theirs = BertForPreTraining(config)
    report = theirs.load_state_dict(to_huggingface(ours), strict=False)
    assert report.unexpected_keys == []
    assert set(report.missing_keys) == (
        {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"} if tied else set()
    )
    theirs.tie_weights()
    assert_equal_logits(ours, theirs, dtype=torch.float32, longest=17, seed=2)


def old_names(directory: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in weights.items()
    }
    assert renamed.keys() != weights.keys()
    save_file(renamed, directory / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("kind", ["safetensors", "pickle", "sharded"])
def test_old_names_are_read_and_said(tmp_path: Path, kind: str) -> None:
    network = save_tiny_huggingface(tmp_path)
    if kind == "sharded":
        network.save_pretrained(tmp_path, max_shard_size="1KB")
        (tmp_path / "model.safetensors").unlink(missing_ok=True)
        for shard in tmp_path.glob("model-*.safetensors"):
            old = load_file(shard)
            save_file(dict(_renamed(old)), shard, metadata={"format": "pt"})
        index = tmp_path / "model.safetensors.index.json"
        index.write_text(_old(index.read_text()))
    else:
        old_names(tmp_path)
    if kind == "pickle":
        torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    loaded = load_huggingface(tmp_path)
    assert loaded.notes == (
        f"{tmp_path} has the old names gamma and beta for LayerNorm's weight and bias: read as those",
    )
    assert_equal_logits(loaded.bert, network, dtype=torch.float64, longest=17, seed=3)


def _old(text: str) -> str:
    return text.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def _renamed(weights: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in weights.items():
        yield _old(name), tensor


@pytest.mark.parametrize(
    ("kinds", "said"), [(1, "1 kind of segment: read for both"), (4, "4 kinds of segment: the first")]
)
def test_another_number_of_segments_is_said(tmp_path: Path, kinds: int, said: str) -> None:
    network = save_tiny_huggingface(tmp_path, type_vocab_size=kinds)
    loaded = load_huggingface(tmp_path)
    assert any(said in note for note in loaded.notes)
    assert ("nsp" in loaded.missing_heads) is (kinds == 1)
    if kinds > 1:
        assert_equal_logits(loaded.bert, network, dtype=torch.float64, longest=17, seed=4)
    else:
        ids = torch.arange(17)[None, :] % 14
        with torch.inference_mode():
            expected = network.double()(input_ids=ids).prediction_logits
            bert = loaded.bert.double()
            for start in (5, 17):
                got = bert.mlm_logits(bert(ids, torch.tensor([17]), torch.tensor([start])))
                torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("gone", ["cls.predictions.decoder.bias", "cls.predictions.bias"])
def test_an_untied_decoder_with_its_bias_under_one_name_is_whole(tmp_path: Path, gone: str) -> None:
    network = save_tiny_huggingface(tmp_path, tie_word_embeddings=False)
    weights = load_file(tmp_path / "model.safetensors")
    weights["cls.predictions.bias"] = weights["cls.predictions.decoder.bias"].clone()
    del weights[gone]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = load_huggingface(tmp_path)
    assert loaded.missing_heads == frozenset()
    assert_equal_logits(loaded.bert, network, dtype=torch.float64, longest=17, seed=6)


def _cast(dtype: torch.dtype) -> Change:
    return lambda weights: {name: tensor.to(dtype) for name, tensor in weights.items()}


def _with_prefix(prefix: str) -> Change:
    return lambda weights: {prefix + name: tensor for name, tensor in weights.items()}


def _without_bert(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("bert."): tensor for name, tensor in weights.items()}


def _with_more(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    matrix = weights["bert.embeddings.word_embeddings.weight"].clone()
    return weights | {"bert.embeddings.position_ids": torch.arange(17)[None], "cls.predictions.decoder.weight": matrix}


FORMS: dict[str, tuple[Change, str]] = {
    "DDP": (_with_prefix("module."), "module. before"),
    "torch.compile": (_with_prefix("_orig_mod."), "_orig_mod. before"),
    "both": (_with_prefix("module._orig_mod."), "module._orig_mod. before"),
    "a training loop": (_with_prefix("model."), "model. before"),
    "no prefix": (_without_bert, ""),
    "only a wrapper": (lambda weights: _with_prefix("module.")(_without_bert(weights)), "module. before"),
    "tensors of no use": (_with_more, ""),
    "fp64": (_cast(torch.float64), ""),
}


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "pickle"])
@pytest.mark.parametrize("form", FORMS)
def test_tensors_under_other_names_are_read(tmp_path: Path, form: str, pickled: bool) -> None:
    change, said = FORMS[form]
    network = save_tiny_huggingface(tmp_path)
    weights = change(load_file(tmp_path / "model.safetensors"))
    (tmp_path / "model.safetensors").unlink()
    if pickled:
        torch.save(weights, tmp_path / "pytorch_model.bin")
    else:
        save_file(weights, tmp_path / "model.safetensors")  # without metadata, as other programs write it
    loaded = load_huggingface(tmp_path)
    assert loaded.missing_heads == frozenset()
    assert [said in note for note in loaded.notes] == ([True] if said else [])
    assert_equal_logits(loaded.bert, network, dtype=torch.float32, longest=17, seed=7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_transformers_reads_it(tmp_path: Path, dtype: torch.dtype) -> None:
    save_tiny_huggingface(tmp_path)
    weights = _cast(dtype)(load_file(tmp_path / "model.safetensors"))
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    theirs = BertForPreTraining.from_pretrained(tmp_path, dtype=torch.float32)
    assert_equal_logits(load_huggingface(tmp_path).bert, theirs, dtype=torch.float32, longest=17, seed=8)


def test_a_config_of_the_first_days_is_read(tmp_path: Path) -> None:
    """The first BERT checkpoints have eleven keys: neither a model type nor a class, nor what later versions added."""
    network = save_tiny_huggingface(tmp_path)
    first = {
        "attention_probs_dropout_prob", "hidden_act", "hidden_dropout_prob", "hidden_size", "initializer_range",
        "intermediate_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "type_vocab_size",
        "vocab_size",
    }  # fmt: skip
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    kept = {name: value for name, value in content.items() if name in first} | {"hidden_dropout_prob": 0}
    path.write_text(json.dumps(kept | {"initializer_range": math.nan}))
    old_names(tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    assert_equal_logits(load_huggingface(tmp_path).bert, network, dtype=torch.float64, longest=17, seed=9)


def test_shards_of_a_pickle_are_read(tmp_path: Path) -> None:
    network = save_tiny_huggingface(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names, where = sorted(weights), {}
    for number in (0, 1):
        file = f"pytorch_model-0000{number + 1}-of-00002.bin"
        torch.save({name: weights[name] for name in names[number::2]}, tmp_path / file)
        where |= dict.fromkeys(names[number::2], file)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    assert_equal_logits(load_huggingface(tmp_path).bert, network, dtype=torch.float64, longest=17, seed=10)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_transformers(name: str) -> None:
    ours = tiny_bert(vocab_size=23, activation=ACTIVATIONS[name])
    config = BertConfig(
        vocab_size=23, hidden_size=6, num_hidden_layers=2, num_attention_heads=3, intermediate_size=11,
        max_position_embeddings=17, hidden_act=name,
    )  # fmt: skip
    theirs = BertForPreTraining(config)
    theirs.load_state_dict(to_huggingface(ours), strict=False)
    theirs.tie_weights()
    assert_equal_logits(ours, theirs, dtype=torch.float64, longest=17, seed=11)


@pytest.mark.skipif("BERTPIPE_HF_DIR" not in os.environ, reason="BERTPIPE_HF_DIR names no directory")
@pytest.mark.parametrize("dtype", TOLERANCES, ids=["float64", "float32"])
def test_logits_of_a_real_checkpoint_are_transformers(dtype: torch.dtype) -> None:
    directory = Path(os.environ["BERTPIPE_HF_DIR"])
    theirs = BertForPreTraining.from_pretrained(directory)
    loaded = load_huggingface(directory)
    if "nsp" in loaded.missing_heads:  # each has drawn its own
        copy_from_huggingface(theirs.state_dict(), loaded.bert)
    longest = min(theirs.config.max_position_embeddings, 512)
    assert_equal_logits(loaded.bert, theirs, dtype=dtype, longest=longest, seed=5)
