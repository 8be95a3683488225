"""The pretraining objective: BERT with its two losses, as sums and counts."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from bertpipe.data.batching import Batch
from bertpipe.model.bert import Bert


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSums:
    """Losses of one batch in nats, added up over what they are counted over; sums of many batches just add."""

    mlm: Tensor
    """Sum over supervised tokens; a scalar, zero where there are none."""
    mlm_tokens: int
    nsp: Tensor
    """Sum over rows; a scalar."""
    nsp_rows: int

    def loss(self, *, nsp_weight: float) -> Tensor:
        """Return mean MLM loss + `nsp_weight` times mean NSP loss; no supervised token contributes zero, not NaN."""
        return self.mlm / max(self.mlm_tokens, 1) + nsp_weight * self.nsp / max(self.nsp_rows, 1)


class PretrainingObjective(nn.Module):
    """Wraps `Bert`; its forward gives the loss sums of a batch, the unit that data-parallel training adds up."""

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, batch: Batch) -> LossSums:
        """Return the loss sums; the vocabulary head runs at supervised positions only."""
        hidden = self.bert(batch.token_ids, batch.lengths, batch.second_segment_start)
        masked = hidden.flatten(0, 1)[batch.masked_positions]
        mlm = F.cross_entropy(self.bert.mlm_logits(masked), batch.masked_labels, reduction="sum")
        nsp = F.cross_entropy(self.bert.nsp_logits(hidden), batch.is_next, reduction="sum")
        return LossSums(mlm=mlm, mlm_tokens=len(batch.masked_labels), nsp=nsp, nsp_rows=batch.rows)
