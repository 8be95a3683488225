"""Parquet files whose row groups all have the same number of rows."""

from pathlib import Path
from typing import TYPE_CHECKING

from bertpipe.artifacts import ROWS_PER_GROUP

if TYPE_CHECKING:
    import pyarrow as pa


class GroupWriter:
    """Writes tables of any size as row groups of `ROWS_PER_GROUP` rows; only the last one may have fewer."""

    def __init__(self, path: Path, schema: "pa.Schema") -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415

        self._schema = schema
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")

    def __enter__(self) -> "GroupWriter":
        """Return the writer; the file is complete when its block ends."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Write what is left and finish the file."""
        if kind is None and self._waiting_rows:
            self._write(self._waiting_rows)
        self._writer.close()

    def write(self, table: "pa.Table") -> None:
        """Append rows."""
        self._waiting.append(table)
        self._waiting_rows += table.num_rows
        while self._waiting_rows >= ROWS_PER_GROUP:
            self._write(ROWS_PER_GROUP)

    def _write(self, rows: int) -> None:
        import pyarrow as pa  # noqa: PLC0415

        # In one chunk: Parquet pages are cut where chunks end, and equal rows shall give equal bytes.
        waiting = pa.concat_tables(self._waiting)
        self._writer.write_table(waiting.slice(0, rows).combine_chunks())
        self._waiting, self._waiting_rows = [waiting.slice(rows)], self._waiting_rows - rows
