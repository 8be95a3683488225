"""The tensors of `Bert` and of the class of transformers that computes it: the same numbers under two sets of names.

Besides the names, two things differ. Some classes have three matrices for queries, keys and values, bertpipe one. And
the NSP class 0 of `BertForPreTraining` and `MegatronBertForPreTraining` means that B follows A (`next_sentence_label`
of their `forward`), as class 1 does in bertpipe: only here the rows of the NSP head are swapped, both ways.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bertpipe.core.params import ArchitectureName
from bertpipe.model.bert import Bert, Head

_KINDS = ("weight", "bias")
_SEGMENTS = "embeddings.segment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterpart:
    """A class of transformers that computes one of our architectures, and its names of our modules."""

    name: str
    """Of the class with the MLM head, and the NSP head where it has both."""
    model_type: str
    """Of its config."""
    modules: Mapping[str, str]
    """Modules outside the layers."""
    layer: str
    """What a layer's names begin with, `{}` for its number."""
    layer_modules: Mapping[str, str]
    projections: tuple[str, ...]
    """Queries, keys and values: three modules of a layer, or one of all."""
    nsp_modules: Mapping[str, str]
    """Modules of the NSP head."""
    nsp_class: str | None = None
    """The class that has the NSP head, if it is another one. Its classes are ours."""
    shared_bias: str | None = None
    """A second name of the decoder's bias, the only one in a file if the decoder is tied."""
    decoder: str = "decoder"
    base: str = "bert."
    """What the class without heads leaves out at the beginning of names."""

    @property
    def head_prefixes(self) -> dict[Head, tuple[str, ...]]:
        """What the names of each head's tensors begin with."""
        nsp = tuple(f"{name}." for name in self.nsp_modules.values())
        return {"nsp": nsp, "mlm": ("cls.predictions.",) if self.shared_bias else ("head.", f"{self.decoder}.")}


_BERT = Counterpart(
    name="BertForPreTraining",
    model_type="bert",
    modules={
        "embeddings.token": "bert.embeddings.word_embeddings",
        "embeddings.position": "bert.embeddings.position_embeddings",
        _SEGMENTS: "bert.embeddings.token_type_embeddings",
        "embeddings.norm": "bert.embeddings.LayerNorm",
        "mlm_transform.dense": "cls.predictions.transform.dense",
        "mlm_transform.norm": "cls.predictions.transform.LayerNorm",
    },
    layer="bert.encoder.layer.{}",
    layer_modules={
        "attention_output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "feed_forward_in": "intermediate.dense",
        "feed_forward_out": "output.dense",
        "feed_forward_norm": "output.LayerNorm",
    },
    projections=("attention.self.query", "attention.self.key", "attention.self.value"),
    nsp_modules={"pooler": "bert.pooler.dense", "nsp_head": "cls.seq_relationship"},
    shared_bias="cls.predictions.bias",
    decoder="cls.predictions.decoder",
)
COUNTERPARTS: dict[ArchitectureName, Counterpart] = {
    "bert": _BERT,
    "preln": Counterpart(
        name="MegatronBertForPreTraining",
        model_type="megatron-bert",
        modules={name: there for name, there in _BERT.modules.items() if name != "embeddings.norm"}
        | {"norm": "bert.encoder.ln"},
        layer=_BERT.layer,
        layer_modules={**_BERT.layer_modules, "attention_norm": "attention.ln", "feed_forward_norm": "ln"},
        projections=_BERT.projections,
        nsp_modules=_BERT.nsp_modules,
        shared_bias=_BERT.shared_bias,
        decoder=_BERT.decoder,
    ),
    "modern": Counterpart(
        name="ModernBertForMaskedLM",
        model_type="modernbert",
        modules={
            "embeddings.token": "model.embeddings.tok_embeddings",
            "embeddings.norm": "model.embeddings.norm",
            "norm": "model.final_norm",
            "mlm_transform.dense": "head.dense",
            "mlm_transform.norm": "head.norm",
        },
        layer="model.layers.{}",
        layer_modules={
            "attention_output": "attn.Wo",
            "attention_norm": "attn_norm",
            "feed_forward_in": "mlp.Wi",
            "feed_forward_out": "mlp.Wo",
            "feed_forward_norm": "mlp_norm",
        },
        projections=("attn.Wqkv",),
        nsp_modules={"nsp_transform.dense": "head.dense", "nsp_transform.norm": "head.norm", "nsp_head": "classifier"},
        nsp_class="ModernBertForSequenceClassification",
        base="model.",
    ),
}
"""By architecture. There is none for `notebook`."""


