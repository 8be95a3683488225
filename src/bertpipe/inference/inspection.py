"""One input on its way through a model, step by step, as plain data for learners.

Axes in this file: batch (rows; one here), seq (tokens, padding included), hidden (`embedding_dim`), heads,
class (not next, next), vocab.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bertpipe.core.errors import InputError
from bertpipe.data.tokenization.model_tokenizer import ModelTokenizer
from bertpipe.data.tokenization.tokenizer import PAD_ID
from bertpipe.model.bert import Bert
from bertpipe.model.encoder import EncoderLayer
from bertpipe.model.store import LoadedModel

_PADDING = 2
"""Padding tokens added to the input, so that the mask has something to hide."""
_SHOWN_TOKENS = 3
_SHOWN_VALUES = 5
_PARTS = {
    "token": "what the token is",
    "position": "where the token stands",
    "segment": "which sentence the token belongs to",
}
"""What each embedding says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedToken:
    """One token of the input."""

    position: int
    token: str
    token_id: int
    segment: str
    """`A`, `B`, or `padding`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The first values of one row of a tensor."""

    label: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One tensor on the way from ids to answers."""

    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    meaning: str
    rows: tuple[Row, ...]
    """The first values of the first tokens; all values where a tensor is small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Which token one head of the last layer has one token attend to most."""

    head: int
    """Counted from 1."""
    position: int
    token: str
    most_attended_position: int
    most_attended_token: str
    weight: float
    """The share of the token's attention that this token gets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """One input on its way through a model."""

    model: str
    architecture: str
    tokens: tuple[InspectedToken, ...]
    steps: tuple[Step, ...]
    attention: tuple[Attention, ...]
    """Of the last layer: by head, then by token, without padding."""
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the inspection as JSON content."""
        return asdict(self)


def inspect_input(loaded: LoadedModel, text: str, second: str | None) -> Inspection:
    """Return each step of the work of a model on the CPU on `[CLS] text [SEP]`, or on `[CLS] text [SEP] second [SEP]`.

    Raises:
        InputError: a sentence is empty, or they are too long for the model together.
    """
    bert, tokenizer = loaded.bert, loaded.tokenizer
    ids, second_start, notes = _encode(tokenizer, text, second)
    length, room = len(ids), bert.params.max_positions
    if length > room:
        raise InputError(f"the input has {length} tokens, and the model reads {room} at most: shorten it")
    padded = [*ids, *[PAD_ID] * min(_PADDING, room - length)]
    if len(padded) > length:
        notes.append(
            f"the {len(padded) - length} [PAD] at the end were added to show the padding mask: a batch "
            f"pads its shorter rows like this, and no token attends to them"
        )
    notes += loaded.notes
    names = [tokenizer.token(token_id) for token_id in padded]
    walk = _Walk(bert=bert, labels=tuple(names))
    with torch.inference_mode():
        steps, attention = walk.follow(
            torch.tensor([padded]), torch.tensor([length]), torch.tensor([second_start]), length
        )
    segments = ["A"] * second_start + ["B"] * (length - second_start) + ["padding"] * (len(padded) - length)
    return Inspection(
        model=loaded.name,
        architecture=bert.params.architecture,
        tokens=tuple(
            InspectedToken(position=position, token=token, token_id=token_id, segment=segment)
            for position, (token, token_id, segment) in enumerate(zip(names, padded, segments, strict=True))
        ),
        steps=tuple(steps),
        attention=tuple(attention),
        notes=tuple(notes),
    )


def _encode(tokenizer: ModelTokenizer, text: str, second: str | None) -> tuple[list[int], int, list[str]]:
    """Return the ids with `[CLS]` and `[SEP]`, where sentence B starts, and what to say of the input."""
    first = tokenizer.encode(text, "the text" if second is None else "the first sentence")
    ids = [tokenizer.cls_id, *first.ids, tokenizer.sep_id]
    if second is None:
        note = "there is one sentence only: the next-sentence head answers, but it means nothing"
        return ids, len(ids), [*tokenizer.warnings(first), note]
    other = tokenizer.encode(second, "the second sentence")
    return [*ids, *other.ids, tokenizer.sep_id], len(ids), [*tokenizer.warnings(first, other)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Walk:
    """Follows one input through a network, and keeps what it sees."""

    bert: Bert
    labels: tuple[str, ...]

    def follow(
        self, ids: Tensor, lengths: Tensor, second_start: Tensor, length: int
    ) -> tuple[list[Step], list[Attention]]:
        """Return the steps, and the last layer's attention."""
        states: list[Tensor] = []
        weights = torch.empty(0)

        def look(layer: EncoderLayer, hidden: Tensor, mask: Tensor | None) -> None:
            nonlocal weights
            states.append(hidden)
            if len(states) == len(self.bert.layers):
                weights = layer.attention_weights(hidden, mask)

        last = self.bert(ids, lengths, second_start, on_layer=look)
        steps = self._embed(ids, lengths, second_start)
        seen = torch.arange(ids.shape[1]) < lengths[:, None]
        steps.append(
            Step(
                name="padding mask",
                axes=("batch", "seq"),
                shape=tuple(seen.shape),
                meaning="1: a token that others may attend to; 0: padding, hidden from attention",
                rows=(Row(label="all tokens", values=tuple(seen[0].int().tolist())),),
            )
        )
        meaning = "each token with what it gathered from the tokens it attends to"
        for number, hidden in enumerate([*states[1:], last], start=1):
            steps.append(self._step(f"encoder layer {number}", hidden, "hidden", meaning))
        return steps + self._heads(last), self._attention(weights[0, :, :length, :length])

    def _embed(self, ids: Tensor, lengths: Tensor, second_start: Tensor) -> list[Step]:
        """Return the steps on the way to the embedded input."""
        embeddings = self.bert.embeddings
        parts = embeddings.parts(ids, lengths, second_start)
        first, *others = parts.values()
        total = sum(others, first)
        steps = [
            Step(
                name="token ids",
                axes=("batch", "seq"),
                shape=tuple(ids.shape),
                meaning="the number of each token in the vocabulary",
                rows=(Row(label="first tokens", values=tuple(ids[0, :_SHOWN_VALUES].tolist())),),
            ),
            *(self._step(f"{name} embedding", part, "hidden", _PARTS[name]) for name, part in parts.items()),
        ]
        if others:
            meaning = "what, where and which sentence in one vector"
            steps.append(self._step("sum of the three", total, "hidden", meaning))
        if isinstance(embeddings.norm, nn.LayerNorm):
            summed, shifted = ("sum", ", then scaled and shifted") if others else ("embedding", ", then scaled")
            meaning = f"the {summed} with mean 0 and variance 1 over each token's values{shifted}"
            steps.append(self._step(f"LayerNorm of the {summed}", embeddings.norm(total), "hidden", meaning))
        return steps

    def _heads(self, hidden: Tensor) -> list[Step]:
        nsp = self.bert.nsp_logits(hidden)
        probabilities = nsp.softmax(dim=-1)
        meaning = "from [CLS] alone: a score for `not next`, one for `next`"
        return [
            _nsp_step("NSP logits", nsp, meaning),
            _nsp_step("NSP probabilities", probabilities, "the scores as probabilities (softmax)"),
            self._step("MLM logits", self.bert.mlm_logits(hidden), "vocab", "for each token, a score for each word"),
        ]

    def _step(self, name: str, tensor: Tensor, last_axis: str, meaning: str) -> Step:
        """Return the step of a tensor [batch, seq, ...]."""
        shown = zip(self.labels[:_SHOWN_TOKENS], tensor[0, :_SHOWN_TOKENS, :_SHOWN_VALUES].tolist(), strict=True)
        return Step(
            name=name,
            axes=("batch", "seq", last_axis),
            shape=tuple(tensor.shape),
            meaning=meaning,
            rows=tuple(Row(label=label, values=tuple(values)) for label, values in shown),
        )

    def _attention(self, weights: Tensor) -> list[Attention]:
        """Return the strongest link of each head and token from weights [heads, seq, seq]."""
        strongest, where = weights.max(dim=-1)
        return [
            Attention(
                head=head + 1,
                position=position,
                token=self.labels[position],
                most_attended_position=target,
                most_attended_token=self.labels[target],
                weight=weight,
            )
            for head, (row, targets) in enumerate(zip(strongest.tolist(), where.tolist(), strict=True))
            for position, (weight, target) in enumerate(zip(row, targets, strict=True))
        ]


def _nsp_step(name: str, scores: Tensor, meaning: str) -> Step:
    values: Sequence[float] = scores[0].tolist()
    rows = tuple(Row(label=label, values=(value,)) for label, value in zip(("not next", "next"), values, strict=True))
    return Step(name=name, axes=("batch", "class"), shape=tuple(scores.shape), meaning=meaning, rows=rows)
