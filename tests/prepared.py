"""The stage `prepare` on texts made by hand, for tests of what it leaves."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertpipe.core.params import Params
from bertpipe.sources.sample.reviews import generate_reviews
from bertpipe.stages.prepare import run_prepare
from texts import write_files

Prepare = Callable[..., dict[str, Any]]
REVIEWS = [review.text for review in generate_reviews(seed=7, films=40, reviews=90)]
BERT_VOCABULARY = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "##e", "."]
"""Special tokens elsewhere than ours, as in bert-base-uncased."""


def folder_of(path: Path, texts: Iterable[str]) -> Path:
    """Write a text file for each text, and return their folder."""
    return write_files(path, {f"{number:03}.txt": text.encode("utf-8") for number, text in enumerate(texts)})


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Return the bytes of each file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def preparer(params: Params) -> Prepare:
    """Return the stage with the given params, but for changes by name."""

    def run(text: Path, out: Path, *, processes: int = 1, **changes: object) -> dict[str, Any]:
        watch = {name: changes.pop(name) for name in ("on_progress", "on_note") if name in changes}
        return run_prepare(
            replace(params.prepare, **changes),  # type: ignore[arg-type]
            params.masking,
            replace(params.runtime, processes=processes),
            text=text,
            out=out,
            **watch,  # type: ignore[arg-type]
        )

    return run
