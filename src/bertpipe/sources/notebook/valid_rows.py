"""The rows of a zip's CSV members: the valid ones block by block, and what is wrong with the others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from bertpipe.core.progress import Progress
from bertpipe.sources.notebook.archive import Archive, member_name
from bertpipe.sources.notebook.columns import RowColumns, read_block
from bertpipe.sources.notebook.csv_reader import COLUMNS, MemberReader, lines_of_rows
from bertpipe.sources.notebook.row import Reject

_SHOWN_CHARACTERS = 200
"""Characters of a bad value that its reject keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidRows:
    """The rows of the members of one subset."""

    archive: Archive
    subset: str
    """`full` or `sampled`."""
    vocab_size: int | None
    """Ids are below this; None where the zip tells no vocabulary."""
    on_progress: Callable[[Progress], None]
    label: str = ""
    """What a progress report says before the member's name."""
    _bad: dict[str, list[Reject]] = field(default_factory=dict)

    def of(self, split: str) -> Iterator[RowColumns]:
        """Yield the valid rows of a split, in the order of the file; the others are noted.

        Raises:
            DataError: the member is not CSV with the notebook's header.
        """
        member = member_name(split, self.subset)
        bad = self._bad[member] = []
        size = self.archive.size(member)
        with self.archive.open_member(member) as raw:
            reader = MemberReader(raw, member)
            for block in reader.blocks():
                rows, faults = read_block(block, self.vocab_size)
                for place, fault in faults:
                    bad.append(_reject(member, int(block.row[place]), fault.column, fault.reason, fault.value))
                yield rows
                self._tell(member, min(raw.tell(), size - 1), size)
        for row in reader.misshapen:
            bad.append(_reject(member, row.row, "", f"{row.columns} columns, expected {len(COLUMNS)}", row.text))
        self._tell(member, size, size)

    def rejects(self) -> list[Reject]:
        """Return the bad rows of all members read so far, in the order of the files."""
        found: list[Reject] = []
        for member, bad in self._bad.items():
            if bad:
                with self.archive.open_member(member) as raw:
                    lines = lines_of_rows(raw, {reject.row for reject in bad})
                ordered = sorted(bad, key=lambda reject: reject.row)
                found.extend(replace(reject, line=lines[reject.row]) for reject in ordered)
        return found

    def _tell(self, member: str, completed: int, total: int) -> None:
        self.on_progress(Progress(label=f"{self.label}{member}", completed=completed, total=total, unit="bytes"))


def _reject(member: str, row: int, column: str, reason: str, value: str) -> Reject:
    shown = value.encode("utf-8", "backslashreplace").decode("utf-8")[:_SHOWN_CHARACTERS]
    return Reject(file=member, row=row, line=0, column=column, reason=reason, value=shown)
