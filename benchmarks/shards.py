"""A corpus of many shards: how long a training takes to know its data, and what each of several processes reads."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bertpipe.core.artifacts import (
    RECORDS_NAME,
    ROWS_PER_GROUP,
    SUMMARY_NAME,
    TOKENIZER_NAME,
    file_sha256,
    shard_name,
    write_json,
)
from bertpipe.core.params_file import load_params
from bertpipe.data import pair_dataset
from bertpipe.data.batching import Batcher
from bertpipe.data.pair_dataset import PairDataset
from bertpipe.data.parquet_writer import table_of
from bertpipe.data.ragged import offsets_of
from bertpipe.data.records import FileRecord, write_records
from bertpipe.data.row_counts import RowCounts
from bertpipe.data.tokenization.tokenizer import MASK_ID, SPECIAL_TOKENS, word_level_tokenizer
from bertpipe.training.distributed.world import init_distributed
from bertpipe.training.inputs import read_training_data

SHARDS, ROWS, WORDS, LENGTH, BATCH = 1000, 512, 30_000, 128, 256
PROCESSES = (1, 2, 4, 8)
PARAMS = Path(__file__).parent.parent / "params" / "imdb.yaml"


def many_shards(work: Path) -> list[dict[str, Any]]:
    """Return the seconds until the data of a training are known, with their record and without."""
    data = shards(work / "shards")
    rows = []
    for name, shown in (("from the record", True), ("without: all rows read, counted and hashed", False)):
        hidden = data / RECORDS_NAME
        aside = data.parent / RECORDS_NAME
        if not shown:
            hidden.rename(aside)
        try:
            started_at = time.perf_counter()
            training = read_training_data(data)
            size = training.vocab_size(load_params(PARAMS).model)
            training.train.label_counts(size)
            elapsed_s = time.perf_counter() - started_at
        finally:
            if not shown:
                aside.rename(hidden)
        rows.append({"work": name, "shards": SHARDS, "rows": training.train.layout.rows, "seconds": elapsed_s})
    return rows


def shared_reading(work: Path) -> list[dict[str, Any]]:
    """Return the bytes of row groups and footers that each of several processes reads for the batches of an epoch."""
    data = shards(work / "shards")
    rows = []
    for count in PROCESSES:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        done = subprocess.run(  # noqa: S603
            [*command, "-m", "benchmarks.shards", str(data)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        read = [each["columns"] + each["footers"] for each in json.loads(done.stdout)]
        rows.append({"processes": count, "most_mb": max(read) / 1e6, "all_mb": sum(read) / 1e6})
    for row in rows:
        row["share_of_one"] = row["most_mb"] / rows[0]["most_mb"]
    return rows


def shards(folder: Path) -> Path:
    """Return a data set of many shards of one row group each, with words by chance."""
    if (folder / SUMMARY_NAME).exists():
        return folder
    random, records = np.random.default_rng(1), {}
    for split, number in (("train", SHARDS), ("test", 1)):
        (folder / split).mkdir(parents=True, exist_ok=True)
        files, counts = [], RowCounts()
        for shard in range(number):
            rows, path = _rows(random), folder / split / shard_name(shard)
            pq.write_table(table_of(rows), path, compression="zstd", row_group_size=ROWS_PER_GROUP)
            files.append(FileRecord(rows=len(rows), bytes=path.stat().st_size, sha256=file_sha256(path)))
            counts.add_rows(rows)
        records[split] = counts.record(files)
    write_records(folder, records)
    words = [*SPECIAL_TOKENS, *(f"w{number}" for number in range(len(SPECIAL_TOKENS), WORDS))]
    word_level_tokenizer(words).save(folder / TOKENIZER_NAME)
    write_json(folder / SUMMARY_NAME, {"splits": {"train": {}, "test": {}}, "masked_tokens_known": True})
    return folder


def _rows(random: np.random.Generator) -> PairDataset:
    """Return rows with one mask each."""
    lengths = random.integers(8, LENGTH + 1, size=ROWS)
    offsets = offsets_of(lengths)
    ids = random.integers(len(SPECIAL_TOKENS), WORDS, size=int(offsets[-1])).astype(np.int32)
    return PairDataset(
        token_ids=ids,
        offsets=offsets,
        row=np.arange(ROWS),
        second_segment_start=np.full(ROWS, 4, dtype=np.int32),
        is_next=random.random(ROWS) < 0.5,
        document=np.arange(ROWS, dtype=np.int32),
        masked_offsets=np.arange(ROWS + 1),
        masked_positions=np.ones(ROWS, dtype=np.int32),
        masked_inputs=np.full(ROWS, MASK_ID, dtype=np.int32),
        masked_labels=ids[offsets[:-1] + 1],
    )


def counted_reads() -> Counter[str]:
    """Count from now on the bytes that this process reads of Parquet files: of `columns`, and of `footers`."""
    counts: Counter[str] = Counter()
    opened = pair_dataset.opened_parquet

    class Counting:
        def __init__(self, file: pq.ParquetFile) -> None:
            self.file, self.metadata, self.schema_arrow = file, file.metadata, file.schema_arrow
            counts["footers"] += self.metadata.serialized_size

        def read_row_group(self, number: int, **options: Any) -> Any:  # noqa: ANN401
            group = self.metadata.row_group(number)
            counts["columns"] += sum(group.column(each).total_compressed_size for each in range(group.num_columns))
            return self.file.read_row_group(number, **options)

    @contextmanager
    def counting(path: Path) -> Iterator[Any]:
        with opened(path) as file:
            yield Counting(file) if path.parent.name != "test" else file

    pair_dataset.opened_parquet = counting
    return counts


def main() -> None:
    """Make the batches of an epoch as one of the processes; the first prints the bytes that each has read."""
    data = Path(sys.argv[1])
    with init_distributed("cpu", timeout_s=600) as world:
        training = read_training_data(data)
        counts = counted_reads()
        batcher = Batcher(dataset=training.train, masking=None, seed=1, exchange=world.exchange())
        started_at = time.perf_counter()
        for _ in batcher.epoch(1, batch_size=BATCH, dp=world.dp):
            pass
        mine = {**counts, "seconds": time.perf_counter() - started_at}
        everyone = world._gathered(mine)
    if world.is_main:
        print(json.dumps(everyone))


if __name__ == "__main__":
    main()
