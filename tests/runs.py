"""Training runs in a folder, for tests of what they leave there."""

from pathlib import Path

from bertpipe.stages.train import TrainPaths

RESULTS = (
    "model/config.json",
    "model/model.safetensors",
    "model/tokenizer.json",
    "history.csv",
    "epochs.csv",
)
"""What a run leaves that is equal to the byte on every run; `timing.csv` is not."""


def paths_in(folder: Path, data: Path) -> TrainPaths:
    """Return the paths of a run that leaves everything in a folder."""
    return TrainPaths(
        data=data,
        model=folder / "model",
        history=folder / "history.csv",
        epochs=folder / "epochs.csv",
        timing=folder / "timing.csv",
        state=folder / "state",
    )


def results(folder: Path) -> dict[str, bytes]:
    """Return the bytes of everything that a run leaves and that is equal on every run."""
    return {name: (folder / name).read_bytes() for name in RESULTS}
