"""How fast a process reads rows that others train on: what every one of several processes has to do with all rows."""

import statistics
import time
from pathlib import Path
from typing import Any

from bertpipe.data.pair_dataset import PairFile

ROUNDS = 5


def reading_rate(work: Path) -> list[dict[str, Any]]:
    """Return the tokens a second that one core reads from Parquet, window by window."""
    path = work / "full" / "parquet" / "train.parquet"
    file = PairFile(path)
    elapsed_s, tokens = [], 0
    for _ in range(ROUNDS + 1):
        started_at, tokens = time.perf_counter(), 0
        for groups in file.layout.windows(file.layout.groups):
            tokens += len(file.read(groups).token_ids)
        elapsed_s.append(time.perf_counter() - started_at)
    seconds = statistics.median(elapsed_s[1:])  # the first is for the system's cache
    return [
        {
            "work": "reading all windows of the IMDB training rows, one core",
            "tokens": tokens,
            "bytes_per_token": path.stat().st_size / tokens,
            "tokens_per_s": tokens / seconds,
        }
    ]
