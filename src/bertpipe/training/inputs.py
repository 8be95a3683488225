"""What a run reads: a data set that fits the model, and the network that it starts with: random, or another model's."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bertpipe.core.artifacts import (
    SPLITS,
    SUMMARY_NAME,
    TOKENIZER_NAME,
    file_sha256,
    read_json,
    require,
    split_path,
    table_sha256,
)
from bertpipe.core.errors import DataError, ModelError, ParamsError
from bertpipe.core.params import MaskingParams, ModelParams, TrainParams
from bertpipe.data.masking import Masking
from bertpipe.data.pair_dataset import PairFile, label_counts
from bertpipe.data.tokenization.tokenizer import Tokenizer, load_tokenizer
from bertpipe.model.bert import Bert
from bertpipe.model.loading import LoadedModel, load_any_model
from bertpipe.model.store import weights_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """A data set as a run sees it."""

    directory: Path
    train: PairFile
    test: PairFile
    tokenizer: Tokenizer
    masked_tokens_known: bool
    sha256: Mapping[str, str]
    """Of each file that a run reads, or all shards of a split together, as they are now."""

    def vocab_size(self, model: ModelParams, *, given_by: str | None = None) -> int:
        """Return the rows of the token embedding, after checking that all rows fit the model.

        Args:
            model: the shape.
            given_by: name of the model whose shape it is; None where it is that of the params file.

        Raises:
            DataError: a split has no rows, or one that breaks the contract; a row is longer than the model's
                positions, or the vocabulary larger than the model's.
        """
        for split in (self.train, self.test):
            split.check(self.tokenizer.vocab_size)
        longest = int(max(self.train.lengths.max(), self.test.lengths.max()))
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
        """Return the rule of dynamic masking, or None for the masks stored in the data.

        Raises:
            ParamsError: the masks should be dynamic, and the data do not tell the true tokens under theirs.
        """
        if masking.mode == "static" or (masking.mode == "auto" and not self.masked_tokens_known):
            return None
        if not self.masked_tokens_known:
            raise ParamsError(
                "masking.mode is dynamic, but these data do not tell the true tokens under their masks: "
                "use auto or static"
            )
        return Masking.of(masking, self.tokenizer)


def read_training_data(directory: Path) -> TrainingData:
    """Return the data set of a directory.

    Raises:
        MissingInputError, DataError: a file or a shard is missing or damaged.
    """
    summary = read_json(require(directory / SUMMARY_NAME))
    paths = [split_path(directory, split) for split in SPLITS]
    train, test = map(PairFile, paths)
    tokenizer_file = directory / TOKENIZER_NAME
    return TrainingData(
        directory=directory,
        train=train,
        test=test,
        tokenizer=load_tokenizer(tokenizer_file),
        masked_tokens_known=summary["masked_tokens_known"],
        sha256={
            **{path.name: table_sha256(path) for path in paths},
            TOKENIZER_NAME: file_sha256(tokenizer_file),
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a run starts with, known before any weight is drawn."""

    params: ModelParams
    """The shape: that of the params file, or of the model that the run starts from."""
    vocab_size: int
    facts: Mapping[str, Any]
    """Of the model that the run starts from: its name, and the SHA-256 of its weights; empty for random weights."""
    notes: tuple[str, ...]
    _given: LoadedModel | None

    def network(self, seed: int, data: TrainingData) -> Bert:
        """Return the network, in which the MLM head knows the frequencies of the labels if nothing trained it."""
        torch.manual_seed(seed)
        bert = Bert(self.params, self.vocab_size)
        if self._given is not None:
            bert.load_state_dict(self._given.bert.state_dict())
        if self._given is None or "mlm" in self._given.missing_heads:
            bert.start_at_frequencies(torch.from_numpy(label_counts(data.train, self.vocab_size)))
        return bert


def start_of(model: ModelParams, train: TrainParams, data: TrainingData) -> Start:
    """Return what `train.init` names, or the start from random weights; all rows of the data fit it.

    Of `model` a start from another model takes the dropout alone.

    Raises:
        MissingInputError, ModelError: the model cannot be read, or its ids mean other words than those of the data.
        DataError: a split has no rows, or the rows or ids do not fit.
    """
    if train.init is None:
        return Start(params=model, vocab_size=data.vocab_size(model), facts={}, notes=(), _given=None)
    given = load_any_model(train.init)
    if not given.reads(data.tokenizer):
        raise ModelError(
            f"{given.name} was trained with another tokenizer than the one of {data.directory}: its ids mean other "
            f"words; make the data with prepare.tokenizer: {given.tokenizer_file or 'its tokenizer.json'}"
        )
    params = replace(given.bert.params, vocab_size=given.bert.vocab_size, dropout=model.dropout)
    shape = f"width {params.embedding_dim}, {params.layers} layers, {params.heads} heads"
    note = f"starting from {given.name} ({shape}); of the params' model section, dropout alone counts"
    return Start(
        params=params,
        vocab_size=data.vocab_size(params, given_by=given.name),
        facts={"name": given.name, "sha256": weights_sha256(given.bert)},
        notes=(note, *given.notes),
        _given=given,
    )
