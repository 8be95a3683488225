"""Tiny models, made on the spot, for tests of whatever reads a model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bertpipe.core.params import ModelParams
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, word_level_tokenizer
from bertpipe.model.bert import Bert
from bertpipe.model.store import save_model
from defaults import DEFAULTS

WORDS = ("the", "cat", "sat", "on", "mat", ".", "dog", "ran")
PIECES = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "cat",
    "sat",
    "on",
    "mat",
    ".",
    "dog",
    "##s",
    "##ting",
)
"""Hugging Face's order of the special tokens is not ours."""


def tiny_params(architecture: str = "bert", **changes: Any) -> ModelParams:  # noqa: ANN401
    sizes = {
        "architecture": architecture,
        "initialization": "orthogonal",
        "vocab_size": "auto",
        "embedding_dim": 6,
        "heads": 3,
        "layers": 2,
        "feed_forward_dim": 11,
        "max_positions": 17,
        "dropout": 0.1,
        "tied": True,
        "activation": "auto",
        "norm_epsilon": "auto",
    }
    return replace(DEFAULTS.model, **(sizes | changes))


def tiny_bert(architecture: str = "bert", *, vocab_size: int, seed: int = 7, **changes: Any) -> Bert:  # noqa: ANN401
    """Return a network in evaluation mode with weights far from zero, so that its answers differ."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        bert = Bert(tiny_params(architecture, **changes), vocab_size)
        with torch.no_grad():
            for parameter in bert.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return bert.eval()


def save_tiny_model(
    directory: Path,
    *,
    words: Sequence[str] = WORDS,
    architecture: str = "bert",
    nameless_ids: int = 0,
    **changes: Any,  # noqa: ANN401
) -> Bert:
    """Write a model directory of ours and return its network.

    Args:
        directory: where it goes.
        words: the vocabulary after the special tokens.
        architecture: `bert` or `notebook`.
        nameless_ids: ids that the network has beyond its tokenizer's, as `model.vocab_size` allows.
        changes: other values of `ModelParams`.
    """
    tokenizer = word_level_tokenizer([*SPECIAL_TOKENS, *words])
    tokenizer_file = directory.parent / f"{directory.name}-tokenizer.json"
    tokenizer.save(tokenizer_file)
    bert = tiny_bert(architecture, vocab_size=tokenizer.vocab_size + nameless_ids, **changes)
    save_model(directory, bert, tokenizer_file, facts={})
    return bert


def save_changed(directory: Path, bert: Bert) -> None:
    """Write a network in place of the one that stands in a model directory of ours."""
    copy = directory.parent / f"{directory.name}-copy.json"
    copy.write_bytes((directory / "tokenizer.json").read_bytes())
    save_model(directory, bert, copy, facts={})


def save_tiny_huggingface(directory: Path, *, head: str = "BertForPreTraining", **changes: Any) -> Any:  # noqa: ANN401
    """Write a Hugging Face directory with a WordPiece tokenizer and return its network."""
    import transformers

    sizes = {
        "vocab_size": len(PIECES),
        "hidden_size": 6,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 11,
        "max_position_embeddings": 17,
    }
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = getattr(transformers, head)(transformers.BertConfig(**(sizes | changes))).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
    network.save_pretrained(directory)
    transformers.BertTokenizer(vocab={piece: number for number, piece in enumerate(PIECES)}).save_pretrained(directory)
    return network
