"""The same small trainings in any number of processes: a program for each of them, and a function for one."""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from bertpipe.core.params import Parallel
from bertpipe.core.params_file import load_params
from bertpipe.data.batching import Batcher
from bertpipe.data.pair_dataset import PairDataset
from bertpipe.evaluation.evaluate import Evaluation, evaluate
from bertpipe.model.bert import Bert
from bertpipe.model.store import weights_sha256
from bertpipe.training.distributed.world import ALONE, World, init_distributed
from bertpipe.training.loop import StepReport, train_steps
from bertpipe.training.objective import PretrainingObjective
from bertpipe.training.optim import make_optimizer
from bertpipe.training.parallel import gather_network, wrap_parallel
from datasets import Pair, pair_dataset
from models import tiny_bert

VOCAB = 31
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One small training."""

    parallel: Parallel
    dtype: str = "float64"
    tied: bool = True
    architecture: str = "bert"
    optimizer: Literal["adamw", "muon"] = "adamw"
    micro_batch_size: int | str = "all"
    precision: str = "float32"

    @property
    def name(self) -> str:
        """What a test says it is."""
        return "-".join(str(value) for value in dataclasses.asdict(self).values())


CASES = [
    *(Case(parallel=parallel, dtype=dtype) for parallel in ("ddp", "fsdp") for dtype in ("float64", "float32")),
    *(Case(parallel=parallel, micro_batch_size=rows) for parallel in ("ddp", "fsdp") for rows in (1, 2)),
    *(Case(parallel=parallel, tied=False, architecture="notebook") for parallel in ("ddp", "fsdp")),
    *(Case(parallel=parallel, architecture="modern", optimizer="muon") for parallel in ("ddp", "fsdp")),
    *(Case(parallel=parallel, dtype="float32", precision="bfloat16") for parallel in ("ddp", "fsdp")),
]

IN_TWO_PARTS = [Case(parallel="ddp", dtype="float32"), Case(parallel="fsdp", dtype="float32")]


def rows() -> PairDataset:
    """Return rows of many lengths; of some batches of six, a process of several gets rows without any label."""
    pairs = []
    for number in range(26):  # the last batch has two rows: of four processes, two have none
        first = [5 + (number + at) % (VOCAB - 5) for at in range(1 + number % 5)]
        second = [5 + (3 * number + at) % (VOCAB - 5) for at in range(1 + number % 4)]
        masks = {1: (4, first[0]), len(first) + 2: (4, second[0])} if number % 3 == 0 else {}
        pairs.append(Pair(first=first, second=second, is_next=number % 2 == 0, masks=masks))
    return pair_dataset(pairs)


def run(case: Case, world: World = ALONE, *, stop_after: int | None = None) -> dict[str, Any]:
    """Return what a case comes to: figures of each step, the evaluation after it, and a digest of the weights.

    After step `stop_after` all but weights and the optimizer's memory is made again.
    """
    train = dataclasses.replace(
        load_params(Path(__file__).parent.parent / "params" / "tiny.yaml").train,
        epochs=2, batch_size=6, learning_rate=2e-3, max_grad_norm=0.5, nsp_weight=0.7,
        micro_batch_size=case.micro_batch_size, precision=case.precision,
        optimizer=case.optimizer,
    )  # fmt: skip
    batcher = Batcher(dataset=rows(), masking=None, seed=3)
    bert = network(case)
    objective = wrap_parallel(PretrainingObjective(bert), world, case.parallel)
    optimizer = make_optimizer(objective, train)
    steps = []
    for report in train_steps(objective, optimizer, batcher, train, device=CPU, world=world):
        steps.append(figures(report))
        if report.step == stop_after:
            break
    if stop_after is not None:
        bert = network(case)
        bert.load_state_dict(gather_network(objective).state_dict())
        remembered = optimizer.tensors()
        objective = wrap_parallel(PretrainingObjective(bert), world, case.parallel)
        optimizer = make_optimizer(objective, train)
        optimizer.restore(remembered, world)
        rest = train_steps(objective, optimizer, batcher, train, device=CPU, world=world, steps_done=stop_after)
        steps += [figures(report) for report in rest]
    whole = gather_network(objective)
    sizes = np.arange(VOCAB) % 4
    sums = evaluate(whole, batcher, batch_size=4, device=CPU, token_bytes=sizes, dp=world.dp)
    evaluation = dataclasses.asdict(Evaluation.of(sums.reduced(world.all_reduce_sum)))
    confusion = [list(counts) for counts in evaluation.pop("nsp_confusion")]
    return {"steps": steps, "evaluation": evaluation, "confusion": confusion, "weights": weights_sha256(whole)}


def network(case: Case) -> Bert:
    """Return the network that a case begins with."""
    bert = tiny_bert(case.architecture, vocab_size=VOCAB, tied=case.tied, dropout=0.0)
    return bert.to(getattr(torch, case.dtype))


def figures(report: StepReport) -> list[float]:
    """Return the numbers of a step."""
    losses = report.losses
    counts = (losses.mlm_tokens, losses.nsp_rows, report.tokens, report.flops)
    return [figure.item() for figure in (losses.mlm, losses.nsp, report.gradient_norm, *counts)]


def main() -> None:
    """Run all cases in several processes, and write what each process has found."""
    torch.set_num_threads(1)
    with init_distributed("cpu", timeout_s=60) as world:
        found = {case.name: run(case, world) for case in CASES}
        found |= {f"{case.name} in two parts": run(case, world, stop_after=7) for case in IN_TWO_PARTS}
        everyone = world._gathered(found)
    if world.is_main:
        Path(sys.argv[1]).write_text(json.dumps(everyone), encoding="utf-8")


if __name__ == "__main__":
    main()
