"""`download`: one verified zip from the sample generator, the network or a file, or nothing."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener, url2pathname

from bertpipe import __version__
from bertpipe.artifacts import WORK_DIR, Progress, file_sha256, ignore_progress
from bertpipe.data.archive import check_archive
from bertpipe.data.sample.dataset import write_sample
from bertpipe.errors import BertpipeError, DataError, DownloadError
from bertpipe.files import whole_file
from bertpipe.params import DownloadParams, MaskingParams, SampleParams

IMDB_URL = "https://cf-courses-data.s3.us.cloud-object-storage.appdomain.cloud/bZaoQD52DcMpE7-kxwAG8A.zip"
"""The notebook's zip."""
IMDB_COPY_VARIABLE = "BERTPIPE_IMDB_ZIP"
"""Environment variable that names a local copy of that zip, taken in place of the URL."""
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60.0
_SCHEMES = ("http", "https", "file")


def run_download(
    download: DownloadParams,
    sample: SampleParams,
    masking: MaskingParams,
    *,
    out: Path,
    on_progress: Callable[[Progress], None] = ignore_progress,
) -> dict[str, Any]:
    """Bring the zip that `download.source` names to `out` and return what it is.

    Bytes in flight stand elsewhere; `out` is written once they are complete, open as a zip, hold the expected
    members and have the expected SHA-256. Whatever stood at `out` before stays until then.

    Raises:
        DownloadError: the source cannot be reached, or its hash is another.
        DataError: what came is not such a zip.
    """
    flight_dir = WORK_DIR / "downloads"
    flight_dir.mkdir(parents=True, exist_ok=True)
    private = Path(mkdtemp(dir=flight_dir))
    arrived = private / "dataset.zip"
    try:
        if download.source == "sample":
            on_progress(Progress(label="building the sample", completed=0, total=None, unit="bytes"))
            write_sample(arrived, sample, masking)
        else:
            _fetch(download.source, arrived, on_progress)
        digest = file_sha256(arrived)
        if download.sha256 is not None and digest != download.sha256.lower():
            raise DownloadError(
                f"{download.source} has the SHA-256 {digest}, expected {download.sha256}: "
                f"the source has changed or was tampered with; correct download.sha256 only if you trust it"
            )
        try:
            check_archive(arrived)
        except DataError as error:
            message = str(error).replace(str(arrived), f"what came from {download.source}")
            raise DataError(message) from error
        size = arrived.stat().st_size
        with whole_file(out) as temporary:
            shutil.copyfile(arrived, temporary)
    except BertpipeError as error:
        raise type(error)(f"{error}{_earlier_output(out)}") from error
    finally:
        shutil.rmtree(private)
    return {"source": download.source, "file": str(out), "bytes": size, "sha256": digest}


def _earlier_output(out: Path) -> str:
    if out.exists():
        return f" ({out} is as it was before)"
    return " (if DVC had removed an earlier file, `dvc checkout` brings it back)" if Path(".dvc").is_dir() else ""


def _fetch(source: str, arrived: Path, on_progress: Callable[[Progress], None]) -> None:
    with _open(source) as (stream, total), arrived.open("wb") as file:
        completed = 0
        while chunk := stream.read(_CHUNK_BYTES):
            file.write(chunk)
            completed += len(chunk)
            on_progress(Progress(label=f"downloading {source}", completed=completed, total=total, unit="bytes"))
    if total is not None and completed != total:
        raise DownloadError(f"{source} ended after {completed:,} of {total:,} bytes: try again")


@contextmanager
def _open(source: str) -> Iterator[tuple[IO[bytes], int | None]]:
    """Yield the bytes of a source, and how many they should be."""
    if source == "imdb":
        source = os.environ.get(IMDB_COPY_VARIABLE) or IMDB_URL
    parts = urlsplit(source)
    if "://" not in source:
        with _open_path(Path(source)) as opened:
            yield opened
    elif parts.scheme not in _SCHEMES:
        raise DownloadError(f"{source} has the scheme {parts.scheme!r}: use http, https, file, or a path")
    elif parts.scheme == "file":
        with _open_path(Path(url2pathname(parts.path))) as opened:
            yield opened
    else:
        with _open_url(source) as opened:
            yield opened


@contextmanager
def _open_path(path: Path) -> Iterator[tuple[IO[bytes], int | None]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise DownloadError(
            f"{path} cannot be read ({error.strerror}): download.source is `sample`, `imdb`, a URL or the path of a zip"
        ) from error
    with file:
        yield file, path.stat().st_size


class _WebOnly(HTTPRedirectHandler):
    """Follows redirects to http and https alone; the standard handler takes ftp too."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:  # noqa: ANN401
        """Return the next request, or refuse it."""
        if urlsplit(newurl).scheme not in {"http", "https"}:
            fp.close()
            raise DownloadError(f"{req.full_url} redirects to {newurl}: only http and https are followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def _open_url(url: str) -> Iterator[tuple[IO[bytes], int | None]]:
    hint = (
        f"check the network, or set download.source to `sample` or to a local copy (or {IMDB_COPY_VARIABLE} for `imdb`)"
    )
    request = Request(url, headers={"User-Agent": f"bertpipe/{__version__}", "Accept-Encoding": "identity"})  # noqa: S310
    try:
        with build_opener(_WebOnly).open(request, timeout=_TIMEOUT_S) as response:
            length = response.headers.get("Content-Length")
            yield response, int(length) if length else None
    except HTTPError as error:
        error.close()
        raise DownloadError(f"{url} answered {error.code} {error.reason}: {hint}") from error
    except (URLError, TimeoutError, OSError, HTTPException) as error:
        raise DownloadError(f"{url} cannot be reached ({getattr(error, 'reason', error)}): {hint}") from error
