"""Whether two tokenizers give the same ids: their normalisers, pre-tokenizers, models and special tokens compared."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer

if TYPE_CHECKING:
    import tokenizers

_PARTS = ("normalizer", "pre_tokenizer", "model")
"""What decides on the ids of a text. The rest of a tokenizer.json joins, cuts and pads texts, or shows ids as text."""


def difference(model: Tokenizer, data: Tokenizer) -> str | None:
    """Return in which point the tokenizers of a model and of data differ; None if both give the same ids."""
    if model.special_ids == data.special_ids and model.backend.to_str() == data.backend.to_str():
        return None
    ours, theirs = (_facts(each) for each in (model, data))
    for (name, one), (_, other) in zip(ours.items(), theirs.items(), strict=True):
        if one != other:
            return f"{name} {_first_difference(one, other)}".lstrip()
    return None


def settings_of(backend: "tokenizers.Tokenizer") -> dict[str, Any]:
    """Return what a tokenizer does before it looks up tokens, such as `normalizer.lowercase: True`."""
    content = json.loads(backend.to_str())
    content["model"] = {name: value for name, value in content["model"].items() if name not in {"vocab", "merges"}}
    found = {".".join(path): value for part in _PARTS for path, value in _leaves((part,), content[part])}
    if found.get("normalizer.type") == "BertNormalizer":  # not set, strip_accents follows lowercase
        found.setdefault("normalizer.strip_accents", found["normalizer.lowercase"])
    return found


def _facts(tokenizer: Tokenizer) -> dict[str, dict[Any, Any]]:
    """Return all that decides on the ids of a text, the settings first, for a message to name them."""
    content = json.loads(tokenizer.backend.to_str())
    model, roles = content["model"], tokenizer.special_ids
    vocabulary = {token_id: token for token, token_id in tokenizer.backend.get_vocab().items()}
    added = (token for token in content["added_tokens"] if token["id"] not in roles)
    scores = model["vocab"] if model["type"] == "Unigram" else []
    return {
        "": settings_of(tokenizer.backend),
        "the token of id": {token_id: vocabulary[token_id] for token_id in sorted(vocabulary)},
        "the id of": dict(zip(SPECIAL_TOKENS, roles, strict=True)),
        "merge": dict(enumerate(map(str, model.get("merges", ())))),
        "score": dict(enumerate(score for _, score in scores)),
        "the added token": {token.pop("content"): token for token in added},
    }


def _first_difference(one: dict[Any, Any], other: dict[Any, Any]) -> str:
    name = next(name for name in one | other if one.get(name) != other.get(name))
    return f"{name!s:.60} is {one.get(name)!r:.60} for the model and {other.get(name)!r:.60} for the data"


def _leaves(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401
    """Yield each value that is not a container, with its path; nothing for one that is empty or not set."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in items:
            yield from _leaves((*path, str(name)), inner)
    elif value is not None and value != "":
        yield path, value
