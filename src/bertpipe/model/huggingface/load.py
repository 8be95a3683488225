"""A Hugging Face BERT, from a directory or the hub, as bertpipe's own network.

transformers, whose import takes seconds, is imported only when a model is read. Code in a repository is never run: no
modules, no attention kernels, only pickles of plain tensors.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertpipe.core.artifacts import CONFIG_NAME, NSP_FOLDER
from bertpipe.core.errors import DataError, MissingInputError, ModelError, first_line
from bertpipe.core.params import Activation, ModelParams
from bertpipe.data.tokenization.model_tokenizer import ModelTokenizer
from bertpipe.data.tokenization.user_tokenizer import TOKENIZER_FILES, GivenTokenizer, read_tokenizer
from bertpipe.model.bert import Bert, Head
from bertpipe.model.huggingface.files import FindFile, other_weights, stored_names, wrapper_prefix
from bertpipe.model.huggingface.weights import COUNTERPARTS, copy_from_huggingface
from bertpipe.model.store import LoadedModel

_HUB_TIMEOUT_S = 10.0
_ARCHITECTURES = {counterpart.model_type: architecture for architecture, counterpart in COUNTERPARTS.items()}
_ACTIVATIONS: dict[str, Activation] = {
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
_DECODER_BIASES = {"cls.predictions.bias", "cls.predictions.decoder.bias"}
_LEAST = {
    "vocab_size": 1,
    "hidden_size": 1,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 1,
    "max_position_embeddings": 8,
    "type_vocab_size": 1,
}
"""The least value of each number in a config that says how large the network is."""
_MODERN_BIASES = ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias")
_OLD_NAMES = (".gamma", ".beta")
"""A LayerNorm's weight and bias in the first BERT checkpoints."""
_HEAD_NAMES: dict[Head, str] = {"nsp": "next-sentence", "mlm": "masked-word"}
_NO_CONVERSION = "DISABLE_SAFETENSORS_CONVERSION"
"""Variable that keeps transformers from requesting, in the user's name, the conversion of pickled weights."""


def load_huggingface(source: str | Path) -> LoadedModel:
    """Return the BERT of a directory (a `Path`) or of a hub name (a `str`), on the CPU, in evaluation mode.

    A hub name is looked up in the local cache first, and only then, once, on the network: without a network the error
    comes within seconds.

    Raises:
        ModelError: there is no such model, or it is not a complete BERT that `Bert` can compute.
    """
    with quiet():
        if isinstance(source, Path):
            try:
                return _read(source, local_only=True)
            except OSError as error:
                reason = _reason(error, source)
                raise ModelError(f"{source} cannot be read as a Hugging Face model: {reason}") from error
        try:
            return _read(source, local_only=True)
        except OSError:
            _ask_hub(source)
        try:
            return _read(source, local_only=False)
        except OSError as error:
            raise ModelError(f"{source} cannot be loaded from the Hugging Face hub: {first_line(error)}") from error


