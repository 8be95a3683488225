"""The zip of CSV files: its members, how they are opened, and what several zips have in common."""

import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from bertpipe.core.artifacts import SPLITS, TOKENIZER_NAME
from bertpipe.core.errors import DataError, excerpt
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer, parse_tokenizer, word_level_tokenizer

_FOLDER = "bert_dataset"
FACTS_MEMBER = f"{_FOLDER}/dataset.json"
VOCABULARY_MEMBER = f"{_FOLDER}/vocab.txt"
TOKENIZER_MEMBER = f"{_FOLDER}/{TOKENIZER_NAME}"
_ENCRYPTED_FLAG = 0x1
_LARGEST_RATIO, _LARGE = 200, 1 << 30
"""Members that claim more bytes than both the second and the first times their packed size are refused."""
_LARGEST_READ_WHOLE = 1 << 27
"""Bytes of a vocabulary, a tokenizer or the facts, which are held in memory."""


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
    def open_member(self, member: str) -> Iterator[BinaryIO]:
        """Yield a member as an unpacked stream; its `tell` is the progress.

        Raises:
            DataError: the member is not where the zip says.
        """
        try:
            raw = self.file.open(member)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path} is damaged at {member}: {error}; run `bertpipe download` again") from error
        with raw:
            yield raw  # type: ignore[misc]

    def tokenizer(self) -> Tokenizer | None:
        """Return the zip's tokenizer, or that of its vocabulary; None if it has neither, as the notebook's zip.

        Raises:
            DataError: the tokenizer lacks a special token or has another id for it, or the vocabulary is faulty.
        """
        names = self.file.namelist()
        if TOKENIZER_MEMBER in names:
            place = f"{self.path}: {TOKENIZER_MEMBER}"
            tokenizer = parse_tokenizer(self.file.read(TOKENIZER_MEMBER).decode("utf-8", "replace"), place)
            if tokenizer.special_ids != tuple(range(len(SPECIAL_TOKENS))):
                raise DataError(
                    f"{place} has the ids {tokenizer.special_ids} for {' '.join(SPECIAL_TOKENS)}, not 0 to 4"
                )
            return tokenizer
        if VOCABULARY_MEMBER not in names:
            return None
        try:
            text = self.file.read(VOCABULARY_MEMBER).decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}: {VOCABULARY_MEMBER} is not UTF-8: {error}") from error
        return word_level_tokenizer(text.removesuffix("\n").split("\n"))

    def facts(self) -> "ZipFacts":
        """Return what the zip says of itself; only a plain `true` counts, and the notebook's zip says nothing.

        Raises:
            DataError: as `tokenizer`, or the facts are not JSON.
        """
        tokenizer, facts = self.tokenizer(), None
        if FACTS_MEMBER in self.file.namelist():
            try:
                facts = json.loads(self.file.read(FACTS_MEMBER))
            except (ValueError, RecursionError) as error:  # nested too deeply
                raise DataError(f"{self.path}: {FACTS_MEMBER} is not JSON: {error}") from error
        is_true = {
            name: isinstance(facts, dict) and facts.get(name) is True for name in ("labels_are_true", "generated")
        }
        return ZipFacts(tokenizer=tokenizer, **is_true)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipFacts:
    """What a zip says of itself."""

    tokenizer: Tokenizer | None
    labels_are_true: bool
    """Whether each label is the true token."""
    generated: bool
    """Whether no person wrote its text, as in the embedded sample."""


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Yield the zip at `path`, after checking its members but not its rows.

    Raises:
        DataError: it is not a zip, is damaged or encrypted, or lacks the CSV members.
    """
    try:
        file = zipfile.ZipFile(path)
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a zip file: {error}") from error
    with file:
        names = set(file.namelist())
        expected = [member_name(split, subset) for split in SPLITS for subset in ("full", "sampled")]
        missing = [name for name in expected if name not in names]
        if missing:
            found = ", ".join(sorted(names)[:8]) or "nothing"
            raise DataError(
                f"{path} lacks {', '.join(missing)}; it holds {found}: zip the CSV files again under these names"
            )
        _check_sizes(path, file)
        try:
            yield Archive(path, file)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise DataError(f"{path} is damaged: {error}; run `bertpipe download` again") from error


def _check_sizes(path: Path, file: zipfile.ZipFile) -> None:
    """Refuse members that would fill memory or disk; all of them, since the download reads all."""
    sums: dict[str, int] = {}
    for member in file.infolist():
        place = f"{path}: {excerpt(member.filename)[1:-1]}"
        if sums.setdefault(member.filename, member.CRC) != member.CRC:
            raise DataError(f"{place} is there twice, with different contents: remove the one that is not meant")
        if member.flag_bits & _ENCRYPTED_FLAG:
            raise DataError(f"{place} is encrypted: unpack it and zip it again without a password")
        # Python unpacks bzip2 and LZMA without a bound, and Deflate64, PPMd and others not at all.
        if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise DataError(f"{place} is packed with method {member.compress_type}: zip it again with deflate (8)")
        is_read_whole = member.filename in {FACTS_MEMBER, VOCABULARY_MEMBER, TOKENIZER_MEMBER}
        if is_read_whole and member.file_size > _LARGEST_READ_WHOLE:
            raise DataError(f"{place} has {member.file_size:,} bytes, more than {_LARGEST_READ_WHOLE:,}: it is none")
        _check_growth(place, member.compress_size, member.file_size, _LARGE)
    _check_growth(str(path), path.stat().st_size, sum(member.file_size for member in file.infolist()), _LARGE)


def _check_growth(place: str, packed: int, size: int, large: int) -> None:
    if size > max(large, _LARGEST_RATIO * packed):
        raise DataError(
            f"{place} would grow from {packed:,} to {size:,} bytes, "
            f"more than {_LARGEST_RATIO} times: this is no real data, do not unpack it"
        )


def check_archive(path: Path) -> None:
    """Read every member of the zip once and compare its checksum.

    Raises:
        DataError: as `open_archive`, or a member's bytes are not those that were packed.
    """
    with open_archive(path) as archive:
        bad = archive.file.testzip()
        if bad is not None:
            raise DataError(f"{path} is damaged in {bad}: run `bertpipe download` again")


def zip_files(folder: Path) -> list[Path]:
    """Return the zips of a directory, absolute, in the byte order of their names; hidden files are left out.

    Raises:
        DataError: there is no zip, or another file.
    """
    found = sorted((path for path in folder.absolute().iterdir() if not path.name.startswith(".")), key=os.fsencode)
    strangers = [path.name for path in found if path.suffix.lower() != ".zip" or not path.is_file()]
    if strangers or not found:
        raise DataError(
            f"{folder} holds {', '.join(strangers[:3]) or 'nothing'}, but must hold only zips of CSV files: "
            "name another directory, or one zip"
        )
    return found


def common_facts(zips: Sequence[Path]) -> ZipFacts:
    """Return what all zips say of themselves.

    Raises:
        DataError: the vocabularies of two zips differ, or only some have true labels; or a zip is damaged.
    """
    first: ZipFacts | None = None
    generated = False
    for path in zips:
        with open_archive(path) as archive:
            facts = archive.facts()
        first, generated = first or facts, generated or facts.generated
        if _text(facts.tokenizer) != _text(first.tokenizer):
            raise DataError(
                f"{path} has another vocabulary than {zips[0]}: an id would be two words; convert them separately"
            )
        if facts.labels_are_true != first.labels_are_true:
            raise DataError(
                f"of {zips[0]} and {path}, one says that its labels are the true tokens and one does not: convert them "
                "separately"
            )
    assert first is not None
    return replace(first, generated=generated)


def _text(tokenizer: Tokenizer | None) -> str | None:
    return None if tokenizer is None else str(tokenizer.backend.to_str())
