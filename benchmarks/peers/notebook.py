"""The course notebook's training loop, rewritten from its description, with its faults where they cost time.

Every position goes through the vocabulary head, padding included; the token embedding is added twice, with two
dropouts; Adam is not fused; the loss is read back twice a step. Reading the CSV, which the notebook does again for
every row of every epoch, is left out: the rows are handed over as tensors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

PAD, LONGEST = 0, 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class NotebookRow:
    """One row in the notebook's layout, where each half is padded to the longer half; all tensors are [seq]."""

    inputs: Tensor
    labels: Tensor
    segments: Tensor
    is_next: int


class NotebookBert(nn.Module):
    """The notebook's network; tensors are [seq, batch]."""

    def __init__(self, *, vocab_size: int, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.token = nn.Embedding(vocab_size, width)
        self.segment = nn.Embedding(3, width)
        angle = torch.arange(LONGEST)[:, None] * torch.exp(-torch.arange(0, width, 2) * math.log(10000) / width)
        position = torch.zeros(LONGEST, 1, width)
        position[:, 0, 0::2], position[:, 0, 1::2] = angle.sin(), angle.cos()
        self.register_buffer("position", position)
        self.position_dropout = nn.Dropout(dropout)
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(width, heads, dropout=dropout)
        self.unused_layer = layer  # registered, copied by the encoder, never called
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.next_sentence = nn.Linear(width, 2)
        self.masked_language = nn.Linear(width, vocab_size)

    def forward(self, inputs: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
        """Return NSP logits [batch, 2] and MLM logits [seq, batch, vocab]."""
        token = self.token(inputs) * math.sqrt(self.width)
        positional = self.position_dropout(token + self.position[: len(inputs)])
        embedded = self.dropout(token + positional + self.segment(segments))
        hidden = self.encoder(embedded, src_key_padding_mask=(inputs == PAD).T)
        return self.next_sentence(hidden[0]), self.masked_language(hidden)


class NotebookLoop:
    """The notebook's loop over batches of rows."""

    def __init__(self, *, vocab_size: int, width: int = 10, layers: int = 2, heads: int = 2) -> None:
        self.model = NotebookBert(vocab_size=vocab_size, width=width, layers=layers, heads=heads, dropout=0.1)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, weight_decay=0.01, betas=(0.9, 0.999))
        self.total_loss = 0.0
        self.model.train()

    def step(self, rows: Sequence[NotebookRow]) -> None:
        """Collate the rows and take one step."""
        inputs = pad_sequence([row.inputs for row in rows], padding_value=PAD)
        labels = pad_sequence([row.labels for row in rows], padding_value=PAD)
        segments = pad_sequence([row.segments for row in rows], padding_value=PAD)
        is_next = torch.tensor([row.is_next for row in rows])
        self.optimizer.zero_grad()
        next_sentence, masked_language = self.model(inputs, segments)
        next_loss = nn.functional.cross_entropy(next_sentence, is_next)
        mask_loss = nn.functional.cross_entropy(
            masked_language.view(-1, masked_language.size(-1)), labels.view(-1), ignore_index=PAD
        )
        loss = next_loss + mask_loss
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=1.0)
        self.optimizer.step()
        self.total_loss += loss.item()
        if not torch.isnan(loss):
            self.total_loss += loss.item()
