"""The network that a run starts with: random weights, or those of another model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from bertpipe.core.errors import ModelError
from bertpipe.core.params import ModelParams, TrainParams
from bertpipe.data.pair_dataset import label_counts
from bertpipe.model.bert import Bert
from bertpipe.model.loading import LoadedModel, load_any_model
from bertpipe.model.store import weights_sha256
from bertpipe.training.inputs import TrainingData


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
