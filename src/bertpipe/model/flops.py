"""The arithmetic that training a network needs, and the highest rate that the machine reaches."""

import time

import torch
from torch import Tensor

from bertpipe.core.params import ModelParams
from bertpipe.data.batching import IGNORE_INDEX, Batch
from bertpipe.model.architecture import ARCHITECTURES

_BACKWARD_AND_FORWARD = 3
"""The backward pass multiplies each matrix twice, the forward pass once."""
_PEAK_WIDTH = {"cpu": 2048, "cuda": 8192}
_PEAK_REPEATS = 5
_PUBLISHED_BFLOAT16 = {
    "H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "B200": 2250e12,
}  # fmt: skip
"""Dense bfloat16 operations per second by a part of the GPU's name, of the SXM version if there are several."""


def training_flops(model: ModelParams, vocab_size: int, batch: Batch) -> Tensor:
    """Return the floating-point operations that a training step on `batch` needs in matrix products; a scalar, float64.

    Only needed operations count: no padding, no recomputation, and the heads and the last layer's queries and
    feed-forward only where a loss reads them. A multiplication and its addition are two operations.
    """
    architecture = ARCHITECTURES[model.architecture]
    width, inner, layers = model.embedding_dim, model.feed_forward_dim, model.layers
    masked, rows, tokens = batch.counts.double()
    counted = (batch.is_next != IGNORE_INDEX).double()
    lengths = batch.lengths * counted
    row = batch.masked_positions // batch.token_ids.shape[1]
    supervised = (batch.masked_labels != IGNORE_INDEX).double()
    queries = counted.index_add(0, row, supervised)
    key_value, query_output, feed_forward = 4 * width**2, 4 * width**2, (6 if architecture.gated else 4) * width * inner
    lower = (layers - 1) * (tokens * (key_value + query_output + feed_forward) + 4 * width * (lengths**2).sum())
    last = tokens * key_value + (rows + masked) * (query_output + feed_forward) + 4 * width * (lengths * queries).sum()
    heads = masked * 2 * width * vocab_size + rows * 4 * width
    if architecture.mlm_transform:
        heads += masked * 2 * width**2
    if architecture.pooler or architecture.nsp_transform:
        heads += rows * 2 * width**2
    flops: Tensor = _BACKWARD_AND_FORWARD * (lower + last + heads)
    return flops


def peak_flops(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """Return the operations per second of this machine's matrix product, measured in less than a second."""
    width = _PEAK_WIDTH[device.type]
    left, right, out = (torch.ones(width, width, device=device, dtype=dtype) for _ in range(3))
    torch.mm(left, right, out=out)
    elapsed_s = []
    for _ in range(_PEAK_REPEATS):
        _synchronize(device)
        started_at = time.perf_counter()
        torch.mm(left, right, out=out)
        _synchronize(device)
        elapsed_s.append(time.perf_counter() - started_at)
    return 2 * width**3 / min(elapsed_s)


def published_peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Return the operations per second in a GPU's data sheet, the 100 % of MFU; None if not known."""
    if device.type != "cuda" or dtype != torch.bfloat16:
        return None
    name = torch.cuda.get_device_name(device)
    return next((rate for part, rate in _PUBLISHED_BFLOAT16.items() if part in name), None)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
