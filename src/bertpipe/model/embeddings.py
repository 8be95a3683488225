"""The embedded input of each architecture.

Shapes in this file: batch (rows), seq (tokens per row, with padding), hidden (`embedding_dim`).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertpipe.core.params import ModelParams
from bertpipe.model.dropout import Dropout


class Embeddings(nn.Module):
    """The sum of a token's embeddings, then `norm` and dropout."""

    token: nn.Embedding
    norm: nn.Module

    def __init__(self, params: ModelParams, _vocab_size: int) -> None:
        super().__init__()
        self.tied = params.tied
        self.dropout = Dropout(params.dropout)

    def parts(self, token_ids: Tensor, lengths: Tensor, second_segment_start: Tensor) -> dict[str, Tensor]:
        """Return the summands by name (token, position, segment), each [batch, seq, hidden]."""
        raise NotImplementedError

    def forward(self, token_ids: Tensor, lengths: Tensor, second_segment_start: Tensor) -> Tensor:
        """Return the embedded input [batch, seq, hidden]."""
        first, *others = self.parts(token_ids, lengths, second_segment_start).values()
        embedded: Tensor = self.dropout(self.norm(sum(others, first)))
        return embedded

    def embed_tokens(self, token_ids: Tensor) -> Tensor:
        """Return the token embeddings [batch, seq, hidden].

        With a tied matrix the decoder's gradient is there when this one's is computed. On a CPU this one is sparse, so
        that it is added at the batch's tokens only; a dense one would cost three passes over the vocabulary. A GPU
        would have to wait for a sparse one, and `torch.compile` supports dense ones only.
        """
        sparse = self.tied and token_ids.device.type == "cpu" and not torch.compiler.is_compiling()
        return F.embedding(token_ids, self.token.weight, sparse=sparse)


class BertEmbeddings(Embeddings):
    """Token + learned position + segment (A 0, B 1), then LayerNorm and dropout."""

    def __init__(self, params: ModelParams, vocab_size: int) -> None:
        super().__init__(params, vocab_size)
        self.token = nn.Embedding(vocab_size, params.embedding_dim)
        self.position = nn.Embedding(params.max_positions, params.embedding_dim)
        self.segment = nn.Embedding(2, params.embedding_dim)
        self.norm = nn.LayerNorm(params.embedding_dim, eps=params.epsilon)

    def parts(self, token_ids: Tensor, lengths: Tensor, second_segment_start: Tensor) -> dict[str, Tensor]:
        """Return the summands by name (token, position, segment), each [batch, seq, hidden]."""
        positions = torch.arange(token_ids.shape[1], device=token_ids.device)
        segments = (positions >= second_segment_start[:, None]) & (positions < lengths[:, None])
        position = self.position(positions).expand(*token_ids.shape, -1)
        return {"token": self.embed_tokens(token_ids), "position": position, "segment": self.segment(segments.long())}


class PreNormEmbeddings(BertEmbeddings):
    """The same without the LayerNorm: each layer normalises its input."""

    def __init__(self, params: ModelParams, vocab_size: int) -> None:
        super().__init__(params, vocab_size)
        self.norm = nn.Identity()


class ModernEmbeddings(Embeddings):
    """Tokens alone, then LayerNorm without bias and dropout; `[SEP]` shows where B begins."""

    def __init__(self, params: ModelParams, vocab_size: int) -> None:
        super().__init__(params, vocab_size)
        self.token = nn.Embedding(vocab_size, params.embedding_dim)
        self.norm = nn.LayerNorm(params.embedding_dim, eps=params.epsilon, bias=False)

    def parts(self, token_ids: Tensor, _lengths: Tensor, _second_segment_start: Tensor) -> dict[str, Tensor]:
        """Return the summands by name (token), each [batch, seq, hidden]."""
        return {"token": self.embed_tokens(token_ids)}


class NotebookEmbeddings(Embeddings):
    """Token times sqrt(hidden) + sinusoidal position + segment (padding 0, A 1, B 2), then dropout."""

    def __init__(self, params: ModelParams, vocab_size: int) -> None:
        super().__init__(params, vocab_size)
        hidden = params.embedding_dim
        self.token = nn.Embedding(vocab_size, hidden)
        self.segment = nn.Embedding(3, hidden)
        self.norm = nn.Identity()
        self.register_buffer("position", sinusoidal_positions(params.max_positions, hidden), persistent=False)
        if params.tied:
            # The matrix is the decoder too: rows of unit variance would give first logits of size hidden.
            nn.init.normal_(self.token.weight, std=hidden**-0.5)

    def parts(self, token_ids: Tensor, lengths: Tensor, second_segment_start: Tensor) -> dict[str, Tensor]:
        """Return the summands by name (token, position, segment), each [batch, seq, hidden]."""
        positions = torch.arange(token_ids.shape[1], device=token_ids.device)
        real = positions < lengths[:, None]
        segments = real.long() + (real & (positions >= second_segment_start[:, None])).long()
        token = self.embed_tokens(token_ids) * math.sqrt(self.token.embedding_dim)
        position = self.get_buffer("position")[: token_ids.shape[1]].expand_as(token)
        return {"token": token, "position": position, "segment": self.segment(segments)}


def sinusoidal_positions(positions: int, hidden: int) -> Tensor:
    """Return fixed position embeddings [positions, hidden] (Vaswani et al. 2017, section 3.5), odd widths included."""
    frequency = torch.exp(torch.arange(0, hidden, 2, dtype=torch.float64) * (-math.log(10000.0) / hidden))
    angle = torch.arange(positions, dtype=torch.float64)[:, None] * frequency
    table = torch.zeros(positions, hidden, dtype=torch.float64)
    table[:, 0::2] = torch.sin(angle)
    table[:, 1::2] = torch.cos(angle)[:, : hidden // 2]
    return table.to(torch.get_default_dtype())
