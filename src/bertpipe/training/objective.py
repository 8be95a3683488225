"""The pretraining objective: BERT with its two losses, each a sum divided by a count."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from bertpipe.data.batching import Batch
from bertpipe.model.bert import Bert, Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Mean losses of one batch in nats, and what they are means over."""

    mlm: Tensor
    """Mean over supervised tokens; a scalar, zero where there are none."""
    mlm_tokens: int
    nsp: Tensor
    """Mean over rows; a scalar."""
    nsp_rows: int

    def total(self, *, nsp_weight: float) -> Tensor:
        """Return the loss that is trained on: MLM loss + `nsp_weight` times NSP loss."""
        return self.mlm + nsp_weight * self.nsp

    def share(self, mlm_tokens: int, nsp_rows: int) -> "Losses":
        """Return what these losses are of the means over `mlm_tokens` tokens and `nsp_rows` rows, theirs among them."""
        return Losses(
            mlm=self.mlm * (self.mlm_tokens / max(mlm_tokens, 1)),
            mlm_tokens=self.mlm_tokens,
            nsp=self.nsp * (self.nsp_rows / nsp_rows),
            nsp_rows=self.nsp_rows,
        )

    def __add__(self, other: "Losses") -> "Losses":
        """Return the losses of two shares together."""
        return Losses(
            mlm=self.mlm + other.mlm,
            mlm_tokens=self.mlm_tokens + other.mlm_tokens,
            nsp=self.nsp + other.nsp,
            nsp_rows=self.nsp_rows + other.nsp_rows,
        )

    def detach(self) -> "Losses":
        """Return the losses without their graph."""
        return Losses(mlm=self.mlm.detach(), mlm_tokens=self.mlm_tokens, nsp=self.nsp.detach(), nsp_rows=self.nsp_rows)


class PretrainingObjective(nn.Module):
    """Wraps `Bert`; its forward gives the losses of a batch."""

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, batch: Batch) -> Losses:
        """Return the losses; last layer and heads run at `[CLS]` and at supervised positions only."""
        wanted = Wanted(positions=batch.head_positions, slots=batch.head_slots)
        hidden = self.bert(batch.token_ids, batch.lengths, batch.second_segment_start, wanted, padded=batch.padded)
        tokens, rows = len(batch.masked_labels), batch.rows
        mlm = self.bert.mlm_loss(hidden[rows:], batch.masked_labels, scale=1 / max(tokens, 1))
        nsp = F.cross_entropy(self.bert.nsp_logits(hidden[:rows, None]), batch.is_next)
        return Losses(mlm=mlm, mlm_tokens=tokens, nsp=nsp, nsp_rows=rows)
