"""Writes the files that transformers' classes for models and tokenizers read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from bertpipe.core.artifacts import (
    CONFIG_NAME,
    NSP_FOLDER,
    TOKENIZER_CONFIG_NAME,
    TOKENIZER_NAME,
    VOCABULARY_TEXT_NAME,
    WEIGHTS_NAME,
    write_json,
)
from bertpipe.core.params import ModelParams
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer, parse_tokenizer
from bertpipe.model.bert import Bert
from bertpipe.model.huggingface.weights import COUNTERPARTS, to_huggingface

_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}
"""Our names of activations: theirs."""
_ROLES = ("pad_token", "cls_token", "sep_token", "mask_token", "unk_token")
"""Their names of the special tokens, in the order of `SPECIAL_TOKENS`."""
_SETTINGS = {
    "lowercase": "do_lower_case", "strip_accents": "strip_accents", "handle_chinese_chars": "tokenize_chinese_chars",
}  # fmt: skip
"""Names of BertNormalizer's settings in tokenizer.json: those of `BertTokenizer`'s."""
_WORDPIECE = {
    "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
}  # fmt: skip
"""What `BertTokenizer` makes around a vocabulary."""
_SPECIAL = {"special": True, "normalized": False, "single_word": False, "lstrip": False, "rstrip": False}
"""How `BertTokenizer` finds the special tokens in a text."""
_NSP_CLASSES = {"id2label": {"0": "not next", "1": "next"}, "label2id": {"not next": 0, "next": 1}}
"""Only where the head is: a classifier trained on the other model has classes of its own."""
_LINE_ENDS = {"\n", "\r"}


def missing_counterpart(params: ModelParams) -> str | None:
    """Return why a network of this shape cannot be a transformers model; None if it can."""
    if params.architecture in COUNTERPARTS:
        return None
    return f"no class of transformers computes its architecture, {params.architecture}"


def save_huggingface(directory: Path, bert: Bert, tokenizer: Tokenizer) -> None:
    """Write model.safetensors, config.json and the tokenizer of a network without `missing_counterpart`.

    Where transformers has the NSP head in a class of its own, a folder `nsp` gets a model of that class.
    """
    counterpart = COUNTERPARTS[bert.params.architecture]
    _save(directory, bert, tokenizer, counterpart.name)
    if counterpart.nsp_class:
        folder = directory / NSP_FOLDER
        folder.mkdir()
        _save(folder, bert, tokenizer, counterpart.nsp_class)


def _save(directory: Path, bert: Bert, tokenizer: Tokenizer, name: str) -> None:
    counterpart = COUNTERPARTS[bert.params.architecture]
    weights = to_huggingface(bert, nsp_class=name == counterpart.nsp_class)
    save_file(weights, directory / WEIGHTS_NAME, metadata={"format": "pt"})
    special = _modern_config(bert, tokenizer) if bert.params.architecture == "modern" else _bert_config(bert.params)
    config = _shape(bert, tokenizer) | special | (_NSP_CLASSES if name == counterpart.nsp_class else {})
    write_json(directory / CONFIG_NAME, {"architectures": [name], "model_type": counterpart.model_type, **config})
    save_huggingface_tokenizer(
        directory,
        tokenizer,
        max_positions=bert.params.max_positions,
        token_types=bert.params.architecture != "modern",
    )


def _shape(bert: Bert, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the fields that have the same names in all configs."""
    params = bert.params
    return {
        "vocab_size": bert.vocab_size,
        "hidden_size": params.embedding_dim,
        "num_hidden_layers": params.layers,
        "num_attention_heads": params.heads,
        "intermediate_size": params.feed_forward_dim,
        "max_position_embeddings": params.max_positions,
        "pad_token_id": tokenizer.special_ids[0],
        "tie_word_embeddings": params.tied,
        "dtype": "float32",
    }


def _bert_config(params: ModelParams) -> dict[str, Any]:
    """Return the other fields of `BertConfig` that differ between models, and those without a reliable default."""
    return {
        "hidden_act": _ACTIVATIONS[params.activation_name],
        "hidden_dropout_prob": params.dropout,
        "attention_probs_dropout_prob": params.dropout,
        "type_vocab_size": 2,
        "layer_norm_eps": params.epsilon,
    }


