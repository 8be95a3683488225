"""What defines a run, computed before the weights are initialised."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bertpipe.core.params import (
    CompileMode,
    EvaluateParams,
    MaskingParams,
    ModelParams,
    Parallel,
    RuntimeParams,
    TrainParams,
)
from bertpipe.data.device.batcher import batches_on_device
from bertpipe.data.masking import Masking
from bertpipe.model.device import set_up_cpu
from bertpipe.training.checkpoint import run_key
from bertpipe.training.distributed.world import World
from bertpipe.training.inputs import InitialModel, TrainingData, read_initial_model, read_training_data
from bertpipe.training.objective import check_compile


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainPaths:
    """Where `train` reads and writes."""

    data: Path
    model: Path
    history: Path
    epochs: Path
    timing: Path
    answers: Path
    state: Path
    """Checkpoints of all runs; those of a completed run are removed."""
    state_url: str | None = None
    """Where an object store has them too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What defines a run: params, data, initial model, paths and processes."""

    train: TrainParams
    evaluation: EvaluateParams
    runtime: RuntimeParams
    paths: TrainPaths
    world: World
    device: torch.device
    data: TrainingData
    initial: InitialModel
    masks: Masking | None
    params: Mapping[str, Any]
    """Sections of the params that define the model."""
    identity: Mapping[str, Any]
    """Everything that defines the result, except for rounding."""
    machine: Mapping[str, Any]
    """What the rounding of the result depends on."""
    parallel: Parallel | None
    """How several processes train; None for one process."""
    compile: CompileMode
    """How the objective is compiled."""

    @property
    def common(self) -> Mapping[str, Any]:
        """What has to be equal in all processes of the run."""
        return {**self.identity, "runtime.parallel": self.parallel, "runtime.compile": self.compile}

    @property
    def state(self) -> Path:
        """The directory of the run's checkpoints."""
        return self.paths.state / run_key(self.identity)

    @property
    def state_url(self) -> str | None:
        """Where an object store has the run's checkpoints too."""
        return f"{self.paths.state_url}/{run_key(self.identity)}" if self.paths.state_url else None


def make_run_spec(
    model: ModelParams,
    train: TrainParams,
    masking: MaskingParams,
    evaluation: EvaluateParams,
    runtime: RuntimeParams,
    *,
    paths: TrainPaths,
    world: World,
    device: torch.device,
    sources_sha256: str,
) -> RunSpec:
    """Return the spec of a run, after checking all of its data.

    Raises:
        MissingInputError, DataError: the Parquet files are missing, damaged, or do not fit the model.
        MissingInputError, ModelError: the model of `train.init` cannot be read, or its vocabulary is not the data's.
        ParamsError: these data or this machine do not support the params.
    """
    threads = set_up_cpu(runtime.threads, processes=world.local_size)
    parallel = runtime.parallel if world.dp.size > 1 else None
    compile_mode = runtime.compile if batches_on_device(device) else "none"
    check_compile(compile_mode, train, parallel)
    data = read_training_data(paths.data)
    initial = read_initial_model(model, train, data)
    params = {"model": asdict(initial.params), "train": asdict(train), "masking": asdict(masking)}
    return RunSpec(
        train=train,
        evaluation=evaluation,
        runtime=runtime,
        paths=paths,
        world=world,
        device=device,
        data=data,
        initial=initial,
        masks=data.masks(masking),
        params=params,
        identity={
            "params": {**params, "evaluate": asdict(evaluation)},
            "init": initial.facts,
            "machine": {"torch": torch.__version__, "device": device.type},
            "data_sha256": data.sha256,
            "sources_sha256": sources_sha256,
        },
        machine={
            "threads": threads,
            "processes": world.dp.size,
            **({"parallel": parallel} if parallel else {}),
            **({"compile": compile_mode} if compile_mode != "none" else {}),
        },
        parallel=parallel,
        compile=compile_mode,
    )