def _read(source: str | Path, *, local_only: bool) -> LoadedModel:
    """Return the model; OSError if a file of it is missing."""
    import transformers  # noqa: PLC0415

    config = _config(source, local_only=local_only)
    directory = _tokenizer_directory(source, local_only=local_only)
    given = _tokenizer(source, directory, config.vocab_size)
    params = _params(source, config)
    find = partial(_file, source, local_only=local_only)
    names = _read_part(source, "weights", lambda: stored_names(find))
    prefix = wrapper_prefix(source, names)
    counterpart = COUNTERPARTS[params.architecture]
    weights = {
        "config": config,
        "dtype": torch.float32,
        "output_loading_info": True,
        "local_files_only": local_only,
        "weights_only": True,
        "attn_implementation": "eager",  # a config may name a kernel on the hub, which is code
        "trust_remote_code": False,
        "key_mapping": {f"^{re.escape(prefix)}": ""} if prefix else None,
    }
    network_class = getattr(transformers, counterpart.name)
    network, info = _read_part(source, "weights", lambda: network_class.from_pretrained(source, **weights))
    state = network.state_dict()
    lost = _DECODER_BIASES & info["missing_keys"]
    if len(lost) == 1:  # one tensor with two names, either of which may be in a file
        (name,), (other,) = lost, _DECODER_BIASES - lost
        state[name] = state[other]
    else:
        lost = set()
    missing = sorted(info["missing_keys"] - lost)
    heads = counterpart.head_prefixes
    nsp = None
    if counterpart.nsp_class:
        heads["nsp"] = ()
        nsp = _nsp_weights(source, counterpart.nsp_class, find, local_only=local_only)
    absent = frozenset(head for head, prefixes in heads.items() if any(name.startswith(prefixes) for name in missing))
    if counterpart.nsp_class and nsp is None:
        absent |= {"nsp"}
    encoder = [name for name in missing if not name.startswith(sum(heads.values(), ()))]
    if encoder:
        raise ModelError(
            f"the encoder of {source} is not complete ({len(encoder)} tensors are missing, {encoder[0]} is the first): "
            f"take another checkpoint of a BERT; this one has {', '.join(map(repr, names[:2])):.150}, ..."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # a missing head gets the same weights each time
        bert = Bert(params, config.vocab_size, init_weights=bool(absent))
    first_weights = _head_tensors(bert, absent)
    copy_from_huggingface(state, bert, nsp)
    bert.load_state_dict(first_weights, strict=False)
    return LoadedModel(
        name=str(source),
        bert=bert.eval(),
        tokenizer=ModelTokenizer(given.tokenizer),
        directory=directory,
        missing_heads=absent | ({"nsp"} if _segments(config) == 1 else set()),
        notes=(*given.notes, *_notes(source, config, absent, names, prefix)),
    )


def _nsp_weights(source: str | Path, name: str, find: FindFile, *, local_only: bool) -> Mapping[str, Tensor] | None:
    """Return the tensors of a checkpoint's model with the NSP head; None if there is none."""
    import transformers  # noqa: PLC0415

    if find(f"{NSP_FOLDER}/{CONFIG_NAME}") is None:
        return None
    options = {
        "subfolder": NSP_FOLDER,
        "output_loading_info": True,
        "dtype": torch.float32,
        "local_files_only": local_only,
        "weights_only": True,
        "attn_implementation": "eager",
        "trust_remote_code": False,
    }
    what = f"weights of the folder {NSP_FOLDER}"
    network_class = getattr(transformers, name)
    network, info = _read_part(source, what, lambda: network_class.from_pretrained(str(source), **options))
    if info["missing_keys"]:  # they would have random weights
        raise ModelError(
            f"the {what} of {source} lack {min(info['missing_keys'])!r:.80}: take the folder from the same export"
        )
    weights: Mapping[str, Tensor] = network.state_dict()
    return weights


def _segments(config: Any) -> int:  # noqa: ANN401
    """Return how many kinds of segments a config has; 2 for an architecture without segments."""
    return int(getattr(config, "type_vocab_size", 2))


def _reason(error: OSError, directory: Path) -> str:
    """Return why a directory cannot be read; what it has instead, where its weights are of another kind."""
    reason = first_line(error)
    advice = "" if "no vocabulary" in reason else "; fetch it again"  # the former says what to do
    return (other_weights(directory) if "no file named" in reason else None) or f"{reason}{advice}"


def _config(source: str | Path, *, local_only: bool) -> Any:  # noqa: ANN401
    """Return a checkpoint's config; OSError if it is missing."""
    from transformers import AutoConfig, BertConfig  # noqa: PLC0415

    options: dict[str, Any] = {"local_files_only": local_only, "trust_remote_code": False}
    try:
        content, _ = BertConfig.get_config_dict(source, **options)
        # The first checkpoints do not say what they are. Their tensors do.
        if "model_type" in content:
            config = AutoConfig.from_pretrained(source, **options)
        else:
            config = BertConfig.from_pretrained(source, **options)
    except OSError:
        raise
    except ValueError as error:  # an unknown model type, or a config that is not JSON
        raise ModelError(f"{source} is not a BERT that transformers can read: {_all_lines(error)}") from error
    except Exception as error:  # huggingface_hub has errors of its own for a value of the wrong type
        raise ModelError(f"the config of {source} cannot be read: {_all_lines(error)}; fetch it again") from error
    if config.model_type not in _ARCHITECTURES:
        raise ModelError(
            f"{source} is a model of type {config.model_type!r:.60}, and bertpipe reads "
            f"{', '.join(map(repr, _ARCHITECTURES))} only: take one of these"
        )
    return config


def _all_lines(error: Exception) -> str:
    """Return the beginning of an error's message on one line."""
    return f"{' '.join(str(error).split()).rstrip(':. '):.200}"


def _params(source: str | Path, config: Any) -> ModelParams:  # noqa: ANN401
    """Return the shape that a config describes.

    Raises:
        ModelError: `Bert` cannot compute it.
    """
    architecture = _ARCHITECTURES[config.model_type]
    names = COUNTERPARTS[architecture].config_names
    activation, epsilon, dropout = (getattr(config, name) for name in names)
    if activation not in _ACTIVATIONS:
        raise ModelError(
            f"{source} has the activation {activation!r:.60}, and bertpipe computes "
            f"{', '.join(sorted(_ACTIVATIONS))}: take another checkpoint"
        )
    for name, least in _LEAST.items():
        if getattr(config, name, least) < least:
            raise ModelError(
                f"{source} has {name} {getattr(config, name)}, and bertpipe needs {least} at least: take another "
                f"checkpoint"
            )
    if not 0 < epsilon < 1 or not 0 <= dropout < 1:  # NaN is neither
        raise ModelError(
            f"{source} has {names[1]} {epsilon} and {names[2]} {dropout}, which have to be between 0 and 1: correct "
            f"its config.json"
        )
    positions = getattr(config, "position_embedding_type", None) or "absolute"
    decoder = getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False)
    if positions != "absolute" or decoder:
        kind = f"{positions!r} positions" if positions != "absolute" else "a decoder's attention"
        raise ModelError(f"{source} has {kind}, and bertpipe reads encoders with absolute positions: take another one")
    if config.hidden_size % config.num_attention_heads:
        raise ModelError(
            f"{source} has hidden_size {config.hidden_size}, which is not a multiple of its num_attention_heads "
            f"{config.num_attention_heads}: correct its config.json"
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
        rotary_base=_rotary_base(source, config) if architecture == "modern" else 10000.0,
        dropout=dropout,
        tied=config.tie_word_embeddings,
        activation=_ACTIVATIONS[activation],
        norm_epsilon=epsilon,
    )


