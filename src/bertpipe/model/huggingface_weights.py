"""The tensors of `Bert` and of Hugging Face's `BertForPreTraining`: the same numbers under two sets of names.

Besides the names, two things differ. Hugging Face has three matrices for queries, keys and values, bertpipe one. And
Hugging Face's NSP class 0 means that B follows A (`next_sentence_label` of `BertForPreTraining.forward`), as class 1
does in bertpipe: only here the rows of the NSP head are swapped, in both directions.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from bertpipe.model.bert import Bert

_KINDS = ("weight", "bias")
_SEGMENTS = "embeddings.segment.weight"
_EMBEDDINGS = {
    "embeddings.token.weight": "bert.embeddings.word_embeddings.weight",
    "embeddings.position.weight": "bert.embeddings.position_embeddings.weight",
    _SEGMENTS: "bert.embeddings.token_type_embeddings.weight",
}
_MODULES = {
    "embeddings.norm": "bert.embeddings.LayerNorm",
    "pooler": "bert.pooler.dense",
    "mlm_transform.dense": "cls.predictions.transform.dense",
    "mlm_transform.norm": "cls.predictions.transform.LayerNorm",
}
_LAYER_MODULES = {
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward_in": "intermediate.dense",
    "feed_forward_out": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
_DECODER, _NSP = "cls.predictions.decoder", "cls.seq_relationship"
_SHARED_BIAS = "cls.predictions.bias"
"""The name of the bias of a tied decoder."""


def to_huggingface(bert: Bert) -> dict[str, Tensor]:
    """Return the tensors that `BertForPreTraining.save_pretrained` would write for a network of the `bert` shape."""
    ours = bert.state_dict()
    theirs = {there: ours[here] for here, there in _EMBEDDINGS.items()}
    for here, there in _modules(bert):
        theirs |= {f"{there}.{kind}": ours[f"{here}.{kind}"] for kind in _KINDS}
    for kind in _KINDS:
        for here, thirds in _projections(bert):
            split = ours[f"{here}.{kind}"].chunk(3)
            theirs |= {f"{there}.{kind}": third for there, third in zip(thirds, split, strict=True)}
        theirs[f"{_NSP}.{kind}"] = ours[f"nsp_head.{kind}"].flip(0)
    theirs[_SHARED_BIAS] = ours["mlm_decoder.bias"]
    if not bert.params.tied:
        theirs |= {f"{_DECODER}.{kind}": ours[f"mlm_decoder.{kind}"].clone() for kind in _KINDS}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in theirs.items()}


def copy_from_huggingface(weights: Mapping[str, Tensor], bert: Bert) -> None:
    """Give `bert` the tensors of `BertForPreTraining.state_dict()`; both have the same shape.

    One kind of segment is used for both sentences; of more than two kinds, the first two are used.
    """
    ours = {here: weights[there] for here, there in _EMBEDDINGS.items()}
    segments = ours[_SEGMENTS]
    ours[_SEGMENTS] = segments[:2] if len(segments) > 1 else segments.repeat(2, 1)
    for kind in _KINDS:
        ours |= {f"{here}.{kind}": weights[f"{there}.{kind}"] for here, there in _modules(bert)}
        for here, thirds in _projections(bert):
            ours[f"{here}.{kind}"] = torch.cat([weights[f"{there}.{kind}"] for there in thirds])
        ours[f"nsp_head.{kind}"] = weights[f"{_NSP}.{kind}"].flip(0)
        ours[f"mlm_decoder.{kind}"] = weights[f"{_DECODER}.{kind}"]
    bert.load_state_dict(ours)


def _modules(bert: Bert) -> Iterator[tuple[str, str]]:
    """Yield the names, here and there, of each module that is equal in both."""
    yield from _MODULES.items()
    for number in range(bert.params.layers):
        for here, there in _LAYER_MODULES.items():
            yield f"layers.{number}.{here}", f"bert.encoder.layer.{number}.{there}"


def _projections(bert: Bert) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the name of each layer's projection here, and those of its three parts there."""
    for number in range(bert.params.layers):
        attention = f"bert.encoder.layer.{number}.attention.self"
        yield f"layers.{number}.query_key_value", tuple(f"{attention}.{part}" for part in ("query", "key", "value"))
