"""The optimizer and the learning-rate schedule."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bertpipe.core.params import TrainParams
from bertpipe.training.distributed.world import ALONE, World
from bertpipe.training.parallel import local, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterState:
    """A parameter and what AdamW remembers of it."""

    parameter: nn.Parameter
    weight_decay: float
    mean: Tensor
    """Running mean of the gradient, in the parameter's shape."""
    square: Tensor
    """Running mean of the squared gradient, in the parameter's shape."""
    steps: Tensor
    """Steps taken; a scalar."""


class AdamW:
    """AdamW (Loshchilov and Hutter 2019) with the clipping of the gradient's norm in the same pass over memory.

    It calls the fused kernel that `torch.optim.AdamW` calls, and does what that does after `clip_grad_norm_`. The class
    there loads PyTorch's compiler when it is made, which takes more than a second and 70 MB.
    """

    def __init__(
        self, groups: Iterable[tuple[list[nn.Parameter], float]], *, betas: tuple[float, float], epsilon: float
    ) -> None:
        self.betas, self.epsilon = betas, epsilon
        self.states = [
            ParameterState(
                parameter=parameter,
                weight_decay=weight_decay,
                mean=torch.zeros_like(parameter),
                square=torch.zeros_like(parameter),
                steps=torch.zeros((), dtype=torch.float32, device=parameter.device),
            )
            for parameters, weight_decay in groups
            for parameter in parameters
        ]

    def step(self, *, learning_rate: float, max_grad_norm: float) -> Tensor:
        """Change the parameters by their gradients, forget the gradients, and return the norm they had; a scalar.

        Gradients whose norm over all parameters is above `max_grad_norm` are scaled down to it first. Nothing waits
        for a GPU. Of parameters that are spread over processes each changes its part, by the norm over all of them.
        """
        given = [(state, state.parameter.grad) for state in self.states if state.parameter.grad is not None]
        norm = whole(torch.nn.utils.get_total_norm([gradient for _, gradient in given], foreach=True))
        divisor: Tensor | None = ((norm + 1e-6) / max_grad_norm).clamp(min=1.0)
        if norm.device.type == "cpu" and divisor == 1.0:
            divisor = None  # spares writing the gradients back
        with torch.no_grad():
            if divisor is not None and divisor.dtype == torch.float64:  # the kernel divides by a float32
                torch._foreach_div_([local(gradient) for _, gradient in given], divisor)
                divisor = None
            for weight_decay in dict.fromkeys(state.weight_decay for state, _ in given):
                group = [pair for pair in given if pair[0].weight_decay == weight_decay]
                self._step_group(group, learning_rate, divisor)
        for state, _ in given:
            state.parameter.grad = None
        return norm

    def _step_group(
        self, group: list[tuple[ParameterState, Tensor]], learning_rate: float, divisor: Tensor | None
    ) -> None:
        states, gradients = [state for state, _ in group], [local(gradient) for _, gradient in group]
        torch._foreach_add_([state.steps for state in states], 1)
        torch._fused_adamw_(
            [local(state.parameter) for state in states],
            gradients,
            [local(state.mean) for state in states],
            [local(state.square) for state in states],
            [],
            [state.steps for state in states],
            lr=learning_rate,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=states[0].weight_decay,
            eps=self.epsilon,
            amsgrad=False,
            maximize=False,
            grad_scale=divisor,
        )

    def tensors(self, *, keep: bool = True) -> dict[str, Tensor]:
        """Return all that it remembers, by name, for a checkpoint; nothing without `keep`.

        Every process has to ask for it, also those that do not keep it: each has a part, perhaps.
        """
        kept = {}
        for index, state in enumerate(self.states):
            for name in _REMEMBERED:
                tensor = whole(getattr(state, name))
                if keep:
                    kept[f"{index}.{name}"] = tensor.cpu()
        return kept

    def restore(self, tensors: Mapping[str, Tensor], world: World = ALONE) -> None:
        """Take over what `tensors` returned; the leader alone has to have it."""
        for index, state in enumerate(self.states):
            for name in _REMEMBERED:
                remembered = getattr(state, name)
                remembered.copy_(world.scattered(tensors.get(f"{index}.{name}"), like=remembered))


_REMEMBERED = ("mean", "square", "steps")


def make_optimizer(module: nn.Module, train: TrainParams) -> AdamW:
    """Return AdamW that decays matrices and embeddings, not biases and LayerNorm."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        ([parameter for parameter in parameters if parameter.dim() > 1], train.weight_decay),
        ([parameter for parameter in parameters if parameter.dim() <= 1], 0.0),
    ]
    return AdamW(groups, betas=(train.adam_beta1, train.adam_beta2), epsilon=train.adam_epsilon)


def learning_rate(step: int, total_steps: int, train: TrainParams) -> float:
    """Return the learning rate of optimiser step `step`, counted from 1 to `total_steps`.

    It rises linearly over the warm-up, is held, and falls linearly over the decay; neither end is zero, so every
    step learns something.
    """
    warmup, decay = train.warmup_share * total_steps, train.decay_share * total_steps
    rising = step / warmup if warmup else 1.0
    falling = (total_steps - step + 1) / decay if decay else 1.0
    return train.learning_rate * min(1.0, rising, falling)
