"""A training that breaks off after a step, for torchrun: arguments are a folder, the data, the step, ddp or fsdp."""

import sys
from pathlib import Path

from bertpipe.params_file import load_params
from runs import Crash, at_step, crash, train

EXACT = {"batch_size": 64, "history_every": 1, "model": {"dropout": 0.0}}
"""Without dropout, of which each process draws its own."""


def main() -> None:
    """Train until the step is done, with a checkpoint after each step before."""
    folder, data, step, parallel = sys.argv[1:]
    params = load_params(Path(__file__).parent.parent / "params" / "tiny.yaml")
    runtime = {"checkpoint_every_s": 0.0, "parallel": parallel, "timeout_s": 60.0}
    try:
        with at_step(int(step), crash):
            train(params, Path(folder), Path(data), runtime=runtime, **EXACT)
    except Crash:
        sys.exit(7)


if __name__ == "__main__":
    main()