def _rotary_base(source: str | Path, config: Any) -> float:  # noqa: ANN401
    """Return the base of a ModernBERT's rotary positions.

    Raises:
        ModelError: it has what `Bert` does not: attention to neighbours only, biases, or two activations.
    """
    kinds, rotary = set(config.layer_types), config.rope_parameters["full_attention"]
    biases = [name for name in _MODERN_BIASES if getattr(config, name)]
    if kinds != {"full_attention"} or biases or not config.decoder_bias:
        has = "layers that attend to neighbours only (sliding_attention)" if len(kinds) > 1 else ", ".join(biases)
        raise ModelError(
            f"{source} has {has or 'no bias in its decoder'}, and bertpipe computes ModernBERT with full attention in "
            f"every layer and with a bias in the decoder alone: take another checkpoint"
        )
    if rotary["rope_type"] != "default" or config.classifier_activation != config.hidden_activation:
        raise ModelError(
            f"{source} has rope_type {rotary['rope_type']!r:.30}, hidden_activation {config.hidden_activation!r:.30} "
            f"and classifier_activation {config.classifier_activation!r:.30}; bertpipe reads 'default' and one "
            f"activation for both: take another checkpoint"
        )
    return float(rotary["rope_theta"])


def _head_tensors(bert: Bert, heads: frozenset[Head]) -> dict[str, Tensor]:
    """Return copies of these heads' tensors, without a tied decoder's matrix, which is the embedding's."""
    prefixes = {"nsp": ("pooler.", "nsp_"), "mlm": ("mlm_transform.", "mlm_decoder.")}
    of_heads = tuple(prefix for head in heads for prefix in prefixes[head])
    shared = "mlm_decoder.weight" if bert.params.tied else ""
    tensors = bert.state_dict().items()
    return {name: tensor.clone() for name, tensor in tensors if name.startswith(of_heads) and name != shared}


def _notes(
    source: str | Path,
    config: Any,  # noqa: ANN401
    absent: frozenset[Head],
    names: Sequence[str],
    prefix: str,
) -> Iterator[str]:
    """Yield notes about a checkpoint that differs from today's format."""
    if prefix:
        yield f"{source} has {prefix} before the names of its tensors: read without it"
    if any(name.endswith(_OLD_NAMES) for name in names):
        yield f"{source} has the old names gamma and beta for LayerNorm's weight and bias: read as those"
    for head in sorted(absent):
        yield f"{source} has no {_HEAD_NAMES[head]} head: it gets initial weights, to be trained"
    if (segments := _segments(config)) != 2:  # noqa: PLR2004
        kinds = "kind" if segments == 1 else "kinds"
        read = "read for both sentences" if segments == 1 else "the first two are read"
        yield f"{source} has {segments} {kinds} of segment: {read}"


def _file(source: str | Path, name: str, *, local_only: bool) -> Path | None:
    """Return the local path of a checkpoint's file; None if the checkpoint does not have it."""
    from transformers.utils import cached_file  # noqa: PLC0415

    options = {"_raise_exceptions_for_missing_entries": False, "local_files_only": local_only}
    found = cached_file(str(source), name, **options)
    return None if found is None else Path(found)


