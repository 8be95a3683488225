"""The zip of CSV files: which members it has, how they are opened, and how one is written."""

import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from bertpipe.artifacts import SPLITS, TOKENIZER_NAME
from bertpipe.errors import DataError

_FOLDER = "bert_dataset"
_FACTS_NAME = "dataset.json"
_VOCABULARY_NAME = "vocab.txt"
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)
_ENCRYPTED_FLAG = 0x1
SAMPLED_EVERY = 10
"""The `_sampled` members of a zip that is written here hold one row in so many."""


def member_name(split: str, subset: str) -> str:
    """Return the CSV member of a split (`train`, `test`) and a subset (`sampled`, `full`)."""
    suffix = "_sampled" if subset == "sampled" else ""
    return f"{_FOLDER}/bert_{split}_data{suffix}.csv"


@dataclass(frozen=True, slots=True)
class Archive:
    """An open, checked zip."""

    path: Path
    file: zipfile.ZipFile

    def size(self, member: str) -> int:
        """Return the unpacked size of a member in bytes."""
        return self.file.getinfo(member).file_size

    @contextmanager
    def open_csv(self, member: str) -> Iterator[tuple[TextIO, "zipfile.ZipExtFile"]]:
        """Yield a member as text, inflated on the way, and the byte stream below it, whose `tell` is the progress."""
        with self.file.open(member) as raw:
            yield io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape", newline=""), raw  # type: ignore[misc]

    def vocabulary(self) -> list[str] | None:
        """Return the words in the order of their ids; None where the zip has none, as the notebook's has not."""
        name = f"{_FOLDER}/{_VOCABULARY_NAME}"
        if name not in self.file.namelist():
            return None
        try:
            return self.file.read(name).decode("utf-8").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}: {name} is not UTF-8: {error}") from error

    def labels_are_true(self) -> bool:
        """Return whether the zip says that each label is the true token; the notebook's says nothing, and is not so."""
        name = f"{_FOLDER}/{_FACTS_NAME}"
        if name not in self.file.namelist():
            return False
        try:
            facts = json.loads(self.file.read(name))
        except ValueError as error:
            raise DataError(f"{self.path}: {name} is not JSON: {error}") from error
        return isinstance(facts, dict) and facts.get("labels_are_true") is True


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Yield the zip at `path`, whose form is checked but not yet its rows.

    Raises:
        DataError: it is not a zip, is damaged or encrypted, or lacks the CSV members.
    """
    try:
        file = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a zip file: {error}") from error
    with file:
        names = set(file.namelist())
        expected = [member_name(split, subset) for split in SPLITS for subset in ("full", "sampled")]
        missing = [name for name in expected if name not in names]
        if missing:
            found = ", ".join(sorted(names)[:8]) or "nothing"
            raise DataError(f"{path} lacks {', '.join(missing)}; it holds {found}")
        for name in expected:
            if file.getinfo(name).flag_bits & _ENCRYPTED_FLAG:
                raise DataError(f"{path}: {name} is encrypted: unpack it and zip it again without a password")
        try:
            yield Archive(path, file)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise DataError(f"{path} is damaged: {error}; run `bertpipe download` again") from error


def check_archive(path: Path) -> None:
    """Read every member of the zip once and compare its checksum.

    Raises:
        DataError: as `open_archive`, or a member's bytes are not those that were packed.
    """
    with open_archive(path) as archive:
        bad = archive.file.testzip()
        if bad is not None:
            raise DataError(f"{path} is damaged in {bad}: run `bertpipe download` again")


class ArchiveWriter:
    """Writes a zip in the notebook's format; equal content gives equal bytes."""

    def __init__(self, path: Path) -> None:
        self._file = zipfile.ZipFile(path, "w")

    def __enter__(self) -> "ArchiveWriter":
        """Return the writer; the zip is complete when its block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Finish the zip."""
        self._file.close()

    def add(self, name: str, chunks: Iterable[str]) -> None:
        """Add a member made of UTF-8 text."""
        info = zipfile.ZipInfo(name, date_time=_FIXED_TIME)
        info.compress_type = zipfile.ZIP_DEFLATED
        with self._file.open(info, "w", force_zip64=True) as member:  # nobody knows yet how large it will be
            for chunk in chunks:
                member.write(chunk.encode("utf-8"))

    def add_facts(self, *, vocabulary: list[str], labels_are_true: bool) -> None:
        """Add what the notebook's zip does not tell: the vocabulary, and whether labels are true tokens."""
        self.add(f"{_FOLDER}/{_VOCABULARY_NAME}", ["\n".join(vocabulary) + "\n"])
        self.add(f"{_FOLDER}/{_FACTS_NAME}", [json.dumps({"labels_are_true": labels_are_true}) + "\n"])

    def add_tokenizer(self, tokenizer: str) -> None:
        """Add a `tokenizer.json`, where a vocabulary does not say all of it."""
        self.add(f"{_FOLDER}/{TOKENIZER_NAME}", [tokenizer])
