"""`inspect`: one input on its way through a model, step by step."""

from pathlib import Path

from bertpipe.inference.inspection import Inspection, inspect_input
from bertpipe.model.loading import load_any_model


def run_inspect(text: str, second: str | None, *, model: str | Path) -> Inspection:
    """Return each step of a model's work on a text, or on two.

    Raises:
        InputError: a sentence is empty, or they are too long for the model together.
        MissingInputError: there is no model at `model`.
        ModelError: it cannot be read.
    """
    return inspect_input(load_any_model(model), text, second)
