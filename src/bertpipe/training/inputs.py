"""A run's inputs: a data set that fits the model, and the initial model with random weights or another model's."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bertpipe.core.artifacts import (
    SUMMARY_NAME,
    TOKENIZER_NAME,
    VALIDATION,
    file_sha256,
    read_json,
    require,
    split_path,
)
from bertpipe.core.errors import DataError, ModelError, ParamsError
from bertpipe.core.params import MaskingParams, ModelParams, TrainParams
from bertpipe.data.masking import Masking
from bertpipe.data.pair_dataset import PairFile
from bertpipe.data.records import read_records
from bertpipe.data.tokenization.tokenizer import Tokenizer, load_tokenizer
from bertpipe.model.bert import Bert
from bertpipe.model.loading import load_any_model
from bertpipe.model.store import LoadedModel, weights_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """A data set, checked for a run."""

    directory: Path
    train: PairFile
    held_out: PairFile
    """The validation split, or the test split of a data set without one."""
    held_out_split: str
    tokenizer: Tokenizer
    masked_tokens_known: bool
    sha256: Mapping[str, str]
    """Of each file that a run reads; the shards of a split have one together."""

    def vocab_size(self, model: ModelParams, *, given_by: str | None = None) -> int:
        """Return the rows of the token embedding, after checking that all rows fit the model.

        `given_by` is the name of the model with this shape; None if it comes from the params file.

        Raises:
            DataError: a split has no rows or a wrong one, a row is too long for the model, or the vocabulary too large.
        """
        for split in (self.train, self.held_out):
            split.check(self.tokenizer.vocab_size)
        longest = max(self.train.longest_row, self.held_out.longest_row)
        if longest > model.max_positions:
            own = f"model.max_positions is {model.max_positions}: raise it, or"
            limit = f"{given_by} reads {model.max_positions} at most:" if given_by else own
            raise DataError(
                f"{self.directory} has rows of {longest} tokens, {limit} set convert.max_length or "
                f"prepare.max_length to {model.max_positions} and make the data again"
            )
        size = self.tokenizer.vocab_size if model.vocab_size == "auto" else model.vocab_size
        if size < self.tokenizer.vocab_size:
            raise DataError(
                f"{self.directory} has ids up to {self.tokenizer.vocab_size - 1}, which do not fit model.vocab_size "
                f"{size}: set it to auto, or to {self.tokenizer.vocab_size} or more"
            )
        return size

    def masks(self, masking: MaskingParams) -> Masking | None:
        """Return the rule of dynamic masking; None for the masks stored in the data.

        Raises:
            ParamsError: masking.mode is dynamic, and the data do not have the true tokens under their masks.
        """
        if masking.mode == "static" or (masking.mode == "auto" and not self.masked_tokens_known):
            return None
        if not self.masked_tokens_known:
            raise ParamsError(
                "masking.mode is dynamic, but these data do not have the true tokens under their masks: "
                "use auto or static"
            )
        rate = masking.rate if masking.training_rate == "same" else masking.training_rate
        return Masking.of(replace(masking, rate=rate), self.tokenizer)


def read_training_data(directory: Path) -> TrainingData:
    """Return the data set of a directory.

    Raises:
        MissingInputError, DataError: a file or a shard is missing or damaged.
    """
    summary = read_json(require(directory / SUMMARY_NAME))
    held_out_split = VALIDATION if VALIDATION in summary["splits"] else "test"
    tokenizer_file = directory / TOKENIZER_NAME
    tokenizer, records = load_tokenizer(tokenizer_file), read_records(directory)
    paths = [split_path(directory, split) for split in ("train", held_out_split)]
    train, held_out = (
        PairFile(path, record=records.get(split), vocab_size=tokenizer.vocab_size)
        for split, path in zip(("train", held_out_split), paths, strict=True)
    )
    return TrainingData(
        directory=directory,
        train=train,
        held_out=held_out,
        held_out_split=held_out_split,
        tokenizer=tokenizer,
        masked_tokens_known=summary["masked_tokens_known"],
        sha256={
            **{path.name: file.sha256 for path, file in zip(paths, (train, held_out), strict=True)},
            TOKENIZER_NAME: file_sha256(tokenizer_file),
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialModel:
    """The model that a run starts from, before its weights are initialised."""

    params: ModelParams
    """The shape: from the params file, or of the model that `train.init` names."""
    vocab_size: int
    facts: Mapping[str, Any]
    """Name and SHA-256 of the model that `train.init` names; empty for random weights."""
    notes: tuple[str, ...]
    _given: LoadedModel | None

    def network(self, seed: int, data: TrainingData) -> Bert:
        """Return the network; an untrained MLM head starts with the frequencies of the labels."""
        torch.manual_seed(seed)
        bert = Bert(self.params, self.vocab_size)
        if self._given is not None:
            bert.load_state_dict(self._given.bert.state_dict())
        if self._given is None or "mlm" in self._given.missing_heads:
            bert.init_mlm_bias(torch.from_numpy(data.train.label_counts(self.vocab_size)))
        return bert


def read_initial_model(model: ModelParams, train: TrainParams, data: TrainingData) -> InitialModel:
    """Return the model that `train.init` names, or one with random weights, after checking that the data fit it.

    With `train.init` only the dropout comes from `model`.

    Raises:
        MissingInputError, ModelError: the model cannot be read, or its tokenizer is not the one of the data.
        DataError: a split has no rows, or the rows or ids do not fit.
    """
    if train.init is None:
        return InitialModel(params=model, vocab_size=data.vocab_size(model), facts={}, notes=(), _given=None)
    given = load_any_model(train.init)
    difference = given.tokenizer_difference(data.tokenizer)
    if difference is not None:
        raise ModelError(
            f"{given.name} was trained with another tokenizer than the one of {data.directory} ({difference}): "
            f"make the data with prepare.tokenizer: {given.directory}"
        )
    params = replace(given.bert.params, vocab_size=given.bert.vocab_size, dropout=model.dropout)
    shape = f"width {params.embedding_dim}, {params.layers} layers, {params.heads} heads"
    note = f"starting from {given.name} ({shape}); only dropout is taken from the params' model section"
    return InitialModel(
        params=params,
        vocab_size=data.vocab_size(params, given_by=given.name),
        facts={"name": given.name, "sha256": weights_sha256(given.bert)},
        notes=(note, *given.notes),
        _given=given,
    )