def to_huggingface(bert: Bert, *, nsp_class: bool = False) -> dict[str, Tensor]:
    """Return the tensors that `save_pretrained` of a network's counterpart would write.

    With `nsp_class` they are those of the counterpart's class with the NSP head, where it is another one.
    """
    counterpart, ours = COUNTERPARTS[bert.params.architecture], bert.state_dict()
    theirs = {}
    for here, there in _tensors(counterpart, bert, nsp_class=nsp_class):
        for name, part in zip(there, ours[here].chunk(len(there)), strict=True):
            theirs[name] = part.flip(0) if _is_swapped(counterpart, here) else part
    tied = {f"{counterpart.decoder}.weight"} if bert.params.tied else set()
    if counterpart.shared_bias and not nsp_class:
        theirs[counterpart.shared_bias] = ours["mlm_decoder.bias"]
        tied |= {f"{counterpart.decoder}.bias"} if bert.params.tied else set()
    return {name: tensor.detach().cpu().clone() for name, tensor in theirs.items() if name not in tied}


def huggingface_shapes(bert: Bert, *, nsp_class: bool = False) -> dict[str, torch.Size]:
    """Return the shape of each tensor that `copy_from_huggingface` reads: those of the one class, or of the other."""
    counterpart, ours = COUNTERPARTS[bert.params.architecture], bert.state_dict()
    return {
        name: torch.Size([ours[here].shape[0] // len(there), *ours[here].shape[1:]])
        for here, there in _tensors(counterpart, bert, nsp_class=nsp_class)
        for name in there
        if not nsp_class or here.startswith("nsp_")
    }


def copy_from_huggingface(weights: Mapping[str, Tensor], bert: Bert, nsp: Mapping[str, Tensor] | None = None) -> None:
    """Give `bert` the tensors of its counterpart's `state_dict()`; both have the same shape.

    What `weights` lacks stays as it is. One kind of segment is used for both sentences; of more than two kinds, the
    first two are used. `nsp` are the tensors of the class with the NSP head, where it is another one.
    """
    counterpart = COUNTERPARTS[bert.params.architecture]
    ours = bert.state_dict()
    for here, there in _tensors(counterpart, bert):
        if weights.keys() >= {*there}:
            tensor = torch.cat([weights[name] for name in there])
            if here == f"{_SEGMENTS}.weight":
                tensor = tensor[:2] if len(tensor) > 1 else tensor.repeat(2, 1)
            ours[here] = tensor.flip(0) if _is_swapped(counterpart, here) else tensor
    if counterpart.nsp_class and nsp is not None:
        for here, names in _tensors(counterpart, bert, nsp_class=True):
            if here.startswith("nsp_"):
                ours[here] = nsp[names[0]]
    bert.load_state_dict(ours)


def _is_swapped(counterpart: Counterpart, name: str) -> bool:
    return name.startswith("nsp_head.") and counterpart.nsp_class is None


def _tensors(counterpart: Counterpart, bert: Bert, *, nsp_class: bool = False) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the name of each tensor here, and the names of its parts there."""
    ours = bert.state_dict().keys()
    for here, there in _modules(counterpart, bert, nsp_class=nsp_class):
        for kind in _KINDS:
            if f"{here}.{kind}" in ours:
                yield f"{here}.{kind}", tuple(f"{part}.{kind}" for part in there)


def _modules(counterpart: Counterpart, bert: Bert, *, nsp_class: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    for here, there in counterpart.modules.items():
        if not (nsp_class and here.startswith("mlm_")):
            yield here, (there,)
    if nsp_class or counterpart.nsp_class is None:
        yield from ((here, (there,)) for here, there in counterpart.nsp_modules.items())
    if not nsp_class:
        yield "mlm_decoder", (counterpart.decoder,)
    for number in range(bert.params.layers):
        layer = counterpart.layer.format(number)
        yield f"layers.{number}.query_key_value", tuple(f"{layer}.{part}" for part in counterpart.projections)
        for here, there in counterpart.layer_modules.items():
            yield f"layers.{number}.{here}", (f"{layer}.{there}",)
