"""A model's losses and accuracies on a whole split, from sums over its rows that can be added up over parts."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bertpipe.data.batching import Batcher
from bertpipe.data.sampling import SINGLE, DataParallelRank
from bertpipe.model.bert import Bert
from bertpipe.model.encoder import QueryPositions

_TOP = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSums:
    """Sums over some rows; the sums of several parts of a data set add up to those of all of it."""

    losses: Tensor
    """Of MLM, of NSP, and of MLM where the bytes of the text are known, in nats; float64, [3]."""
    counts: Tensor
    """Supervised tokens, those ranked first and among the first five, and known bytes; int64, [4]."""
    confusion: Tensor
    """Rows by (true class, predicted class), class 1 is next; int64, [4]."""

    def reduced(self, add_up: Callable[[Tensor], Tensor]) -> "EvaluationSums":
        """Return the sums of all processes, where `add_up` returns the sum of every process's tensor."""
        return EvaluationSums(losses=add_up(self.losses), counts=add_up(self.counts), confusion=add_up(self.confusion))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A model's figures on a data set; None where there is nothing to count."""

    rows: int
    mlm_tokens: int
    mlm_loss: float | None
    """Nats per supervised token."""
    mlm_perplexity: float | None
    mlm_bits_per_byte: float | None
    """Of the supervised tokens' text as `Tokenizer.token_bytes` counts it: comparable across vocabularies."""
    mlm_top1_accuracy: float | None
    mlm_top5_accuracy: float | None
    nsp_loss: float | None
    """Nats per row."""
    nsp_accuracy: float | None
    nsp_confusion: tuple[tuple[int, int], tuple[int, int]]
    """Rows by (true class, predicted class); class 1 is next."""

    @classmethod
    def of(cls, sums: EvaluationSums) -> "Evaluation":
        """Return the figures of some sums."""
        mlm_sum, nsp_sum, known_sum = sums.losses.tolist()
        mlm_tokens, top1, top5, known_bytes = sums.counts.tolist()
        counts = sums.confusion.tolist()
        rows = sum(counts)
        mlm_loss = mlm_sum / mlm_tokens if mlm_tokens else None
        return cls(
            rows=rows,
            mlm_tokens=mlm_tokens,
            mlm_loss=mlm_loss,
            mlm_perplexity=None if mlm_loss is None else _perplexity(mlm_loss),
            mlm_bits_per_byte=known_sum / math.log(2) / known_bytes if known_bytes else None,
            mlm_top1_accuracy=top1 / mlm_tokens if mlm_tokens else None,
            mlm_top5_accuracy=top5 / mlm_tokens if mlm_tokens else None,
            nsp_loss=nsp_sum / rows if rows else None,
            nsp_accuracy=(counts[0] + counts[3]) / rows if rows else None,
            nsp_confusion=((counts[0], counts[1]), (counts[2], counts[3])),
        )

    def figures(self, task: str) -> dict[str, Any]:
        """Return what stands in `metrics.json` for the model's `mlm` or `nsp`: each field of it by its name."""
        prefix, counts = f"{task}_", ("mlm_tokens", "nsp_confusion")
        names = [each.name for each in fields(self) if each.name.startswith(prefix) and each.name not in counts]
        figures = {name.removeprefix(prefix): getattr(self, name) for name in names}
        if task == "mlm":
            return figures
        (true_not, false_next), (false_not, true_next) = self.nsp_confusion
        confusion = {
            "next_called_next": true_next,
            "next_called_not": false_not,
            "not_called_not": true_not,
            "not_called_next": false_next,
        }
        return {**figures, "confusion": confusion}


def evaluate(
    bert: Bert,
    batcher: Batcher,
    *,
    batch_size: int,
    device: torch.device,
    token_bytes: NDArray[np.int64] | None = None,
    dp: DataParallelRank = SINGLE,
) -> EvaluationSums:
    """Return the sums over all rows, or over one process's, in memory that does not grow with their number.

    Args:
        bert: the model.
        batcher: the rows, with the masks they store.
        batch_size: rows per forward pass.
        device: where the model is.
        token_bytes: bytes of each id's text, 0 if it is not known; None for no bits per byte.
            Shape [tokenizer's vocab].
        dp: which of several processes this one is; each has the whole model, and takes its rows of each batch.
    """
    sizes = torch.zeros(bert.vocab_size, dtype=torch.long)
    if token_bytes is not None:
        sizes[: len(token_bytes)] = torch.from_numpy(token_bytes)
    sizes = sizes.to(device)
    was_training = bert.training
    bert.eval()
    mlm_sum = nsp_sum = known_sum = 0.0
    mlm_tokens = top1 = top5 = known_bytes = 0
    confusion = torch.zeros(4, dtype=torch.long)
    with torch.inference_mode():
        for batch in batcher.in_length_order(batch_size=batch_size, dp=dp):
            batch = batch.to(device)  # noqa: PLW2901
            queries = QueryPositions(positions=batch.query_positions, flat_index=batch.query_flat_index)
            hidden = bert(batch.token_ids, batch.lengths, batch.second_segment_start, queries)
            logits = bert.mlm_logits(hidden[batch.rows :])
            losses = F.cross_entropy(logits, batch.masked_labels, reduction="none")
            mlm_sum += losses.sum().item()
            size = sizes[batch.masked_labels]
            known_sum += losses[size > 0].sum().item()
            known_bytes += int(size.sum())
            found = logits.topk(min(_TOP, bert.vocab_size)).indices == batch.masked_labels[:, None]
            top1 += int(found[:, 0].sum())
            top5 += int(found.sum())
            mlm_tokens += len(batch.masked_labels)
            nsp = bert.nsp_logits(hidden[: batch.rows, None])
            nsp_sum += F.cross_entropy(nsp, batch.is_next, reduction="sum").item()
            confusion += torch.bincount(2 * batch.is_next + nsp.argmax(dim=-1), minlength=4).cpu()
    bert.train(was_training)
    return EvaluationSums(
        losses=torch.tensor([mlm_sum, nsp_sum, known_sum], dtype=torch.float64),
        counts=torch.tensor([mlm_tokens, top1, top5, known_bytes]),
        confusion=confusion,
    )


def _perplexity(loss: float) -> float:
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
