"""Hugging Face's networks, and a plain training loop around one, through their public interface alone.

Batches hold rows as they come, padded to the longest. Optimizer and clipping are those of its Trainer: fused AdamW
and a gradient norm of 1.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from bertpipe.data.tokenization.tokenizer import CLS_ID, PAD_ID, SEP_ID

IGNORE_INDEX = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class HuggingFaceBatch:
    """A padded batch; `input_ids`, `attention_mask`, `token_type_ids` and `labels` are [batch, seq]."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    labels: Tensor
    next_sentence_label: Tensor
    """0 where B follows A; shape [batch]."""

    def to(self, device: torch.device) -> "HuggingFaceBatch":
        """Return the batch on a device."""
        return HuggingFaceBatch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def bert_for_pretraining(vocab_size: int, *, width: int, layers: int, heads: int, longest: int) -> Any:  # noqa: ANN401
    """Return `BertForPreTraining` as it comes, at another size."""
    from transformers import BertConfig, BertForPreTraining  # noqa: PLC0415

    config = BertConfig(
        vocab_size=vocab_size, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * width, max_position_embeddings=longest,
    )  # fmt: skip
    return BertForPreTraining(config)


def modernbert_for_masked_lm(vocab_size: int, *, width: int, layers: int, heads: int, longest: int) -> Any:  # noqa: ANN401
    """Return `ModernBertForMaskedLM` as it comes, at another size."""
    from transformers import ModernBertConfig, ModernBertForMaskedLM  # noqa: PLC0415

    config = ModernBertConfig(
        vocab_size=vocab_size, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=2 * width, max_position_embeddings=longest, pad_token_id=PAD_ID, cls_token_id=CLS_ID,
        sep_token_id=SEP_ID, bos_token_id=CLS_ID, eos_token_id=SEP_ID,
    )  # fmt: skip
    return ModernBertForMaskedLM(config)


class HuggingFaceLoop:
    """The plain loop around `BertForPreTraining`; compiled, where a backend of torch.compile is given."""

    def __init__(
        self, *, vocab_size: int, width: int, layers: int, heads: int, longest: int, learning_rate: float = 1e-4,
        device: str = "cpu", compile_backend: str | Callable[..., Any] | None = None,
    ) -> None:  # fmt: skip
        self.device = torch.device(device)
        self.model = bert_for_pretraining(vocab_size, width=width, layers=layers, heads=heads, longest=longest)
        self.model.to(self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=learning_rate, weight_decay=0.01, fused=True)
        self.model.train()
        if compile_backend is not None:
            self.model.compile(backend=compile_backend, dynamic=False)

    def step(self, batch: HuggingFaceBatch) -> None:
        """Take one step."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = self.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def loss(self, batch: HuggingFaceBatch) -> Tensor:
        """Return the sum of the mean MLM and the mean NSP loss."""
        loss: Tensor = self.model(
            input_ids=batch.input_ids.to(self.device),
            attention_mask=batch.attention_mask.to(self.device),
            token_type_ids=batch.token_type_ids.to(self.device),
            labels=batch.labels.to(self.device),
            next_sentence_label=batch.next_sentence_label.to(self.device),
        ).loss
        return loss
