"""The pretraining objective: BERT with its two losses, each a sum divided by a count."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from bertpipe.data.batching import IGNORED, Batch
from bertpipe.model.bert import Bert, Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What some rows add to the mean losses of a step, in nats; all the rows of the step together, the means.

    All four are scalars on the device.
    """

    mlm: Tensor
    """Of the mean over supervised tokens; zero where there are none."""
    mlm_tokens: Tensor
    """How many tokens that mean is over."""
    nsp: Tensor
    """Of the mean over rows."""
    nsp_rows: Tensor
    """How many rows that mean is over."""

    def total(self, *, nsp_weight: float) -> Tensor:
        """Return the loss that is trained on: MLM loss + `nsp_weight` times NSP loss."""
        return self.mlm + nsp_weight * self.nsp

    def detach(self) -> "Losses":
        """Return the losses without their graph."""
        return Losses(mlm=self.mlm.detach(), mlm_tokens=self.mlm_tokens, nsp=self.nsp.detach(), nsp_rows=self.nsp_rows)


class PretrainingObjective(nn.Module):
    """Wraps `Bert`; its forward gives the losses of a batch."""

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, batch: Batch, counts: Tensor | None = None) -> Losses:
        """Return the losses; last layer and heads run at `[CLS]` and at supervised positions only.

        Args:
            batch: the rows.
            counts: what the means are over where the rows are some of a step's: `Batch.counts` of all of them together.
                None takes the batch's own.
        """
        tokens, rows, _ = (batch.counts if counts is None else counts).unbind()
        wanted = Wanted(positions=batch.head_positions, slots=batch.head_slots)
        hidden = self.bert(batch.token_ids, batch.lengths, batch.second_segment_start, wanted, padded=batch.padded)
        mlm = self.bert.mlm_loss(
            hidden[batch.rows :],
            batch.masked_labels,
            scale=1 / tokens.clamp(min=1).double(),
            some_ignored=batch.filled_up,
        )
        logits = self.bert.nsp_logits(hidden[: batch.rows, None])
        nsp = F.cross_entropy(logits, batch.is_next, reduction="sum", ignore_index=IGNORED)
        return Losses(mlm=mlm, mlm_tokens=tokens, nsp=nsp / rows.clamp(min=1).to(nsp.dtype), nsp_rows=rows)
