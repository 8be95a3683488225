"""Training in one process with all threads against several processes with their part of them, and the cost model.

Each turn is a start of its own, by torchrun's engine, as `runtime.processes` starts them.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.cost_model import Machines, Shape, step_of
from benchmarks.rows import bert_masking, load_rows, with_vocabulary
from benchmarks.sides import bert_shape, train_params
from bertpipe.data.batching import Batcher
from bertpipe.model.bert import Bert
from bertpipe.model.device import set_up_cpu
from bertpipe.training.distributed.world import World, init_distributed
from bertpipe.training.loop import StepReport, train_steps
from bertpipe.training.objective import PretrainingObjective
from bertpipe.training.optim import make_optimizer
from bertpipe.training.parallel import wrap_parallel

VOCAB, BATCH = 30_522, 32
SHAPES = ((64, 2), (256, 4))
ROUNDS, WARM_UP_STEPS, STEPS, REPEATS = 3, 5, 20, 15
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Side:
    """How many processes, and how they share the network."""

    processes: int
    parallel: str = "ddp"


SIDES = (Side(1), Side(2), Side(2, "fsdp"), Side(4), Side(4, "fsdp"))


def in_several_processes(work: Path) -> list[dict[str, Any]]:
    """Return, for two sizes of BERT, tokens a second in one process and in several, and what the cost model says."""
    rows = []
    for width, layers in SHAPES:
        turns: dict[Side, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(ROUNDS):
            for side in SIDES:
                turns[side].append(_turn(work, side, width, layers))
        rows += [_row(width, layers, side, turns) for side in SIDES[1:]]
    return rows


def _row(width: int, layers: int, side: Side, turns: dict[Side, list[dict[str, float]]]) -> dict[str, Any]:
    def median(of: Side, name: str) -> float:
        return statistics.median(turn[name] for turn in turns[of])

    one = SIDES[0]
    shape = Shape(model=bert_shape(width=width, layers=layers), vocab_size=VOCAB, length=128)
    part = (side.processes - 1) / side.processes * 4 * shape.parameters  # of the messages that were timed alone
    machines = Machines(
        processes=side.processes,
        flops_per_second=median(side, "flops_alone"),
        bytes_per_second=2 * part / median(side, "sum_s"),
        gather_bytes_per_second=part / median(side, "gather_s"),
        scatter_bytes_per_second=part / median(side, "scatter_s"),
        message_s=median(side, "message_s"),
        overlaps=False,
    )
    tokens = median(side, "tokens_a_step")
    flops = median(side, "flops_a_step") / tokens
    predicted = step_of(shape, machines, tokens=round(tokens * flops / shape.flops_per_token), parallel=side.parallel)
    pairs = zip(turns[side], turns[one], strict=True)
    return {
        "work": f"BERT, dim {width}, {layers} layers, {VOCAB:,} words, {BATCH} rows per step",
        "processes": side.processes,
        "parallel": side.parallel,
        "one_tokens_per_s": median(one, "tokens_per_s"),
        "ours_tokens_per_s": median(side, "tokens_per_s"),
        "ratio": statistics.median(mine["tokens_per_s"] / theirs["tokens_per_s"] for mine, theirs in pairs),
        "mb_sent_a_step": predicted.sent_bytes / 1e6,
        "gb_per_s": machines.bytes_per_second / 1e9,
        "step_ms": 1000 * median(side, "step_s"),
        "predicted_step_ms": 1000 * predicted.elapsed_s,
    }


def _turn(work: Path, side: Side, width: int, layers: int) -> dict[str, float]:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={side.processes}",
        "-m", "benchmarks.processes", "--work", str(work), "--parallel", side.parallel,
        "--width", str(width), "--layers", str(layers),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(done.stderr)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


class _Silent(World):
    """A process that works at its share and tells the others nothing."""

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """Return what this process has."""
        return tensor

    def all_reduce_max(self, tensor: Tensor) -> Tensor:
        """Return what this process has."""
        return tensor


def main() -> None:
    """Train as one of the processes of a turn; the first prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--parallel", choices=("ddp", "fsdp"), required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--layers", type=int, required=True)
    given = parser.parse_args()
    with init_distributed("cpu", timeout_s=600) as world:
        figures = measured(world, given.work, given.parallel, given.width, given.layers)
    if world.is_main:
        print(json.dumps(figures))


def measured(world: World, work: Path, parallel: Any, width: int, layers: int) -> dict[str, float]:  # noqa: ANN401
    """Return the figures of one process; all have to ask for them."""
    set_up_cpu("auto", processes=world.local_size)
    torch.manual_seed(1)
    train = train_params(batch_size=BATCH)
    batcher = Batcher(
        dataset=with_vocabulary(load_rows(work).train, VOCAB), masking=bert_masking(VOCAB), seed=train.seed
    )

    def steps(objective: torch.nn.Module, world: World) -> tuple[list[StepReport], float]:
        taken = train_steps(objective, make_optimizer(objective, train), batcher, train, device=CPU, world=world)
        list(islice(taken, WARM_UP_STEPS))
        started_at = time.perf_counter()
        reports = list(islice(taken, STEPS))
        return reports, time.perf_counter() - started_at

    model = bert_shape(width=width, layers=layers)
    mine, alone_s = steps(PretrainingObjective(Bert(model, VOCAB)), _Silent(dp=world.dp))
    torch.manual_seed(1)
    bert = Bert(model, VOCAB)
    numbers = sum(parameter.numel() for parameter in bert.parameters())
    reports, elapsed_s = steps(wrap_parallel(PretrainingObjective(bert), world, parallel), world)
    tokens, flops = (sum(float(getattr(report, name)) for report in reports) for name in ("tokens", "flops"))
    return {
        "tokens_per_s": tokens / elapsed_s,
        "step_s": elapsed_s / STEPS,
        "tokens_a_step": tokens / STEPS,
        "flops_a_step": flops / STEPS,
        "flops_alone": sum(float(report.flops) for report in mine) / alone_s,
        **_seconds_of_messages(world, numbers),
    }


def _seconds_of_messages(world: World, numbers: int) -> dict[str, float]:
    """Return what the messages of so many float32 numbers take by themselves, and one of a few bytes.

    Each is timed from a barrier on: in a training the processes come to it together, too, but for what they wait.
    """
    if world.dp.size == 1:
        return dict.fromkeys(("sum_s", "gather_s", "scatter_s", "message_s"), 0.0)
    whole = torch.zeros(-(-numbers // world.dp.size) * world.dp.size)
    part, few = torch.zeros(len(whole) // world.dp.size), torch.zeros(4, dtype=torch.float64)
    return {
        "sum_s": _seconds(lambda: dist.all_reduce(whole)),
        "gather_s": _seconds(lambda: dist.all_gather_into_tensor(whole, part)),
        "scatter_s": _seconds(lambda: dist.reduce_scatter_tensor(part, whole)),
        "message_s": _seconds(lambda: dist.all_reduce(few)),
    }


def _seconds(message: Callable[[], object]) -> float:
    elapsed_s = []
    for _ in range(REPEATS):
        dist.barrier()
        started_at = time.perf_counter()
        message()
        elapsed_s.append(time.perf_counter() - started_at)
    return statistics.median(elapsed_s)


if __name__ == "__main__":
    main()
