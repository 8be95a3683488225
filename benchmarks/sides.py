"""Each side of a comparison: something that takes training steps and says how much it did.

A side is made in the process that it works in. bertpipe's sets PyTorch up as `bertpipe train` does; the peers run as
their users run them, with PyTorch as it comes.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import Work, set_up
from benchmarks.peers.huggingface import HuggingFaceLoop
from benchmarks.peers.notebook import NotebookLoop
from benchmarks.rows import (
    LONGEST,
    bert_masking,
    huggingface_batch,
    load_rows,
    load_sampled,
    notebook_rows,
    with_vocabulary,
)
from bertpipe.core.params import MaskingUnit, ModelParams, TrainParams
from bertpipe.core.params_file import load_params
from bertpipe.data.batching import Batch, Batcher
from bertpipe.data.masking import Masking
from bertpipe.data.pair_dataset import PairDataset, label_counts
from bertpipe.model.bert import Bert
from bertpipe.model.flops import peak_flops
from bertpipe.training.loop import StepReport, train_steps
from bertpipe.training.objective import PretrainingObjective
from bertpipe.training.optim import make_optimizer

DROPOUT = 0.1
DEFAULTS = load_params(Path(__file__).parent.parent / "params.yaml")


def bert_shape(*, width: int, layers: int, heads: int = 4) -> ModelParams:
    """Return the published shape at another size, with tied vocabulary matrices."""
    return replace(
        DEFAULTS.model, architecture="bert", embedding_dim=width, heads=heads, layers=layers,
        feed_forward_dim=4 * width, max_positions=LONGEST, dropout=DROPOUT, tied=True,
    )  # fmt: skip


def notebook_shape() -> ModelParams:
    """Return the notebook's network."""
    return replace(
        DEFAULTS.model, architecture="notebook", embedding_dim=10, heads=2, layers=2,
        feed_forward_dim=2048, max_positions=LONGEST, dropout=DROPOUT, tied=False,
    )  # fmt: skip


def train_params(*, batch_size: int, learning_rate: float = 1e-4, warmup_share: float = 0.1) -> TrainParams:
    """Return the settings of a run that never comes to its end."""
    return replace(
        DEFAULTS.train, epochs=100, batch_size=batch_size, learning_rate=learning_rate, warmup_share=warmup_share,
        decay_share=0.0,
    )  # fmt: skip


class Bertpipe:
    """bertpipe's own loop, fed by its own batcher: what `bertpipe train` runs between two evaluations."""

    def __init__(
        self,
        model: ModelParams,
        vocab_size: int,
        train: TrainParams,
        rows: PairDataset,
        masking: Masking | None = None,
        *,
        steps: int = 1,
    ) -> None:
        set_up()
        torch.manual_seed(train.seed)
        self.bert = Bert(model, vocab_size)
        self.bert.init_mlm_bias(torch.from_numpy(label_counts(rows, vocab_size)))
        self.batcher = Batcher(dataset=rows, masking=masking, seed=train.seed)
        self.steps = steps
        self.optimizer = make_optimizer(self.bert, train)
        self.reports: Iterator[StepReport] = train_steps(
            PretrainingObjective(self.bert),
            self.optimizer,
            self.batcher,
            train,
            device=torch.device("cpu"),
        )

    def turn(self) -> Work:
        """Take some steps."""
        reports = list(itertools.islice(self.reports, self.steps))
        return Work(
            sequences=sum(int(report.losses.nsp_rows) for report in reports),
            tokens=sum(int(report.tokens) for report in reports),
            flops=sum(float(report.flops) for report in reports),
        )


class Notebook:
    """The notebook's loop; its rows are made beforehand and not timed."""

    def __init__(self, vocab_size: int, rows: PairDataset, *, batch_size: int, steps: int) -> None:
        torch.manual_seed(1)
        self.loop = NotebookLoop(vocab_size=vocab_size)
        self.batch_size, self.steps = batch_size, steps
        self.rows = itertools.cycle(notebook_rows(rows, 900))

    def turn(self) -> Work:
        """Take some steps."""
        for _ in range(self.steps):
            self.loop.step(list(itertools.islice(self.rows, self.batch_size)))
        return Work(sequences=self.steps * self.batch_size)


class HuggingFace:
    """The plain loop around Hugging Face's network, on batches of rows as they come."""

    def __init__(self, model: ModelParams, vocab_size: int, learning_rate: float, batches: Iterator[Batch]) -> None:
        torch.manual_seed(1)
        self.loop = HuggingFaceLoop(
            vocab_size=vocab_size, width=model.embedding_dim, layers=model.layers, heads=model.heads,
            longest=model.max_positions, learning_rate=learning_rate,
        )  # fmt: skip
        self.batches = batches

    def turn(self) -> Work:
        """Take a step."""
        batch = next(self.batches)
        self.loop.step(huggingface_batch(batch))
        return Work(sequences=batch.rows, tokens=batch.tokens)


class MatrixProduct:
    """The machine's best matrix product: what a share of the peak is a share of."""

    def __init__(self) -> None:
        set_up()

    def turn(self) -> Work:
        """Measure it; the work is its operations a second."""
        return Work(flops=peak_flops(torch.device("cpu")))


def random_batches(rows: PairDataset, masking: Masking | None, *, batch_size: int) -> Iterator[Batch]:
    """Yield batches of rows as they come, without regard to length, as a plain loader gives them."""
    batcher = Batcher(dataset=rows, masking=masking, seed=1)
    for epoch in itertools.count(1):
        order = np.random.default_rng(epoch).permutation(len(rows))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            yield batcher.assemble(rows, order[start : start + batch_size], epoch=epoch)


@dataclass(frozen=True, kw_only=True)
class NotebookNetwork:
    """Makes either side of the comparison on the notebook's network."""

    work: Path
    vocab_size: int
    batch_size: int
    steps: int
    """Steps a turn."""

    def ours(self) -> Bertpipe:
        """Return bertpipe's side."""
        train, rows = train_params(batch_size=self.batch_size), load_sampled(self.work)
        return Bertpipe(notebook_shape(), self.vocab_size, train, rows, steps=self.steps)

    def theirs(self) -> Notebook:
        """Return the notebook's side."""
        rows = load_sampled(self.work)
        return Notebook(self.vocab_size, rows, batch_size=self.batch_size, steps=self.steps)


@dataclass(frozen=True, kw_only=True)
class BertNetwork:
    """Makes either side of the comparison on BERT's shape: the same rows, 15 % of them masked alike."""

    work: Path
    model: ModelParams
    vocab_size: int
    batch_size: int
    steps: int
    """Steps a turn of bertpipe."""
    unit: MaskingUnit = "token"
    """What both sides mask as a whole."""

    def ours(self) -> Bertpipe:
        """Return bertpipe's side."""
        train, masking = train_params(batch_size=self.batch_size), bert_masking(self.vocab_size, self.unit)
        return Bertpipe(self.model, self.vocab_size, train, self._rows(), masking, steps=self.steps)

    def theirs(self) -> HuggingFace:
        """Return Hugging Face's side."""
        batches = random_batches(self._rows(), bert_masking(self.vocab_size, self.unit), batch_size=self.batch_size)
        return HuggingFace(self.model, self.vocab_size, 1e-4, batches)

    def _rows(self) -> PairDataset:
        return with_vocabulary(load_rows(self.work).train, self.vocab_size)
