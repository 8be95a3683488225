"""The network: shapes, positions, padding, and both architectures held against something else."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bertpipe.data.tokenization.tokenizer import CLS_ID
from bertpipe.model.architecture import ARCHITECTURES
from bertpipe.model.bert import Bert
from bertpipe.model.embeddings import NotebookEmbeddings, sinusoidal_positions
from bertpipe.model.encoder import EncoderLayer, QueryPositions, attention_mask
from bertpipe.model.rotary import Rotary
from bertpipe.training.objective import PretrainingObjective
from datasets import Pair, pair_dataset
from models import tiny_bert, tiny_params

VOCAB = 23
IDS = torch.tensor(
    [[1, 5, 6, 2, 7, 2, 0], [1, 8, 2, 9, 10, 11, 2], [1, 12, 13, 14, 2, 15, 2]]
)  # batch=3, seq=7; row 0 is padded
LENGTHS = torch.tensor([6, 7, 7])
STARTS = torch.tensor([4, 3, 5])


def double(architecture: str, **changes: Any) -> Bert:  # noqa: ANN401
    return tiny_bert(architecture, vocab_size=VOCAB, **changes).double()


def padded(ids: Tensor, extra: int) -> Tensor:
    return torch.nn.functional.pad(ids, (0, extra))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_shapes(architecture: str) -> None:
    bert = tiny_bert(architecture, vocab_size=VOCAB)  # hidden=6, heads=3
    hidden = bert(IDS, LENGTHS, STARTS)
    assert hidden.shape == (3, 7, 6)
    assert bert.mlm_logits(hidden).shape == (3, 7, VOCAB)
    assert bert.mlm_logits(hidden[0, [1, 2, 3, 4, 5]]).shape == (5, VOCAB)
    assert bert.mlm_logits(hidden[0, :0]).shape == (0, VOCAB)
    assert bert.nsp_logits(hidden).shape == (3, 2)
    layer = bert.layers[0]
    assert isinstance(layer, EncoderLayer)
    assert [part.shape for part in layer.split_heads(hidden)] == [(3, 3, 7, 2)] * 3
    assert layer.attention_weights(hidden, None).shape == (3, 3, 7, 7)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("extra", [1, 4, 10])
def test_padding_changes_nothing_at_real_positions(architecture: str, extra: int) -> None:
    bert = double(architecture)
    alone = bert(IDS[:1, :6], LENGTHS[:1], STARTS[:1])
    together = bert(padded(IDS, extra), LENGTHS, STARTS)
    assert torch.allclose(together[0, :6], alone[0], atol=1e-12, rtol=0)
    assert torch.allclose(bert.nsp_logits(together)[0], bert.nsp_logits(alone)[0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_stands_at_padding_does_not_matter(architecture: str) -> None:
    bert, other = double(architecture), IDS.clone()
    other[0, 6] = 17
    one, two = (bert(ids, LENGTHS, STARTS) for ids in (IDS, other))
    assert torch.equal(one[0, :6], two[0, :6])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_order_matters(architecture: str) -> None:
    bert = double(architecture)
    base = bert.nsp_logits(bert(IDS, LENGTHS, STARTS))
    other = bert.nsp_logits(bert(IDS[:, [0, 2, 1, 3, 4, 5, 6]], LENGTHS, STARTS))
    assert (other[1:] - base[1:]).abs().min() > 1e-6


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_segments_matter_where_they_are_embedded(architecture: str) -> None:
    bert = double(architecture)
    base, other = (bert.nsp_logits(bert(IDS, LENGTHS, starts)) for starts in (STARTS, STARTS - 1))
    if architecture == "modern":  # `[SEP]` alone shows where B begins
        assert torch.equal(base, other)
    else:
        assert (other[1:] - base[1:]).abs().min() > 1e-6


# Positions


def test_sinusoidal_positions_by_hand() -> None:
    table = sinusoidal_positions(3, 4)
    # Widths 0 and 1 turn at 1 a position, widths 2 and 3 at 10000^(-2/4) = 0.01.
    expected = [
        [0.0, 1.0, 0.0, 1.0],
        [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)],
        [math.sin(2), math.cos(2), math.sin(0.02), math.cos(0.02)],
    ]
    assert torch.allclose(table, torch.tensor(expected), atol=1e-7)
    assert table.dtype == torch.float32


@pytest.mark.parametrize("hidden", [1, 3, 5, 11])
def test_an_odd_width_ends_with_a_sine(hidden: int) -> None:
    table = sinusoidal_positions(7, hidden)
    assert table.shape == (7, hidden)
    last = torch.sin(torch.arange(7, dtype=torch.float64) * 10000 ** (-(hidden - 1) / hidden))
    assert torch.allclose(table[:, -1].double(), last, atol=1e-6)
    assert torch.allclose(table[:, 0].double(), torch.sin(torch.arange(7, dtype=torch.float64)), atol=1e-6)


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if not ARCHITECTURES[name].rotary])
def test_an_odd_embedding_dim_works(architecture: str) -> None:
    bert = tiny_bert(architecture, vocab_size=VOCAB, embedding_dim=5, heads=5)
    assert bert(IDS, LENGTHS, STARTS).shape == (3, 7, 5)


def test_rotary_attention_depends_on_distances_alone() -> None:
    rotary = Rotary(20, 4, 100.0).double()
    query, key = torch.randn(1, 1, 1, 4, dtype=torch.float64), torch.randn(1, 1, 1, 4, dtype=torch.float64)

    def score(at: int, other: int) -> float:
        turned = rotary(query, torch.tensor([[at]])), rotary(key, torch.tensor([[other]]))
        return (turned[0] * turned[1]).sum().item()

    assert score(3, 7) == pytest.approx(score(12, 16), rel=1e-6)
    assert score(3, 7) != pytest.approx(score(7, 3), rel=1e-3)
    # Elements 0 and 2 turn by 1 radian a position, elements 1 and 3 by 100 ** -0.5 = 0.1: worked by hand.
    vector = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64).view(1, 1, 1, 4)
    expected = [
        math.cos(2) - 3 * math.sin(2), 2 * math.cos(0.2) - 4 * math.sin(0.2),
        3 * math.cos(2) + math.sin(2), 4 * math.cos(0.2) + 2 * math.sin(0.2),
    ]  # fmt: skip
    assert rotary(vector, torch.tensor([[2]])).flatten().tolist() == pytest.approx(expected, rel=1e-6)


def test_a_rotations_gradient_is_the_one_of_plain_operations() -> None:
    rotary = Rotary(9, 6, 50.0).double()
    vectors = torch.randn(2, 3, 7, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rotary, (vectors,))
    assert torch.autograd.gradcheck(lambda given: rotary(given, torch.tensor([[4, 0], [8, 8]])), (vectors[:, :, :2],))


def first_attention(architecture: str, initialization: str) -> Tensor:
    """Return how much each of 64 tokens, the first one `[CLS]`, attends to each in the first layer of a new network."""
    torch.manual_seed(5)
    params = tiny_params(
        architecture, embedding_dim=64, heads=2, max_positions=64, initialization=initialization, dropout=0.0
    )
    bert = Bert(params, 500).eval()
    ids, lengths = torch.randint(5, 500, (4, 64)), torch.full((4,), 64)
    ids[:, 0] = CLS_ID
    found = []
    bert(ids, lengths, lengths // 2, on_layer=lambda layer, *seen: found.append(layer.attention_weights(*seen)))
    return found[0].mean(dim=(0, 1))


@pytest.mark.parametrize("architecture", ["bert", "preln", "modern"])
def test_with_mimetic_weights_a_token_attends_to_its_neighbours_at_once(architecture: str) -> None:
    near = (torch.arange(64)[:, None] - torch.arange(64)).abs() <= 3
    by_chance = 7 / 64
    assert (first_attention(architecture, "mimetic") * near)[1:].sum(-1).mean() > 2 * by_chance
    assert (first_attention(architecture, "orthogonal") * near)[1:].sum(-1).mean() < 1.5 * by_chance


def test_with_rotary_positions_cls_gathers_from_all_tokens_alike() -> None:
    of_cls, *others = first_attention("modern", "mimetic")
    assert of_cls.max() < 4 / 64
    assert torch.stack(others).max(dim=1).values.median() > 8 / 64


# Embeddings


def test_the_published_embeddings_by_hand() -> None:
    bert = double("bert")
    parts = bert.embeddings.parts(IDS, LENGTHS, STARTS)
    tables = bert.embeddings.token.weight, bert.embeddings.get_submodule("position").weight, None
    assert torch.equal(parts["token"], tables[0][IDS])
    assert torch.equal(parts["position"], tables[1][:7].expand(3, -1, -1))  # type: ignore[index]
    segments = torch.tensor([[0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1, 1]])
    assert torch.equal(parts["segment"], bert.embeddings.segment.weight[segments])
    total = parts["token"] + parts["position"] + parts["segment"]
    norm = (total - total.mean(-1, keepdim=True)) / torch.sqrt(total.var(-1, unbiased=False, keepdim=True) + 1e-12)
    weight, bias = bert.embeddings.norm.weight, bert.embeddings.norm.bias  # type: ignore[union-attr]
    assert torch.allclose(bert.embeddings(IDS, LENGTHS, STARTS), norm * weight + bias, atol=1e-12)


def test_the_notebooks_embeddings_by_hand() -> None:
    bert = double("notebook")
    token, position, segment = bert.embeddings.parts(IDS, LENGTHS, STARTS).values()
    assert torch.allclose(token, bert.embeddings.token.weight[IDS] * math.sqrt(6), atol=1e-15)
    assert torch.allclose(position[2], sinusoidal_positions(7, 6).double(), atol=1e-15)
    # The notebook's own labels: 1 for A, 2 for B, 0 for padding.
    segments = torch.tensor([[1, 1, 1, 1, 2, 2, 0], [1, 1, 1, 2, 2, 2, 2], [1, 1, 1, 1, 1, 2, 2]])
    assert torch.equal(segment, bert.embeddings.segment.weight[segments])
    assert torch.equal(bert.embeddings(IDS, LENGTHS, STARTS), token + position + segment)


def test_the_notebooks_sum_is_dropped_once() -> None:
    embeddings = NotebookEmbeddings(tiny_params("notebook", dropout=0.5), VOCAB).train()
    token, position, segment = embeddings.parts(IDS, LENGTHS, STARTS).values()
    total = token + position + segment
    kept = embeddings(IDS, LENGTHS, STARTS)
    assert torch.all((kept == 0) | torch.isclose(kept, 2 * total))
    assert 0.2 < (kept == 0).float().mean() < 0.8


def test_a_tied_notebook_embedding_starts_small() -> None:
    torch.manual_seed(1)
    weight = NotebookEmbeddings(tiny_params("notebook", embedding_dim=48), 997).token.weight
    assert abs(weight.std().item() * math.sqrt(48) - 1) < 0.05


# The encoder


def test_the_notebooks_encoder_is_torchs_transformer_encoder() -> None:
    bert = double("notebook", layers=3)
    layer = nn.TransformerEncoderLayer(6, 3, dim_feedforward=11, dropout=0.1)
    reference = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).double().eval()
    for ours, theirs in zip(bert.layers, reference.layers, strict=True):
        names = {
            "self_attn.in_proj_": "query_key_value.", "self_attn.out_proj.": "attention_output.",
            "linear1.": "feed_forward_in.", "linear2.": "feed_forward_out.",
            "norm1.": "attention_norm.", "norm2.": "feed_forward_norm.",
        }  # fmt: skip
        state = ours.state_dict()
        theirs.load_state_dict(
            {their + kind: state[our + kind] for their, our in names.items() for kind in ("weight", "bias")}
        )
    embedded = bert.embeddings(IDS, LENGTHS, STARTS)
    expected = reference(embedded.transpose(0, 1), src_key_padding_mask=IDS == 0).transpose(0, 1)
    found = bert(IDS, LENGTHS, STARTS)
    real = IDS != 0
    assert torch.allclose(found[real], expected[real], atol=1e-12, rtol=0)


def test_the_notebooks_heads_are_plain_linear_layers() -> None:
    bert = double("notebook", tied=False)
    hidden = bert(IDS, LENGTHS, STARTS)
    nsp = hidden[:, 0] @ bert.nsp_head.weight.T + bert.nsp_head.bias
    mlm = hidden @ bert.mlm_decoder.weight.T + bert.mlm_decoder.bias
    assert torch.allclose(bert.nsp_logits(hidden), nsp, atol=1e-12)
    assert torch.allclose(bert.mlm_logits(hidden), mlm, atol=1e-12)


def test_attention_by_hand() -> None:
    layer = EncoderLayer(tiny_params(embedding_dim=2, heads=1)).double().eval()
    with torch.no_grad():
        layer.query_key_value.weight.copy_(torch.eye(2).repeat(3, 1))
        layer.query_key_value.bias.zero_()
    hidden = torch.eye(2, dtype=torch.float64)[None]
    # Scores are 1/sqrt(2) with oneself and 0 with the other.
    own = math.exp(1 / math.sqrt(2)) / (math.exp(1 / math.sqrt(2)) + 1)
    expected = torch.tensor([[own, 1 - own], [1 - own, own]], dtype=torch.float64)
    assert torch.allclose(layer.attention_weights(hidden, None)[0, 0], expected, atol=1e-15)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attention_weights_add_up_to_one_and_leave_padding_out(architecture: str) -> None:
    bert = double(architecture)
    hidden = bert.embeddings(IDS, LENGTHS, STARTS)
    weights = bert.layers[0].attention_weights(hidden, attention_mask(LENGTHS, 7))  # type: ignore[operator]
    assert torch.allclose(weights.sum(-1), torch.ones(3, 3, 7, dtype=torch.float64), atol=1e-14)
    assert torch.all(weights[0, :, :, 6] == 0)
    assert torch.all(weights[1:] > 0)


def test_attention_weights_are_those_the_layer_uses() -> None:
    layer = double("bert").layers[1]
    assert isinstance(layer, EncoderLayer)
    hidden, mask = torch.randn(3, 7, 6, dtype=torch.float64), attention_mask(LENGTHS, 7)
    mixed = layer.attention_weights(hidden, mask) @ layer.split_heads(hidden)[2]
    attended = layer.attention_output(mixed.transpose(1, 2).reshape(3, 7, 6))
    middle = layer.attention_norm(hidden + attended)
    inner = nn.functional.gelu(layer.feed_forward_in(middle))
    expected = layer.feed_forward_norm(middle + layer.feed_forward_out(inner))
    assert torch.allclose(layer(hidden, mask), expected, atol=1e-12)


def test_the_mask_hides_padding_and_is_left_out_where_there_is_none() -> None:
    mask = attention_mask(LENGTHS, 7)
    assert mask is not None
    assert mask.shape == (3, 1, 1, 7)
    assert mask[:, 0, 0].tolist() == [[True] * 6 + [False], [True] * 7, [True] * 7]
    assert attention_mask(LENGTHS[1:], 7) is None


# Parameters


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_gets_a_gradient(architecture: str, tied: bool) -> None:
    from bertpipe.data.batching import Batcher

    bert = tiny_bert(architecture, vocab_size=VOCAB, tied=tied)
    pairs = [
        Pair(first=[5, 6], second=[7], masks={1: (3, 5)}),
        Pair(first=[8, 9, 10], second=[11, 12], is_next=False, masks={2: (3, 9), 6: (3, 12)}),
    ]
    (batch,) = Batcher(dataset=pair_dataset(pairs), masking=None, seed=1).in_length_order(batch_size=2)
    PretrainingObjective(bert)(batch).total(nsp_weight=1.0).backward()
    dead = [
        name
        for name, parameter in bert.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert dead == []


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tied_matrices_are_one_and_untied_ones_two(architecture: str) -> None:
    tied, untied = (tiny_bert(architecture, vocab_size=VOCAB, tied=tied) for tied in (True, False))
    assert tied.mlm_decoder.weight is tied.embeddings.token.weight
    assert untied.mlm_decoder.weight is not untied.embeddings.token.weight
    counts = [sum(parameter.numel() for parameter in bert.parameters()) for bert in (tied, untied)]
    assert counts[1] - counts[0] == VOCAB * 6


def test_the_notebooks_network_has_no_dead_parameters() -> None:
    # Embedding and decoder, three segments, two layers of torch's encoder, NSP head: worked by hand.
    bert = tiny_bert("notebook", vocab_size=VOCAB, embedding_dim=10, heads=2, feed_forward_dim=2048, tied=False)
    layer = (30 * 10 + 30) + (10 * 10 + 10) + (10 * 2048 + 2048) + (2048 * 10 + 10) + 4 * 10
    expected = VOCAB * 10 + (VOCAB * 10 + VOCAB) + 3 * 10 + 2 * layer + (2 * 10 + 2)
    assert sum(parameter.numel() for parameter in bert.parameters()) == expected


def test_the_first_weights_are_a_pure_function_of_the_seed() -> None:
    def drawn(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return Bert(tiny_params("bert"), VOCAB).state_dict()

    one, same, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["embeddings.token.weight"], other["embeddings.token.weight"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tied", [True, False])
def test_an_undrawn_network_draws_nothing_and_is_the_same_once_loaded(architecture: str, tied: bool) -> None:
    drawn = tiny_bert(architecture, vocab_size=VOCAB, tied=tied)
    before = torch.get_rng_state()
    undrawn = Bert(drawn.params, VOCAB, init_weights=False).eval()
    assert torch.equal(torch.get_rng_state(), before)
    undrawn.load_state_dict(drawn.state_dict())
    assert (undrawn.mlm_decoder.weight is undrawn.embeddings.token.weight) == tied
    hidden, expected = (bert(IDS, LENGTHS, STARTS) for bert in (undrawn, drawn))
    assert torch.equal(hidden, expected)
    assert torch.equal(undrawn.mlm_logits(hidden), drawn.mlm_logits(expected))
    assert torch.equal(undrawn.nsp_logits(hidden), drawn.nsp_logits(expected))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dropout_acts_in_training_only(architecture: str) -> None:
    bert = tiny_bert(architecture, vocab_size=VOCAB, dropout=0.5)
    assert torch.equal(bert(IDS, LENGTHS, STARTS), bert(IDS, LENGTHS, STARTS))
    bert.train()
    assert not torch.equal(bert(IDS, LENGTHS, STARTS), bert(IDS, LENGTHS, STARTS))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("layers", [1, 2])
def test_wanted_positions_have_the_states_they_have_among_all(architecture: str, layers: int) -> None:
    bert = tiny_bert(architecture, vocab_size=VOCAB, layers=layers).double().eval()
    wanted = QueryPositions(
        positions=torch.tensor([[0, 2, 4], [0, 3, 0], [0, 0, 0]]), flat_index=torch.tensor([0, 3, 6, 1, 2, 4])
    )
    hidden = bert(IDS, LENGTHS, STARTS)
    expected = torch.stack([hidden[row, at] for row, at in ((0, 0), (1, 0), (2, 0), (0, 2), (0, 4), (1, 3))])
    assert torch.allclose(bert(IDS, LENGTHS, STARTS, wanted), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_with_dropout_attends_as_without_it_does(architecture: str) -> None:
    # A rate that drops next to nothing takes the way of training, and gives what evaluation gives.
    bert = tiny_bert(architecture, vocab_size=VOCAB, dropout=1e-9).double()
    expected = bert.eval()(IDS, LENGTHS, STARTS)
    found = bert.train()(IDS, LENGTHS, STARTS)
    real = torch.arange(IDS.shape[1]) < LENGTHS[:, None]
    assert torch.allclose(found[real], expected[real], rtol=1e-12, atol=1e-12)


def test_without_padding_no_mask_is_needed() -> None:
    bert = tiny_bert("bert", vocab_size=VOCAB).double().eval()
    lengths = torch.full_like(LENGTHS, IDS.shape[1])
    assert torch.equal(bert(IDS, lengths, STARTS, padded=False), bert(IDS, lengths, STARTS))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_start_at_frequencies_predicts_them_where_logits_are_zero(architecture: str) -> None:
    bert = tiny_bert(architecture, vocab_size=VOCAB).double()
    counts = torch.arange(VOCAB)
    bert.init_mlm_bias(counts)
    with torch.no_grad():
        bert.mlm_decoder.weight.zero_()
    predicted = bert.mlm_logits(torch.randn(3, bert.params.embedding_dim, dtype=torch.float64)).softmax(-1)
    expected = (counts + 1).double() / (counts + 1).sum()
    assert torch.allclose(predicted, expected.expand(3, -1), rtol=1e-12)


def test_an_untrained_tied_network_points_to_the_words_it_reads() -> None:
    torch.manual_seed(1)
    bert = Bert(tiny_params("bert", embedding_dim=64, heads=4, max_positions=25), vocab_size=1000)
    ids = torch.arange(5, 105).view(4, 25)
    with torch.no_grad():
        best = bert.eval().mlm_logits(bert(ids, torch.full((4,), 25), torch.full((4,), 13))).argmax(-1)
    assert (best == ids).double().mean() > 0.1  # a hundred times what chance would give
