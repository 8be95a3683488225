"""The model directory: config.json, model.safetensors and tokenizer.json, written whole and verified on read."""

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
from bertpipe.core.errors import DataError, ModelError
from bertpipe.core.params import ModelParams
from bertpipe.model.bert import Bert

_FORMAT = "bertpipe-1"
_TIED_NAME = "mlm_decoder.weight"
_LATER_PARAMS = {"activation": "auto", "norm_epsilon": "auto"}
"""What directories of the format's first version do not say, because there was no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """A model as read from its directory."""

    bert: Bert
    tokenizer_file: Path
    tokenizer_sha256: str
    facts: Mapping[str, Any]
    """What `save_model` was told of its training."""


def save_model(
    directory: Path,
    bert: Bert,
    tokenizer_file: Path,
    facts: Mapping[str, Any],
) -> None:
    """Write a model directory in place of an earlier one.

    Args:
        directory: where it goes.
        bert: the network.
        tokenizer_file: the data's `tokenizer.json`, copied byte by byte.
        facts: what else to keep in config.json: params, data hashes, versions.
    """
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
    """Return the SHA-256 of all weights, whatever file they came from."""
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
        raise ModelError(f"{path} cannot be read: {error}") from error
    if bert.params.tied:
        weights[_TIED_NAME] = weights.get("embeddings.token.weight", torch.empty(0))
    try:
        bert.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(f"{path} does not fit the model: {error}") from error


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
        ModelError: it is not one of ours, or a file is damaged.
    """
    require(directory, made_by="bertpipe train")
    if not is_own_model(directory):
        raise ModelError(f"{directory} is not a bertpipe model directory: it has no {CONFIG_NAME} of ours")
    config = read_json(directory / CONFIG_NAME)
    for name, digest in config["sha256"].items():
        path = require(directory / name, made_by="bertpipe train")
        if file_sha256(path) != digest:
            raise ModelError(f"{path} is damaged (its SHA-256 is not the one in {CONFIG_NAME}): train again")
    params = ModelParams(**(_LATER_PARAMS | config["model"]))
    bert = Bert(params, config["model"]["vocab_size"], drawn=False)
    load_weights(directory / WEIGHTS_NAME, bert)
    return StoredModel(
        bert=bert.eval(),
        tokenizer_file=directory / TOKENIZER_NAME,
        tokenizer_sha256=config["sha256"][TOKENIZER_NAME],
        facts=config["facts"],
    )
