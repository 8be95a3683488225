"""The model directory: config.json, model.safetensors and tokenizer.json, with SHA-256 sums that are checked."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from bertpipe.core.artifacts import (
    CONFIG_NAME,
    MODEL,
    TOKENIZER_NAME,
    WEIGHTS_NAME,
    file_sha256,
    read_json,
    require,
    write_json,
)
from bertpipe.core.atomic import atomic_directory
from bertpipe.core.errors import DataError, ModelError, first_line
from bertpipe.core.params import ModelParams
from bertpipe.data.tokenization.comparison import difference
from bertpipe.data.tokenization.model_tokenizer import ModelTokenizer
from bertpipe.data.tokenization.tokenizer import Tokenizer
from bertpipe.model.bert import Bert, Head

_FORMAT = "bertpipe-1"
_TIED_NAME = "mlm_decoder.weight"
_WITHOUT_HEAD: dict[Head, str] = {
    "nsp": "no trained next-sentence head",
    "mlm": "no trained masked-word head",
}
_WITH_HEAD: dict[Head, str] = {
    "nsp": "`bertpipe train` or BertForPreTraining",
    "mlm": "`bertpipe train`, BertForPreTraining or BertForMaskedLM",
}
_LATER_PARAMS = {
    "activation": "auto", "norm_epsilon": "auto", "initialization": "orthogonal", "rotary_base": 10000.0,
}  # fmt: skip
"""Params that older model directories do not have, with the values that were built in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A network with its tokenizer, from any source."""

    name: str
    """The directory or hub name, as it was given."""
    bert: Bert
    """In evaluation mode, on the CPU."""
    tokenizer: ModelTokenizer
    missing_heads: frozenset[Head]
    """Heads that the checkpoint does not have; they have initial weights."""
    notes: tuple[str, ...]
    """What the user should know about how it was read."""
    directory: Path
    """Where its files are on this machine; `prepare.tokenizer` takes it."""

    def require_head(self, head: Head) -> None:
        """Refuse a head that was never trained.

        Raises:
            ModelError: the checkpoint does not have it.
        """
        if head in self.missing_heads:
            raise ModelError(
                f"{self.name} has {_WITHOUT_HEAD[head]}: train it with `bertpipe train --init {self.name}`, or name a "
                f"model of {_WITH_HEAD[head]}"
            )

    def tokenizer_difference(self, data: Tokenizer) -> str | None:
        """Return in which point the tokenizer of some data is not the model's; None if both give the same ids."""
        return difference(self.tokenizer.tokenizer, data)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """A model as read from its directory."""

    bert: Bert
    tokenizer_file: Path
    facts: Mapping[str, Any]
    """The facts of its training that `save_model` wrote."""


def save_model(
    directory: Path,
    bert: Bert,
    tokenizer_file: Path,
    facts: Mapping[str, Any],
) -> None:
    """Write a model directory in place of an earlier one, with `facts` in config.json beside the shape."""
    with atomic_directory(directory, kind=MODEL) as staging:
        save_weights(staging / WEIGHTS_NAME, bert)
        (staging / TOKENIZER_NAME).write_bytes(tokenizer_file.read_bytes())
        config = {
            "format": _FORMAT,
            "model": asdict(bert.params) | {"vocab_size": bert.vocab_size},
            "sha256": {name: file_sha256(staging / name) for name in (WEIGHTS_NAME, TOKENIZER_NAME)},
            "facts": dict(facts),
        }
        write_json(staging / CONFIG_NAME, config)


def save_weights(path: Path, bert: Bert) -> None:
    """Write the weights alone; a tied matrix is written once."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in bert.state_dict().items()}
    if bert.params.tied:
        del weights[_TIED_NAME]
    save_file(weights, path)


def weights_sha256(bert: Bert) -> str:
    """Return the SHA-256 of all weights, independent of their file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(bert.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().numpy())
    return digest.hexdigest()


def load_weights(path: Path, bert: Bert) -> None:
    """Read weights that `save_weights` wrote into a network of the same shape.

    Raises:
        ModelError: the file cannot be read, or its tensors are not the network's.
    """
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {first_line(error)}; train again") from error
    if bert.params.tied:
        weights[_TIED_NAME] = weights.get("embeddings.token.weight", torch.empty(0))
    try:
        bert.load_state_dict(weights)
    except RuntimeError as error:
        first = " ".join(line.strip() for line in str(error).splitlines()[1:2])
        raise ModelError(
            f"{path} does not fit the model in its {CONFIG_NAME} ({first:.200}): take both from one training"
        ) from error


def is_own_model(directory: Path) -> bool:
    """Return whether a directory was written by `save_model`."""
    path = directory / CONFIG_NAME
    if not path.is_file():
        return False
    try:
        config = read_json(path)
    except DataError:
        return False
    return isinstance(config, dict) and config.get("format") == _FORMAT


def load_model(directory: Path) -> StoredModel:
    """Return the model of a directory, on the CPU, in evaluation mode.

    Raises:
        MissingInputError: there is no such directory.
        ModelError: it is not a bertpipe model, or a file is damaged.
    """
    require(directory, made_by="bertpipe train")
    if not is_own_model(directory):
        raise ModelError(f"{directory} is not a bertpipe model directory: it has no {CONFIG_NAME} of bertpipe")
    config = read_json(directory / CONFIG_NAME)
    for name, digest in config["sha256"].items():
        path = require(directory / name, made_by="bertpipe train")
        if file_sha256(path) != digest:
            raise ModelError(f"{path} is damaged (its SHA-256 is not the one in {CONFIG_NAME}): train again")
    params = ModelParams(**(_LATER_PARAMS | config["model"]))
    bert = Bert(params, config["model"]["vocab_size"], init_weights=False)
    load_weights(directory / WEIGHTS_NAME, bert)
    return StoredModel(
        bert=bert.eval(),
        tokenizer_file=directory / TOKENIZER_NAME,
        facts=config["facts"],
    )
