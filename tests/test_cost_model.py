"""The cost model's arithmetic, worked by hand, and its tables in docs/explanation/scaling.md."""

from pathlib import Path

import pytest

from benchmarks.cost_model import Machines, Shape, step_of, table
from benchmarks.sides import bert_shape

ROOT = Path(__file__).parent.parent
BASE = Shape(model=bert_shape(width=768, layers=12, heads=12), vocab_size=30_522, length=128)
PARAMETERS = (
    (30_522 + 512 + 2) * 768  # embeddings
    + 12 * (4 * 768**2 + 2 * 768 * 3072 + 9 * 768 + 3072)  # layers: four square matrices, two wide ones, biases, norms
    + 2 * 768  # the embeddings' norm
    + 2 * (768**2 + 768)  # pooler and transform
    + (2 * 768 + 2)  # NSP
    + (2 * 768 + 30_522)  # the transform's norm, the decoder's bias
)


def test_parameters_are_those_of_bert_base() -> None:
    assert BASE.parameters == PARAMETERS == 110_106_428


def test_a_token_takes_about_six_operations_for_each_weight_that_it_meets() -> None:
    lower = 11 * (12 * 768**2 * 6 + 12 * 768 * 128)  # eleven layers, their attention included
    assert lower < BASE.flops_per_token < 12 / 11 * lower * 1.1


def machines(processes: int, *, overlaps: bool = True) -> Machines:
    return Machines(processes=processes, flops_per_second=1e12, bytes_per_second=1e9, overlaps=overlaps)


def test_a_process_alone_sends_nothing() -> None:
    step = step_of(BASE, machines(1), tokens=1000, parallel="ddp")
    assert (step.sent_bytes, step.messages_s) == (0, 0)
    assert step.elapsed_s == step.compute_s == pytest.approx(1000 * BASE.flops_per_token / 1e12)
    assert step.tokens_per_second == pytest.approx(1e12 / BASE.flops_per_token)
    assert step.state_bytes == 16 * PARAMETERS


@pytest.mark.parametrize(("parallel", "times", "held"), [("ddp", 2, 1), ("fsdp", 3, 4)])
def test_a_ring_of_four_sends_three_quarters_of_what_is_added_up(parallel: str, times: int, held: int) -> None:
    step = step_of(BASE, machines(4), tokens=4000, parallel=parallel)
    assert step.sent_bytes == times * 0.75 * 4 * PARAMETERS
    assert step.messages_s == pytest.approx(step.sent_bytes / 1e9)
    assert step.compute_s == pytest.approx(1000 * BASE.flops_per_token / 1e12)
    assert step.elapsed_s == pytest.approx(step.compute_s + step.messages_s - 2 / 3 * step.compute_s)
    assert step.state_bytes == 16 * PARAMETERS / held


def test_messages_that_cannot_hide_are_added_and_ones_that_can_cost_nothing() -> None:
    shown = step_of(BASE, machines(2, overlaps=False), tokens=4000, parallel="ddp")
    assert shown.elapsed_s == shown.compute_s + shown.messages_s
    hidden = step_of(BASE, machines(2), tokens=400_000, parallel="ddp")
    assert hidden.elapsed_s == hidden.compute_s


def test_each_kind_of_message_has_its_own_rate_and_each_message_its_price() -> None:
    slow = Machines(
        processes=2, flops_per_second=1e12, bytes_per_second=1e9, gather_bytes_per_second=5e8,
        scatter_bytes_per_second=2e8, message_s=0.001, overlaps=False,
    )  # fmt: skip
    half = 2 * PARAMETERS  # bytes that one of two processes sends to bring all weights together
    ddp, fsdp = (step_of(BASE, slow, tokens=1000, parallel=parallel) for parallel in ("ddp", "fsdp"))
    buckets = 17  # 440 MB in parts of 26 MB
    assert ddp.messages_s == pytest.approx(2 * half / 1e9 + (3 + buckets) * 0.001)
    assert fsdp.messages_s == pytest.approx(2 * half / 5e8 + half / 2e8 + (3 + 3 * 13) * 0.001)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_the_page_has_the_tables_that_the_model_prints(parallel: str) -> None:
    assert table(parallel) in (ROOT / "docs" / "explanation" / "scaling.md").read_text(encoding="utf-8")
