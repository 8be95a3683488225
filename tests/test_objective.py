"""The training objective equals the plain formula written out at every position."""

import dataclasses
import itertools
import math

import pytest
import torch

from bertpipe.core.params import Params
from bertpipe.data.batching import Batcher
from bertpipe.training.loop import train_steps
from bertpipe.training.objective import Losses, PretrainingObjective
from bertpipe.training.optim import make_optimizer
from datasets import Pair, batch_of, pair_dataset
from models import tiny_bert

VOCAB = 29
PAIRS = (
    Pair(first=[5, 6], second=[7], is_next=False, masks={1: (3, 5), 2: (9, 6)}),
    Pair(first=[8], second=[9, 10, 11], is_next=True),  # nothing to predict
    Pair(first=[12, 13, 14], second=[15, 16], is_next=True, masks={3: (3, 0), 6: (16, 16)}),
)


@pytest.mark.parametrize(("architecture", "tied"), list(itertools.product(("bert", "notebook"), (True, False))))
def test_losses_equal_the_plain_formula_row_by_row(architecture: str, tied: bool) -> None:
    bert = tiny_bert(architecture, vocab_size=VOCAB, tied=tied).double()
    losses = PretrainingObjective(bert)(batch_of(*PAIRS))
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
    assert (losses.mlm_tokens, losses.nsp_rows) == (tokens, 3) == (3, 3)
    assert math.isclose(losses.mlm.item(), mlm / 3, rel_tol=1e-12)
    assert math.isclose(losses.nsp.item(), nsp / 3, rel_tol=1e-12)


def test_the_total_loss_adds_the_two_means() -> None:
    losses = Losses(mlm=torch.tensor(1.5), mlm_tokens=torch.tensor(4), nsp=torch.tensor(1.5), nsp_rows=torch.tensor(2))
    assert losses.total(nsp_weight=1.0).item() == 3.0
    assert losses.total(nsp_weight=0.5).item() == 2.25
    assert losses.total(nsp_weight=0.0).item() == 1.5


@pytest.mark.parametrize("architecture", ["bert", "notebook"])
def test_a_batch_without_any_label_gives_a_finite_loss_and_gradients(architecture: str) -> None:
    bert = tiny_bert(architecture, vocab_size=VOCAB)
    losses = PretrainingObjective(bert)(batch_of(PAIRS[1], PAIRS[1]))
    assert (losses.mlm.item(), losses.mlm_tokens, losses.nsp_rows) == (0.0, 0, 2)
    loss = losses.total(nsp_weight=1.0)
    assert loss.item() == losses.nsp.item()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in bert.parameters() if p.grad is not None)
    decoder_grad = bert.mlm_decoder.bias.grad
    assert decoder_grad is not None
    assert decoder_grad.abs().sum() == 0


def test_losses_of_a_batch_are_the_weighted_means_of_its_rows() -> None:
    objective = PretrainingObjective(tiny_bert("bert", vocab_size=VOCAB).double())
    whole = objective(batch_of(*PAIRS))
    parts = [objective(batch_of(pair)) for pair in PAIRS]
    mlm_sum = sum(part.mlm.item() * part.mlm_tokens.item() for part in parts)
    assert math.isclose(whole.mlm.item(), mlm_sum / whole.mlm_tokens.item(), rel_tol=1e-12)
    assert math.isclose(whole.nsp.item(), sum(part.nsp.item() for part in parts) / 3, rel_tol=1e-12)
    assert whole.mlm_tokens == sum(part.mlm_tokens for part in parts)


