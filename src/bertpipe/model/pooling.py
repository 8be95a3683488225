"""One vector for a text from the states of its tokens."""

import torch
from torch import Tensor


def mean_states(states: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean [batch, hidden] of hidden states [batch, seq, hidden] over each row's real tokens."""
    real = torch.arange(states.shape[1], device=states.device) < lengths[:, None]
    return (states * real[:, :, None]).sum(dim=1) / lengths[:, None]
