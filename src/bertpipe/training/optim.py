"""The optimizer and the learning-rate schedule; docs/how-to/add.md says how to add another of either."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from bertpipe.core.params import TrainParams
from bertpipe.training.distributed.world import ALONE, World
from bertpipe.training.parallel import gather_full

OPTIMIZER_KEYS = ("adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm")
"""Keys of `train` that a classifier's optimizer takes over, too."""


class Optimizer:
    """A PyTorch optimizer with gradient clipping, whose state can be saved in a checkpoint."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.inner = inner

    def step(self, *, learning_rate: float, max_grad_norm: float) -> Tensor:
        """Take one step, clear the gradients, and return their norm before clipping; a scalar.

        Gradients with a norm over all parameters, of all processes, above `max_grad_norm` are first scaled down to it.
        Nothing waits for a GPU.
        """
        norm = gather_full(nn.utils.clip_grad_norm_(self._parameters(), max_grad_norm, foreach=True))
        for group in self.inner.param_groups:
            group["lr"] = learning_rate
        self.inner.step()
        self.inner.zero_grad()
        return norm

    def tensors(self, *, keep: bool = True) -> dict[str, Tensor]:
        """Return its state, by name, for a checkpoint; nothing without `keep`.

        All processes have to call it, because each may hold a shard.
        """
        kept = {}
        for index, parameter in enumerate(self._parameters()):
            for name, value in self.inner.state.get(parameter, {}).items():
                tensor = gather_full(value)
                if keep:
                    kept[f"{index}.{name}"] = tensor.cpu()
        return kept

    def restore(self, tensors: Mapping[str, Tensor], world: World = ALONE) -> None:
        """Set the state that `tensors` returned; only the main process has to have it."""
        parameters = list(self._parameters())
        for name, shape in world.broadcast({name: list(tensor.shape) for name, tensor in tensors.items()}).items():
            index, _, key = name.partition(".")
            parameter = parameters[int(index)]
            # PyTorch counts steps in float32, and Adafactor's state has other shapes than the parameter.
            other = torch.zeros(shape, dtype=torch.float32, device=parameter.device)
            value = torch.zeros_like(parameter) if shape == list(parameter.shape) else other
            self.inner.state[parameter][key] = value.copy_(world.broadcast_or_shard(tensors.get(name), like=value))

    def _parameters(self) -> Iterator[nn.Parameter]:
        return (parameter for group in self.inner.param_groups for parameter in group["params"])


def make_optimizer(module: nn.Module, train: TrainParams) -> Optimizer:
    """Return AdamW (Loshchilov and Hutter 2019), with weight decay on matrices and embeddings only."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in parameters if parameter.dim() > 1], "weight_decay": train.weight_decay},
        {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
    betas = (train.adam_beta1, train.adam_beta2)
    return Optimizer(torch.optim.AdamW(groups, betas=betas, eps=train.adam_epsilon, fused=True))


def learning_rate(step: int, total_steps: int, train: TrainParams) -> float:
    """Return the learning rate of optimizer step `step`, counted from 1 to `total_steps`.

    It rises linearly over the warm-up, is constant, and falls linearly over the decay; it is never zero.
    """
    warmup, decay = train.warmup_share * total_steps, train.decay_share * total_steps
    rising = step / warmup if warmup else 1.0
    falling = (total_steps - step + 1) / decay if decay else 1.0
    return train.learning_rate * min(1.0, rising, falling)
