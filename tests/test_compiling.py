"""The objective through `torch.compile`: in one graph, compiled once for each shape, with the results it had."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from bertpipe.core.errors import ParamsError
from bertpipe.core.params import CompileMode, Parallel, Params
from bertpipe.data.device import batcher as device_batcher
from bertpipe.data.device.batcher import DeviceBatcher
from bertpipe.model.device import pick_device
from bertpipe.training.distributed.world import World
from bertpipe.training.loop import StepReport, train_steps
from bertpipe.training.objective import PretrainingObjective, check_compile, compile_objective
from bertpipe.training.optim import make_optimizer
from bertpipe.training.parallel import wrap_parallel
from models import tiny_bert
from runs import results, train
from test_resident import CPU, POSITIONS, VOCAB, batchers, differences, masking, pairs, settings, shapes, trained

pytestmark = pytest.mark.thorough


@pytest.fixture(autouse=True)
def compiled_anew() -> Iterator[None]:
    """Keep what one test compiled from the next."""
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = limit


@pytest.fixture
def group() -> Iterator[None]:
    """Be a process group of one, which DDP and FSDP want."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def objective_of(architecture: str = "bert") -> PretrainingObjective:
    return PretrainingObjective(
        tiny_bert(architecture, vocab_size=VOCAB, dropout=0.0, max_positions=POSITIONS, embedding_dim=12).train()
    )


def compiled_steps(objective: nn.Module, batcher: DeviceBatcher, params: Params, **changes: object) -> list[StepReport]:
    train = settings(params, **changes)
    return list(train_steps(objective, make_optimizer(objective, train), batcher, train, device=CPU))


@pytest.mark.parametrize("architecture", ["bert", "notebook"])
def test_each_shape_is_compiled_once_in_one_graph(tiny: Params, architecture: str) -> None:
    """Over two epochs with other masks and other batches each, through PyTorch's own split in forward and backward."""
    _, batcher = batchers(masking(), pairs(40, longest=14))
    counter = CompileCounterWithBackend("aot_eager")
    objective = objective_of(architecture)
    compile_objective(objective, "default", None, backend=counter)
    found = compiled_steps(objective, batcher, tiny)
    train = settings(tiny)
    batches = [batch for epoch in (1, 2) for batch in batcher.epoch(epoch, batch_size=8)]
    made = {tuple(shapes(batch).items()) for batch in batches}
    assert 2 <= len(made) < len(batches) == len(found) == 10
    assert counter.frame_count == len(made)
    assert max(differences(found, trained(batcher, train, dtype=torch.float32, architecture=architecture))) < 1e-6


def test_in_bfloat16_it_compiles_to_the_same(tiny: Params) -> None:
    _, batcher = batchers(masking(), pairs(16))
    counter = CompileCounterWithBackend("aot_eager")
    objective = objective_of()
    compile_objective(objective, "default", None, backend=counter)
    found = compiled_steps(objective, batcher, tiny, precision="bfloat16")
    expected = trained(batcher, settings(tiny, precision="bfloat16"), dtype=torch.float32)
    assert counter.frame_count >= 1
    assert max(differences(found, expected)) < 2e-2


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # which PyTorch hides, but not from "error"
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_what_several_processes_train_is_compiled_too(tiny: Params, parallel: Parallel, group: None) -> None:
    """DDP compiles no more for the pass that settles its buckets; FSDP each of the two layers."""
    _, batcher = batchers(masking(), pairs(24))
    counter = CompileCounterWithBackend("aot_eager")
    objective = objective_of()
    names = [name for name, _ in objective.named_parameters()]
    compile_objective(objective, "default", parallel, backend=counter)
    assert [name for name, _ in objective.named_parameters()] == names
    two = World(dp=dataclasses.replace(World().dp, size=2))  # a group of one is left alone; its sums are its own
    found = compiled_steps(wrap_parallel(objective, two, parallel), batcher, tiny)
    lengths = {batch.token_ids.shape[1] for epoch in (1, 2) for batch in batcher.epoch(epoch, batch_size=8)}
    assert counter.frame_count == (2 * len(lengths) if parallel == "fsdp" else len(lengths))
    assert max(differences(found, trained(batcher, settings(tiny), dtype=torch.float32))) < 1e-6


