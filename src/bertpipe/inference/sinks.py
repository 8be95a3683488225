"""Files of answers, one row per input: JSON lines, or vectors as Parquet or `.npy`."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import encodable_json
from bertpipe.core.atomic import atomic_file
from bertpipe.core.errors import InputError
from bertpipe.inference.answers import EmbeddingAnswer, MlmAnswer, NspAnswer, ScoreAnswer
from bertpipe.inference.lines import Line

if TYPE_CHECKING:
    import pyarrow.parquet as pq

Answer = NspAnswer | MlmAnswer | ScoreAnswer | EmbeddingAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A line with its answer or its error."""

    line: Line
    answer: Answer | None
    error: str | None


class Sink(Protocol):
    """Writes answers, block by block, in the order of the lines."""

    def write(self, block: Sequence[Answered]) -> None:
        """Write a block."""


VECTOR_SUFFIXES = (".parquet", ".npy")


@contextmanager
def sink_to(out: Path | None, *, width: int | None) -> Iterator[Sink]:
    """Yield the sink of a file, which appears when the block ends without an error, or of standard output.

    `width` is the size of a vector; None if the answers are not vectors.

    `.parquet` and `.npy` are for vectors; every other file gets JSON lines.

    Raises:
        InputError: the file is for vectors, and the answers are not vectors.
        WriteError: the file cannot be written.
    """
    if out is None:
        yield _JsonLines(sys.stdout)
        return
    suffix = out.suffix.lower()
    if suffix in VECTOR_SUFFIXES and width is None:
        raise InputError(f"{out} is for the vectors of `infer embed`: name a .jsonl file")
    with atomic_file(out) as temporary:
        if suffix == ".parquet":
            import pyarrow.parquet as pq  # noqa: PLC0415

            with temporary.open("wb") as file, pq.ParquetWriter(file, _vector_schema(width)) as writer:
                yield _ParquetVectors(writer)
        elif suffix == ".npy":
            with temporary.open("wb") as file:
                vectors = _NpyVectors(file, width)
                yield vectors
                vectors.end()
        else:
            with temporary.open("w", encoding="utf-8") as lines:
                yield _JsonLines(lines)


@dataclass(frozen=True, slots=True)
class _JsonLines:
    """One object per line: `line`, `input`, and `answer` or `error`."""

    file: TextIO

    def write(self, block: Sequence[Answered]) -> None:
        for row in block:
            content: dict[str, Any] = {"line": row.line.number, "input": row.line.given}
            content |= {"error": row.error} if row.answer is None else {"answer": row.answer.to_dict()}
            self.file.write(encodable_json(content, encoding=self.file.encoding) + "\n")
        self.file.flush()


def _vector_schema(width: int | None) -> Any:  # noqa: ANN401 - pyarrow is imported when it is needed
    import pyarrow as pa  # noqa: PLC0415

    return pa.schema(
        [
            pa.field("line", pa.int64(), nullable=False),
            pa.field("text", pa.string(), nullable=False),
            pa.field("embedding", pa.list_(pa.float32(), width)),
            pa.field("error", pa.string()),
        ]
    )


@dataclass(frozen=True, slots=True)
class _ParquetVectors:
    """One row per input: `line`, `text`, `embedding` (null with an error) and `error`."""

    writer: "pq.ParquetWriter"

    def write(self, block: Sequence[Answered]) -> None:
        import pyarrow as pa  # noqa: PLC0415

        rows = [
            {
                "line": row.line.number,
                "text": _printable(row.line.values[0] if row.line.values else str(row.line.given)),
                "embedding": _vector(row),
                "error": None if row.error is None else _printable(row.error),
            }
            for row in block
        ]
        self.writer.write_table(pa.Table.from_pylist(rows, schema=self.writer.schema))


def _printable(text: str) -> str:
    """Return a text that can be encoded in UTF-8: half a character is written as its escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class _NpyVectors:
    """A float32 matrix [lines, hidden], up to the last line with an input; NaN for a line without a vector."""

    def __init__(self, file: Any, width: int | None) -> None:  # noqa: ANN401
        assert width is not None
        self._file, self._width, self._rows = file, width, 0
        self._write_header()

    def write(self, block: Sequence[Answered]) -> None:
        missing = np.full(self._width, np.nan, dtype=np.float32)
        rows: list[NDArray[np.float32]] = []
        for row in block:
            vector = _vector(row)
            rows += [missing] * (row.line.number - 1 - self._rows - len(rows))  # empty lines
            rows.append(missing if vector is None else vector)
        self._file.write(np.stack(rows).astype("<f4").tobytes())
        self._rows += len(rows)

    def end(self) -> None:
        """Write the number of rows into the header, in which NumPy leaves space for any number."""
        self._file.seek(0, os.SEEK_SET)
        self._write_header()

    def _write_header(self) -> None:
        shape = {"descr": "<f4", "fortran_order": False, "shape": (self._rows, self._width)}
        np.lib.format.write_array_header_1_0(self._file, shape)


def _vector(row: Answered) -> NDArray[np.float32] | None:
    return row.answer.vector if isinstance(row.answer, EmbeddingAnswer) else None
