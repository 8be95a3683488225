"""How large a document may be, and how far a packed file may expand."""

from bertpipe.core.errors import DataError

LARGEST_DOCUMENT = 64 * 2**20
"""UTF-8 bytes of one document, of one line of JSON, and of one row of CSV."""
FREE_EXPANSION = 100_000_000
"""Bytes to which anything may expand, however small it is when packed."""
LARGEST_EXPANSION = 200
"""Times its packed size to which a file may expand beyond that; text shrinks 3 to 10 times, deflate 1000 at most."""


def utf8_size(text: str) -> int:
    """Return how many bytes `text` has in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8"))


def too_large(origin: str, size: int | None) -> DataError:
    """Return the error of a document above the limit; `size` in bytes, None if it was not read to its end."""
    found = f"more than {LARGEST_DOCUMENT:,}" if size is None else f"{size:,}"
    return DataError(
        f"{origin} has {found} bytes in one document, the limit is {LARGEST_DOCUMENT:,}: "
        "split it, or set text_format to blocks or lines if it holds many documents"
    )


class Expansion:
    """Counts what a packed file expands to, and stops a bomb."""

    def __init__(self, origin: str, packed_size: int) -> None:
        self._origin, self._packed_size, self._size = origin, packed_size, 0

    def add(self, size: int) -> None:
        """Count `size` more bytes.

        Raises:
            DataError: they are more than the limits of this module allow.
        """
        self._size += size
        if self._size > max(FREE_EXPANSION, LARGEST_EXPANSION * self._packed_size):
            raise DataError(
                f"{self._origin} expands from {self._packed_size:,} to {self._size:,} bytes and "
                f"more, the limit is {LARGEST_EXPANSION} times: if it is text indeed, unpack it and read the result"
            )
