"""A Hugging Face BERT, from a directory or the hub, read in bertpipe's terms.

Nothing here imports transformers, which takes seconds, before a model is asked for. Code that a repository
brings with it or names is never run: no modules, no attention kernels, no pickle but of plain tensors.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertpipe.errors import ModelError

_HUB_TIMEOUT_S = 10.0
_NSP_WEIGHTS = ("cls.seq_relationship.", "bert.pooler.")
_MLM_WEIGHTS = ("cls.predictions.",)
_SPECIAL_TOKENS = 5
_NO_CONVERSION = "DISABLE_SAFETENSORS_CONVERSION"
"""Variable that keeps transformers from asking a bot, under the user's name, to convert weights that were pickled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HuggingFaceBert:
    """A `BertForPreTraining` and its tokenizer."""

    name: str
    """The directory or hub name it came from."""
    network: Any
    """The `BertForPreTraining`, in evaluation mode."""
    tokenizer: Any
    """The fast tokenizer that belongs to it."""
    has_nsp_head: bool
    """Whether the checkpoint holds the pooler and the NSP head; without them they are random numbers."""

    @property
    def max_positions(self) -> int:
        """Longest input in tokens."""
        return int(self.network.config.max_position_embeddings)

    def nsp_logits(self, token_ids: Sequence[int], second_segment_start: int) -> Tensor:
        """Return NSP logits [2] in bertpipe's order (not next, next) for `[CLS] A [SEP] B [SEP]`.

        Hugging Face's class 0 means that B follows A (`next_sentence_label` of `BertForPreTraining.forward`):
        the order is turned round here, and only here.

        Raises:
            ModelError: the checkpoint has no NSP head.
        """
        if not self.has_nsp_head:
            raise ModelError(
                f"{self.name} has no trained next-sentence head (its checkpoint is for masked words only): "
                f"ask it `infer mlm`, or take a checkpoint of BertForPreTraining"
            )
        next_then_not: Tensor = self._run(token_ids, second_segment_start).seq_relationship_logits[0]
        return next_then_not.flip(0)

    def mlm_logits(self, token_ids: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Return vocabulary logits [positions, vocab] at the given positions of `[CLS] A [SEP]`."""
        logits: Tensor = self._run(token_ids, len(token_ids)).prediction_logits[0, list(positions)]
        return logits

    def _run(self, token_ids: Sequence[int], second_segment_start: int) -> Any:  # noqa: ANN401
        ids = torch.tensor([list(token_ids)], device=self.network.device)
        segments = (torch.arange(ids.shape[1], device=ids.device) >= second_segment_start).long()[None, :]
        with torch.inference_mode():
            return self.network(input_ids=ids, token_type_ids=segments, attention_mask=torch.ones_like(ids))


def load_huggingface(source: str | Path) -> HuggingFaceBert:
    """Return the BERT of a directory (a `Path`) or of a hub name (a `str`), on the CPU, in evaluation mode.

    A hub name is looked for in the local cache first. Only if it is not there is the network asked, once: a
    machine without a network gets its answer within seconds.

    Raises:
        ModelError: there is no such model, it is not a BERT, or it lacks a part that cannot be done without.
    """
    with _quiet():
        if isinstance(source, Path):
            try:
                return _read(source, local_only=True)
            except OSError as error:
                raise ModelError(f"{source} cannot be read as a Hugging Face model: {_one_line(error)}") from error
        try:
            return _read(source, local_only=True)
        except OSError:
            _ask_hub(source)
        try:
            return _read(source, local_only=False)
        except OSError as error:
            raise ModelError(f"{source} cannot be loaded from the Hugging Face hub: {_one_line(error)}") from error


def _read(source: str | Path, *, local_only: bool) -> HuggingFaceBert:
    """Return the model; OSError where a file of it is not to be had."""
    from transformers import AutoConfig, AutoTokenizer, BertForPreTraining  # noqa: PLC0415

    options: dict[str, Any] = {"local_files_only": local_only, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(source, **options)
    except ValueError as error:  # a model type that transformers does not know, or a config that is not JSON
        raise ModelError(f"{source} is not a BERT that transformers can read: {_one_line(error)}") from error
    if config.model_type != "bert":
        raise ModelError(f"{source} is a model of type {config.model_type!r}, and bertpipe reads 'bert' only")
    tokenizer = _read_part(source, "tokenizer", lambda: AutoTokenizer.from_pretrained(source, **options))
    if len(tokenizer) <= _SPECIAL_TOKENS:
        # Without vocabulary files transformers makes up a tokenizer of nothing but special tokens.
        raise OSError("it has no vocabulary (tokenizer.json or vocab.txt)")
    _check_tokenizer(source, tokenizer, config.vocab_size)
    weights = {
        "config": config,
        "dtype": torch.float32,
        "output_loading_info": True,
        "local_files_only": local_only,
        "weights_only": True,
        "attn_implementation": "sdpa",  # a config may name a kernel of the hub, which is code
        "trust_remote_code": False,
    }
    network, info = _read_part(source, "weights", lambda: BertForPreTraining.from_pretrained(source, **weights))
    missing = sorted(info["missing_keys"])
    needed = [name for name in missing if not name.startswith(_NSP_WEIGHTS)]
    if needed:
        part = "masked-word head" if needed[0].startswith(_MLM_WEIGHTS) else "encoder"
        raise ModelError(
            f"{source} has no trained {part} ({len(needed)} tensors are missing, {needed[0]} is the first): "
            f"take a checkpoint of BertForPreTraining or BertForMaskedLM"
        )
    return HuggingFaceBert(
        name=str(source),
        network=network.eval(),
        tokenizer=tokenizer,
        has_nsp_head=not missing and config.type_vocab_size > 1,
    )


def _read_part(source: str | Path, part: str, read: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Return what `read` returns; ModelError where the files are there, but damaged."""
    try:
        return read()
    except OSError:
        raise
    except Exception as error:  # tokenizers, safetensors and pickle each have their own, some of them plain Exception
        if type(error).__name__ == "UnpicklingError":  # its own message names the switch that would run the code
            raise ModelError(
                f"the {part} of {source} are no pickle of plain tensors: damaged, or code, which is not run; "
                f"take a model with a model.safetensors"
            ) from error
        raise ModelError(f"the {part} of {source} cannot be read: {_one_line(error)}") from error


def _check_tokenizer(source: str | Path, tokenizer: Any, vocab_size: int) -> None:  # noqa: ANN401
    """Raise ModelError for a tokenizer whose ids the model cannot read, or that lacks a special token."""
    if not tokenizer.is_fast:
        raise ModelError(
            f"{source} has a tokenizer without a tokenizer.json ({type(tokenizer).__name__}): save a fast one"
        )
    ids = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id, tokenizer.unk_token_id)
    if None in ids:
        raise ModelError(f"{source} has a tokenizer without one of [CLS] [SEP] [MASK] [UNK]: BERT needs all of them")
    if len(tokenizer) > vocab_size:
        raise ModelError(
            f"{source} has a tokenizer of {len(tokenizer)} tokens, and a model of {vocab_size}: "
            f"they do not belong together"
        )


