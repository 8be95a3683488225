"""Text files, folders and archives made by hand, for tests of whatever reads text."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from bertpipe.core.params import TextFormat
from bertpipe.sources.text.documents import Document, read_documents

Files = Mapping[str, bytes]
"""Content by relative name."""


class _Kept(io.BytesIO):
    """A buffer that pyarrow cannot close."""

    def close(self) -> None:
        """Stay open."""


def gz(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def zst(content: bytes) -> bytes:
    buffer = _Kept()
    with pa.CompressedOutputStream(pa.PythonFile(buffer, mode="w"), "zstd") as stream:
        stream.write(content)
    return buffer.getvalue()


def tar(files: Files, *, file_format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=file_format) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files: Files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def json_lines(*texts: str, field: str = "text") -> bytes:
    return "".join(json.dumps({field: text}) + "\n" for text in texts).encode("utf-8")


def write_files(folder: Path, files: Files) -> Path:
    """Write `files` below `folder`, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def documents(path: Path, text_format: TextFormat = "auto", field: str = "text") -> list[Document]:
    return list(read_documents(path, text_format=text_format, field=field))


def texts(path: Path, text_format: TextFormat = "auto", field: str = "text") -> list[str]:
    return [document.text for document in documents(path, text_format, field)]


def places(path: Path, text_format: TextFormat = "auto", field: str = "text") -> list[tuple[str, str, str | None]]:
    """Return origin, relative to the folder of `path`, text and split of each document."""
    return [
        (document.origin.removeprefix(f"{path.parent}/"), document.text, document.split)
        for document in documents(path, text_format, field)
    ]
