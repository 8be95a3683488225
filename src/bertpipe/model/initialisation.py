"""The first weights of a network."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from bertpipe.model.embeddings import sinusoidal_positions

if TYPE_CHECKING:
    from bertpipe.model.bert import Bert

_BERT_INIT_STD, _BERT_HIDDEN = 0.02, 768
_POSITIONS_SCALE = 3.0
"""Root mean square of the first positions, in units of the tokens'."""
_QUERY_KEY = 0.5
"""What the product of the first query and key matrices is, times the identity."""


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
    - The pooler and the NSP head have unit gain, so that their gradient reaches the encoder.
    - With pre-norm the last matrix of a feed-forward block is smaller by the root of the number of sums (GPT-2).
    - With `initialization: mimetic` positions start as sinusoids, larger than tokens, and queries as their keys, so
      that a token attends to its neighbours from the first step on.
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
    nn.init.normal_(bert.nsp_head.weight, std=hidden**-0.5)
    if params.initialization == "mimetic":
        _look_nearby(bert, std)


def _look_nearby(bert: "Bert", std: float) -> None:
    """Give positions the form of sinusoids, and make queries equal to keys."""
    hidden, positions = bert.params.embedding_dim, getattr(bert.embeddings, "position", None)
    with torch.no_grad():
        if positions is not None:
            table = sinusoidal_positions(*positions.weight.shape)
            positions.weight.copy_(table * (_POSITIONS_SCALE * std * math.sqrt(2)))  # a sinusoid's own is 1 / sqrt(2)
        for layer in bert.encoder_layers():
            rotation = nn.init.orthogonal_(torch.empty(hidden, hidden)) * math.sqrt(_QUERY_KEY)
            layer.query_key_value.weight[:hidden] = rotation
            layer.query_key_value.weight[hidden : 2 * hidden] = rotation


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
