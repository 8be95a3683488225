"""A Hugging Face BERT, from a directory or the hub, as bertpipe's own network.

Its config, tensors and tokenizer are read as data: no code that a model brings or names is run, and of a pickle only
plain tensors are read. Transformers, whose import takes seconds, is not needed.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from logging import CRITICAL
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertpipe.core.artifacts import CONFIG_NAME, NSP_FOLDER
from bertpipe.core.errors import DataError, MissingInputError, ModelError, first_line
from bertpipe.data.tokenization.model_tokenizer import ModelTokenizer
from bertpipe.data.tokenization.user_tokenizer import TOKENIZER_FILES, GivenTokenizer, read_tokenizer
from bertpipe.model.bert import Bert, Head
from bertpipe.model.huggingface.config import HuggingFaceConfig, read_config
from bertpipe.model.huggingface.files import FindFile, other_weights, read_tensors, wrapper_prefix
from bertpipe.model.huggingface.weights import COUNTERPARTS, Counterpart, copy_from_huggingface, huggingface_shapes
from bertpipe.model.store import LoadedModel

_HUB_TIMEOUT_S = 10.0
_OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}
"""What the first BERT checkpoints call a LayerNorm's weight and bias, and today's names."""
_HEAD_NAMES: dict[Head, str] = {"nsp": "next-sentence", "mlm": "masked-word"}


def load_huggingface(source: str | Path) -> LoadedModel:
    """Return the BERT of a directory (a `Path`) or of a hub name (a `str`), on the CPU, in evaluation mode.

    A hub name is looked up in the local cache first, and only then, once, on the network: without a network the error
    comes within seconds.

    Raises:
        ModelError: there is no such model, or it is not a complete BERT that `Bert` can compute.
    """
    if isinstance(source, Path):
        try:
            return _read(source, partial(_in_directory, source))
        except OSError as error:
            reason = (other_weights(source) if isinstance(error, _NoFileError) else None) or first_line(error)
            raise ModelError(f"{source} cannot be read as a Hugging Face model: {reason}") from error
    try:
        return _read(source, partial(_in_cache, source))
    except OSError:
        _ask_hub(source)
    try:
        with quiet():
            return _read(source, partial(_on_hub, source))
    except OSError as error:
        raise ModelError(f"{source} cannot be loaded from the Hugging Face hub: {first_line(error)}") from error


class _NoFileError(FileNotFoundError):
    """A checkpoint without a config, or without weights that bertpipe reads."""


def _read(source: str | Path, find: FindFile) -> LoadedModel:
    """Return the model; OSError if a file of it is missing."""
    path = find(CONFIG_NAME)
    if path is None:
        raise _NoFileError(f"it has no {CONFIG_NAME}; fetch it again")
    config, params = read_config(source, path)
    for name in TOKENIZER_FILES:  # a hub's come to lie beside the config
        find(name)
    given = _tokenizer(source, path.parent, config.vocab_size)
    stored = _read_part(source, "weights", lambda: read_tensors(find))
    if not stored:
        raise _NoFileError("it has no model.safetensors or pytorch_model.bin; fetch it again")
    prefix = wrapper_prefix(source, stored)
    with torch.device("meta"):
        skeleton = Bert(params, config.vocab_size, init_weights=False)
    counterpart = COUNTERPARTS[params.architecture]
    shapes = huggingface_shapes(skeleton)
    tensors = dict(_renamed(stored, prefix, counterpart, shapes.keys(), tied=params.tied))
    missing = shapes.keys() - tensors.keys()
    prefixes = counterpart.head_prefixes
    absent = {head for head in prefixes if any(name.startswith(prefixes[head]) for name in missing)}
    nsp = None
    if counterpart.nsp_class:
        nsp = _nsp_tensors(source, skeleton, find)
        absent = absent - {"nsp"} if nsp is not None else absent | {"nsp"}
    _check_encoder(source, counterpart, missing, stored)
    _check_shapes(source, tensors, shapes, segments=config.type_vocab_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # a missing head gets the same weights each time
        bert = Bert(params, config.vocab_size, init_weights=bool(absent))
    copy_from_huggingface({name: tensors[name] for name in shapes.keys() - missing}, bert, nsp)
    return LoadedModel(
        name=str(source),
        bert=bert.eval(),
        tokenizer=ModelTokenizer(given.tokenizer),
        directory=path.parent,
        missing_heads=frozenset(absent | {"nsp"} if config.type_vocab_size == 1 else absent),
        notes=(*given.notes, *_notes(source, config, absent, stored, prefix)),
    )


def _renamed(
    stored: Mapping[str, Tensor], prefix: str, counterpart: Counterpart, names: Collection[str], *, tied: bool
) -> Iterator[tuple[str, Tensor]]:
    """Yield those tensors that a network needs, by the names that its counterpart has for them today."""
    found = {}
    for name, tensor in stored.items():
        today = name.removeprefix(prefix)
        for old, new in _OLD_NAMES.items():
            today = today.removesuffix(old) + new if today.endswith(old) else today
        found[today] = tensor
    bias, others = f"{counterpart.decoder}.bias", dict[str, list[str]]()
    if counterpart.shared_bias:  # either name may be in a file
        others[bias] = [counterpart.shared_bias, bias] if tied else [bias, counterpart.shared_bias]
    if tied:
        others[f"{counterpart.decoder}.weight"] = [f"{counterpart.modules['embeddings.token']}.weight"]
    for name in names:
        for other in others.get(name, [name]):
            known = other if other in found else other.removeprefix(counterpart.base)
            if known in found:
                yield name, found[known]
                break


def _check_encoder(
    source: str | Path, counterpart: Counterpart, missing: Collection[str], stored: Collection[str]
) -> None:
    heads = sum(counterpart.head_prefixes.values(), ())
    encoder = sorted(name for name in missing if not name.startswith(heads))
    if encoder:
        raise ModelError(
            f"the encoder of {source} is not complete ({len(encoder)} tensors are missing, {encoder[0]} is the first): "
            f"take another checkpoint of a BERT; this one has {', '.join(map(repr, [*stored][:2])):.150}, ..."
        )


def _check_shapes(
    source: str | Path, tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], *, segments: int
) -> None:
    for name, tensor in tensors.items():
        shape = shapes[name]
        if "token_type_embeddings" in name:
            shape = torch.Size([segments, *shape[1:]])
        if tensor.shape != shape:
            raise ModelError(
                f"the weights of {source} cannot be read: {name} has the size {list(tensor.shape)}, and they do not "
                f"have the sizes in its config.json, there {list(shape)}; take both from one checkpoint"
            )
        if not tensor.is_floating_point():
            raise ModelError(
                f"the weights of {source} cannot be read: {name} has the type {tensor.dtype}, as quantized weights "
                f"have; take the checkpoint that was quantized"
            )


def _nsp_tensors(source: str | Path, bert: Bert, find: FindFile) -> Mapping[str, Tensor] | None:
    """Return the tensors of the NSP head, from a checkpoint's folder with the class that has it; None without one."""
    if find(f"{NSP_FOLDER}/{CONFIG_NAME}") is None:
        return None
    what = f"weights of the folder {NSP_FOLDER}"
    stored = _read_part(source, what, lambda: read_tensors(lambda name: find(f"{NSP_FOLDER}/{name}")))
    shapes = huggingface_shapes(bert, nsp_class=True)
    if missing := sorted(shapes.keys() - stored.keys()):
        raise ModelError(f"the {what} of {source} lack {missing[0]!r:.80}: take the folder from the same export")
    tensors = {name: stored[name] for name in shapes}
    _check_shapes(f"{source}/{NSP_FOLDER}", tensors, shapes, segments=0)
    return tensors


