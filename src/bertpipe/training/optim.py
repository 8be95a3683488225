"""The optimizer and the learning-rate schedule; docs/how-to/add.md says how to add another of either."""

import math
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from bertpipe.core.params import TrainParams
from bertpipe.training.distributed.world import ALONE, World
from bertpipe.training.muon import Muon
from bertpipe.training.parallel import gather_full

_LAYER = "layers."
"""In the names of the encoder's parameters: Muon is for their matrices."""
_PARTS = {"query_key_value": 3}
"""Matrices that lie above each other in one parameter."""
OPTIMIZER_KEYS = ("adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm")
"""Keys of `train` that a classifier's optimizer takes over, too."""


class Optimizer:
    """PyTorch optimizers with gradient clipping, whose state can be saved in a checkpoint.

    Each has some of the parameters. A group's `rate`, if it has one, multiplies the learning rate of a step.
    """

    def __init__(self, *inner: torch.optim.Optimizer) -> None:
        self.inner = inner

    def step(self, *, learning_rate: float, max_grad_norm: float) -> Tensor:
        """Take one step, clear the gradients, and return their norm before clipping; a scalar.

        Gradients with a norm over all parameters, of all processes, above `max_grad_norm` are first scaled down to it.
        Nothing waits for a GPU.
        """
        norm = gather_full(nn.utils.clip_grad_norm_(self._parameters(), max_grad_norm, foreach=True))
        for optimizer in self.inner:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * group.get("rate", 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return norm

    def tensors(self, *, keep: bool = True) -> dict[str, Tensor]:
        """Return its state, by name, for a checkpoint; nothing without `keep`.

        All processes have to call it, because each may hold a shard.
        """
        kept = {}
        for index, (optimizer, parameter) in enumerate(self._owned()):
            for name, value in optimizer.state.get(parameter, {}).items():
                tensor = gather_full(value)
                if keep:
                    kept[f"{index}.{name}"] = tensor.cpu()
        return kept

    def restore(self, tensors: Mapping[str, Tensor], world: World = ALONE) -> None:
        """Set the state that `tensors` returned; only the main process has to have it."""
        owned = list(self._owned())
        for name, shape in world.broadcast({name: list(tensor.shape) for name, tensor in tensors.items()}).items():
            index, _, key = name.partition(".")
            optimizer, parameter = owned[int(index)]
            # PyTorch counts steps in float32, and Adafactor's state has other shapes than the parameter.
            other = torch.zeros(shape, dtype=torch.float32, device=parameter.device)
            value = torch.zeros_like(parameter) if shape == list(parameter.shape) else other
            optimizer.state[parameter][key] = value.copy_(world.broadcast_or_shard(tensors.get(name), like=value))

    def _owned(self) -> Iterator[tuple[torch.optim.Optimizer, nn.Parameter]]:
        for optimizer in self.inner:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    yield optimizer, parameter

    def _parameters(self) -> Iterator[nn.Parameter]:
        return (parameter for _, parameter in self._owned())


def make_optimizer(module: nn.Module, train: TrainParams) -> Optimizer:
    """Return the optimizer of `train.optimizer`, with weight decay on matrices and embeddings only."""
    parameters = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if train.optimizer == "adamw":
        return Optimizer(_adamw(parameters.values(), train))
    of_muon = {name: parameter for name, parameter in parameters.items() if parameter.dim() > 1 and _LAYER in name}
    others = [parameter for name, parameter in parameters.items() if name not in of_muon]
    if not of_muon:
        return Optimizer(_adamw(others, train))
    groups = [
        {
            "params": [parameter],
            "parts": next((parts for part, parts in _PARTS.items() if part in name), 1),
            "weight_decay": train.weight_decay,
            "rate": train.muon_learning_rate / train.learning_rate,
        }
        for name, parameter in of_muon.items()
    ]
    return Optimizer(Muon(groups, momentum=train.muon_momentum), _adamw(others, train))


def _adamw(parameters: Iterable[nn.Parameter], train: TrainParams) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov and Hutter 2019)."""
    parameters = list(parameters)
    groups = [
        {"params": [parameter for parameter in parameters if parameter.dim() > 1], "weight_decay": train.weight_decay},
        {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
    betas = (train.adam_beta1, train.adam_beta2)
    return torch.optim.AdamW(groups, betas=betas, eps=train.adam_epsilon, fused=True)


def learning_rate(step: int, total_steps: int, train: TrainParams) -> float:
    """Return the learning rate of optimizer step `step`, counted from 1 to `total_steps`.

    It rises linearly over the warm-up, is constant, and falls over the decay; it is never zero.
    """
    warmup, decay = train.warmup_share * total_steps, train.decay_share * total_steps
    rising = step / warmup if warmup else 1.0
    falling = min(1.0, (total_steps - step + 1) / decay) if decay else 1.0
    if train.decay == "cosine":
        falling = (1 - math.cos(math.pi * falling)) / 2
    return train.learning_rate * min(1.0, rising, falling)
