"""The encoder: attention and feed-forward layers.

Shapes in this file: batch (rows), seq (tokens per row, with padding), hidden (`embedding_dim`), heads, head_size
(hidden / heads).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertpipe.core.params import ModelParams
from bertpipe.model.architecture import ARCHITECTURES
from bertpipe.model.dropout import Dropout
from bertpipe.model.rotary import Rotary

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}
"""Each value of `model.activation`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryPositions:
    """Positions of a batch whose output is needed: the last layer's queries. Their keys are still all positions."""

    positions: Tensor
    """Positions in each row, [batch, queries]; rows that need fewer are filled up with any."""
    flat_index: Tensor
    """Which of them are needed, as indices into the flattened [batch * queries]; shape [needed]."""


class EncoderLayer(nn.Module):
    """Transformer layer: attention, then feed-forward, each added to its input.

    Post-norm (Vaswani et al. 2017) normalises each sum, pre-norm (Xiong et al. 2020) each input. `first` is whether no
    other layer is below: with rotary positions its input was normalised with the embeddings, as in ModernBERT.
    """

    def __init__(self, params: ModelParams, *, first: bool = False) -> None:
        super().__init__()
        hidden, architecture = params.embedding_dim, ARCHITECTURES[params.architecture]
        linear = partial(nn.Linear, bias=architecture.bias)
        norm = partial(nn.LayerNorm, hidden, eps=params.epsilon, bias=architecture.bias)
        self.heads = params.heads
        self.pre_norm = architecture.pre_norm
        self.query_key_value = linear(hidden, 3 * hidden)
        self.rotary = (
            Rotary(params.max_positions, hidden // params.heads, params.rotary_base) if architecture.rotary else None
        )
        self.attention_dropout = Dropout(params.dropout)
        self.attention_output = linear(hidden, hidden)
        self.attention_norm = nn.Identity() if architecture.rotary and first else norm()
        self.feed_forward_in = linear(hidden, params.feed_forward_dim * (2 if architecture.gated else 1))
        self.gated = architecture.gated
        self.activation = ACTIVATIONS[params.activation_name]
        self.feed_forward_dropout = Dropout(params.dropout) if architecture.feed_forward_dropout else nn.Identity()
        self.feed_forward_out = linear(params.feed_forward_dim, hidden)
        self.feed_forward_norm = norm()
        self.dropout = Dropout(params.dropout)

    def forward(self, hidden: Tensor, mask: Tensor | None, queries: QueryPositions | None = None) -> Tensor:
        """Return the layer's output [batch, seq, hidden], or [needed, hidden] at the query positions only.

        `mask` is as from `attention_mask`.
        """
        query, key, value = self.split_heads(hidden, queries)
        mixed = self.attend(query, key, value, mask).transpose(1, 2).flatten(2)
        if queries is not None:
            mixed = mixed.flatten(0, 1)[queries.flat_index]
            hidden = _at(hidden, queries).flatten(0, 1)[queries.flat_index]
        hidden = self.dropout.add(self.attention_output(mixed), to=hidden)
        if self.pre_norm:
            return self.dropout.add(self.feed_forward(self.feed_forward_norm(hidden)), to=hidden)
        hidden = self.attention_norm(hidden)
        output: Tensor = self.feed_forward_norm(self.dropout.add(self.feed_forward(hidden), to=hidden))
        return output

    def feed_forward(self, hidden: Tensor) -> Tensor:
        """Return what the feed-forward block makes of hidden states [..., hidden]; the same shape."""
        inner = self.feed_forward_in(hidden)
        if self.gated:
            value, gate = inner.chunk(2, dim=-1)
            inner = self.activation(value) * gate
        else:
            inner = self.activation(inner)
        output: Tensor = self.feed_forward_out(self.feed_forward_dropout(inner))
        return output

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Return the values mixed by attention, [batch, heads, queries, head_size]."""
        rate = self.attention_dropout.rate if self.training else 0.0
        if rate == 0.0 or query.device.type != "cpu":
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate)
        # PyTorch has no fused attention with dropout for the CPU.
        weights: Tensor = self.attention_dropout(_attention_weights(query, key, mask))
        return weights @ value

    def split_heads(self, hidden: Tensor, queries: QueryPositions | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of the layer's input, each [batch, heads, seq, head_size].

        With `queries` there are queries at these positions only, [batch, heads, queries, head_size].
        """
        if self.pre_norm:
            hidden = self.attention_norm(hidden)
        positions = None
        if queries is None:
            query, key, value = _split(self.query_key_value(hidden), 3, self.heads)
        else:
            positions, width = queries.positions, hidden.shape[-1]
            weight, bias = self.query_key_value.weight, self.query_key_value.bias
            first, others = (None, None) if bias is None else (bias[:width], bias[width:])
            (query,) = _split(F.linear(_at(hidden, queries), weight[:width], first), 1, self.heads)
            key, value = _split(F.linear(hidden, weight[width:], others), 2, self.heads)
        if self.rotary is not None:
            query, key = self.rotary(query, positions), self.rotary(key)
        return query, key, value

    def attention_weights(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Return how much each token attends to each other, [batch, heads, seq, seq]; each row sums to one."""
        query, key, _ = self.split_heads(hidden)
        return _attention_weights(query, key, mask)


def _split(projected: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    batch, seq, _ = projected.shape
    return projected.view(batch, seq, parts, heads, -1).permute(2, 0, 3, 1, 4).unbind()


def _at(hidden: Tensor, queries: QueryPositions) -> Tensor:
    """Return the hidden states at the query positions, [batch, queries, hidden]."""
    return hidden.gather(1, queries.positions[:, :, None].expand(-1, -1, hidden.shape[-1]))


def _attention_weights(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores + torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, float("-inf"))
    weights: Tensor = scores.softmax(dim=-1)
    return weights


def attention_mask(lengths: Tensor, seq: int, *, padded: bool | None = None) -> Tensor | None:
    """Return which keys may be attended to, [batch, 1, 1, seq]; None if no row has padding.

    If the caller does not know of padding (`padded` None), the lengths are read on a CPU; on a GPU that would have to
    wait, so the mask is always built. With a mask, a GPU computes attention by the memory-efficient kernel of
    `scaled_dot_product_attention` or by cuDNN's; FlashAttention takes no mask, so it needs a batch without padding.
    """
    if padded is None and lengths.device.type == "cpu" and int(lengths.min()) == seq:
        return None
    real = torch.arange(seq, device=lengths.device) < lengths[:, None]
    return real[:, None, None, :]