def test_a_corpus_with_many_shapes_is_compiled_to_the_last() -> None:
    """PyTorch gives up after eight unless it is told otherwise."""
    objective = PretrainingObjective(tiny_bert("notebook", vocab_size=VOCAB, layers=1, max_positions=POSITIONS))
    counter = CompileCounterWithBackend("eager")
    compile_objective(objective, "default", None, backend=counter)
    batcher = batchers(masking(), pairs(32))[1]
    with torch.no_grad():
        for rows in range(1, 10):
            objective(next(batcher.epoch(1, batch_size=rows)))
    assert counter.frame_count == 9


def test_none_compiles_nothing() -> None:
    objective, counter = objective_of(), CompileCounterWithBackend("eager")
    compile_objective(objective, "none", None, backend=counter)
    objective(next(batchers(masking())[1].epoch(1, batch_size=8)))
    assert counter.frame_count == 0


@pytest.mark.parametrize(
    ("mode", "micro_batch_size", "parallel", "said"),
    [
        ("reduce-overhead", 4, None, r"train\.micro_batch_size is 4: set it to all"),
        ("reduce-overhead", "all", "fsdp", r"runtime\.parallel is fsdp: set it to ddp"),
    ],
)
def test_cuda_graphs_are_refused_where_they_would_be_wrong(
    tiny: Params, mode: CompileMode, micro_batch_size: int | str, parallel: Parallel | None, said: str
) -> None:
    section = dataclasses.replace(tiny.train, micro_batch_size=micro_batch_size)
    with pytest.raises(ParamsError, match=said):
        check_compile(mode, section, parallel)
    check_compile("default", section, parallel)


# The stage


def test_a_cpu_trains_as_before_and_says_so(tiny: Params, parquet: Path, trained: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    train(tiny, tmp_path, parquet, runtime={"compile": "default"}, options={"on_note": notes.append})
    assert notes == ["runtime.compile default needs a GPU: this run is not compiled"]
    assert results(tmp_path) == results(trained)


def test_a_whole_run_on_resident_rows_ends_where_the_hosts_ends(
    tiny: Params, parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = train(tiny, tmp_path / "host", parquet, model={"dropout": 0.0})
    compiled: list[object] = []

    def compile_it(objective: PretrainingObjective, mode: CompileMode, parallel: Parallel | None) -> None:
        compiled.append(mode)
        compile_objective(objective, mode, parallel, backend="eager")

    for place in ("bertpipe.data.device.batcher", "bertpipe.training.run_spec"):
        monkeypatch.setattr(f"{place}.batches_on_device", lambda _: True)
    monkeypatch.setattr("bertpipe.training.trainer.compile_objective", compile_it)
    made = train(tiny, tmp_path / "own", parquet, model={"dropout": 0.0}, runtime={"compile": "default"})
    assert compiled == ["default"]
    assert made["steps"] == host["steps"]
    for name in ("train_mlm_loss", "train_nsp_loss", "test_mlm_loss", "test_nsp_loss"):
        assert made[name] == pytest.approx(host[name], rel=1e-3), name
    assert '"compile": "default"' in (tmp_path / "own" / "model" / "config.json").read_text(encoding="utf-8")


def test_a_gpu_has_its_batches_made_there() -> None:
    assert device_batcher.batches_on_device(torch.device("cuda", 0))
    assert not device_batcher.batches_on_device(CPU)


def test_float32_on_a_gpu_is_full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", told.append)
    torch.set_float32_matmul_precision("high")
    try:
        assert pick_device("auto", local_rank=1) == torch.device("cuda", 1)
        assert told == [1]
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
