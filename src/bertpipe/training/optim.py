"""The optimizer and the learning-rate schedule."""

import torch
from torch import nn

from bertpipe.params import TrainParams


def make_optimizer(module: nn.Module, train: TrainParams) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter 2019) that decays matrices and embeddings, not biases and LayerNorm."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": train.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    betas = (train.adam_beta1, train.adam_beta2)
    return torch.optim.AdamW(groups, lr=train.learning_rate, betas=betas, eps=train.adam_epsilon, fused=True)


def learning_rate(step: int, total_steps: int, train: TrainParams) -> float:
    """Return the learning rate of optimiser step `step`, counted from 1 to `total_steps`.

    It rises linearly over the warm-up, is held, and falls linearly over the decay; neither end is zero, so every
    step learns something.
    """
    warmup, decay = train.warmup_share * total_steps, train.decay_share * total_steps
    rising = step / warmup if warmup else 1.0
    falling = (total_steps - step + 1) / decay if decay else 1.0
    return train.learning_rate * min(1.0, rising, falling)
