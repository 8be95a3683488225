"""A server that fails in every way at random, and a kill: a whole file of one version comes, or a clear error."""

import dataclasses
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bertpipe.core.errors import DataError, DownloadError
from bertpipe.core.params import Params
from bertpipe.sources import web
from bertpipe.stages.download import run_download
from datasets import GOOD, write_zip
from websites import Answer, Request, Site, body, ranged, raw, reply, resets, stalls, status

pytestmark = [pytest.mark.promise("Downloads"), pytest.mark.usefixtures("workdir")]

SEEDS = 200 if os.environ.get("BERTPIPE_TORTURE") == "1" else 20
MOST_RUNS = 100
OUT = Path("data/raw/dataset.zip")
EARLIER = b"what was there before"


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Return three zips: the second is as long as the first, the third longer."""
    found = []
    for number, length in enumerate((60, 60, 90)):
        text = " ".join(hashlib.sha256(f"{number} {i}".encode()).hexdigest() for i in range(length))
        found.append(write_zip(tmp_path_factory.mktemp("zip") / "x.zip", [[text, *GOOD[1:]]]).read_bytes())
    return found


class Chaos:
    """Answers each request with the file or with a fault, by a seed."""

    def __init__(self, versions: list[bytes], seed: int, done: threading.Event) -> None:
        self._versions, self._chance, self._done = versions, random.Random(seed), done

    def __call__(self, request: Request) -> None:
        if self._chance.random() < 0.03:
            self._versions.append(self._versions.pop(0))
        faults = self._faults()
        name = self._chance.choice([*faults, *["whole"] * 4, *["short"] * 8])
        (faults | self._fair())[name](request)

    def _fair(self) -> dict[str, Answer]:
        content, etag = self._current()
        stop = self._chance.randrange(len(content))
        return {"whole": ranged(content, etag=etag), "short": ranged(content, etag=etag, stop=stop)}

    def _current(self) -> tuple[bytes, str]:
        content = self._versions[0]
        return content, f'"{hashlib.sha256(content).hexdigest()[:8]}"'

    def _faults(self) -> dict[str, Answer]:
        content, etag = self._current()
        total, place = len(content), self._chance.randrange(2, len(content))

        def careless(request: Request) -> None:
            """Knows ranges, but neither If-Range nor ETag: bytes of one version may follow those of another."""
            start = min(int(request.headers.get("Range", "bytes=0-")[6:-1]), total - 1)
            reply(request, 206, content[start:], Content_Range=f"bytes {start}-{total - 1}/{total}")

        def shifted(request: Request) -> None:
            reply(request, 206, content[place:], Content_Range=f"bytes {place}-{total - 1}/{total}", ETag=etag)

        return {
            "reset": resets(content, stop=place, etag=etag),
            "stall": stalls(content, stop=place, etag=etag, until=self._done),
            "503": status(503, Retry_After="1"),
            "429": status(429),
            "500": status(500),
            "404": status(404),
            "416": status(416, Content_Range=f"bytes */{total}"),
            "redirect": status(302, Location="ftp://host/x.zip"),
            "html": body(b"<html>Sign in</html>", Content_Type="text/html"),
            "html of that length": body(b"<html>".ljust(total), ETag=etag),
            "gzip": body(content, Content_Encoding="gzip", ETag=etag),
            "careless": careless,
            "shifted": shifted,
            "length too long": body(content, Content_Length=str(total + 5), ETag=etag),
            "length too short": body(content[:place], ETag=etag),
            "no length": body(content[:place], Content_Length=None, ETag=etag),
            "no validator": body(content[:place], Content_Length=str(total)),
            "weak": body(content[:place], Content_Length=str(total), ETag=f"W/{etag}"),
            "nothing": raw(b""),
            "nonsense": raw(content[:place]),
            "too large": body(content, Content_Length="3000000000"),
        }


def came(tiny: Params, url: str) -> bool:
    """Run the stage once, and return whether a file came; if none did, nothing has changed but the part."""
    download = dataclasses.replace(tiny.download, source=url, retries=2, timeout_s=0.05)
    try:
        result = run_download(download, tiny.sample, tiny.masking, out=OUT)
    except (DownloadError, DataError) as error:
        said = str(error)
    else:
        assert result["sha256"] == hashlib.sha256(OUT.read_bytes()).hexdigest()
        return True
    assert url in said
    assert OUT.read_bytes() == EARLIER
    left = [path.name for path in Path().rglob("*") if path.is_file() and path != OUT]
    assert sorted(left) in ([], ["facts.json", "part"])
    return False


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_end_is_a_whole_file_whatever_happens_on_the_way(
    tiny: Params, site: Site, versions: list[bytes], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "sleep", lambda _: None)
    monkeypatch.setattr(web, "_PROGRESS_BYTES", 1000)
    done = threading.Event()
    url = site.serve(f"/{seed}", Chaos(list(versions), seed, done))
    OUT.parent.mkdir(parents=True)
    OUT.write_bytes(EARLIER)
    try:
        assert any(came(tiny, url) for _ in range(MOST_RUNS))
    finally:
        done.set()
    assert OUT.read_bytes() in versions
    assert [path for path in Path().rglob("*") if path.is_file()] == [OUT]


CHILD = """
import dataclasses, sys
from pathlib import Path
from bertpipe.core.artifacts import ZIP_FILE
from bertpipe.core.params_file import load_params
from bertpipe.stages.download import run_download
params = load_params(Path(sys.argv[1]))
run_download(dataclasses.replace(params.download, source=sys.argv[2]), params.sample, params.masking, out=ZIP_FILE)
"""


def test_a_killed_download_is_resumed_in_the_next_run(site: Site, sample_zip: Path) -> None:
    content, stop, done = sample_zip.read_bytes(), 20_000, threading.Event()
    url = site.serve("/killed", stalls(content, stop=stop, until=done), ranged(content))
    tiny = Path(__file__).parent.parent.parent / "params" / "tiny.yaml"
    command = [sys.executable, "-c", CHILD, str(tiny), url]
    child = subprocess.Popen(command)
    folder = Path(".bertpipe/downloads")
    try:
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            if sum(part.stat().st_size for part in folder.glob("*/part")) == stop:
                break
            time.sleep(0.01)
        assert child.poll() is None
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
        done.set()
    assert not OUT.exists()
    subprocess.run(command, check=True, timeout=60)
    assert OUT.read_bytes() == content
    assert site.ranges("/killed") == [(None, None), (f"bytes={stop - 1}-", '"one"')]
    assert list(folder.iterdir()) == []
