"""The config of a Hugging Face BERT: which network it describes, with transformers' values where it says nothing."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bertpipe.core.artifacts import CONFIG_NAME, read_json
from bertpipe.core.errors import DataError, ModelError
from bertpipe.core.params import Activation, ArchitectureName, ModelParams
from bertpipe.model.huggingface.weights import COUNTERPARTS

_ARCHITECTURES = {counterpart.model_type: architecture for architecture, counterpart in COUNTERPARTS.items()}
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "relu": "relu",
}
"""Hugging Face's names of the values of `model.activation`."""
_MODERN_BIASES = ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias")

_Size = Annotated[int, Field(ge=1)]
_Layers = Annotated[int, Field(ge=1, le=10_000)]
_Positions = Annotated[int, Field(ge=8, le=2**24)]
_Epsilon = Annotated[float, Field(gt=0, lt=1)]
_Dropout = Annotated[float, Field(ge=0, lt=1)]


class HuggingFaceConfig(BaseModel):
    """What bertpipe reads of a config of any type; an alias is a key's name in the file."""

    model_config = ConfigDict(strict=True, frozen=True)

    vocab_size: _Size = 30522
    hidden_size: _Size = 768
    num_hidden_layers: _Layers = 12
    num_attention_heads: _Size = 12
    intermediate_size: _Size = 3072
    max_position_embeddings: _Positions = 512
    type_vocab_size: _Size = 2
    activation: str = Field("gelu", alias="hidden_act")
    epsilon: _Epsilon = Field(1e-12, alias="layer_norm_eps")
    dropout: _Dropout = Field(0.1, alias="hidden_dropout_prob")
    tie_word_embeddings: bool = True
    is_decoder: bool = False
    add_cross_attention: bool = False
    position_embedding_type: str | None = "absolute"
    quantization_config: Any = None


class _Megatron(HuggingFaceConfig):
    vocab_size: _Size = 29056
    hidden_size: _Size = 1024
    num_hidden_layers: _Layers = 24
    num_attention_heads: _Size = 16
    intermediate_size: _Size = 4096


class _Modern(HuggingFaceConfig):
    vocab_size: _Size = 50368
    intermediate_size: _Size = 1152
    num_hidden_layers: _Layers = 22
    max_position_embeddings: _Positions = 8192
    type_vocab_size: Literal[2] = 2  # without segments there is nothing to say of their number
    activation: str = Field("gelu", alias="hidden_activation")
    epsilon: _Epsilon = Field(1e-5, alias="norm_eps")
    dropout: _Dropout = Field(0.0, alias="embedding_dropout")
    attention_bias: bool = False
    mlp_bias: bool = False
    norm_bias: bool = False
    classifier_bias: bool = False
    decoder_bias: bool = True
    classifier_activation: str = "gelu"
    layer_types: list[str] | None = None
    global_attn_every_n_layers: _Size = 3
    rope_parameters: dict[str, dict[str, Any] | None] | None = None
    rope_scaling: dict[str, Any] | None = None
    global_rope_theta: float = 160000.0


_CLASSES: dict[ArchitectureName, type[HuggingFaceConfig]] = {
    "bert": HuggingFaceConfig, "preln": _Megatron, "modern": _Modern,
}  # fmt: skip