def _modern_config(bert: Bert, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return those of `ModernBertConfig`: in every layer all tokens attend to all."""
    params = bert.params
    _, cls, sep, *_ = tokenizer.special_ids
    rotary = {"rope_type": "default", "rope_theta": params.rotary_base}
    return {
        "hidden_activation": _ACTIVATIONS[params.activation_name],
        "classifier_activation": _ACTIVATIONS[params.activation_name],
        "embedding_dropout": params.dropout,
        "attention_dropout": params.dropout,
        "mlp_dropout": 0.0,
        "classifier_dropout": 0.0,
        "norm_eps": params.epsilon,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "classifier_bias": False,
        "decoder_bias": True,
        "classifier_pooling": "cls",
        "layer_types": ["full_attention"] * params.layers,
        "rope_parameters": {"full_attention": rotary, "sliding_attention": rotary},
        # Names in transformers 4.
        "global_attn_every_n_layers": 1,
        "global_rope_theta": params.rotary_base,
        "cls_token_id": cls,
        "bos_token_id": cls,
        "sep_token_id": sep,
        "eos_token_id": sep,
    }


def save_huggingface_tokenizer(
    directory: Path, tokenizer: Tokenizer, *, max_positions: int, token_types: bool = True
) -> None:
    """Write tokenizer.json, which then also joins one or two texts as BERT reads them, and tokenizer_config.json.

    BERT's own WordPiece is called `BertTokenizer` there, with its settings, and gets a vocab.txt as well: all classes
    for BERT in transformers and transformers.js then give our ids. Any other tokenizer is a `PreTrainedTokenizerFast`,
    which reads tokenizer.json unchanged: the class for BERT would build its own WordPiece around the vocabulary.

    Args:
        directory: where to write.
        tokenizer: one with the five special tokens.
        max_positions: longest input in tokens, to which `truncation=True` cuts.
        token_types: whether the model reads token types.
    """
    from tokenizers.processors import TemplateProcessing  # noqa: PLC0415

    joined = parse_tokenizer(tokenizer.backend.to_str(), TOKENIZER_NAME)  # a copy
    _, cls_id, sep_id, _, _ = joined.special_ids
    _, cls, sep, _, _ = joined.special_tokens
    joined.backend.no_truncation()
    joined.backend.no_padding()
    joined.backend.post_processor = TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, cls_id), (sep, sep_id)],
    )
    joined.save(directory / TOKENIZER_NAME)
    settings = bert_settings(tokenizer)
    if settings is not None:
        _save_vocabulary(directory / VOCABULARY_TEXT_NAME, tokenizer)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast" if settings is None else "BertTokenizer",
        **(settings or {}),
        "model_max_length": max_positions,
        "model_input_names": ["input_ids", *(["token_type_ids"] if token_types else []), "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **dict(zip(_ROLES, joined.special_tokens, strict=True)),
    }
    write_json(directory / TOKENIZER_CONFIG_NAME, config)


def bert_settings(tokenizer: Tokenizer) -> Mapping[str, Any] | None:
    """Return what `BertTokenizer` has to be told to give a tokenizer's ids; None if it cannot give them."""
    content = json.loads(tokenizer.backend.to_str())
    normalizer, model = content["normalizer"] or {}, content["model"]
    vocabulary = model.pop("vocab")
    is_bert = (
        normalizer.get("type") == "BertNormalizer"
        and normalizer["clean_text"]
        and content["pre_tokenizer"] == {"type": "BertPreTokenizer"}
        and model == _WORDPIECE
        and sorted(token.pop("content") for token in content["added_tokens"]) == sorted(SPECIAL_TOKENS)
        and all(token == _SPECIAL | {"id": token["id"]} for token in content["added_tokens"])
        and len(vocabulary) == tokenizer.vocab_size
        and not any(set(token) & _LINE_ENDS for token in vocabulary)
    )
    return {theirs: normalizer[ours] for ours, theirs in _SETTINGS.items()} if is_bert else None


def _save_vocabulary(path: Path, tokenizer: Tokenizer) -> None:
    """Write a vocab.txt: one token per line, in the order of the ids."""
    tokens = tokenizer.tokens(range(tokenizer.vocab_size))
    path.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8", newline="\n")
