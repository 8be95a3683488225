"""How much of the machine a training run uses: the arithmetic it needs, and the rate the machine reaches at best."""

import time

import torch
from torch import Tensor

from bertpipe.core.params import ModelParams
from bertpipe.data.batching import IGNORED, Batch

_BACKWARD_AND_FORWARD = 3
"""The backward pass multiplies each matrix twice, the forward pass once."""
_PEAK_WIDTH = {"cpu": 2048, "cuda": 8192}
_PEAK_REPEATS = 5
_PUBLISHED_BFLOAT16 = {
    "H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "B200": 2250e12,
}  # fmt: skip
"""Dense bfloat16 operations a second by a part of the GPU's name, of the SXM form where there are several."""


def training_flops(model: ModelParams, vocab_size: int, batch: Batch) -> Tensor:
    """Return the floating-point operations that a training step on `batch` needs in matrix products; a scalar, float64.

    What is needed is counted, not what is done: no padding, the last layer's queries and feed-forward and the heads
    only where a loss reads them, nothing computed twice. A multiplication and its addition are two operations.
    """
    width, inner, layers = model.embedding_dim, model.feed_forward_dim, model.layers
    masked, rows, tokens = batch.counts.double()
    counted = (batch.is_next != IGNORED).double()
    lengths = batch.lengths * counted
    row = batch.masked_positions // batch.token_ids.shape[1]
    supervised = (batch.masked_labels != IGNORED).double()
    asked = counted.index_add(0, row, supervised)
    a_key_and_value, a_query_and_output, a_feed_forward = 4 * width**2, 4 * width**2, 4 * width * inner
    lower = (layers - 1) * (
        tokens * (a_key_and_value + a_query_and_output + a_feed_forward) + 4 * width * (lengths**2).sum()
    )
    last = (
        tokens * a_key_and_value
        + (rows + masked) * (a_query_and_output + a_feed_forward)
        + 4 * width * (lengths * asked).sum()
    )
    heads = masked * 2 * width * vocab_size + rows * 4 * width
    if model.architecture == "bert":
        heads += (masked + rows) * 2 * width**2
    flops: Tensor = _BACKWARD_AND_FORWARD * (lower + last + heads)
    return flops


def peak_flops(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """Return the operations a second that this machine's matrix product reaches now; takes less than a second."""
    width = _PEAK_WIDTH[device.type]
    left, right, out = (torch.ones(width, width, device=device, dtype=dtype) for _ in range(3))
    torch.mm(left, right, out=out)
    elapsed_s = []
    for _ in range(_PEAK_REPEATS):
        _wait(device)
        started_at = time.perf_counter()
        torch.mm(left, right, out=out)
        _wait(device)
        elapsed_s.append(time.perf_counter() - started_at)
    return 2 * width**3 / min(elapsed_s)


def published_peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Return the operations a second that a GPU's maker states, the 100 % of MFU; None where none is known."""
    if device.type != "cuda" or dtype != torch.bfloat16:
        return None
    name = torch.cuda.get_device_name(device)
    return next((rate for part, rate in _PUBLISHED_BFLOAT16.items() if part in name), None)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
