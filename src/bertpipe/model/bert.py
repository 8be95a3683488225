"""All of BERT: embeddings, encoder, and the heads for masked-language modelling and next-sentence prediction.

Shapes in this file: batch (rows), seq (tokens per row, with padding), hidden (`embedding_dim`), heads, head_size
(hidden / heads), masked (supervised tokens of the batch), vocab.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bertpipe.core.params import ModelParams
from bertpipe.model.dropout import Dropout
from bertpipe.model.vocabulary_loss import vocabulary_loss

Head = Literal["mlm", "nsp"]
"""A task that the network is trained on, and the part that answers it."""
_BERT_INIT_STD, _BERT_HIDDEN = 0.02, 768
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryPositions:
    """Positions of a batch whose output is needed: the last layer's queries. Their keys are still all positions."""

    positions: Tensor
    """Positions in each row, [batch, queries]; rows that need fewer are filled up with any."""
    flat_index: Tensor
    """Which of them are needed, as indices into the flattened [batch * queries]; shape [needed]."""


class Bert(nn.Module):
    """BERT with both heads, in one of the documented `ARCHITECTURES`.

    `bert` is the published network (Devlin et al. 2018): learned positions, LayerNorm and dropout on the summed
    embeddings, a post-norm encoder with GELU, a tanh pooler before the NSP head, a transform before the decoder.

    `notebook` is the course notebook's network, corrected: token embedding times the square root of its width,
    sinusoidal positions, three segments (padding, A, B), a post-norm encoder with ReLU, one plain linear layer for
    each head, and dropout on the sum once.

    The NSP head has two classes; class 1 means that B really follows A.

    With `init_weights` false the weights are not initialised and no random number is drawn: load all of them before
    use.
    """

    def __init__(self, params: ModelParams, vocab_size: int, *, init_weights: bool = True) -> None:
        super().__init__()
        self.params = params
        self.vocab_size = vocab_size
        architecture = ARCHITECTURES[params.architecture]
        hidden = params.embedding_dim
        with nullcontext() if init_weights else no_init():
            self.embeddings = architecture.embeddings(params, vocab_size)
            self.layers = nn.ModuleList(EncoderLayer(params) for _ in range(params.layers))
            self.pooler = nn.Linear(hidden, hidden) if architecture.dense_heads else None
            self.nsp_head = nn.Linear(hidden, 2)
            self.mlm_transform = MlmTransform(params) if architecture.dense_heads else None
            self.mlm_decoder = nn.Linear(hidden, vocab_size)
        if architecture.bert_init and init_weights:
            _initialise(self)
        if params.tied:
            self.mlm_decoder.weight = self.embeddings.token.weight

    def forward(
        self,
        token_ids: Tensor,
        lengths: Tensor,
        second_segment_start: Tensor,
        queries: QueryPositions | None = None,
        *,
        padded: bool | None = None,
        on_layer: "Callable[[EncoderLayer, Tensor, Tensor | None], None] | None" = None,
    ) -> Tensor:
        """Return the encoder's output.

        Args:
            token_ids: ids, shape [batch, seq].
            lengths: tokens of each row without padding, shape [batch].
            second_segment_start: position of the first token of B in each row, shape [batch].
            queries: the positions whose output is needed; the last layer is computed there only.
            padded: whether a row has padding, so that attention needs a mask; None if the caller does not know.
            on_layer: called with each layer, its input [batch, seq, hidden] and the attention mask, before it runs.

        Returns:
            Hidden states, shape [batch, seq, hidden], meaningless at padding; or [needed, hidden] of the queries.
        """
        hidden: Tensor = self.embeddings(token_ids, lengths, second_segment_start)
        mask = None if padded is False else attention_mask(lengths, token_ids.shape[1], padded=padded)
        *lower, last = self.encoder_layers()
        for layer in lower:
            if on_layer is not None:
                on_layer(layer, hidden, mask)
            hidden = layer(hidden, mask)
        if on_layer is not None:
            on_layer(last, hidden, mask)
        output: Tensor = last(hidden, mask, queries)
        return output

    def encoder_layers(self) -> "Iterator[EncoderLayer]":
        """Yield the encoder's layers, first to last."""
        for layer in self.layers:
            assert isinstance(layer, EncoderLayer)
            yield layer

    def mlm_logits(self, hidden: Tensor) -> Tensor:
        """Return vocabulary logits [..., vocab] for hidden states [..., hidden]; pass just the positions needed."""
        logits: Tensor = self.mlm_decoder(self._decoder_input(hidden))
        return logits

    def mlm_loss(self, hidden: Tensor, labels: Tensor, *, scale: Tensor, some_ignored: bool = False) -> Tensor:
        """Return `scale` times the summed MLM loss of hidden states [masked, hidden] against labels [masked], in nats.

        Equal to the cross-entropy of `mlm_logits`, and faster: see `bertpipe.model.vocabulary_loss`.
        """
        decoder = self.mlm_decoder
        inputs = self._decoder_input(hidden)
        return vocabulary_loss(inputs, decoder.weight, decoder.bias, labels, scale, some_ignored=some_ignored)

    def _decoder_input(self, hidden: Tensor) -> Tensor:
        return hidden if self.mlm_transform is None else self.mlm_transform(hidden)

    def init_mlm_bias(self, counts: Tensor) -> None:
        """Set the MLM decoder's bias to the log frequencies of counts [vocab], each plus one.

        Untrained logits near zero then predict each token by its frequency, the best constant, and training does not
        have to learn the frequencies of the whole vocabulary first.
        """
        counts = counts.double() + 1
        with torch.no_grad():
            self.mlm_decoder.bias.copy_((counts / counts.sum()).log())

    def nsp_logits(self, hidden: Tensor) -> Tensor:
        """Return NSP logits [batch, 2] (not next, next) from all hidden states [batch, seq, hidden]."""
        first = hidden[:, 0]
        if self.pooler is not None:
            first = torch.tanh(self.pooler(first))
        logits: Tensor = self.nsp_head(first)
        return logits


