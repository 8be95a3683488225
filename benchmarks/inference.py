"""Answers to many inputs, from text to text: bertpipe against the transformers pipelines on the same model."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks.measure import Work, alternate, ratio, set_up
from benchmarks.workers import workers
from bertpipe.core.artifacts import DOCUMENTS_NAME, TOKENIZER_NAME
from bertpipe.core.atomic import atomic_directory
from bertpipe.inference.predictor import load_predictor

ROUNDS = 3
GOAL = 1.0
SIZES = {"dim 256, 4 layers": (256, 4, 512), "bert-base's size": (768, 12, 32)}
"""Width, layers and texts a turn."""
BATCHES = (1, 32)
"""The pipeline's own default, and what its documentation tells those to try who want speed."""
_REVIEWS = 2000
_WORDS = range(4, 60)


def against_pipelines(work: Path) -> list[dict[str, Any]]:
    """Return the texts a second of both sides, for filling masks and for vectors, at two sizes of the network."""
    return [
        _comparison(work, size, task, batch_size)
        for size in SIZES
        for task in ("fill-mask", "feature-extraction")
        for batch_size in BATCHES
    ]


def _comparison(work: Path, size: str, task: str, batch_size: int) -> dict[str, Any]:
    width, layers, texts = SIZES[size]
    model = work / "inference" / f"{width}-{layers}"
    if not model.is_dir():
        _write_model(model, work, width=width, layers=layers)
    sentences = _sentences(work, texts, masked=task == "fill-mask")
    theirs = partial(Pipeline, model, task, sentences, batch_size)
    with workers(theirs=theirs, ours=partial(Bertpipe, model, task, sentences)) as sides:
        turns = alternate(sides, rounds=ROUNDS)
    return {
        "work": f"{task}, {size}",
        "peer": f"pipeline, batch_size={batch_size}",
        "texts": texts,
        "theirs_per_s": turns["theirs"].rate("sequences"),
        "ours_per_s": turns["ours"].rate("sequences"),
        "ratio": ratio(turns["ours"], turns["theirs"], "sequences"),
        "goal": GOAL,
    }


def _sentences(work: Path, count: int, *, masked: bool) -> list[str]:
    """Return sentences of the reviews, of all lengths as they come; a word of each masked if `masked`."""
    documents = pq.read_table(work / "full" / "parquet" / DOCUMENTS_NAME, columns=["text"])["text"][
        :_REVIEWS
    ].to_pylist()
    found = [sentence for text in documents for sentence in re.split(r"(?<=[.!?]) ", text.replace("<br />", " "))]
    kept = [sentence for sentence in found if len(sentence.split()) in _WORDS]
    generator = np.random.default_rng(1)
    sentences = [kept[index] for index in generator.permutation(len(kept))[:count]]
    return [_with_mask(sentence, generator) for sentence in sentences] if masked else sentences


def _with_mask(sentence: str, generator: np.random.Generator) -> str:
    words = sentence.split()
    words[int(generator.integers(len(words)))] = "[MASK]"
    return " ".join(words)


def _write_model(directory: Path, work: Path, *, width: int, layers: int) -> None:
    """Write a Hugging Face BERT with random weights and a WordPiece vocabulary of the reviews."""
    from transformers import BertConfig, BertForPreTraining, PreTrainedTokenizerFast  # noqa: PLC0415

    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "cls", "sep", "mask", "unk")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(work / "prepare" / TOKENIZER_NAME), **names)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64,
        intermediate_size=4 * width,
    )  # fmt: skip
    with atomic_directory(directory, kind=None) as staging:
        BertForPreTraining(config).save_pretrained(staging)
        tokenizer.save_pretrained(staging)


class Pipeline:
    """The transformers pipeline of a task, with PyTorch as it comes."""

    def __init__(self, model: Path, task: str, texts: list[str], batch_size: int) -> None:
        from transformers import pipeline  # noqa: PLC0415

        options = {"truncation": True} if task == "feature-extraction" else {}
        self.ask = pipeline(task, model=str(model), tokenizer=str(model), batch_size=batch_size, **options)
        self.is_embedding = task == "feature-extraction"
        self.texts = texts

    def turn(self) -> Work:
        """Answer all texts; vectors are the means of what the pipeline returns."""
        answers = self.ask(self.texts)
        if self.is_embedding:
            answers = [np.asarray(answer[0], dtype=np.float32).mean(axis=0) for answer in answers]
        return Work(sequences=len(answers))


class Bertpipe:
    """What `bertpipe infer` does between reading the lines and writing the answers."""

    def __init__(self, model: Path, task: str, texts: list[str]) -> None:
        set_up()
        self.predictor = load_predictor(str(model))
        self.is_embedding = task == "feature-extraction"
        self.texts = texts

    def turn(self) -> Work:
        """Answer all texts."""
        asked = self.predictor
        if self.is_embedding:
            return Work(sequences=len(asked.answer_embeddings([asked.ask_embedding(text) for text in self.texts])))
        return Work(sequences=len(asked.answer_mlm([asked.ask_mlm(text, 5) for text in self.texts])))
