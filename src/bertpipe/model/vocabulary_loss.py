"""Cross-entropy over the whole vocabulary that keeps no more in memory than the exponentials of the logits.

The plain formula writes and reads logits, probabilities and their gradient in main memory. Here the gradient is
computed in the forward pass, from logits that are still in cache. The result is equal up to rounding;
benchmarks/vocabulary_loss.py measures the gain.

Shapes in this file: masked (supervised tokens), hidden, vocab.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_NARROW = 24
"""Up to this width the time is spent in exp(), and the attention kernel is used."""
_VECTOR = 8
"""The attention kernel is up to a third faster where widths and counts are multiples of a vector register's floats."""
_FEW, _PARTS = 128, 2
"""With fewer supervised tokens the vocabulary is split into parts, to use as many threads."""
_NEVER = -1e30
"""A score that attention gives no weight."""
_CHUNK = 1024
"""Vocabulary entries whose logits are in cache together."""
_STORED_BYTES = 2**29
"""Limit on the stored exponentials; more supervised tokens are processed in several blocks."""
_SAFE_SUM = 1e30
"""A softmax denominator between this and its inverse is safe in float32."""


def vocabulary_loss(
    hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, scale: Tensor, *, some_ignored: bool = False
) -> Tensor:
    """Return `scale` times the summed cross-entropy of `hidden @ weight.T + bias` against `labels`; a scalar, in nats.

    `scale` is an argument, not a factor that the caller applies, so that the gradients need no second pass.

    Args:
        hidden: shape [masked, hidden]; no rows at all give a loss of zero.
        weight: shape [vocab, hidden].
        bias: shape [vocab].
        labels: ids of the right tokens, shape [masked].
        scale: usually one over the number of supervised tokens; a scalar.
        some_ignored: whether labels may be IGNORE_INDEX; then the plain formula is used on a CPU too. A GPU always uses
            it, because it can be compiled.
    """
    if some_ignored or hidden.device.type != "cpu":
        logits = F.linear(hidden, weight, bias)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # bfloat16 is too coarse for sums
        summed = F.cross_entropy(logits, labels, reduction="sum")
        return scale.to(summed.dtype) * summed
    hidden = hidden.to(weight.dtype)  # mixed precision
    loss: Tensor = _VocabularyLoss.apply(hidden, weight, bias, labels, scale.item())  # type: ignore[no-untyped-call]
    return loss


class _VocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        labels: Tensor,
        scale: float,
    ) -> Tensor:
        gradients = _attended if len(hidden) > 0 and weight.shape[1] <= _NARROW else _stored
        loss, hidden_grad, weight_grad, bias_grad = gradients(hidden, weight, bias, scale)
        weight_grad.index_add_(0, labels, hidden, alpha=-scale)
        bias_grad.index_add_(0, labels, torch.ones_like(hidden[:, 0]), alpha=-scale)
        label_weight = weight[labels]
        hidden_grad -= scale * label_weight
        loss -= (hidden * label_weight).sum() + bias[labels].sum()
        # Not save_for_backward: backward gives them away, so that autograd can add to them in place.
        ctx.gradients = [hidden_grad, weight_grad, bias_grad]  # type: ignore[attr-defined]
        return scale * loss

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients: list[Tensor] = ctx.gradients  # type: ignore[attr-defined]
        del ctx.gradients  # type: ignore[attr-defined]
        if grad.item() != 1.0:
            gradients = [gradient.mul_(grad) for gradient in gradients]
        return *gradients, None, None


Gradients = tuple[Tensor, Tensor, Tensor, Tensor]
"""The summed log-denominators, and the gradients of `scale` times that sum for hidden, weight and bias."""


