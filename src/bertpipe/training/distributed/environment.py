"""Which of several processes this one is, from the environment that `torchrun` sets."""

import os
from contextlib import suppress

from bertpipe.core.errors import WorldError


def is_launched() -> bool:
    """Return whether this process is one of several: RANK is set then."""
    return os.environ.get("RANK") is not None


def rank() -> int:
    """Return this process's number among all; 0 for a run in one process, or if the number is not valid."""
    with suppress(WorldError):  # reported when the processes join
        return environment_number("RANK", 0)
    return 0


def local_rank() -> int:
    """Return this process's number on its machine, 0 for a run in one process."""
    return environment_number("LOCAL_RANK", 0) if is_launched() else 0


def restarts() -> int:
    """Return how often `torchrun` has restarted the processes after one of them failed."""
    return environment_number("TORCHELASTIC_RESTART_COUNT", 0)


def environment_number(name: str, otherwise: int) -> int:
    """Return a whole number from the environment, or `otherwise` if it is not set.

    Raises:
        WorldError: it is not a whole number.
    """
    text = os.environ.get(name, str(otherwise))
    try:
        return int(text)
    except ValueError:
        raise WorldError(f"{name} is {text!r} in the environment, and has to be a whole number") from None
