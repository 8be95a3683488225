"""How much of the machine a training run uses: the arithmetic it needs, and the rate the machine reaches at best."""

import time

import torch

from bertpipe.data.batching import Batch
from bertpipe.params import ModelParams

_BACKWARD_AND_FORWARD = 3
"""The backward pass multiplies each matrix twice, the forward pass once."""
_PEAK_WIDTH = {"cpu": 2048, "cuda": 8192}
_PEAK_REPEATS = 5


def training_flops(model: ModelParams, vocab_size: int, batch: Batch) -> float:
    """Return the floating-point operations that a training step on `batch` needs in matrix products.

    What is needed is counted, not what is done: no padding, the last layer's queries and feed-forward and the heads
    only where a loss reads them, nothing computed twice. A multiplication and its addition are two operations.
    """
    width, inner, layers = model.embedding_dim, model.feed_forward_dim, model.layers
    lengths = batch.lengths.double()
    tokens, masked, rows = batch.tokens, len(batch.masked_labels), batch.rows
    asked = torch.bincount(batch.masked_positions // batch.token_ids.shape[1], minlength=rows) + 1
    a_key_and_value, a_query_and_output, a_feed_forward = 4 * width**2, 4 * width**2, 4 * width * inner
    lower = (layers - 1) * (
        tokens * (a_key_and_value + a_query_and_output + a_feed_forward) + 4 * width * float((lengths**2).sum())
    )
    last = (
        tokens * a_key_and_value
        + (rows + masked) * (a_query_and_output + a_feed_forward)
        + 4 * width * float((lengths * asked).sum())
    )
    heads = masked * 2 * width * vocab_size + rows * 4 * width
    if model.architecture == "bert":
        heads += (masked + rows) * 2 * width**2
    return _BACKWARD_AND_FORWARD * (lower + last + heads)


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


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