def _stored(hidden: Tensor, weight: Tensor, bias: Tensor, scale: float) -> Gradients:
    """Process the vocabulary in chunks, and keep the exponentials for the weight's gradient."""
    masked, vocab = len(hidden), len(weight)
    block = max(1, _STORED_BYTES // (vocab * hidden.element_size()))
    log_sum = hidden.new_zeros(())
    hidden_grad, weight_grad, bias_grad = torch.empty_like(hidden), torch.empty_like(weight), torch.empty_like(bias)
    if masked == 0:
        return log_sum, hidden_grad, weight_grad.zero_(), bias_grad.zero_()
    for start in range(0, masked, block):
        rows = slice(start, start + block)
        exponentials, sums, mixed, shift = _exponentials(hidden[rows], weight, bias)
        log_sum += (sums.log() + shift).sum()
        hidden_grad[rows] = mixed * (scale / sums)[:, None]
        weight_grad.addmm_(exponentials, hidden[rows] * (scale / sums)[:, None], beta=float(start > 0))
        bias_grad.addmv_(exponentials, scale / sums, beta=float(start > 0))
    return log_sum, hidden_grad, weight_grad, bias_grad


def _exponentials(hidden: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return exp(logits - shift) [vocab, masked], its sums [masked], its product with the weight, and the shift.

    The shift is zero unless the sums then overflow or vanish, which takes logits beyond about 69: finding each row's
    largest logit first would cost another pass.
    """
    shift = torch.zeros_like(hidden[:, 0])
    exponentials, sums, mixed = _chunked(hidden, weight, bias, shift=None)
    if not bool(((sums < _SAFE_SUM) & (sums > 1 / _SAFE_SUM)).all()):
        shift = torch.full_like(shift, float("-inf"))
        for start in range(0, len(weight), _CHUNK):
            logits = F.linear(hidden, weight[start : start + _CHUNK], bias[start : start + _CHUNK])
            shift = torch.maximum(shift, logits.amax(dim=1))
        exponentials, sums, mixed = _chunked(hidden, weight, bias, shift=shift)
    return exponentials, sums, mixed, shift


def _chunked(hidden: Tensor, weight: Tensor, bias: Tensor, *, shift: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    exponentials = hidden.new_empty(len(weight), len(hidden))
    sums, mixed = torch.zeros_like(hidden[:, 0]), torch.zeros_like(hidden)
    transposed = hidden.t().contiguous()
    for start in range(0, len(weight), _CHUNK):
        entries = slice(start, start + _CHUNK)
        chunk = exponentials[entries]
        torch.addmm(bias[entries, None], weight[entries], transposed, out=chunk)
        if shift is not None:
            chunk -= shift
        chunk.exp_()
        sums += chunk.sum(dim=0)
        mixed.addmm_(chunk.t(), weight[entries])
    return exponentials, sums, mixed


def _attended(hidden: Tensor, weight: Tensor, bias: Tensor, scale: float) -> Gradients:
    """Compute both sums as attention, whose fused kernel has a faster exp() and keeps its scores in cache.

    First supervised tokens attend to the vocabulary, with the weight as keys and values: the output is the expected
    weight row, which is the gradient for `hidden`, and the kernel's log-sum-exp is the loss's. Then the vocabulary
    attends to the supervised tokens, each score minus that token's log-sum-exp: the output times its own exponential
    sum is the weight's gradient. Two extra columns hold the bias and the log-sum-exp. With few tokens the vocabulary is
    split into parts, so that more threads work.
    """
    masked, width = hidden.shape
    vocab = len(weight)
    columns = _multiple(width + 2, _VECTOR)
    entries = hidden.new_zeros(_multiple(vocab, _PARTS), columns)
    entries[:vocab, :width], entries[:vocab, width], entries[:, width + 1] = weight, bias, 1.0
    entries[vocab:, width] = _NEVER
    tokens = hidden.new_zeros(_multiple(masked, _VECTOR), columns)
    tokens[:masked, :width], tokens[:masked, width] = hidden, 1.0
    parts = _PARTS if masked < _FEW else 1
    expected, log_sums = _attention(tokens.expand(parts, -1, -1), entries.view(parts, -1, columns))
    log_sum = log_sums.logsumexp(dim=0)
    hidden_grad = ((log_sums - log_sum).exp()[..., None] * expected).sum(dim=0)[:masked, :width] * scale
    tokens[:masked, width + 1], tokens[masked:, width + 1] = -log_sum[:masked], _NEVER
    mixed, log_masses = _attention(entries[None, :vocab], tokens[None])
    bias_grad = log_masses[0].exp_().mul_(scale)
    return log_sum[:masked].sum(), hidden_grad, mixed[0, :, :width] * bias_grad[:, None], bias_grad


def _attention(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return softmax(queries @ keys.T) @ keys [parts, queries, columns] and each query's log-sum-exp [parts, queries].

    PyTorch's public attention function does not return the log-sum-exp.
    """
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    mixed, log_sums = attend(queries[None], keys[None], keys[None], 0.0, False, scale=1.0)
    return mixed[0], log_sums[0]


def _multiple(count: int, of: int) -> int:
    """Return `count` rounded up to a multiple."""
    return -(-count // of) * of
