"""A network as the config.json and model.safetensors that Hugging Face's `BertForPreTraining` reads."""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from bertpipe.core.artifacts import CONFIG_NAME, WEIGHTS_NAME, write_json
from bertpipe.core.params import ModelParams
from bertpipe.model.bert import Bert
from bertpipe.model.huggingface_weights import to_huggingface

_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}
"""Names there of our activations."""


def missing_counterpart(params: ModelParams) -> str | None:
    """Return why no class of transformers computes a network of this shape; None where one does."""
    if params.architecture == "bert":
        return None
    return (
        "it has the notebook's architecture, which no class of transformers computes (sinusoidal positions, three "
        "segments, no pooler, no transform before the MLM decoder)"
    )


def save_huggingface(directory: Path, bert: Bert, *, pad_id: int) -> None:
    """Write the two files.

    Args:
        directory: where they go.
        bert: a network that has a counterpart there.
        pad_id: id of `[PAD]`.
    """
    save_file(to_huggingface(bert), directory / WEIGHTS_NAME, metadata={"format": "pt"})
    write_json(directory / CONFIG_NAME, _config(bert, pad_id))


def _config(bert: Bert, pad_id: int) -> dict[str, Any]:
    """Return the fields of `BertConfig` that differ from model to model, and those without a default to trust."""
    params = bert.params
    return {
        "architectures": ["BertForPreTraining"],
        "model_type": "bert",
        "vocab_size": bert.vocab_size,
        "hidden_size": params.embedding_dim,
        "num_hidden_layers": params.layers,
        "num_attention_heads": params.heads,
        "intermediate_size": params.feed_forward_dim,
        "hidden_act": _ACTIVATIONS[params.activation_name],
        "hidden_dropout_prob": params.dropout,
        "attention_probs_dropout_prob": params.dropout,
        "max_position_embeddings": params.max_positions,
        "type_vocab_size": 2,
        "layer_norm_eps": params.epsilon,
        "pad_token_id": pad_id,
        "tie_word_embeddings": params.tied,
        "dtype": "float32",
    }
