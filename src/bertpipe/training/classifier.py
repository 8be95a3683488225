"""A text classifier on top of a pretrained network: its head is trained, or all of it.

Shapes in this file: batch (rows), seq (tokens per row, with padding), hidden, classes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from bertpipe.core.errors import TrainingError
from bertpipe.core.params import TrainParams
from bertpipe.core.randomness import random_bits
from bertpipe.data.layout import Layout
from bertpipe.data.ragged import pad_rows
from bertpipe.data.sampling import epoch_order, length_order, steps_of_epoch
from bertpipe.model.bert import Bert, mean_pool
from bertpipe.model.dropout import Dropout
from bertpipe.sources.labelled.rows import TextRows
from bertpipe.training.optim import learning_rate, make_optimizer

_DROPOUT = 72  # stream of randomness
_FEATURE_LAYERS = 4
_ROWS_PER_PASS = 32
"""Of passes without training."""

_Rows = NDArray[np.intp]
_Input = TypeVar("_Input")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBatch:
    """Padded rows: `token_ids` [batch, seq] and `lengths` [batch]."""

    token_ids: Tensor
    lengths: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierStep:
    """One optimizer step."""

    step: int
    """Counted from 1 over all epochs."""
    total_steps: int
    epoch: int
    """Counted from 1."""
    ends_epoch: bool
    loss: float
    """Mean cross-entropy of the batch, in nats."""


class LayerMeans(nn.Module):
    """A frozen network's features of a text: the concatenated mean states of its last layers.

    They are the last four, with the embedded input as the lowest layer, as where Devlin et al. (2018, section 5.3) use
    BERT's features; the mean is over all of a row's tokens, with `[CLS]` and `[SEP]`. On the sample they predict more
    than the last layer does (docs/explanation/log.md).
    """

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        self.bert = bert
        self.layers = min(_FEATURE_LAYERS, bert.params.layers + 1)
        self.width = self.layers * bert.params.embedding_dim
        """Numbers per row."""

    def forward(self, batch: TextBatch) -> Tensor:
        """Return one vector per row, [batch, width]."""
        means: list[Tensor] = []

        def pool(_layer: nn.Module, hidden: Tensor, _mask: Tensor | None) -> None:
            means.append(mean_pool(hidden, batch.lengths))

        last = self.bert(batch.token_ids, batch.lengths, batch.lengths, on_layer=pool)  # there is no second sentence
        means.append(mean_pool(last, batch.lengths))
        return torch.cat(means[-self.layers :], dim=1)


class TextClassifier(nn.Module):
    """A linear layer over the mean of the last layer's states, with the network's own dropout between them.

    The layer starts at zero, so that all classes are equally probable.
    """

    def __init__(self, bert: Bert, classes: int) -> None:
        super().__init__()
        self.bert = bert
        self.dropout = Dropout(bert.params.dropout)
        self.head = zero_linear(bert.params.embedding_dim, classes)

    def forward(self, batch: TextBatch) -> Tensor:
        """Return logits [batch, classes]."""
        states = self.bert(batch.token_ids, batch.lengths, batch.lengths)
        logits: Tensor = self.head(self.dropout(mean_pool(states, batch.lengths)))
        return logits


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer that starts at zero."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def batches_of(rows: TextRows, device: torch.device) -> Callable[[_Rows], TextBatch]:
    """Return a function from row numbers to their batch."""

    def batch(chosen: _Rows) -> TextBatch:
        token_ids, real = pad_rows(rows.token_ids, rows.offsets, chosen)
        return TextBatch(
            token_ids=torch.from_numpy(token_ids.astype(np.int64)).to(device),
            lengths=torch.from_numpy(real.sum(axis=1)).to(device),
        )

    return batch


def fit(
    module: nn.Module,
    inputs: Callable[[_Rows], _Input],
    labels: NDArray[np.int64],
    lengths: NDArray[np.int64],
    train: TrainParams,
) -> Iterator[ClassifierStep]:
    """Train a classifier by cross-entropy, and yield a report after each optimizer step.

    `inputs` returns the module's input for some row numbers; batches have rows of about equal `lengths`.

    Raises:
        TrainingError: a loss is not finite.
    """
    layout = Layout.of_files([len(labels)])
    size, seed = train.batch_size, train.seed
    epochs = range(1, train.epochs + 1)
    ends = list(accumulate(steps_of_epoch(layout, batch_size=size, seed=seed, epoch=epoch) for epoch in epochs))
    optimizer = make_optimizer(module, train)
    targets = torch.from_numpy(labels).to(next(module.parameters()).device)
    step = 0
    module.train()
    for epoch in epochs:
        for window in epoch_order(lengths, layout, batch_size=size, seed=seed, epoch=epoch):
            rows_of_window = layout.rows_of(window.groups)
            for places in window.batches:
                step += 1
                rows = rows_of_window[places]
                torch.manual_seed(int(random_bits(seed, _DROPOUT, step)[0]))
                loss = F.cross_entropy(module(inputs(rows)), targets[torch.from_numpy(rows).to(targets.device)])
                _check(loss, step)
                loss.backward()  # type: ignore[no-untyped-call]
                _make_dense(module)
                rate = learning_rate(step, ends[-1], train)
                optimizer.step(learning_rate=rate, max_grad_norm=train.max_grad_norm)
                yield ClassifierStep(
                    step=step, total_steps=ends[-1], epoch=epoch, ends_epoch=step in ends, loss=loss.item()
                )
    module.eval()


def outputs(module: nn.Module, inputs: Callable[[_Rows], _Input], lengths: NDArray[np.int64], width: int) -> Tensor:
    """Return a module's output for every row [rows, width], on the CPU, without training and dropout."""
    module.eval()
    layout = Layout.of_files([len(lengths)])
    found = torch.empty(len(lengths), width)
    with torch.no_grad():  # not inference mode: a layer may be trained on the output
        for window in length_order(lengths, layout, batch_size=_ROWS_PER_PASS):
            rows_of_window = layout.rows_of(window.groups)
            for places in window.batches:
                rows = rows_of_window[places]
                found[torch.from_numpy(rows)] = module(inputs(rows)).cpu()
    return found


def by_text(found: Tensor, rows: TextRows) -> Tensor:
    """Return the mean of each text's rows [texts, width], weighted by their tokens, of values [rows, width]."""
    weighted = found * torch.from_numpy(rows.shares)[:, None]
    texts = int(rows.text[-1]) + 1
    return found.new_zeros(texts, found.shape[1]).index_add_(0, torch.from_numpy(rows.text), weighted)


def standardised(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Return both sets of features [rows, hidden] minus the training mean, over the training standard deviation.

    A feature that is equal in all training rows becomes zero there.
    """
    mean, deviation = train.mean(dim=0), train.std(dim=0, correction=0)
    scale = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    return (train - mean) / scale, (test - mean) / scale


def _check(loss: Tensor, step: int) -> None:
    if not bool(loss.isfinite()):
        raise TrainingError(
            f"the classifier's loss is not a number at step {step}: lower probe.frozen.learning_rate or "
            f"probe.whole.learning_rate; or the model's weights are damaged"
        )


def _make_dense(module: nn.Module) -> None:
    """Make gradients dense: a tied embedding's is sparse because of the decoder, which is not used here."""
    for parameter in module.parameters():
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.to_dense()
