"""A model by its name: one of our model directories, a Hugging Face directory, or a hub name."""

import re
from dataclasses import dataclass
from pathlib import Path

from bertpipe.core.artifacts import CONFIG_NAME, MODEL_DIR
from bertpipe.core.errors import MissingInputError, ModelError
from bertpipe.data.tokenization.model_tokenizer import ModelTokenizer
from bertpipe.data.tokenization.tokenizer import Tokenizer, load_tokenizer
from bertpipe.model.bert import Bert, Head
from bertpipe.model.store import is_own_model, load_model

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_WITHOUT_HEAD: dict[Head, str] = {
    "nsp": "no trained next-sentence head",
    "mlm": "no trained masked-word head",
}
_WITH_HEAD: dict[Head, str] = {
    "nsp": "`bertpipe train` or BertForPreTraining",
    "mlm": "`bertpipe train`, BertForPreTraining or BertForMaskedLM",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A network with its tokenizer, from any source."""

    name: str
    """The directory or hub name, as it was given."""
    bert: Bert
    """In evaluation mode, on the CPU."""
    tokenizer: ModelTokenizer
    missing_heads: frozenset[Head]
    """Heads that the checkpoint does not have; they have initial weights."""
    notes: tuple[str, ...]
    """What the user should know about how it was read."""
    tokenizer_file: Path | None
    """The `tokenizer.json` on this machine; None if the model has none."""

    def require_head(self, head: Head) -> None:
        """Refuse a head that was never trained.

        Raises:
            ModelError: the checkpoint does not have it.
        """
        if head in self.missing_heads:
            raise ModelError(
                f"{self.name} has {_WITHOUT_HEAD[head]}: train it with `bertpipe train --init {self.name}`, or name a "
                f"model of {_WITH_HEAD[head]}"
            )

    def has_ids_of(self, tokenizer: Tokenizer) -> bool:
        """Return whether each of a tokenizer's ids means the same word to this model."""
        same: bool = self.tokenizer.backend.get_vocab() == tokenizer.backend.get_vocab()
        return same


def load_any_model(model: str | Path) -> LoadedModel:
    """Return a model by its name: one of our model directories, a Hugging Face directory, or a hub name.

    A name is a path if it exists, or if it cannot be a hub name. Only Hugging Face models need transformers.

    Raises:
        MissingInputError: a local directory is not there.
        ModelError: the model cannot be read.
    """
    path, name = Path(model), str(model)
    if path.exists() and not (path / CONFIG_NAME).is_file():
        raise ModelError(f"{model} is not a model directory: it has no {CONFIG_NAME}")
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


def _own(path: Path) -> LoadedModel:
    stored = load_model(path)
    return LoadedModel(
        name=str(path),
        bert=stored.bert,
        tokenizer=ModelTokenizer.of(load_tokenizer(stored.tokenizer_file)),
        missing_heads=frozenset(),
        notes=(),
        tokenizer_file=stored.tokenizer_file,
    )


def _huggingface(source: str | Path) -> LoadedModel:
    from bertpipe.model.huggingface_load import load_huggingface  # noqa: PLC0415

    loaded = load_huggingface(source)
    return LoadedModel(
        name=str(source),
        bert=loaded.bert,
        tokenizer=ModelTokenizer(
            backend=loaded.tokenizer.backend_tokenizer,
            cls_id=loaded.tokenizer.cls_token_id,
            sep_id=loaded.tokenizer.sep_token_id,
            mask_id=loaded.tokenizer.mask_token_id,
            unknown_id=loaded.tokenizer.unk_token_id,
        ),
        missing_heads=loaded.missing_heads,
        notes=loaded.notes,
        tokenizer_file=loaded.tokenizer_file,
    )
