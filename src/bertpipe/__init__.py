"""bertpipe: pretrain BERT from scratch as a reproducible pipeline.

The names in `_API` are the Python API. They are imported when they are first used: `import bertpipe` alone loads
neither torch nor pandas.
"""

import importlib
import logging

__version__ = "0.1.0"

_API = ("load_params", "prepare", "train", "evaluate", "plot", "read_data", "load_model")

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> object:
    """Return a function of the API."""
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("bertpipe.api.functions"), name)


def __dir__() -> list[str]:
    """Return the names, those of the API included."""
    return sorted([*globals(), *_API])