@pytest.mark.parametrize(("architecture", "tied"), list(itertools.product(("bert", "notebook"), (True, False))))
def test_gradients_equal_those_of_every_position_written_out(architecture: str, tied: bool) -> None:
    bert = tiny_bert(architecture, vocab_size=VOCAB, tied=tied).double()
    batch = batch_of(*PAIRS)
    PretrainingObjective(bert)(batch).total(nsp_weight=0.7).backward()
    found = {name: parameter.grad for name, parameter in bert.named_parameters()}
    bert.zero_grad(set_to_none=True)
    hidden = bert(batch.token_ids, batch.lengths, batch.second_segment_start)
    logits = bert.mlm_logits(hidden).flatten(0, 1)[batch.masked_positions]
    mlm = torch.nn.functional.cross_entropy(logits, batch.masked_labels)
    nsp = torch.nn.functional.cross_entropy(bert.nsp_logits(hidden), batch.is_next)
    (mlm + 0.7 * nsp).backward()
    for name, parameter in bert.named_parameters():
        assert parameter.grad is not None, name
        assert torch.allclose(found[name], parameter.grad, rtol=1e-10, atol=1e-13), name  # type: ignore[arg-type]


def test_the_last_layer_and_the_heads_see_only_what_the_losses_need() -> None:
    seen: list[tuple[int, ...]] = []
    bert = tiny_bert("bert", vocab_size=VOCAB)
    layer, transform = bert.layers[-1], bert.mlm_transform
    assert transform is not None
    layer.feed_forward_in.register_forward_hook(lambda *call: seen.append(tuple(call[1][0].shape)))  # type: ignore[union-attr, operator]
    transform.register_forward_hook(lambda *call: seen.append(tuple(call[1][0].shape)))
    PretrainingObjective(bert)(batch_of(*PAIRS))
    hidden = bert.params.embedding_dim
    assert seen == [(3 + 3, hidden), (3, hidden)]  # three rows' [CLS] and three supervised tokens


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", ["bert", "notebook"])
def test_training_follows_the_plain_formula(tiny: Params, architecture: str, tied: bool) -> None:
    """Forty steps against every position's logits, plain cross-entropy, PyTorch's clipping and its AdamW."""
    train = dataclasses.replace(tiny.train, epochs=10, batch_size=2, learning_rate=3e-3, max_grad_norm=0.5)
    pairs = [*PAIRS, *(Pair(first=[a, a + 1], second=[a + 2] * (a % 4 + 1), masks={1: (3, a)}) for a in range(5, 10))]
    batcher = Batcher(dataset=pair_dataset(pairs), masking=None, seed=1)
    ours = tiny_bert(architecture, vocab_size=VOCAB, tied=tied, dropout=0.0).double()
    plain = tiny_bert(architecture, vocab_size=VOCAB, tied=tied, dropout=0.0).double()
    reports = list(
        train_steps(PretrainingObjective(ours), make_optimizer(ours, train), batcher, train, device=torch.device("cpu"))
    )
    groups = [
        {"params": [p for p in plain.parameters() if p.dim() > 1], "weight_decay": train.weight_decay},
        {"params": [p for p in plain.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(train.adam_beta1, train.adam_beta2), eps=train.adam_epsilon)
    batches = (batch for epoch in range(1, 11) for batch in batcher.epoch(epoch, batch_size=2))
    for report, batch in zip(reports, batches, strict=True):
        hidden = plain(batch.token_ids, batch.lengths, batch.second_segment_start)
        logits = plain.mlm_logits(hidden).flatten(0, 1)[batch.masked_positions]
        mlm = torch.nn.functional.cross_entropy(logits, batch.masked_labels, reduction="sum")
        mlm = mlm / max(len(batch.masked_labels), 1)
        nsp = torch.nn.functional.cross_entropy(plain.nsp_logits(hidden), batch.is_next)
        assert math.isclose(report.losses.mlm.item(), mlm.item(), rel_tol=1e-7, abs_tol=1e-12), report.step
        assert math.isclose(report.losses.nsp.item(), nsp.item(), rel_tol=1e-7), report.step
        (mlm + train.nsp_weight * nsp).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), train.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = report.learning_rate
        optimizer.step()
        optimizer.zero_grad()
    assert len(reports) == 40
