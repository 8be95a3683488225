"""Text to sentence pairs on disk, against `tokenizers` alone: `encode_batch` over the same documents."""

import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
from ruamel.yaml import YAML
from tokenizers import Tokenizer

from benchmarks.measure import Work, alternate, ratio
from benchmarks.workers import peak_bytes, workers
from bertpipe.core.artifacts import DOCUMENTS_NAME, PARAMS_FILE, TOKENIZER_NAME
from bertpipe.core.atomic import atomic_directory
from bertpipe.core.params_file import load_params
from bertpipe.data.tokenization.vocabulary import count_words
from bertpipe.data.tokenization.wordpiece import train_wordpiece
from bertpipe.sources.text.documents import read_documents

PARAMS = Path(__file__).parent.parent / PARAMS_FILE
ROUNDS = 5
GOAL = 0.9
SIZES = {"half": 2, "all": 1}
"""One in so many of the reviews."""
VOCABULARY_REVIEWS = 5000
_LOOK_EVERY_S = 0.02


def text_to_pairs(work: Path) -> list[dict[str, Any]]:
    """Return the speed of both sides, and the peak memory of all our processes, for half of the reviews and for all."""
    texts = work / "prepare"
    if not texts.is_dir():
        _write_texts(work / "full" / "parquet" / DOCUMENTS_NAME, texts)
    return [_comparison(texts, size) for size in SIZES]


def _comparison(texts: Path, size: str) -> dict[str, Any]:
    with workers(theirs=partial(Tokenizers, texts, size), ours=partial(Bertpipe, texts, size)) as sides:
        turns = alternate(sides, rounds=ROUNDS)
    return {
        "work": f"IMDB, {size} of the reviews",
        "text_mb": turns["ours"].median("text_bytes") / 1e6,
        "theirs_mb_s": turns["theirs"].rate("text_bytes") / 1e6,
        "ours_mb_s": turns["ours"].rate("text_bytes") / 1e6,
        "ratio": ratio(turns["ours"], turns["theirs"], "text_bytes"),
        "goal": GOAL,
        "peak_gb": turns["ours"].median("peak_bytes") / 1e9,
    }


def _write_texts(documents: Path, out: Path) -> None:
    """Write the reviews as text files, a line each, a vocabulary made of some of them, and params that name it."""
    texts = [" ".join(text.split()) for text in pq.read_table(documents, columns=["text"])["text"].to_pylist()]
    prepare = load_params(PARAMS).prepare
    with atomic_directory(out, kind=None) as staging:
        for size, step in SIZES.items():
            (staging / f"{size}.txt").write_text("\n".join(texts[::step]) + "\n", encoding="utf-8")
        choice = {"lowercase": prepare.lowercase, "strip_accents": prepare.strip_accents}
        counts = count_words(texts[:VOCABULARY_REVIEWS], as_words=False, **choice)
        train_wordpiece(
            counts.words.items(),
            counts.characters,
            vocab_size=prepare.vocab_size,
            min_frequency=prepare.min_frequency,
            **choice,
        ).save(staging / TOKENIZER_NAME)
        yaml = YAML()
        params = yaml.load(PARAMS)
        params["prepare"] |= {"text_format": "lines", "tokenizer": str(out / TOKENIZER_NAME)}
        yaml.dump(params, staging / PARAMS_FILE)


class Tokenizers:
    """The library alone, on all cores; tokenizer and texts are in memory."""

    def __init__(self, texts: Path, size: str) -> None:
        file = texts / f"{size}.txt"
        self.texts = [document.text for document in read_documents(file, text_format="lines", field="")]
        self.backend = Tokenizer.from_file(str(texts / TOKENIZER_NAME))
        self.text_bytes = file.stat().st_size

    def turn(self) -> Work:
        """Encode all texts."""
        self.backend.encode_batch(self.texts, add_special_tokens=False)
        return Work(text_bytes=self.text_bytes)


class Bertpipe:
    """The whole command, from its start to Parquet on disk, with the same tokenizer."""

    def __init__(self, texts: Path, size: str) -> None:
        self.texts, self.file = texts, texts / f"{size}.txt"

    def turn(self) -> Work:
        """Prepare the text once."""
        with TemporaryDirectory(dir=self.texts) as folder:
            command = [sys.executable, "-m", "bertpipe", "prepare", "--text", self.file, "--out", f"{folder}/out"]
            peak = _peak_of([*map(str, command), "--params", str(self.texts / PARAMS_FILE)])
        return Work(text_bytes=self.file.stat().st_size, peak_bytes=peak)


def _peak_of(command: list[str]) -> int:
    """Run a command, and return the peak memory of its processes, each one's own, added up."""
    peaks: dict[int, int] = {}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:  # noqa: S603
        while running.poll() is None:
            # A peak only grows: the last look before a process ends finds nearly all of it.
            for process in _family(running.pid):
                peaks[process] = max(peaks.get(process, 0), peak_bytes(process))
            time.sleep(_LOOK_EVERY_S)
    if running.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {running.returncode}")
    return sum(peaks.values())


def _family(process: int) -> list[int]:
    """Return a process and all that come from it."""
    children: list[int] = []
    for thread in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children += map(int, thread.read_text(encoding="ascii").split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [process, *(found for child in children for found in _family(child))]
