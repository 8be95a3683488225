"""The training objective equals the plain formula written out at every position."""

import itertools
import math

import numpy as np
import pytest
import torch

from bertpipe.data.batching import Batch, Batcher
from bertpipe.training.objective import LossSums, PretrainingObjective
from datasets import Pair, pair_dataset
from models import tiny_bert

VOCAB = 29
PAIRS = (
    Pair(first=[5, 6], second=[7], is_next=False, masks={1: (3, 5), 2: (9, 6)}),
    Pair(first=[8], second=[9, 10, 11], is_next=True),  # nothing to predict
    Pair(first=[12, 13, 14], second=[15, 16], is_next=True, masks={3: (3, 0), 6: (16, 16)}),
)


def batch_of(*pairs: Pair) -> Batch:
    return Batcher(dataset=pair_dataset(pairs), masking=None, seed=1).assemble(np.arange(len(pairs)), epoch=0)


@pytest.mark.parametrize(("architecture", "tied"), list(itertools.product(("bert", "notebook"), (True, False))))
def test_losses_equal_the_plain_formula_row_by_row(architecture: str, tied: bool) -> None:
    bert = tiny_bert(architecture, vocab_size=VOCAB, tied=tied).double()
    sums = PretrainingObjective(bert)(batch_of(*PAIRS))
    mlm, tokens, nsp = 0.0, 0, 0.0
    for pair in PAIRS:
        inputs = [pair.masks[at][0] if at in pair.masks else token for at, token in enumerate(pair.tokens)]
        hidden = bert(torch.tensor([inputs]), torch.tensor([len(inputs)]), torch.tensor([len(pair.first) + 2]))
        logits = bert.mlm_logits(hidden)[0]
        for at in range(len(inputs)):
            label = pair.masks.get(at, (0, 0))[1]
            if label != 0:
                mlm += math.log(sum(math.exp(value) for value in logits[at].tolist())) - logits[at, label].item()
                tokens += 1
        not_next, is_next = bert.nsp_logits(hidden)[0].tolist()
        nsp += math.log(math.exp(not_next) + math.exp(is_next)) - (is_next if pair.is_next else not_next)
    assert (sums.mlm_tokens, sums.nsp_rows) == (tokens, 3) == (3, 3)
    assert math.isclose(sums.mlm.item(), mlm, rel_tol=1e-12)
    assert math.isclose(sums.nsp.item(), nsp, rel_tol=1e-12)


def test_the_loss_is_a_mean_over_tokens_and_a_mean_over_rows() -> None:
    sums = LossSums(mlm=torch.tensor(6.0), mlm_tokens=4, nsp=torch.tensor(3.0), nsp_rows=2)
    assert sums.loss(nsp_weight=1.0).item() == 3.0
    assert sums.loss(nsp_weight=0.5).item() == 2.25
    assert sums.loss(nsp_weight=0.0).item() == 1.5


@pytest.mark.parametrize("architecture", ["bert", "notebook"])
def test_a_batch_without_any_label_gives_a_finite_loss_and_gradients(architecture: str) -> None:
    bert = tiny_bert(architecture, vocab_size=VOCAB)
    sums = PretrainingObjective(bert)(batch_of(PAIRS[1], PAIRS[1]))
    assert (sums.mlm.item(), sums.mlm_tokens, sums.nsp_rows) == (0.0, 0, 2)
    loss = sums.loss(nsp_weight=1.0)
    assert math.isclose(loss.item(), sums.nsp.item() / 2, rel_tol=1e-6)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in bert.parameters() if p.grad is not None)


def test_sums_of_a_batch_are_the_sums_of_its_rows() -> None:
    objective = PretrainingObjective(tiny_bert("bert", vocab_size=VOCAB).double())
    whole = objective(batch_of(*PAIRS))
    parts = [objective(batch_of(pair)) for pair in PAIRS]
    assert math.isclose(whole.mlm.item(), sum(part.mlm.item() for part in parts), rel_tol=1e-12)
    assert math.isclose(whole.nsp.item(), sum(part.nsp.item() for part in parts), rel_tol=1e-12)
    assert whole.mlm_tokens == sum(part.mlm_tokens for part in parts)


def test_the_vocabulary_head_runs_at_supervised_positions_only() -> None:
    seen: list[tuple[int, ...]] = []
    bert = tiny_bert("bert", vocab_size=VOCAB)
    bert.mlm_decoder.register_forward_hook(lambda *call: seen.append(tuple(call[2].shape)))
    PretrainingObjective(bert)(batch_of(*PAIRS))
    assert seen == [(3, VOCAB)]
