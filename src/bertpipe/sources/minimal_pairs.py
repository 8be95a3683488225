"""Minimal pairs from JSON lines: two sentences that differ in one point, of which one is acceptable."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.core.file_kinds import JSON_LINES_SUFFIXES, kind_of
from bertpipe.sources.text.documents.containers import folder_files
from bertpipe.sources.text.documents.decoding import read_lines
from bertpipe.sources.text.documents.formats import check_characters, json_fields, type_name
from bertpipe.sources.text.documents.streams import ignore_bytes, open_file, unpacked

GOOD_FIELD, BAD_FIELD = "sentence_good", "sentence_bad"
_GROUP_FIELDS = ("UID", "linguistics_term", "field")
"""BLiMP's (Warstadt et al. 2020), the finest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MinimalPair:
    """Two sentences, and where they stand."""

    good: str
    """The acceptable one."""
    bad: str
    group: str
    place: str
    """What messages call it: file and line."""


def minimal_pair_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files given, and those of JSON lines in the folders given, in the order of their names.

    Raises:
        MissingInputError: there is nothing at a path, or no file of JSON lines in a folder.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise MissingInputError(f"{path} does not exist: name a file of minimal pairs, JSON lines, or their folder")
        if not path.is_dir():
            files.append(path)
            continue
        found = [path / file.name for file in folder_files(path, ignore_bytes)]
        found = [file for file in found if kind_of(file.name).suffix in JSON_LINES_SUFFIXES]
        if not found:
            raise MissingInputError(f"the folder {path} has no file {' or '.join(JSON_LINES_SUFFIXES)}: name another")
        files += found
    return files


def read_minimal_pairs(files: Sequence[Path], *, group_by: str | None) -> list[MinimalPair]:
    """Return the pairs of some files of JSON lines, UTF-8, which may be packed as `.gz`, `.zst`, `.bz2` or `.xz`.

    Args:
        files: the files.
        group_by: the field that names a pair's group; None: the first of BLiMP's fields that a file's first line has,
            or else the file's name.

    Raises:
        DataError: a file is damaged or not UTF-8, there are no pairs, or a line is not JSON or has a wrong field. The
            message names file, line and field.
    """
    pairs = [pair for file in files for pair in _pairs(file, group_by)]
    if not pairs:
        raise DataError(
            f"{files[0]} has no minimal pair: write one JSON object with {GOOD_FIELD} and {BAD_FIELD} per line"
        )
    return pairs


def _pairs(path: Path, group_by: str | None) -> Iterator[MinimalPair]:
    origin, kind = str(path), kind_of(path.name)
    with (
        open_file(path, ignore_bytes) as packed,
        unpacked(packed, kind.packing, origin=origin, packed_size=path.stat().st_size) as stream,
    ):
        lines = ((number, line) for number, line in read_lines(stream, origin) if line.strip())
        first = next(lines, None)
        if first is None:
            return
        field = group_by or _group_field(first[1])
        names = [GOOD_FIELD, BAD_FIELD, *([field] if field else [])]
        advice = "write it, or name another field with --group-by" if field else "write it"
        for number, (good, bad, *group) in json_fields(chain([first], lines), origin, names, advice=advice):
            place = f"{origin}:{number}"
            yield MinimalPair(
                good=_sentence(good, f"{place}: field {GOOD_FIELD!r}"),
                bad=_sentence(bad, f"{place}: field {BAD_FIELD!r}"),
                group=_group(group[0], f"{place}: field {field!r}") if group else _stem(path),
                place=place,
            )


def _group_field(line: str) -> str | None:
    """Return the field of a file's groups, by its first line; None if that is not an object, which is refused later."""
    with suppress(ValueError, RecursionError):
        content = json.loads(line)
        if isinstance(content, dict):
            return next((name for name in _GROUP_FIELDS if name in content), None)
    return None


def _stem(path: Path) -> str:
    """Return a file's name without the suffixes of its kind."""
    return Path(path.stem).stem if kind_of(path.name).packing else path.stem


def _sentence(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{what} is {type_name(value)}, expected a sentence: correct or drop the line")
    if not value.strip():
        raise DataError(f"{what} is empty: correct or drop the line")
    check_characters(value, what)
    return value


def _group(value: object, what: str) -> str:
    if not isinstance(value, str | int) or not str(value).strip():  # a boolean is an int
        shown = "empty" if isinstance(value, str) else type_name(value)
        raise DataError(f"{what} is {shown}, expected the name of a group: correct it, or name another with --group-by")
    name = json.dumps(value) if isinstance(value, bool) else str(value).strip()
    check_characters(name, what)
    return name
