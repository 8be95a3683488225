"""What a run is and where, known before any weight is drawn."""

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
from bertpipe.data.device_batcher import is_resident
from bertpipe.data.masking import Masking
from bertpipe.model.device import set_up_cpu
from bertpipe.training.checkpoint import run_key
from bertpipe.training.distributed.world import World
from bertpipe.training.inputs import Start, TrainingData, read_training_data, start_of
from bertpipe.training.objective import check_compile


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainPaths:
    """Where `train` reads and writes."""

    data: Path
    model: Path
    history: Path
    epochs: Path
    timing: Path
    state: Path
    """Resume state of all runs; removed for a run that is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a run is and where, before any weight is drawn."""

    train: TrainParams
    evaluation: EvaluateParams
    runtime: RuntimeParams
    paths: TrainPaths
    world: World
    device: torch.device
    data: TrainingData
    start: Start
    masks: Masking | None
    params: Mapping[str, Any]
    """Sections of the params that shape the model."""
    identity: Mapping[str, Any]
    """Everything that defines the result, but for rounding."""
    machine: Mapping[str, Any]
    """What the result's rounding depends on."""
    parallel: Parallel | None
    """How several processes train."""
    compile: CompileMode
    """How the objective is compiled."""

    @property
    def common(self) -> Mapping[str, Any]:
        """What all processes of the run have to have alike."""
        return {**self.identity, "runtime.parallel": self.parallel, "runtime.compile": self.compile}

    @property
    def state(self) -> Path:
        """Where the run's resume state is."""
        return self.paths.state / run_key(self.identity)


def setting_of(
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
) -> Setting:
    """Return the setting of a run, all of its data checked.

    Args:
        model: shape of the network.
        train: the training.
        masking: dynamic masks.
        evaluation: what comes after each epoch.
        runtime: the machine.
        paths: where it reads and writes.
        world: the processes that train together.
        device: where this one computes.
        sources_sha256: of all modules that the result depends on.

    Raises:
        MissingInputError, DataError: the Parquet files are missing, damaged, or do not fit the model.
        MissingInputError, ModelError: the model of `train.init` cannot be read, or its vocabulary is not the data's.
        ParamsError: the params ask for what these data or this machine cannot do.
    """
    threads = set_up_cpu(runtime.threads, processes=world.local_size)
    parallel = runtime.parallel if world.dp.size > 1 else None
    compile_mode = runtime.compile if is_resident(device) else "none"
    check_compile(compile_mode, train, parallel)
    data = read_training_data(paths.data)
    start = start_of(model, train, data)
    params = {"model": asdict(start.params), "train": asdict(train), "masking": asdict(masking)}
    return Setting(
        train=train,
        evaluation=evaluation,
        runtime=runtime,
        paths=paths,
        world=world,
        device=device,
        data=data,
        start=start,
        masks=data.masks(masking),
        params=params,
        identity={
            "params": {**params, "evaluate": asdict(evaluation)},
            "init": start.facts,
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
