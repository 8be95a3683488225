"""A model by its name: one of our model directories, a Hugging Face directory, the URL of either, or a hub name."""

import re
from dataclasses import replace
from pathlib import Path

from bertpipe.core.artifacts import CONFIG_NAME, MODEL_DIR
from bertpipe.core.errors import MissingInputError, ModelError
from bertpipe.core.stores.directories import fetched
from bertpipe.core.stores.objects import url_of, without_file_scheme
from bertpipe.data.tokenization.model_tokenizer import ModelTokenizer
from bertpipe.data.tokenization.tokenizer import load_tokenizer
from bertpipe.model.huggingface.files import other_weights
from bertpipe.model.store import LoadedModel, is_own_model, load_model

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def load_any_model(model: str | Path) -> LoadedModel:
    """Return a model by its name: one of our model directories, a Hugging Face directory, its URL, or a hub name.

    A name is a path if it exists, or if it cannot be a hub name.

    Raises:
        MissingInputError: there is no such directory.
        ModelError: the model cannot be read.
        StoreError: its object store cannot be reached, or refuses.
    """
    if url := url_of(model):
        return replace(load_any_model(fetched(url)), name=url)
    if str(model).startswith("file:"):
        return load_any_model(without_file_scheme(model))
    path, name = Path(model), str(model)
    if path.exists() and not (path / CONFIG_NAME).is_file():
        raise ModelError(f"{model} is not a model directory: it has no {CONFIG_NAME}{_near(path)}")
    if is_own_model(path):
        return _own(path)
    if path.exists():
        return _huggingface(path)
    if path == MODEL_DIR or not _HUB_NAME.fullmatch(name):
        raise MissingInputError(
            f"there is no model at {model}: run `bertpipe train` first, or name another with --model"
        )
    try:
        return _huggingface(name)
    except ModelError as error:
        raise ModelError(f"there is no directory {model} here, so it was taken for a hub name: {error}") from error


def _near(path: Path) -> str:
    """Return what may have been meant by a path that is no model directory."""
    if path.is_file():
        return f"; name the directory of a model, such as {path.parent}"
    inner = (
        found.parent for pattern in ("snapshots/*", "*") for found in sorted(path.glob(f"{pattern}/{CONFIG_NAME}"))
    )
    if meant := next(inner, None):
        return f", but {meant} has one"
    reason = other_weights(path)
    return f", and {reason}" if reason else ""


def _own(path: Path) -> LoadedModel:
    stored = load_model(path)
    return LoadedModel(
        name=str(path),
        bert=stored.bert,
        tokenizer=ModelTokenizer(load_tokenizer(stored.tokenizer_file)),
        missing_heads=frozenset(),
        notes=(),
        directory=path,
    )


def _huggingface(source: str | Path) -> LoadedModel:
    from bertpipe.model.huggingface.load import load_huggingface  # noqa: PLC0415

    return load_huggingface(source)
