"""The rows that both sides train on: the notebook's IMDB zip, converted once, in each side's own form."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers.huggingface import IGNORE_INDEX, HuggingFaceBatch
from benchmarks.peers.notebook import NotebookRow
from bertpipe.core.artifacts import SPLITS, SUMMARY_NAME, read_json
from bertpipe.core.atomic import atomic_directory
from bertpipe.core.params import ConvertParams, MaskingUnit
from bertpipe.data.batching import Batch
from bertpipe.data.masking import Masking, SpanDistribution
from bertpipe.data.pair_dataset import PairDataset, read_dataset
from bertpipe.data.tokenization.tokenizer import CLS_ID, MASK_ID, PAD_ID, SEP_ID, UNK_ID
from bertpipe.stages.convert import run_convert

VARIABLE = "BERTPIPE_IMDB_ZIP"
LONGEST = 512
IMDB_VOCAB = 100_687


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Training rows of the whole zip, and the test rows of its sampled members."""

    train: PairDataset
    sampled_test: PairDataset


def load_rows(work: Path) -> Rows:
    """Return the rows that `convert_rows` left under `work`."""
    return Rows(
        train=read_dataset(work / "full" / "parquet" / "train.parquet"),
        sampled_test=read_dataset(work / "sampled" / "parquet" / "test.parquet"),
    )


def load_sampled(work: Path) -> PairDataset:
    """Return the sampled training rows alone: those that the notebook trains on."""
    return read_dataset(work / "sampled" / "parquet" / "train.parquet")


def convert_rows(work: Path) -> None:
    """Convert the zip that BERTPIPE_IMDB_ZIP names to `work`, the first time."""
    for subset in ("full", "sampled"):
        if not (work / subset).is_dir():
            zip_file = Path(os.environ.get(VARIABLE, ""))
            if not zip_file.is_file():
                raise SystemExit(f"set {VARIABLE} to the notebook's zip: the benchmarks train on its rows")
            with atomic_directory(work / subset, kind=None) as staging:
                run_convert(
                    ConvertParams(subset=subset, max_length=LONGEST, max_reject_rate=0.0, recover="nothing"),
                    zip_file=zip_file,
                    out=staging / "parquet",
                    rejects_report=work / "rejects.parquet",
                )


def described(work: Path) -> dict[str, Any]:
    """Return what the rows are, for the results: their numbers, and the hash of each split's Parquet file."""
    result: dict[str, Any] = {}
    for subset in ("full", "sampled"):
        summary = read_json(work / subset / "parquet" / SUMMARY_NAME)
        for split in SPLITS:
            counts = {name: summary["splits"][split][name] for name in ("rows", "tokens", "supervised_tokens")}
            result[f"{subset} {split}"] = {**counts, "sha256": summary["sha256"][f"{split}.parquet"]}
    return result


def with_vocabulary(rows: PairDataset, vocab_size: int) -> PairDataset:
    """Return the rows with every id beyond `vocab_size` as `[UNK]`: their real lengths over another vocabulary."""
    names = ("token_ids", "masked_inputs", "masked_labels")
    ids = {name: getattr(rows, name) for name in names}
    return replace(rows, **{name: np.where(column < vocab_size, column, UNK_ID) for name, column in ids.items()})


def bert_masking(vocab_size: int, unit: MaskingUnit = "token") -> Masking:
    """Return BERT's masking rule, 15 %, over a vocabulary of bare ids, of which every fifth stands for a `##` piece."""
    is_special = np.zeros(vocab_size, dtype=bool)
    is_special[[PAD_ID, CLS_ID, SEP_ID, MASK_ID, UNK_ID]] = True
    return Masking(
        unit=unit, rate=0.15, mask_share=0.8, random_share=0.1, mask_id=MASK_ID, is_special=is_special,
        continues_word=~is_special & (np.arange(vocab_size) % 5 == 0), ends_word=is_special,
        words=np.flatnonzero(~is_special).astype(np.int32), spans=SpanDistribution.of(rate=0.15, p=0.2, longest=10),
    )  # fmt: skip


def notebook_rows(rows: PairDataset, count: int) -> list[NotebookRow]:
    """Return random rows in the notebook's layout."""
    chosen = np.random.default_rng(1).permutation(len(rows))[:count]
    return [_notebook_row(rows, int(row)) for row in chosen]


def _notebook_row(rows: PairDataset, row: int) -> NotebookRow:
    inputs = rows.token_ids[rows.offsets[row] : rows.offsets[row + 1]].copy()
    labels = np.zeros_like(inputs)
    masks = slice(rows.masked_offsets[row], rows.masked_offsets[row + 1])
    inputs[rows.masked_positions[masks]] = rows.masked_inputs[masks]
    labels[rows.masked_positions[masks]] = rows.masked_labels[masks]
    start = int(rows.second_segment_start[row])
    half = max(start, len(inputs) - start)

    def laid_out(values: np.ndarray) -> torch.Tensor:
        halves = (np.pad(part, (0, half - len(part))) for part in (values[:start], values[start:]))
        return torch.from_numpy(np.concatenate(list(halves)).astype(np.int64))

    segments = np.where(np.arange(len(inputs)) < start, 1, 2)
    return NotebookRow(
        inputs=laid_out(inputs), labels=laid_out(labels), segments=laid_out(segments), is_next=int(rows.is_next[row])
    )


def huggingface_batch(batch: Batch) -> HuggingFaceBatch:
    """Return a batch of ours, with the same rows and masks, in Hugging Face's form."""
    positions = torch.arange(batch.token_ids.shape[1])
    real = positions < batch.lengths[:, None]
    labels = torch.full_like(batch.token_ids, IGNORE_INDEX)
    labels.view(-1)[batch.masked_positions] = batch.masked_labels
    return HuggingFaceBatch(
        input_ids=batch.token_ids,
        attention_mask=real.long(),
        token_type_ids=(real & (positions >= batch.second_segment_start[:, None])).long(),
        labels=labels,
        next_sentence_label=1 - batch.is_next,
    )
