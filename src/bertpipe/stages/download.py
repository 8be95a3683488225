"""`download`: one verified zip from the sample generator, the web or a file, or nothing."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from bertpipe.core.artifacts import file_sha256
from bertpipe.core.atomic import atomic_file
from bertpipe.core.errors import BertpipeError, DataError, DownloadError
from bertpipe.core.params import DownloadParams, MaskingParams, SampleParams
from bertpipe.core.progress import Progress, ignore_progress
from bertpipe.sources.notebook.archive import check_archive
from bertpipe.sources.sample.dataset import write_sample

IMDB_URL = "https://cf-courses-data.s3.us.cloud-object-storage.appdomain.cloud/bZaoQD52DcMpE7-kxwAG8A.zip"
"""The notebook's zip."""
IMDB_COPY_VARIABLE = "BERTPIPE_IMDB_ZIP"
"""Environment variable that names a local copy of that zip, used instead of the URL."""
_CHUNK_BYTES = 1 << 20


def run_download(
    download: DownloadParams,
    sample: SampleParams,
    masking: MaskingParams,
    *,
    out: Path,
    on_progress: Callable[[Progress], None] = ignore_progress,
) -> dict[str, Any]:
    """Write the zip that `download.source` names to `out` and return its facts.

    `out` is replaced once the bytes are complete, are a zip with the expected members, and have the expected SHA-256.
    An interrupted download is kept elsewhere, and the next call resumes from it.

    Raises:
        DownloadError: the source could not be read within the limits, or has another hash.
        BusyError: another process is downloading it, or writing `out`.
        WriteError: writing failed.
        DataError: the source is not such a zip.
    """
    source = (os.environ.get(IMDB_COPY_VARIABLE) or IMDB_URL) if download.source == "imdb" else download.source
    scheme = source.partition("://")[0].lower() if "://" in source else ""
    try:
        if scheme in {"", "file"}:
            with atomic_file(out) as temporary:
                if source == "sample":
                    on_progress(Progress(label="building the sample", completed=0, total=None, unit="bytes"))
                    write_sample(temporary, sample, masking)
                else:
                    path = unquote(urlsplit(source).path) if scheme == "file" else source
                    _copy(Path(path), temporary, on_progress)
                digest = _verify(temporary, download)
        else:
            from bertpipe.sources.web import fetch  # noqa: PLC0415 - requests is slow to import

            with fetch(source, download, on_progress) as arrived:
                digest = _verify(arrived, download)
                with atomic_file(out) as temporary:
                    shutil.copyfile(arrived, temporary)
    except BertpipeError as error:
        raise type(error)(f"{error}{_earlier_output(out)}") from error
    return {"source": _shown(download.source), "file": str(out), "bytes": out.stat().st_size, "sha256": digest}


def _shown(source: str) -> str:
    if "://" not in source:
        return source
    from bertpipe.sources.web import redact_url  # noqa: PLC0415

    return redact_url(source)


def _copy(path: Path, arrived: Path, on_progress: Callable[[Progress], None]) -> None:
    try:
        file = path.open("rb")
    except OSError as error:
        raise DownloadError(
            f"{path} cannot be read ({error.strerror}): download.source is `sample`, `imdb`, a URL or the path of a zip"
        ) from error
    with file, arrived.open("wb") as copy:
        total, completed = path.stat().st_size, 0
        while chunk := file.read(_CHUNK_BYTES):
            completed += copy.write(chunk)
            on_progress(Progress(label=f"copying {path}", completed=completed, total=total, unit="bytes"))


def _verify(arrived: Path, download: DownloadParams) -> str:
    """Return the SHA-256 of the arrived file, after comparing it with the expected one and checking the zip."""
    source = _shown(download.source)
    digest = file_sha256(arrived)
    if download.sha256 is not None and digest != download.sha256.lower():
        raise DownloadError(
            f"{source} has the SHA-256 {digest}, expected {download.sha256}: "
            f"the source has changed or was tampered with; correct download.sha256 only if you trust it"
        )
    try:
        check_archive(arrived)
    except DataError as error:
        raise DataError(str(error).replace(str(arrived), f"what came from {source}")) from error
    return digest


def _earlier_output(out: Path) -> str:
    if out.exists():
        return f" ({out} is unchanged)"
    return " (if DVC had removed an earlier file, `dvc checkout` restores it)" if Path(".dvc").is_dir() else ""
