"""The first weights of a network."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bertpipe.core.params import ModelParams
from bertpipe.data.tokenization.tokenizer import CLS_ID
from bertpipe.model.architecture import ARCHITECTURES
from bertpipe.model.embeddings import sinusoidal_positions

if TYPE_CHECKING:
    from bertpipe.model.bert import Bert

_BERT_INIT_STD, _BERT_HIDDEN = 0.02, 768
_POSITIONS_SCALE = 3.0
"""Root mean square of the first positions, in units of the tokens'."""
_QUERY_KEY = 0.5
"""What the product of the first query and key matrices is, times the identity."""
_SMALL_HEAD = 0.1
_FAST = 0.05
"""Radians a token from which a rotation tells near distances apart."""
_SHARPNESS = 1.5
"""Attention's score for each fast rotation at the distance where a head looks; 3 is as good."""


def initialise(bert: "Bert") -> None:
    """Draw the first weights of all architectures but `notebook`.

    Matrices are normal with the published standard deviation, scaled to the width so that a narrow layer has the gain
    of the published one. Some things differ:

    - The MLM transform starts as the identity. With a tied decoder the hidden state of a token that is not masked then
      already points to that token (docs/explanation/adr/0004-a-start-near-the-answer.md).
    - Attention's values start at their own scale: through an orthogonal matrix and back through its transpose (compare
      Trockman and Kolter 2023, "Mimetic initialization of self-attention layers"). Otherwise `[CLS]` gathers too little
      beside its own embedding, and NSP stays at chance for tens of thousands of steps on narrow networks
      (docs/explanation/adr/0003-initial-weights.md).
    - The pooler and the NSP head have unit gain, so that their gradient reaches the encoder. With pre-norm the head is
      smaller, because at first that gradient is noise, which Muon makes as large as any other.
    - With pre-norm the last matrix of a feed-forward block is smaller by the root of the number of sums (GPT-2).
    - With `initialization: mimetic` tokens attend to their neighbours from the first step on, see `_look_nearby`.
    """
    hidden, params = bert.params.embedding_dim, bert.params
    std = _BERT_INIT_STD * math.sqrt(_BERT_HIDDEN / hidden)
    for module in bert.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        for layer in bert.encoder_layers():
            rotation = nn.init.orthogonal_(torch.empty(hidden, hidden))
            layer.query_key_value.weight[2 * hidden :] = rotation
            layer.attention_output.weight.copy_(rotation.T)
            if layer.pre_norm:
                layer.feed_forward_out.weight.mul_((2 * params.layers) ** -0.5)
    for dense in (bert.pooler, None if bert.nsp_transform is None else bert.nsp_transform.dense):
        if dense is not None:
            nn.init.orthogonal_(dense.weight)
    if bert.mlm_transform is not None:
        nn.init.eye_(bert.mlm_transform.dense.weight)
    gain = _SMALL_HEAD if ARCHITECTURES[params.architecture].pre_norm else 1.0
    nn.init.normal_(bert.nsp_head.weight, std=gain * hidden**-0.5)
    if params.initialization == "mimetic":
        _look_nearby(bert, std)


def _look_nearby(bert: "Bert", std: float) -> None:
    """Make tokens attend to their neighbours from the first step on.

    With learned positions: these get the form of sinusoids, and queries equal keys. With rotary positions: all token
    embeddings get a common part, which queries and keys turn into a vector that peaks at one distance: the heads of the
    first layer look at the tokens right before and right after, those of later layers one token further each. Only
    `[CLS]` gets none of it, so that it gathers from all tokens alike: with it NSP stays at chance for longer.
    """
    hidden, embeddings = bert.params.embedding_dim, bert.embeddings
    position = getattr(embeddings, "position", None)
    common = nn.functional.normalize(torch.randn(hidden), dim=0)
    with torch.no_grad():
        if position is None:
            table = embeddings.token.weight
            table.add_(common * std * math.sqrt(hidden))  # as large as the rest of an embedding
            table[CLS_ID] -= common * (common @ table[CLS_ID])
        else:
            sinusoids = sinusoidal_positions(*position.weight.shape)
            position.weight.copy_(
                sinusoids * (_POSITIONS_SCALE * std * math.sqrt(2))
            )  # a sinusoid's own is 1 / sqrt(2)
        for number, layer in enumerate(bert.encoder_layers()):
            query, key = layer.query_key_value.weight[: 2 * hidden].chunk(2)
            if position is None:
                towards, found = _peak(bert.params, number)
                query += towards[:, None] * common
                key += found[:, None] * common
            else:
                rotation = nn.init.orthogonal_(torch.empty(hidden, hidden)) * math.sqrt(_QUERY_KEY)
                query.copy_(rotation)
                key.copy_(rotation)


def _peak(params: ModelParams, layer: int) -> tuple[Tensor, Tensor]:
    """Return what queries and keys [hidden] get of the common part of tokens, for a layer counted from 0.

    A head's query has 1 where the rotation is fast, and its key the same turned back by the head's distance, so that
    their product, the sum of cosines of what is left of the angle, is largest at that distance.
    """
    size = params.embedding_dim // params.heads
    half = size // 2
    angle = params.rotary_base ** (-torch.arange(half) / half)
    fast = (angle >= _FAST).float()
    distance = torch.tensor(
        [(1 + head // 2 + layer) * (1 if head % 2 else -1) for head in range(params.heads)], dtype=torch.float32
    )
    turn = distance[:, None] * angle
    query = torch.cat([fast, torch.zeros(half)]).expand(params.heads, -1)
    key = torch.cat([fast * turn.cos(), -fast * turn.sin()], dim=1)
    # After the norm the common part is half of a token's square, hidden / 2.
    gain = math.sqrt(_SHARPNESS * math.sqrt(size) / (params.embedding_dim / 2))
    return gain * query.flatten(), gain * key.flatten()


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