def _notes(
    source: str | Path,
    config: HuggingFaceConfig,
    absent: Collection[Head],
    names: Collection[str],
    prefix: str,
) -> Iterator[str]:
    """Yield notes about a checkpoint that differs from today's format."""
    if prefix:
        yield f"{source} has {prefix} before the names of its tensors: read without it"
    if any(name.endswith(tuple(_OLD_NAMES)) for name in names):
        yield f"{source} has the old names gamma and beta for LayerNorm's weight and bias: read as those"
    for head in sorted(absent):
        yield f"{source} has no {_HEAD_NAMES[head]} head: it gets initial weights, to be trained"
    if (segments := config.type_vocab_size) != 2:  # noqa: PLR2004
        kinds = "kind" if segments == 1 else "kinds"
        read = "read for both sentences" if segments == 1 else "the first two are read"
        yield f"{source} has {segments} {kinds} of segment: {read}"


def _in_directory(directory: Path, name: str) -> Path | None:
    """Return the path of a checkpoint's file in a directory; None if the checkpoint does not have it."""
    path = directory / name
    return path if path.exists() else None


def _in_cache(model: str, name: str) -> Path | None:
    """Return the path of a checkpoint's file in the hub's local cache; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415
    from huggingface_hub.errors import HFValidationError  # noqa: PLC0415

    try:
        found = try_to_load_from_cache(model, name)
    except HFValidationError:  # the hub is asked next, and says so
        return None
    return Path(found) if isinstance(found, str) else None


def _on_hub(model: str, name: str) -> Path | None:
    """Return the local path of a checkpoint's file, fetched from the hub; None if the checkpoint does not have it."""
    from huggingface_hub import hf_hub_download  # noqa: PLC0415
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        return Path(hf_hub_download(model, name))
    except LocalEntryNotFoundError:  # the hub could not be asked; an OSError
        raise
    except EntryNotFoundError:
        return None


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
        raise ModelError(
            f"the {part} of {source} cannot be read: {first_line(error):.200}; fetch them again, or take another model"
        ) from error


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

    Without a network, a download would be tried for half a minute and more.

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
    """Keep huggingface_hub from writing to the terminal."""
    from huggingface_hub.utils import logging  # noqa: PLC0415
    from huggingface_hub.utils.tqdm import (  # noqa: PLC0415
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    verbosity, had_bars = logging.get_verbosity(), not are_progress_bars_disabled()
    logging.set_verbosity(CRITICAL)
    disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            enable_progress_bars()
