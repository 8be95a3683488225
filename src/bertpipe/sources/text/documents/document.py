"""One document of someone's text, and the ways in which a file can hold several."""

from dataclasses import dataclass
from typing import Literal

TextFormat = Literal["auto", "file", "blocks", "lines", "jsonl"]
"""How a file becomes documents: `formats` says it; `auto` goes by the file's name and place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text and where it comes from."""

    text: str
    """Holds more than white space, and no NUL; every line end of the source is a newline."""
    origin: str
    """Where it stands: `file`, `file:line`, `archive.zip!member` or `archive.zip!member:line`."""
    split: str | None
    """`train` or `test` where the corpus itself has splits; None elsewhere."""
