"""The weight files of a Hugging Face model: their tensors, and what is there in place of them."""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from bertpipe.core.artifacts import read_json, refuse_lfs_pointer
from bertpipe.core.errors import ModelError

FindFile = Callable[[str], Path | None]
"""Returns the local path of a checkpoint's file by its name; None if the checkpoint does not have it."""
_WHOLE, _PICKLED = "model.safetensors", "pytorch_model.bin"
_ANCHOR = re.compile(r"(.*?)(?:(?:bert\.)?embeddings\.word_embeddings|model\.embeddings\.tok_embeddings)\.weight")
"""A tensor that every BERT has, with whatever stands before its name."""
_WRAPPERS = re.compile(r"((module|_orig_mod|_fsdp_wrapped_module|_forward_module|model)\.)*")
"""What DDP, torch.compile, FSDP, DeepSpeed and training loops put before the names of a network's tensors."""
_OTHERS = {
    "TensorFlow": ("tf_model.h5", "*.ckpt.index", "*.ckpt-*.index"),
    "Flax": ("flax_model.msgpack",),
    "ONNX": ("*.onnx", "onnx/*.onnx"),
    "GGUF": ("*.gguf",),
    "an adapter": ("adapter_model.*",),
}


def read_tensors(find: FindFile) -> dict[str, Tensor]:
    """Return the tensors in a checkpoint's files, on the CPU; none if it has no file with weights of PyTorch.

    Raises:
        ModelError: a file holds no tensors, or is no index of shards.
        DataError: a file is a pointer of Git LFS.
        FileNotFoundError: a shard is not there, as in a hub's cache after a download that was interrupted.
    """
    for name in (_WHOLE, f"{_WHOLE}.index.json", _PICKLED, f"{_PICKLED}.index.json"):
        if (path := _fetched(find, name)) is None:
            continue
        if not name.endswith(".json"):
            return _read_file(path)
        tensors = dict[str, Tensor]()
        for shard in _shards(path):
            if (part := _fetched(find, shard)) is None:
                raise FileNotFoundError(f"{path} names the shard {shard:.80}, which is not there: fetch it, too")
            tensors |= _read_file(part)
        return tensors
    return {}


def _shards(index: Path) -> list[str]:
    """Return the names of the files that an index names."""
    content = read_json(index)
    names = content.get("weight_map") if isinstance(content, dict) and "metadata" in content else None
    files = [*names.values()] if isinstance(names, dict) else []
    if not files or not all(isinstance(file, str) and file == Path(file).name for file in files):
        raise ModelError(
            f"{index} is not an index of shards: it needs metadata and a weight_map with names of files beside it; "
            f"fetch it again"
        )
    return sorted({*files})


def _read_file(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file  # noqa: PLC0415

    if path.suffix == ".safetensors":
        whole: dict[str, Tensor] = load_file(path)
        return whole
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        found = ", ".join(map(repr, content)) if isinstance(content, Mapping) else type(content).__name__
        raise ModelError(
            f"{path} holds {found:.100} in place of tensors by their names, as a training's checkpoint does: save "
            f"the state_dict of the model alone, with save_pretrained"
        )
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def wrapper_prefix(source: str | Path, names: Collection[str]) -> str:
    """Return what a wrapper put before the names of all tensors, such as `module.`; empty if there is none.

    Raises:
        ModelError: the names begin in another way, or in several.
    """
    prefixes = sorted({found[1] for name in names if (found := _ANCHOR.fullmatch(name))})
    if len(prefixes) == 1 and _WRAPPERS.fullmatch(prefixes[0]):
        return prefixes[0]
    if not prefixes or "" in prefixes:
        return ""
    several = f"{len(prefixes)} networks, with" if len(prefixes) > 1 else "tensors with"
    raise ModelError(
        f"{source} has {several} {' and '.join(map(repr, prefixes[:2])):.100} before their names, and bertpipe reads "
        f"one BERT, with bert., module., _orig_mod. or model. there: save that network alone, with save_pretrained"
    )


def other_weights(directory: Path) -> str | None:
    """Return what a directory without weights of PyTorch has instead, with what to do; None if nothing is known."""
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if path.is_symlink() and not path.exists():  # a part of the hub's cache that was copied by itself
            return (
                f"its {path.name:.60} is a link to nothing: fetch the model again, or copy it with its files (cp -rL)"
            )
    for kind, patterns in _OTHERS.items():
        found = next((path for pattern in patterns for path in sorted(directory.glob(pattern))), None)
        if found is not None:
            return (
                f"it has the weights of {kind} alone ({found.name:.60}), and bertpipe reads model.safetensors or "
                f"pytorch_model.bin: write one with transformers (from_pretrained in its format, then save_pretrained)"
            )
    near = sorted(each.name for kind in ("*.safetensors", "*.bin") for each in directory.glob(kind) if each.is_file())
    return f"it has no {_WHOLE} or {_PICKLED}, but {near[0]:.60}: rename it if that is the model" if near else None


def _fetched(find: FindFile, name: str) -> Path | None:
    path = find(name)
    if path is not None:
        refuse_lfs_pointer(path)
    return path
