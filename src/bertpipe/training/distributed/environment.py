"""Which of several processes this one is, as `torchrun` says it in the environment."""

import os
from contextlib import suppress

from bertpipe.core.errors import WorldError


def is_launched() -> bool:
    """Return whether this process is one of several: RANK is set then."""
    return os.environ.get("RANK") is not None


def rank() -> int:
    """Return this process's number among all, 0 for a run in one process; and for a faulty one, which never runs."""
    with suppress(WorldError):  # said where the processes are to meet
        return environment_number("RANK", 0)
    return 0


def local_rank() -> int:
    """Return this process's number on its machine, 0 for a run in one process."""
    return environment_number("LOCAL_RANK", 0) if is_launched() else 0


def restarts() -> int:
    """Return how often `torchrun` has started the processes anew, after one of them failed."""
    return environment_number("TORCHELASTIC_RESTART_COUNT", 0)


def environment_number(name: str, otherwise: int) -> int:
    """Return a whole number from the environment, or another where there is none.

    Raises:
        WorldError: what is there is no whole number.
    """
    text = os.environ.get(name, str(otherwise))
    try:
        return int(text)
    except ValueError:
        raise WorldError(f"{name} is {text!r} in the environment, and has to be a whole number") from None
