"""How much each token attends to each other, in every layer and head."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertpipe.inference.engine import Row
from bertpipe.model.bert import Bert
from bertpipe.model.encoder import EncoderLayer


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadHabits:
    """The share of its attention that a head gives to some tokens, as a mean over all tokens that attend."""

    layer: int
    """Counted from 1, as is the head."""
    head: int
    to_first: float
    """To `[CLS]`."""
    to_separators: float
    to_itself: float
    to_previous: float
    to_next: float


def attention_of(bert: Bert, row: Row) -> NDArray[np.float64]:
    """Return the weights of one row, [layers, heads, seq, seq]: from each token to each, each row's sum is one."""
    device = bert.embeddings.token.weight.device
    weights: list[Tensor] = []

    def look(layer: EncoderLayer, hidden: Tensor, mask: Tensor | None) -> None:
        weights.append(layer.attention_weights(hidden, mask)[0])

    ids, length, start = (
        torch.tensor(values, device=device)
        for values in ([list(row.token_ids)], [len(row.token_ids)], [row.second_segment_start])
    )
    with torch.inference_mode():
        bert(ids, length, start, on_layer=look)
    return torch.stack(weights).double().cpu().numpy()


def head_habits(weights: NDArray[np.float64], separators: NDArray[np.bool_]) -> list[HeadHabits]:
    """Return what each head attends to, layer after layer.

    Args:
        weights: of one row, [layers, heads, seq, seq].
        separators: whether each token is `[SEP]`, [seq].
    """
    diagonals = [np.trace(weights, offset=offset, axis1=2, axis2=3) / weights.shape[2] for offset in (0, -1, 1)]
    first, among = weights[..., 0].mean(axis=-1), weights[..., separators].sum(axis=-1).mean(axis=-1)
    layers, heads = weights.shape[:2]
    return [
        HeadHabits(
            layer=layer + 1,
            head=head + 1,
            to_first=float(first[layer, head]),
            to_separators=float(among[layer, head]),
            to_itself=float(diagonals[0][layer, head]),
            to_previous=float(diagonals[1][layer, head]),
            to_next=float(diagonals[2][layer, head]),
        )
        for layer in range(layers)
        for head in range(heads)
    ]