class Embeddings(nn.Module):
    """The sum of token, position and segment embeddings, then `norm` and dropout."""

    token: nn.Embedding
    norm: nn.Module

    def __init__(self, params: ModelParams, _vocab_size: int) -> None:
        super().__init__()
        self.tied = params.tied
        self.dropout = Dropout(params.dropout)

    def parts(self, token_ids: Tensor, lengths: Tensor, second_segment_start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three summands: token, position and segment embeddings, each [batch, seq, hidden]."""
        raise NotImplementedError

    def forward(self, token_ids: Tensor, lengths: Tensor, second_segment_start: Tensor) -> Tensor:
        """Return the embedded input [batch, seq, hidden]."""
        token, position, segment = self.parts(token_ids, lengths, second_segment_start)
        embedded: Tensor = self.dropout(self.norm(token + position + segment))
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

    def parts(self, token_ids: Tensor, lengths: Tensor, second_segment_start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three summands: token, position and segment embeddings, each [batch, seq, hidden]."""
        positions = torch.arange(token_ids.shape[1], device=token_ids.device)
        segments = (positions >= second_segment_start[:, None]) & (positions < lengths[:, None])
        position = self.position(positions).expand(*token_ids.shape, -1)
        return self.embed_tokens(token_ids), position, self.segment(segments.long())


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

    def parts(self, token_ids: Tensor, lengths: Tensor, second_segment_start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three summands: token, position and segment embeddings, each [batch, seq, hidden]."""
        positions = torch.arange(token_ids.shape[1], device=token_ids.device)
        real = positions < lengths[:, None]
        segments = real.long() + (real & (positions >= second_segment_start[:, None])).long()
        token = self.embed_tokens(token_ids) * math.sqrt(self.token.embedding_dim)
        position = self.get_buffer("position")[: token_ids.shape[1]].expand_as(token)
        return token, position, self.segment(segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What one architecture has that another has not."""

    embeddings: type[Embeddings]
    feed_forward_dropout: bool
    """Whether there is dropout between the two feed-forward matrices."""
    dense_heads: bool
    """Whether the NSP head has a pooler, and the MLM head a transform, before its last matrix."""
    bert_init: bool
    """Whether the first weights are those of `_initialise`, not PyTorch's own."""


ARCHITECTURES = {
    "bert": Architecture(embeddings=BertEmbeddings, feed_forward_dropout=False, dense_heads=True, bert_init=True),
    # PyTorch's encoder layer, which the notebook uses, has that dropout.
    "notebook": Architecture(
        embeddings=NotebookEmbeddings, feed_forward_dropout=True, dense_heads=False, bert_init=False
    ),
}
"""Each value of `model.architecture`."""


class EncoderLayer(nn.Module):
    """Post-norm transformer layer: attention, add, norm; feed-forward, add, norm (Vaswani et al. 2017)."""

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        hidden, architecture = params.embedding_dim, ARCHITECTURES[params.architecture]
        self.heads = params.heads
        self.query_key_value = nn.Linear(hidden, 3 * hidden)
        self.attention_dropout = Dropout(params.dropout)
        self.attention_output = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden, eps=params.epsilon)
        self.feed_forward_in = nn.Linear(hidden, params.feed_forward_dim)
        self.activation = _ACTIVATIONS[params.activation_name]
        self.feed_forward_dropout = Dropout(params.dropout) if architecture.feed_forward_dropout else nn.Identity()
        self.feed_forward_out = nn.Linear(params.feed_forward_dim, hidden)
        self.feed_forward_norm = nn.LayerNorm(hidden, eps=params.epsilon)
        self.dropout = Dropout(params.dropout)

    def forward(self, hidden: Tensor, mask: Tensor | None, queries: QueryPositions | None = None) -> Tensor:
        """Return the layer's output [batch, seq, hidden], or [needed, hidden] at the query positions only.

        `mask` is as from `attention_mask`.
        """
        query, key, value = self.split_heads(hidden) if queries is None else self.split_heads_at(hidden, queries)
        mixed = self.attend(query, key, value, mask).transpose(1, 2).flatten(2)
        if queries is not None:
            mixed = mixed.flatten(0, 1)[queries.flat_index]
            hidden = _at(hidden, queries).flatten(0, 1)[queries.flat_index]
        hidden = self.attention_norm(self.dropout.add(self.attention_output(mixed), to=hidden))
        inner = self.feed_forward_dropout(self.activation(self.feed_forward_in(hidden)))
        output: Tensor = self.feed_forward_norm(self.dropout.add(self.feed_forward_out(inner), to=hidden))
        return output

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Return the values mixed by attention, [batch, heads, queries, head_size]."""
        rate = self.attention_dropout.rate if self.training else 0.0
        if rate == 0.0 or query.device.type != "cpu":
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate)
        # PyTorch has no fused attention with dropout for the CPU.
        weights: Tensor = self.attention_dropout(_attention_weights(query, key, mask))
        return weights @ value

    def split_heads(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each [batch, heads, seq, head_size]."""
        query, key, value = _split(self.query_key_value(hidden), 3, self.heads)
        return query, key, value

    def split_heads_at(self, hidden: Tensor, queries: QueryPositions) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries at the query positions only [batch, heads, queries, head_size], and all keys and values."""
        width = hidden.shape[-1]
        weight, bias = self.query_key_value.weight, self.query_key_value.bias
        (query,) = _split(F.linear(_at(hidden, queries), weight[:width], bias[:width]), 1, self.heads)
        key, value = _split(F.linear(hidden, weight[width:], bias[width:]), 2, self.heads)
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


class MlmTransform(nn.Module):
    """The MLM head's dense layer, activation and LayerNorm, before the decoder."""

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        hidden = params.embedding_dim
        self.activation = _ACTIVATIONS[params.activation_name]
        self.dense = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden, eps=params.epsilon)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return transformed states of the same shape [..., hidden]."""
        transformed: Tensor = self.norm(self.activation(self.dense(hidden)))
        return transformed


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


def sinusoidal_positions(positions: int, hidden: int) -> Tensor:
    """Return fixed position embeddings [positions, hidden] (Vaswani et al. 2017, section 3.5), odd widths included."""
    frequency = torch.exp(torch.arange(0, hidden, 2, dtype=torch.float64) * (-math.log(10000.0) / hidden))
    angle = torch.arange(positions, dtype=torch.float64)[:, None] * frequency
    table = torch.zeros(positions, hidden, dtype=torch.float64)
    table[:, 0::2] = torch.sin(angle)
    table[:, 1::2] = torch.cos(angle)[:, : hidden // 2]
    return table.to(torch.get_default_dtype())


def _initialise(bert: Bert) -> None:
    """Draw the first weights of the `bert` architecture.

    Matrices are normal with the published standard deviation, scaled to the width so that a narrow layer has the gain
    of the published one. Three things differ:

    - The MLM transform starts as the identity. With a tied decoder the hidden state of a token that is not masked then
      already points to that token (docs/explanation/adr/0004-a-start-near-the-answer.md).
    - Attention's values start at their own scale: through an orthogonal matrix and back through its transpose (compare
      Trockman and Kolter 2023, "Mimetic initialization of self-attention layers"). Otherwise `[CLS]` gathers too little
      beside its own embedding, and NSP stays at chance for tens of thousands of steps on narrow networks
      (docs/explanation/adr/0003-initial-weights.md).
    - The pooler and the NSP head have unit gain, so that their gradient reaches the encoder.
    """
    hidden = bert.params.embedding_dim
    for module in bert.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=_BERT_INIT_STD * math.sqrt(_BERT_HIDDEN / hidden))
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        for layer in bert.encoder_layers():
            rotation = nn.init.orthogonal_(torch.empty(hidden, hidden))
            layer.query_key_value.weight[2 * hidden :] = rotation
            layer.attention_output.weight.copy_(rotation.T)
    if bert.pooler is not None:
        nn.init.orthogonal_(bert.pooler.weight)
    if bert.mlm_transform is not None:
        nn.init.eye_(bert.mlm_transform.dense.weight)
    nn.init.normal_(bert.nsp_head.weight, std=hidden**-0.5)


class no_init(TorchFunctionMode):  # noqa: N801 - it reads as `torch.no_grad` does
    """A context in which new modules are not initialised and no random number is drawn.

    Initialising BERT-base takes longer than reading its weights from a file.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Call a function of torch; those of `torch.nn.init` return their tensor unchanged instead."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def mean_pool(states: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean [batch, hidden] of hidden states [batch, seq, hidden] over each row's real tokens."""
    real = torch.arange(states.shape[1], device=states.device) < lengths[:, None]
    return (states * real[:, :, None]).sum(dim=1) / lengths[:, None]
