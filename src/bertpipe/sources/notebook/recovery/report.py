"""What was recovered, for people: the table of words, and counts."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bertpipe.core.artifacts import vocabulary_schema
from bertpipe.data.tokenization.tokenizer import is_unknown_token
from bertpipe.sources.notebook.recovery.restoring import RecoveryCounts
from bertpipe.sources.notebook.recovery.vocabulary import EVIDENCE, RecoveredVocabulary


def write_vocabulary(path: Path, vocabulary: RecoveredVocabulary) -> None:
    """Write the table of ids and words as `vocabulary_schema`."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    words = [None if is_unknown_token(token) else token for token in vocabulary.tokens()]
    evidence = [EVIDENCE[kind] for kind in vocabulary.evidence.tolist()]
    columns = [list(range(len(words))), words, evidence, vocabulary.votes.tolist(), vocabulary.confidence.tolist()]
    pq.write_table(pa.Table.from_arrays(columns, schema=vocabulary_schema()), path, compression="zstd")


def recovery_report(vocabulary: RecoveredVocabulary, counts: Mapping[str, RecoveryCounts]) -> dict[str, Any]:
    """Return how many words were found in which way, and what the rows of each split turned out to be."""
    found = np.bincount(vocabulary.evidence, minlength=len(EVIDENCE)).tolist()
    words = dict(zip(EVIDENCE, found, strict=True))
    return {
        "words": {"read": words["read"], "by_rank": words["rank"], "unknown": words["unknown"]},
        "rank_check": asdict(vocabulary.rank_check),
        "splits": {split: asdict(count) for split, count in counts.items()},
    }
