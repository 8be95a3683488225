"""The notebook's zip: the text from which each of its rows was made, once."""

import csv
from collections.abc import Iterator, Sequence

from bertpipe.core.artifacts import SPLITS
from bertpipe.core.errors import DataError
from bertpipe.core.params import TextFormat
from bertpipe.sources.notebook.archive import member_name
from bertpipe.sources.notebook.csv_reader import COLUMNS, wrong_header
from bertpipe.sources.text.documents.decoding import read_lines
from bertpipe.sources.text.documents.formats import Format, Texts
from bertpipe.sources.text.documents.selection import Selected
from bertpipe.sources.text.documents.streams import LARGEST_DOCUMENT, ByteStream, TextFile, too_large, utf8_size

_MEMBERS = {member_name(split, "full"): split for split in SPLITS}
_TEXT = COLUMNS.index("Original Text")


def notebook_members(files: Sequence[TextFile], where: str, text_format: TextFormat) -> list[Selected]:
    """Return the members that hold all rows, train before test; none where the zip is another.

    The `sampled` members repeat some of the same rows.

    Raises:
        DataError: one of the two is missing, or another format is asked for.
    """
    found = {file.name: file for file in files if file.name in _MEMBERS}
    if found and len(found) < len(_MEMBERS):
        missing = ", ".join(name for name in _MEMBERS if name not in found)
        raise DataError(f"{where} is the notebook's zip but lacks {missing}: fetch it again")
    if found and text_format != "auto":
        raise DataError(f"{where} is the notebook's zip, whose texts are known: set text_format to auto")
    return [Selected(file=found[name], split=split, format=_CSV) for name, split in _MEMBERS.items() if found]


def _texts(stream: ByteStream, origin: str, _: str) -> Texts:
    """Yield the text of each row of a member that differs from the row before: a text's rows stand together."""
    csv.field_size_limit(LARGEST_DOCUMENT)
    rows = _Rows(stream, origin)
    header = next(rows, None)
    if header != list(COLUMNS):
        raise wrong_header(origin, header)
    previous = None
    for fields in rows:
        if len(fields) != len(COLUMNS):
            raise DataError(f"{rows.place} has {len(fields)} columns, expected {len(COLUMNS)}")
        if fields[_TEXT] != previous:
            yield rows.line, fields[_TEXT]
        previous = fields[_TEXT]


_CSV = Format(read=_texts)


class _Rows:
    """The rows of a CSV member; the header is row 0."""

    def __init__(self, stream: ByteStream, origin: str) -> None:
        self._origin = origin
        self._lines = read_lines(stream, origin)
        self._reader = csv.reader(self._counted(), strict=True)
        self._size, self._number = 0, -1
        self.line = 0
        """The first line of the current row."""

    @property
    def place(self) -> str:
        """The current row, as messages call it."""
        return f"{self._origin}, row {self._number} (line {self.line})"

    def __iter__(self) -> "_Rows":
        return self

    def __next__(self) -> list[str]:
        self._size, self._number = 0, self._number + 1
        self.line = self._reader.line_num + 1
        try:
            return next(self._reader)
        except csv.Error as error:
            raise DataError(f"{self.place} is not CSV: {error}") from error

    def _counted(self) -> Iterator[str]:
        for _, line in self._lines:
            self._size += utf8_size(line) + 1
            if self._size > LARGEST_DOCUMENT:
                raise too_large(self.place, None)
            yield line + "\n"
