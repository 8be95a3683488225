"""What is known of the splits of a data set without reading their rows, recorded when they were written."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import DATA_COMMANDS, RECORDS_NAME, read_json
from bertpipe.core.atomic import atomic_file
from bertpipe.core.errors import DataError

_FORMAT = "bertpipe-records-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """One file of a split."""

    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRecord:
    """All files of a split, in order."""

    files: tuple[FileRecord, ...]
    longest_row: int
    """Tokens."""
    label_counts: NDArray[np.int64]
    """How often each id is a label of the stored masks, up to the largest one that is; shape [ids]."""


def write_records(directory: Path, records: Mapping[str, SplitRecord]) -> None:
    """Write the record of each split of a data set."""
    splits = {
        split: {**asdict(record), "label_counts": record.label_counts.tolist()} for split, record in records.items()
    }
    with atomic_file(directory / RECORDS_NAME) as temporary:
        temporary.write_text(json.dumps({"format": _FORMAT, "splits": splits}) + "\n", encoding="utf-8")


def read_records(directory: Path) -> Mapping[str, SplitRecord]:
    """Return the record of each split of a data set; none if it was made without.

    Raises:
        DataError: the file is damaged, or of another version.
    """
    path = directory / RECORDS_NAME
    if not path.exists():
        return {}
    content = read_json(path)
    try:
        if content["format"] != _FORMAT:
            raise ValueError(f"its format is {content['format']!r}, not {_FORMAT!r}")
        return {str(split): _record(each) for split, each in content["splits"].items()}
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is not what {DATA_COMMANDS} write ({type(error).__name__}: {error}): make the data again, or "
            "remove this file, and all rows are read when a training starts"
        ) from error


def _record(content: Mapping[str, Any]) -> SplitRecord:
    return SplitRecord(
        files=tuple(
            FileRecord(rows=int(each["rows"]), bytes=int(each["bytes"]), sha256=str(each["sha256"]))
            for each in content["files"]
        ),
        longest_row=int(content["longest_row"]),
        label_counts=np.array(content["label_counts"], dtype=np.int64).reshape(-1),
    )
