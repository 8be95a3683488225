"""Objects in stores, by URL, through Arrow's file systems: put whole, and read in ranges that are tried again.

Credentials come from where the stores' own tools look, such as the environment: never from a URL, and no message shows
one.
"""

import io
import os
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from bertpipe.core.errors import DataError, InputError, MissingInputError, StoreError, first_line

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem
    from pyarrow.lib import NativeFile

SCHEMES = ("s3", "gs", "az", "abfs", "abfss")
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)
"""Also as `pathlib.Path` has it, with one slash."""
_ATTEMPTS, _PAUSE_S, _LONGEST_S = 4, 0.5, 120.0
"""Of one request: how often it is made, the first pause (each is twice as long as the one before), and the seconds
after which it is not made again."""
_TRIES_WITHIN = 3
"""How often Arrow makes each request to S3; one part of a large upload is one request."""
_CONNECT_S, _SILENT_S = 10, 30
"""Seconds for a connection to S3, and without a byte from it."""
_BLOCK, _AHEAD, _THREADS = 2**19, 4, 8
"""Bytes of a range, how many are read ahead where a file is read on, and how many at once."""
_PART = 2**22
"""Bytes that are copied at once."""
_SHARE_OF_DISK_LEFT = 0.1
_SHOWN = 160
"""Characters of a store's own words in a message."""
_SECRETS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN",
)  # fmt: skip
_REFUSED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE|TOKEN|CREDENTIALS|FORBIDDEN|UNAUTHORIZED|HTTP status 40[13]|"
    r"status code: 40[13]|AuthenticationFailed|AuthorizationFailure|PERMISSION_DENIED|invalid_grant",
    re.IGNORECASE,
)
_NOT_THERE = re.compile(r"NO_SUCH_BUCKET|ContainerNotFound|HTTP status 404|bucket does not exist", re.IGNORECASE)
_WRONG = re.compile(r"InvalidBucketName|HTTP status 30\d|PERMANENT_REDIRECT|not configured", re.IGNORECASE)

_Result = TypeVar("_Result")


def url_of(place: str | Path) -> str | None:
    """Return the URL of a place in an object store; None for a path of this machine.

    Raises:
        InputError: it has a password or a signature, or no bucket; or it is a URL of another kind.
    """
    found = _URL.fullmatch(str(place))
    if found is None or found[1] == "file":
        return None
    scheme, rest = found[1], found[2]
    if scheme not in SCHEMES:
        if Path(place).exists():
            return None
        raise InputError(
            f"a URL of {scheme:.20} cannot be read or written here: name a path, or a URL of an object store "
            f"({', '.join(f'{each}://' for each in SCHEMES)}) or file://"
        )
    bucket, _, key = rest.partition("/")
    account = bucket.rpartition("@")[2]
    if "?" in rest or "#" in rest or ("@" in bucket and (":" in bucket or not scheme.startswith("abfs"))):
        raise InputError(
            f"the URL {scheme}://{account.partition('?')[0].partition('#')[0]}/... has a password, a signature or "
            "another part that does not belong there: write scheme://bucket/path, and leave credentials to the "
            "environment"
        )
    key = "/".join(part for part in key.split("/") if part)
    if not bucket or not key or any(part in {".", ".."} for part in key.split("/")):
        raise InputError(f"the URL {scheme}://{rest:.100} is not one of a directory: write scheme://bucket/path")
    return f"{scheme}://{bucket}/{key}"


def without_file_scheme(place: str | Path) -> Path:
    """Return a path of this machine, also of one that is written as a URL (`file:///home/ada/data`)."""
    found = _URL.fullmatch(str(place))
    return Path(f"/{found[2]}") if found and found[1] == "file" else Path(place)


def refuse_url(place: str | Path) -> None:
    """Refuse a URL where a path of this machine is needed.

    Raises:
        InputError: it is one.
    """
    if url := url_of(place):
        raise InputError(
            f"{url:.200} is a URL, and this has to be a path of this machine: URLs are for data, models and training "
            "state"
        )


@dataclass(slots=True)
class StoredObject:
    """An object whose size and hash are known; its bytes are read in ranges, by several threads at once."""

    url: str
    size: int
    sha256: str | None
    """None where no manifest says it."""
    ranges: Path | None = None
    """The folder for what was read of it; None keeps nothing."""
    _file: "NativeFile | None" = field(default=None, repr=False)

    def read(self, start: int, length: int) -> bytes:
        """Return some of its bytes.

        Raises:
            MissingInputError: it is not there.
            DataError: it has another size.
        StoreError: it cannot be read.
        """

        def once() -> bytes:
            try:
                self._file = file = self._file or self._opened()
                data: bytes = file.read_at(length, start)
            except OSError:
                self._file = None
                raise
            if len(data) != length:
                self._file = None
                raise OSError(f"{len(data):,} bytes came in place of {length:,}")
            return data

        try:
            return retried(self.url, "read", once)
        except FileNotFoundError as error:
            raise MissingInputError(f"{self.url} is missing, and the manifest names it: write it again") from error

    def _opened(self) -> "NativeFile":
        file = _file_system(self.url).open_input_file(_path(self.url))
        if file.size() != self.size:
            raise DataError(
                f"{self.url} has {file.size():,} bytes, and its manifest says {self.size:,}: write it again"
            )
        return file


