"""Answers of one model in words: does B follow A, and which words stand behind `[MASK]`.

Shapes in this file: vocab, and masks (the `[MASK]` tokens of a text).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from bertpipe.artifacts import CONFIG_NAME, MODEL_DIR
from bertpipe.data.fitting import kept_lengths
from bertpipe.data.tokenization import is_unknown_token, load_tokenizer
from bertpipe.data.wording import MASK, Encoded, Vocabulary, own_vocabulary
from bertpipe.errors import InputError, MissingInputError, ModelError
from bertpipe.model.bert import Bert
from bertpipe.model.device import pick_device
from bertpipe.model.store import is_own_model, load_model

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class NspAnswer:
    """Whether the second sentence follows the first."""

    probability_next: float
    probability_not_next: float
    warnings: tuple[str, ...]

    @property
    def is_next(self) -> bool:
        """The verdict: the more probable of the two."""
        return self.probability_next > self.probability_not_next


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One token that may stand behind a `[MASK]`."""

    token: str
    token_id: int
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskAnswer:
    """What may stand behind one `[MASK]`."""

    position: int
    """Where it stands among the text's tokens, counted from 1 (`[CLS]` is 0)."""
    candidates: tuple[Candidate, ...]
    """The most probable first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlmAnswer:
    """What may stand behind each `[MASK]` of a text."""

    masks: tuple[MaskAnswer, ...]
    filled_text: str
    """The text as it was given, each `[MASK]` replaced by its most probable token."""
    warnings: tuple[str, ...]


class Network(Protocol):
    """What both kinds of model can do; token ids come with `[CLS]` and `[SEP]`, without padding."""

    @property
    def max_positions(self) -> int:
        """Longest input in tokens."""

    def nsp_logits(self, token_ids: Sequence[int], second_segment_start: int) -> Tensor:
        """Return NSP logits [2]: not next, next."""

    def mlm_logits(self, token_ids: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Return vocabulary logits [positions, vocab]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnNetwork:
    """A `Bert` of ours."""

    bert: Bert

    @property
    def max_positions(self) -> int:
        """Longest input in tokens."""
        return self.bert.params.max_positions

    def nsp_logits(self, token_ids: Sequence[int], second_segment_start: int) -> Tensor:
        """Return NSP logits [2]: not next, next."""
        with torch.inference_mode():
            return self.bert.nsp_logits(self._hidden(token_ids, second_segment_start))[0]

    def mlm_logits(self, token_ids: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Return vocabulary logits [positions, vocab]."""
        with torch.inference_mode():
            return self.bert.mlm_logits(self._hidden(token_ids, len(token_ids))[0, list(positions)])

    def _hidden(self, token_ids: Sequence[int], second_segment_start: int) -> Tensor:
        device = self.bert.embeddings.token.weight.device
        ids = torch.tensor([list(token_ids)], device=device)
        lengths = torch.tensor([len(token_ids)], device=device)
        hidden: Tensor = self.bert(ids, lengths, torch.tensor([second_segment_start], device=device))
        return hidden


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A model with its vocabulary, ready for questions; the same question gets the same answer."""

    name: str
    """The directory or hub name of the model."""
    network: Network
    vocabulary: Vocabulary

    def next_sentence(self, first: str, second: str) -> NspAnswer:
        """Return whether `second` follows `first`; sentences too long for the model are cut, with a warning.

        Raises:
            InputError: a sentence is empty.
            ModelError: the model has no NSP head, or answers with what is no number.
        """
        vocabulary = self.vocabulary
        one, two = (
            vocabulary.encode(first, "the first sentence"),
            vocabulary.encode(second, "the second sentence"),
        )
        kept = [int(length) for length in kept_lengths(len(one.ids), len(two.ids), self.network.max_positions - 3)]
        ids = [
            vocabulary.cls_id,
            *one.ids[: kept[0]],
            vocabulary.sep_id,
            *two.ids[: kept[1]],
            vocabulary.sep_id,
        ]
        logits = self._answer(self.network.nsp_logits(ids, kept[0] + 2))
        not_next, is_next = logits.double().softmax(dim=-1).tolist()
        cuts = ((one, kept[0], "first"), (two, kept[1], "second"))
        cut_warnings = (
            f"the model reads {self.network.max_positions} tokens at most: "
            f"the last {len(text.ids) - left} of the {name} sentence's {len(text.ids)} tokens were left out"
            for text, left, name in cuts
            if left < len(text.ids)
        )
        warnings = (*vocabulary.warnings(one, two), *cut_warnings)
        return NspAnswer(probability_next=is_next, probability_not_next=not_next, warnings=warnings)

    def fill_masks(self, text: str, top_k: int) -> MlmAnswer:
        """Return the `top_k` most probable tokens of each `[MASK]`; the whole vocabulary if it is smaller.

        Raises:
            InputError: the text is empty, has no `[MASK]`, or is too long to be read with all of them.
            ModelError: the model answers with what is no number.
        """
        if top_k < 1:
            raise InputError(f"top_k is {top_k}: ask for 1 candidate or more")
        vocabulary = self.vocabulary
        encoded = vocabulary.encode(text, "the text")
        masked = [index for index, token_id in enumerate(encoded.ids) if token_id == vocabulary.mask_id]
        if not masked:
            capitals = ", in capitals" if MASK.lower() in text.lower() else ""
            raise InputError(f"there is no {MASK} in {text!r}: write {MASK}{capitals} where a word is to be found")
        start, end = _window(len(encoded.ids), masked, self.network.max_positions - 2)
        ids = [vocabulary.cls_id, *encoded.ids[start:end], vocabulary.sep_id]
        logits = self._answer(self.network.mlm_logits(ids, [index - start + 1 for index in masked]))
        masks = tuple(
            MaskAnswer(position=index + 1, candidates=self._candidates(row, top_k))
            for index, row in zip(masked, logits, strict=True)
        )
        warnings = list(vocabulary.warnings(encoded))
        if len(masked) > 1:
            warnings.append(f"each of the {len(masked)} {MASK} is answered by itself: the words need not fit together")
        if end - start < len(encoded.ids):
            warnings.append(
                f"the model reads {self.network.max_positions} tokens at most: "
                f"of {len(encoded.ids)} tokens it read numbers {start + 1} to {end}, which hold every {MASK}"
            )
        if vocabulary.has_words and any(is_unknown_token(c.token) for mask in masks for c in mask.candidates):
            warnings.append("a candidate [unknown-ID] is an id that has no word in this model's vocabulary")
        filled = _fill(encoded, masked, [mask.candidates[0].token for mask in masks], vocabulary.continuation_prefix)
        return MlmAnswer(masks=masks, filled_text=filled, warnings=tuple(warnings))

    def _answer(self, logits: Tensor) -> Tensor:
        """Return logits that are numbers."""
        if not bool(logits.isfinite().all()):
            raise ModelError(
                f"{self.name} answers with what is no number: its weights are damaged or too large; "
                f"train it again with a lower train.learning_rate, or ask another model"
            )
        return logits

    def _candidates(self, logits: Tensor, top_k: int) -> tuple[Candidate, ...]:
        """Return the best tokens of logits [vocab]; of equals, the smaller id first."""
        probabilities, ids = logits.double().softmax(dim=-1).sort(descending=True, stable=True)
        best = zip(ids[:top_k].tolist(), probabilities[:top_k].tolist(), strict=True)
        return tuple(
            Candidate(token=self.vocabulary.token(token_id), token_id=token_id, probability=probability)
            for token_id, probability in best
        )


def load_predictor(model: str, *, device: str = "auto") -> Predictor:
    """Return the predictor of a model directory of ours, a Hugging Face directory, or a hub name.

    Whatever exists is local, and so is a name with a slash that does not read like `owner/name`.

    Args:
        model: the directory or name.
        device: `auto` (a GPU if there is one), `cpu` or `cuda`.

    Raises:
        MissingInputError: a local directory is not there.
        ModelError: the model cannot be read.
        ParamsError: the device is not there.
    """
    path = Path(model)
    target = pick_device(device)
    if path.exists() and not (path / CONFIG_NAME).is_file():
        raise ModelError(f"{model} is not a model directory: it has no {CONFIG_NAME}")
    if is_own_model(path):
        return _own_predictor(path, target)
    if path.exists():
        return _huggingface_predictor(path, target)
    if path == MODEL_DIR or not _HUB_NAME.fullmatch(model):
        raise MissingInputError(
            f"there is no model at {model}: run `bertpipe train` first, or name another with --model"
        )
    try:
        return _huggingface_predictor(model, target)
    except ModelError as error:
        raise ModelError(f"there is no directory {model} here, so it was taken for a hub name: {error}") from error


def _own_predictor(path: Path, device: torch.device) -> Predictor:
    stored = load_model(path)
    network = OwnNetwork(bert=stored.bert.to(device))
    return Predictor(name=str(path), network=network, vocabulary=own_vocabulary(load_tokenizer(stored.tokenizer_file)))


def _huggingface_predictor(source: str | Path, device: torch.device) -> Predictor:
    from bertpipe.model.huggingface import load_huggingface  # noqa: PLC0415

    loaded = load_huggingface(source)
    loaded.network.to(device)
    tokenizer = loaded.tokenizer
    vocabulary = Vocabulary(
        backend=tokenizer.backend_tokenizer,
        cls_id=tokenizer.cls_token_id,
        sep_id=tokenizer.sep_token_id,
        mask_id=tokenizer.mask_token_id,
        unknown_id=tokenizer.unk_token_id,
    )
    return Predictor(name=str(source), network=loaded, vocabulary=vocabulary)


def _window(length: int, masked: Sequence[int], room: int) -> tuple[int, int]:
    """Return which of `length` tokens the model reads: all if they fit, else `room` of them around the masks.

    Raises:
        InputError: the masks stand too far apart.
    """
    if length <= room:
        return 0, length
    span = masked[-1] + 1 - masked[0]
    if span > room:
        raise InputError(
            f"from the first to the last {MASK} there are {span} tokens, and the model reads {room} at most: "
            f"ask about fewer masks at a time"
        )
    start = min(max(masked[0] - (room - span) // 2, 0), length - room)
    return start, start + room


def _fill(encoded: Encoded, masked: Sequence[int], tokens: Sequence[str], continuation_prefix: str) -> str:
    """Return the text with its masks replaced; a token that continues a word joins the text before it."""
    filled, done = "", 0
    for index, token in zip(masked, tokens, strict=True):
        start, end = encoded.spans[index]
        marker = encoded.text[start:end]  # some tokenizers count white space beside the mask to it
        start += len(marker) - len(marker.lstrip())
        end -= len(marker) - len(marker.rstrip())
        filled += encoded.text[done:start]
        if continuation_prefix and token.startswith(continuation_prefix):
            filled = filled.rstrip()
            token = token.removeprefix(continuation_prefix)  # noqa: PLW2901
        filled += token
        done = end
    return filled + encoded.text[done:]
