"""The arithmetic a step needs, counted by hand and against what PyTorch counts."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bertpipe.model.flops import peak_flops, training_flops
from datasets import Pair, batch_of
from models import tiny_bert

VOCAB = 29


FULL = (  # rows of one length with equally many labels: nothing is padded, so needed and done are the same
    Pair(first=[5, 6, 7], second=[8, 9], masks={1: (3, 5), 5: (3, 8)}),
    Pair(first=[10, 11], second=[12, 13, 14], masks={2: (3, 11), 6: (3, 14)}),
)


@pytest.mark.parametrize("architecture", ["bert", "notebook"])
@pytest.mark.parametrize("layers", [1, 3])
def test_it_is_what_pytorch_counts_where_nothing_is_padded(architecture: str, layers: int) -> None:
    # In training, because PyTorch does not count its fused attention for the CPU.
    bert = tiny_bert(architecture, vocab_size=VOCAB, layers=layers, dropout=1e-9).train()
    batch = batch_of(*FULL)
    assert not batch.padded
    with FlopCounterMode(display=False) as counter:
        hidden = bert(batch.token_ids, batch.lengths, batch.second_segment_start)
        bert.mlm_logits(hidden.flatten(0, 1)[batch.masked_positions])
        bert.nsp_logits(hidden)
    everywhere = 3 * counter.get_total_flops()
    # Less what the last layer leaves out where no loss reads it: queries, output, feed-forward, attention from there.
    params, left_out = bert.params, batch.tokens - (2 + 4)
    width, inner, length = params.embedding_dim, params.feed_forward_dim, int(batch.lengths[0])
    spared = 3 * left_out * (4 * width**2 + 4 * width * inner + 4 * width * length)
    assert training_flops(params, VOCAB, batch) == everywhere - spared


def test_padding_is_not_counted() -> None:
    bert = tiny_bert("bert", vocab_size=VOCAB)
    alone = [training_flops(bert.params, VOCAB, batch_of(pair)).item() for pair in FULL]
    longer = Pair(first=[5] * 9, second=[8] * 9)
    together = training_flops(bert.params, VOCAB, batch_of(*FULL, longer)).item()
    assert together == pytest.approx(
        sum(alone) + training_flops(bert.params, VOCAB, batch_of(longer)).item(), rel=1e-12
    )


def test_the_peak_is_a_rate_this_machine_can_have() -> None:
    assert 1e8 < peak_flops(torch.device("cpu")) < 1e14