stored_objects: dict[Path, StoredObject] = {}
"""By absolute path, the objects that empty files of this machine stand for."""


class RangeFile(io.RawIOBase):
    """An object as a file: what is read of it comes in ranges, the next ones meanwhile.

    Ranges are kept for the next reader, as long as a tenth of the disk stays free.
    """

    def __init__(self, stored: StoredObject) -> None:
        self._stored, self._at, self._next = stored, 0, 0
        self._blocks: dict[int, Future[bytes]] = {}

    def readable(self) -> bool:
        """Return true."""
        return True

    def seekable(self) -> bool:
        """Return true."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._stored.size}[whence]
        return self._at

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Fill `buffer`, up to the end of the file."""
        view = memoryview(buffer).cast("B")
        length = max(0, min(len(view), self._stored.size - self._at))
        if not length:
            return 0
        start, end = self._at, self._at + length
        numbers = range(start // _BLOCK, -(-end // _BLOCK))
        ahead = _AHEAD if self._next - 1 <= numbers.start <= self._next else 0
        wanted = range(numbers.start, min(numbers.stop + ahead, -(-self._stored.size // _BLOCK)))
        self._next = numbers.stop
        for number in [number for number in self._blocks if number not in wanted]:
            self._blocks.pop(number).cancel()
        for number in wanted:
            if number not in self._blocks:
                self._blocks[number] = _pool().submit(self._block, number)
        for number in numbers:
            first = number * _BLOCK
            block = self._blocks[number].result()[max(0, start - first) : end - first]
            at = max(0, first - start)
            view[at : at + len(block)] = block
        self._at = end
        return length

    def close(self) -> None:
        """Forget what was read."""
        for future in self._blocks.values():
            future.cancel()
        self._blocks.clear()
        super().close()

    def _block(self, number: int) -> bytes:
        start = number * _BLOCK
        length = min(_BLOCK, self._stored.size - start)
        folder = self._stored.ranges
        if folder is None:
            return self._stored.read(start, length)
        kept = folder / f"{self._stored.sha256}-{number}"
        with suppress(OSError):
            data = kept.read_bytes()
            if len(data) == length:
                return data
        data = self._stored.read(start, length)
        with suppress(OSError):  # else it is read again next time
            folder.mkdir(parents=True, exist_ok=True)
            usage = shutil.disk_usage(folder)
            if usage.free - length > usage.total * _SHARE_OF_DISK_LEFT:
                with NamedTemporaryFile(dir=folder, delete=False) as temporary:
                    temporary.write(data)
                Path(temporary.name).replace(kept)
        return data


def stored_object(path: Path) -> StoredObject | None:
    """Return the object that a file stands for; None for any other file."""
    return stored_objects.get(path.absolute()) if stored_objects else None


def file_to_read(path: Path) -> Path | RangeFile:
    """Return what to read in place of a file: itself, or the object that it stands for."""
    stored = stored_object(path)
    return path if stored is None else RangeFile(stored)


def size_to_read(path: Path) -> int:
    """Return the bytes of a file, or of the object that it stands for."""
    stored = stored_object(path)
    return path.stat().st_size if stored is None else stored.size


def download(stored: StoredObject, path: Path, *, hashed: "Callable[[Path], str]") -> None:
    """Write an object to a file, and check its hash if that is known.

    Raises:
        MissingInputError, DataError, StoreError: it is missing or damaged, or cannot be read.
    """
    starts = range(0, stored.size, _PART)
    with path.open("wb") as file:
        for at in range(0, len(starts), _THREADS):
            parts = starts[at : at + _THREADS]
            lengths = [min(_PART, stored.size - start) for start in parts]
            for data in _pool().map(stored.read, parts, lengths):
                file.write(data)
    if not stored.size:
        stored.read(0, 0)  # is it there?
    if stored.sha256 not in {None, hashed(path)}:
        raise DataError(f"{stored.url} is damaged (its SHA-256 is not the one in its manifest): write it again")


def read_small(url: str, most: int) -> bytes | None:
    """Return the first bytes of an object; None if there is none."""

    def once() -> bytes:
        with _file_system(url).open_input_stream(_path(url)) as file:
            data: bytes = file.read(most)
            return data

    try:
        return retried(url, "read", once)
    except FileNotFoundError:
        return None


def put(url: str, content: Path | bytes) -> None:
    """Write an object whole, in parts if it is large; one that is there is replaced at the end.

    Raises:
        StoreError: it cannot be written.
    """
    size = len(content) if isinstance(content, bytes) else content.stat().st_size

    def once() -> None:
        with (
            io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as source,
            _file_system(url).open_output_stream(_path(url)) as target,
        ):
            shutil.copyfileobj(source, target, _PART)
        if (found := info(url).size) != size:
            raise OSError(f"{found} bytes arrived of {size:,}")

    with suppress(FileNotFoundError):
        return retried(url, "written", once)
    raise StoreError(f"{url} cannot be written: there is no bucket of that name; make it, or correct the URL")


def remove(url: str) -> None:
    """Remove an object, if it is there."""
    with suppress(FileNotFoundError):
        retried(url, "removed", lambda: _file_system(url).delete_file(_path(url)))


def info(url: str) -> "FileInfo":
    """Return what a store knows about an object, or about a bucket of that name."""
    return retried(url, "looked up", lambda: _file_system(url).get_file_info(_path(url)))


def listed(url: str) -> dict[str, "FileInfo"]:
    """Return what a store knows about all objects below a URL, by their names relative to it."""
    from pyarrow.fs import FileSelector, FileType  # noqa: PLC0415

    path = _path(url)
    selector = FileSelector(path, recursive=True, allow_not_found=True)
    found = retried(url, "listed", lambda: _file_system(url).get_file_info(selector))
    return {each.path.removeprefix(f"{path}/"): each for each in found if each.type == FileType.File}


def has_bucket(url: str) -> bool:
    """Return whether the bucket of a URL exists, for all one may know."""
    from pyarrow.fs import FileType  # noqa: PLC0415

    return bool(info("/".join(url.split("/")[:3])).type != FileType.NotFound)


def retried(url: str, doing: str, action: Callable[[], _Result]) -> _Result:
    """Return what `action` does at a URL, tried again if the store fails.

    Raises:
        FileNotFoundError: there is no such object.
        StoreError: it still fails, or cannot succeed; the message says what to do.
    """
    import pyarrow as pa  # noqa: PLC0415

    started_at, attempt = time.monotonic(), 0
    while True:
        attempt += 1
        try:
            return action()
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            reason = _reason(error)
            advice = _lasting(reason, url)
            passed_s = time.monotonic() - started_at
            if advice is None and attempt < _ATTEMPTS and passed_s < _LONGEST_S:
                time.sleep(_PAUSE_S * 2 ** (attempt - 1))
                continue
        tries = f", {attempt} tries in {passed_s:.0f} s" if attempt > 1 else ""
        advice = advice or "check the network and the store, and run the same command again"
        # Not chained: a store's own error may show a signed URL.
        raise StoreError(f"{url} cannot be {doing} ({reason}{tries}): {advice}") from None


def _lasting(reason: str, url: str) -> str | None:
    """Return what to do about an error that another try does not change; None for any other."""
    if _REFUSED.search(reason):
        names = {
            "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN",
            "gs": "GOOGLE_APPLICATION_CREDENTIALS",
        }.get(url.partition(":")[0], "AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN")
        return f"check the credentials in the environment ({names}), and what they allow there"
    if _NOT_THERE.search(reason):
        return "make the bucket, or correct the URL"
    if _WRONG.search(reason):
        return "correct the URL, or the region and endpoint in the environment"
    return None


def _reason(error: Exception) -> str:
    """Return what a store says, without what it may show of credentials."""
    text = first_line(error)
    for name in _SECRETS:
        if value := os.environ.get(name):
            text = text.replace(value, "***")
    text = re.sub(r"\?[^\s'\"]*", "", text)
    text = re.sub(r" *\(Request ID: [^)]*\)", "", text)
    aws = text.find("AWS Error ")
    return text[max(0, aws) :][:_SHOWN]


def _path(url: str) -> str:
    """Return the path in a store's file system."""
    scheme, _, rest = url.partition("://")
    bucket, slash, key = rest.partition("/")
    return (bucket.partition("@")[0] if scheme.startswith("abfs") else bucket) + slash + key


def _file_system(url: str) -> "FileSystem":
    scheme, _, rest = url.partition("://")
    return _connected(scheme, rest.partition("/")[0])


@cache
def _connected(scheme: str, bucket: str) -> "FileSystem":
    from pyarrow import fs  # noqa: PLC0415

    if scheme == "s3":
        endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if not region and not endpoint.netloc:
            region = fs.resolve_s3_region(bucket)
        return fs.S3FileSystem(
            region=region,
            endpoint_override=endpoint.netloc.rpartition("@")[2] or None,
            scheme=endpoint.scheme or None,
            connect_timeout=_CONNECT_S,
            request_timeout=_SILENT_S,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_TRIES_WITHIN),
            allow_delayed_open=True,  # then a small object is one request
        )
    if scheme == "gs":
        emulator = urlsplit(os.environ.get("STORAGE_EMULATOR_HOST") or "")
        if emulator.netloc:
            return fs.GcsFileSystem(anonymous=True, scheme=emulator.scheme, endpoint_override=emulator.netloc)
        return fs.GcsFileSystem()
    host = bucket.partition("@")[2]
    account = host.partition(".")[0] or os.environ.get("AZURE_STORAGE_ACCOUNT")
    if not account:
        raise OSError("AZURE_STORAGE_ACCOUNT is not configured")
    key, token = os.environ.get("AZURE_STORAGE_KEY"), os.environ.get("AZURE_STORAGE_SAS_TOKEN")
    if token:
        return fs.AzureFileSystem(account, sas_token=token)
    return fs.AzureFileSystem(account, account_key=key)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="bertpipe-store")
