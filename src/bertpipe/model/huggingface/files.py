"""What the weight files of a Hugging Face directory hold, found out before transformers reads them."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from bertpipe.core.artifacts import refuse_lfs_pointer
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


def stored_names(find: FindFile) -> list[str]:
    """Return the names of the tensors in a checkpoint's files; none if it has no file that transformers reads.

    Raises:
        ModelError: a file is a pointer of Git LFS, or holds no tensors.
    """
    from safetensors import safe_open  # noqa: PLC0415

    if whole := _fetched(find, _WHOLE):
        with safe_open(whole, framework="pt") as file:
            return list(file.keys())
    for name in (f"{_WHOLE}.index.json", _PICKLED, f"{_PICKLED}.index.json"):
        if not (path := _fetched(find, name)):
            continue
        if name.endswith(".json"):
            index = json.loads(path.read_text(encoding="utf-8"))
            if not (isinstance(index, dict) and "metadata" in index and isinstance(index.get("weight_map"), dict)):
                raise ModelError(
                    f"{path} is not an index of shards: it needs metadata and a weight_map; fetch it again"
                )
            for shard in sorted(set(index["weight_map"].values())):
                _fetched(find, shard)
            return list(index["weight_map"])
        content = torch.load(path, map_location="meta", weights_only=True)
        if not isinstance(content, Mapping) or not any(isinstance(value, torch.Tensor) for value in content.values()):
            found = ", ".join(map(repr, content)) if isinstance(content, Mapping) else type(content).__name__
            raise ModelError(
                f"{path} holds {found:.100} in place of tensors by their names, as a training's checkpoint does: save "
                f"the state_dict of the model alone, with save_pretrained"
            )
        return [str(name) for name in content]
    return []


def wrapper_prefix(source: str | Path, names: Sequence[str]) -> str:
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