def read_config(source: str | Path, path: Path) -> tuple[HuggingFaceConfig, ModelParams]:
    """Return a config, and the network that it describes.

    Args:
        source: the model's name in messages.
        path: its `config.json`.

    Raises:
        ModelError: it cannot be read, or `Bert` cannot compute its network.
    """
    try:
        content = read_json(path)
    except DataError as error:
        raise ModelError(f"the config of {source} cannot be read: {error}; fetch it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"the config of {source} cannot be read: {path} holds no names with values")
    kind = content.get("model_type", "bert")  # the first checkpoints do not say; their tensors do
    if not isinstance(kind, str) or kind not in _ARCHITECTURES:
        raise ModelError(
            f"{source} is a model of type {kind!r:.60}, and bertpipe reads {', '.join(map(repr, _ARCHITECTURES))} "
            f"only: take one of these"
        )
    architecture = _ARCHITECTURES[kind]
    try:
        config = _CLASSES[architecture].model_validate(content)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = ".".join(map(str, fault["loc"]))
        raise ModelError(
            f"{source} has {name:.60} {fault['input']!r:.60} in its config.json, and its "
            f"{fault['msg'][0].lower()}{fault['msg'][1:100]}: correct it there, or take another checkpoint"
        ) from error
    return config, _params(source, config, architecture)


def _params(source: str | Path, config: HuggingFaceConfig, architecture: ArchitectureName) -> ModelParams:
    """Return the network that a config describes.

    Raises:
        ModelError: `Bert` cannot compute it.
    """
    if config.activation not in ACTIVATIONS:
        raise ModelError(
            f"{source} has the activation {config.activation!r:.60}, and bertpipe computes "
            f"{', '.join(sorted(ACTIVATIONS))}: take another checkpoint"
        )
    if config.quantization_config is not None:
        raise ModelError(
            f"{source} has a quantization_config, and bertpipe reads weights as they were trained: take the checkpoint "
            f"that was quantized"
        )
    positions = config.position_embedding_type or "absolute"
    if positions != "absolute" or config.is_decoder or config.add_cross_attention:
        has = f"{positions!r:.60} positions" if positions != "absolute" else "a decoder's attention"
        raise ModelError(f"{source} has {has}, and bertpipe reads encoders with absolute positions: take another one")
    if config.hidden_size % config.num_attention_heads:
        raise ModelError(
            f"{source} has hidden_size {config.hidden_size}, which is not a multiple of its num_attention_heads "
            f"{config.num_attention_heads}: correct its {CONFIG_NAME}"
        )
    return ModelParams(
        architecture=architecture,
        initialization="orthogonal",
        vocab_size=config.vocab_size,
        embedding_dim=config.hidden_size,
        heads=config.num_attention_heads,
        layers=config.num_hidden_layers,
        feed_forward_dim=config.intermediate_size,
        max_positions=config.max_position_embeddings,
        rotary_base=_rotary_base(source, config) if isinstance(config, _Modern) else 10000.0,
        dropout=config.dropout,
        tied=config.tie_word_embeddings,
        activation=ACTIVATIONS[config.activation],
        norm_epsilon=config.epsilon,
    )


def _rotary_base(source: str | Path, config: _Modern) -> float:
    """Return the base of a ModernBERT's rotary positions.

    Raises:
        ModelError: it has what `Bert` does not: attention to neighbours only, biases, or two activations.
    """
    few = config.global_attn_every_n_layers > 1 and config.num_hidden_layers > 1
    kinds = set(config.layer_types or (["full_attention", "sliding_attention"] if few else ["full_attention"]))
    biases = [name for name in _MODERN_BIASES if getattr(config, name)]
    if kinds != {"full_attention"} or biases or not config.decoder_bias:
        others = ", ".join(sorted(kinds - {"full_attention"}))
        has = f"layers with another attention ({others:.60})" if others else ", ".join(biases)
        raise ModelError(
            f"{source} has {has or 'no bias in its decoder'}, and bertpipe computes ModernBERT with full attention in "
            f"every layer and with a bias in the decoder alone: take another checkpoint"
        )
    rotary = {**((config.rope_parameters or {}).get("full_attention") or {}), **(config.rope_scaling or {})}
    rope_type = rotary.get("rope_type", rotary.get("type", "default"))
    if rope_type != "default" or config.classifier_activation != config.activation:
        raise ModelError(
            f"{source} has rope_type {rope_type!r:.30}, hidden_activation {config.activation!r:.30} and "
            f"classifier_activation {config.classifier_activation!r:.30}; bertpipe reads 'default' and one activation "
            f"for both: take another checkpoint"
        )
    base = rotary.get("rope_theta", config.global_rope_theta)
    if isinstance(base, bool) or not isinstance(base, int | float) or not base > 1:
        raise ModelError(f"{source} has rope_theta {base!r:.60}, which has to be above 1: correct its {CONFIG_NAME}")
    return float(base)