def _ask_hub(name: str) -> None:
    """Ask the hub once whether it has a model.

    transformers' own loading asks again and again, for half a minute and more, where there is no network.

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
        raise ModelError(f"the Hugging Face hub has no model {name} that is open to all: check the name") from error
    except HFValidationError as error:
        raise ModelError(f"{name} is not a name that the Hugging Face hub allows: check it") from error
    except OfflineModeIsEnabled as error:
        raise ModelError(
            f"{name} is not in the local cache, and HF_HUB_OFFLINE forbids the hub: unset it once"
        ) from error
    except HfHubHTTPError as error:
        raise ModelError(f"the Hugging Face hub answers for {name}: {_one_line(error)}; try later") from error
    except Exception as error:
        if not _is_network_error(error):
            raise
        raise ModelError(
            f"{name} is not in the local cache, and the Hugging Face hub cannot be reached "
            f"({_one_line(error)}): "
            f"check the network, or name a model directory"
        ) from error


def _is_network_error(error: Exception) -> bool:
    """Return whether an HTTP client did not reach its host; which client, that is up to huggingface_hub."""
    clients = ("httpx", "httpcore", "requests", "urllib3")
    return isinstance(error, OSError) or any(kind.__module__.startswith(clients) for kind in type(error).__mro__)


def _one_line(error: Exception) -> str:
    """Return the first line of a message that may have many."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(":. ") if text else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers and huggingface_hub from writing to the terminal, and from more requests than for files."""
    import transformers  # noqa: PLC0415
    from huggingface_hub.utils import logging as hub_logging  # noqa: PLC0415

    log = transformers.logging
    verbosity, hub_verbosity, has_bars = (
        log.get_verbosity(),
        hub_logging.get_verbosity(),
        log.is_progress_bar_enabled(),
    )
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