def _read_part(source: str | Path, part: str, read: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Return what `read` returns; ModelError if a file is damaged."""
    try:
        return read()
    except (OSError, ModelError):
        raise
    except DataError as error:
        raise ModelError(str(error)) from error
    except (
        Exception
    ) as error:  # tokenizers, safetensors and pickle raise errors of their own, some of them plain Exception
        if type(error).__name__ == "UnpicklingError":  # its own message names the option that would run the code
            raise ModelError(
                f"the {part} of {source} are not a pickle of plain tensors: damaged, or code, which is not run; "
                f"use a model with a model.safetensors"
            ) from error
        if "ignore_mismatched_sizes" in str(error):
            raise ModelError(
                f"the {part} of {source} cannot be read: they do not have the sizes in its config.json; take both from "
                f"one checkpoint"
            ) from error
        raise ModelError(
            f"the {part} of {source} cannot be read: {first_line(error):.200}; fetch them again, or take another model"
        ) from error


def _tokenizer_directory(source: str | Path, *, local_only: bool) -> Path:
    """Return the local directory with the files of a checkpoint's tokenizer."""
    if isinstance(source, Path):
        return source
    config, *_ = [_file(source, name, local_only=local_only) for name in (CONFIG_NAME, *TOKENIZER_FILES)]
    assert config is not None  # it was read
    return config.parent


def _tokenizer(source: str | Path, directory: Path, vocab_size: int) -> GivenTokenizer:
    """Return the tokenizer of a checkpoint; ModelError if it does not fit the model, OSError if there is none."""
    try:
        given = read_tokenizer(directory)
    except MissingInputError as error:
        raise OSError(str(error)) from error
    except DataError as error:
        raise ModelError(f"the tokenizer of {source} cannot be read: {error}") from error
    size = given.tokenizer.vocab_size
    if size > vocab_size:
        raise ModelError(
            f"{source} has a tokenizer of {size} tokens, and a model of {vocab_size}: they do not belong together"
        )
    return given


def _ask_hub(name: str) -> None:
    """Ask the hub once whether it has a model.

    Without a network, transformers itself would retry for half a minute and more.

    Raises:
        ModelError: the hub has no such model, or cannot be reached.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415
    from huggingface_hub.errors import (  # noqa: PLC0415
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        HfApi().model_info(name, timeout=_HUB_TIMEOUT_S)
    except (RepositoryNotFoundError, GatedRepoError) as error:
        raise ModelError(f"the Hugging Face hub has no public model {name}: check the name") from error
    except HFValidationError as error:
        raise ModelError(f"{name} is not a valid name on the Hugging Face hub: check it") from error
    except OfflineModeIsEnabled as error:
        raise ModelError(
            f"{name} is not in the local cache, and HF_HUB_OFFLINE forbids the hub: unset it once"
        ) from error
    except UnicodeEncodeError as error:  # in a header
        raise ModelError("HF_TOKEN has characters that no token has: set it again, or unset it") from error
    except HfHubHTTPError as error:
        raise ModelError(f"the Hugging Face hub answers for {name}: {first_line(error)}; try later") from error
    except Exception as error:
        if not is_network_error(error):
            raise
        raise ModelError(
            f"{name} is not in the local cache, and the Hugging Face hub cannot be reached ({first_line(error)}): "
            f"check the network, or name a model directory"
        ) from error


def is_network_error(error: Exception) -> bool:
    """Return whether an HTTP client, whichever huggingface_hub uses, did not reach its host."""
    clients = ("httpx", "httpcore", "requests", "urllib3")
    return isinstance(error, OSError) or any(kind.__module__.startswith(clients) for kind in type(error).__mro__)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers and huggingface_hub from writing to the terminal, and from requests other than for files."""
    import transformers  # noqa: PLC0415
    from huggingface_hub.utils import logging as hub_logging  # noqa: PLC0415

    log = transformers.logging
    verbosity, hub_verbosity, has_bars = log.get_verbosity(), hub_logging.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(log.ERROR)
    hub_logging.set_verbosity(log.ERROR)
    log.disable_progress_bar()
    conversion = os.environ.get(_NO_CONVERSION)
    os.environ[_NO_CONVERSION] = "1"
    try:
        yield
    finally:
        if conversion is None:
            del os.environ[_NO_CONVERSION]
        else:
            os.environ[_NO_CONVERSION] = conversion
        log.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if has_bars:
            log.enable_progress_bar()
