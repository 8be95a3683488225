"""The rows of a zip's CSV members: the valid ones block by block, and what is wrong with the others."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from bertpipe.core.progress import Progress
from bertpipe.sources.notebook.archive import Archive
from bertpipe.sources.notebook.columns import RowColumns, read_block
from bertpipe.sources.notebook.csv_reader import COLUMNS, MemberReader, lines_of_rows
from bertpipe.sources.notebook.row import EMPTY_LINE, Reject

_SHOWN_CHARACTERS = 200
"""Characters of a bad value that its reject keeps."""


def valid_rows(
    archive: Archive,
    member: str,
    *,
    vocab_size: int | None,
    rejects: list[Reject],
    on_progress: Callable[[Progress], None],
    label: str = "",
) -> Iterator[RowColumns]:
    """Yield the valid rows of a member, in the order of the file; empty lines at its end are not rows.

    Args:
        archive: the zip.
        member: name of a CSV file in it.
        vocab_size: ids are below this; None where the zip has no vocabulary.
        rejects: the other rows are added to it, in any order and without their lines (see `with_lines`).
        on_progress: gets the bytes that were read.
        label: what a progress report says before the member's name.

    Raises:
        DataError: the member is not CSV with the notebook's header.
    """

    def reject(row: int, column: str, reason: str, value: str) -> None:
        shown = value.encode("utf-8", "backslashreplace").decode("utf-8")[:_SHOWN_CHARACTERS]
        rejects.append(Reject(file=member, row=row, line=0, column=column, reason=reason, value=shown))

    size = archive.size(member)
    last = 0
    progress = Progress(label=f"{label}{member}", completed=0, total=size, unit="bytes")
    with archive.open_member(member) as raw:
        reader = MemberReader(raw, member)
        for block in reader.blocks():
            last = int(block.row[-1]) if len(block.row) else last
            rows, faults = read_block(block, vocab_size)
            for place, fault in faults:
                reject(int(block.row[place]), fault.column, fault.reason, fault.value)
            yield rows
            on_progress(replace(progress, completed=min(raw.tell(), size - 1)))
    for row in reader.misshapen:
        reject(row.row, "", f"{row.columns} columns, expected {len(COLUMNS)}", row.text)
        last = max(last, row.row)
    empty = {fault.row for fault in rejects if fault.reason == EMPTY_LINE}
    while last in empty:
        last -= 1
    rejects[:] = [fault for fault in rejects if fault.row <= last]
    on_progress(replace(progress, completed=size))


def with_lines(archive: Archive, member: str, rejects: list[Reject]) -> list[Reject]:
    """Return the rejects of a member in the order of the file, with their lines; this reads the member again."""
    if not rejects:
        return []
    with archive.open_member(member) as raw:
        lines = lines_of_rows(raw, {reject.row for reject in rejects})
    return [replace(reject, line=lines[reject.row]) for reject in sorted(rejects, key=lambda reject: reject.row)]
