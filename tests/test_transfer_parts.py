"""What has come of a file is kept from run to run, and used where it is sure to be the beginning of the same file."""

import dataclasses
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertpipe.core.errors import BusyError, DataError, DownloadError, WriteError
from bertpipe.core.params import DownloadParams, Params
from bertpipe.core.progress import Progress, ignore_progress
from bertpipe.sources.web import fetching, part
from bertpipe.stages.state import run_state
from websites import ETAG, Site, body, ranged, stalls, status

pytestmark = [pytest.mark.promise("Downloads"), pytest.mark.usefixtures("workdir")]

CONTENT = b"PK" + b"".join(hashlib.sha256(bytes([i])).digest() for i in range(200))
TOTAL = len(CONTENT)
FOLDER = Path(".bertpipe/downloads")


@pytest.fixture
def limits(tiny: Params) -> DownloadParams:
    return dataclasses.replace(tiny.download, retries=0, timeout_s=20)


Get = Callable[..., bytes]


@pytest.fixture
def get(limits: DownloadParams) -> Get:
    def run(url: str, on_progress: Callable[[Progress], None] = ignore_progress) -> bytes:
        with fetching.fetch(url, limits, on_progress) as path:
            return path.read_bytes()

    return run


@pytest.fixture
def begun(get: Get, site: Site, tmp_path: Path) -> str:
    """Return a URL whose first 1,000 bytes have come in an earlier run; what it says next is the file as it is."""
    url = site.serve(f"/{tmp_path.name}", ranged(CONTENT, stop=1000), ranged(CONTENT))
    with pytest.raises(DownloadError, match=r"\(1,000 bytes of it are kept: run it again to go on from there\)$"):
        get(url)
    return url


def only(name: str) -> Path:
    (path,) = FOLDER.glob(f"*/{name}")
    return path


def files() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()}


def ranges(site: Site, url: str) -> list[tuple[str | None, str | None]]:
    return site.ranges(url.removeprefix(site.base))


def test_a_failed_download_goes_on_in_the_next_run(get: Get, site: Site, begun: str) -> None:
    assert only("part").read_bytes() == CONTENT[:1000]
    assert json.loads(only("facts.json").read_text()) == {
        "url": begun,
        "validator": ETAG,
        "total": TOTAL,
        "bytes": 1000,
    }
    assert get(begun) == CONTENT
    assert ranges(site, begun) == [(None, None), ("bytes=1000-", ETAG)]
    assert list(FOLDER.iterdir()) == []


def test_an_interrupted_download_goes_on_in_the_next_run(get: Get, site: Site) -> None:
    def interrupt(report: Progress) -> None:
        if report.completed > 2:
            raise KeyboardInterrupt

    url = site.serve("/interrupted", ranged(CONTENT, stop=1000), ranged(CONTENT))
    with pytest.raises(KeyboardInterrupt):
        get(url, interrupt)
    assert get(url) == CONTENT
    assert ranges(site, url) == [(None, None), ("bytes=1000-", ETAG)]


@pytest.mark.parametrize("then", ["unchanged", "changed"])
def test_a_complete_part_is_compared_with_the_server_before_it_is_used(
    limits: DownloadParams, get: Get, site: Site, then: str
) -> None:
    url = site.serve(f"/complete/{then}", ranged(CONTENT))
    with pytest.raises(KeyboardInterrupt), fetching.fetch(url, limits, ignore_progress):
        raise KeyboardInterrupt
    if then == "changed":
        site.serve(f"/complete/{then}", ranged(CONTENT[:-1] + b"!", etag='"two"'))
        assert get(url) == CONTENT[:-1] + b"!"
    else:
        assert get(url) == CONTENT
    assert ranges(site, url) == [(None, None), (f"bytes={TOTAL}-", ETAG)]


def test_a_part_without_a_validator_is_not_kept(get: Get, site: Site) -> None:
    with pytest.raises(DownloadError, match=r"ended after 1,000 .*local copy of the file$"):
        get(site.serve("/none", body(CONTENT[:1000], Content_Length=str(TOTAL))))
    assert list(FOLDER.iterdir()) == []


def test_a_file_that_its_reader_finds_wrong_is_not_kept(limits: DownloadParams, site: Site) -> None:
    with pytest.raises(DataError), fetching.fetch(site.serve("/bad", ranged(CONTENT)), limits, ignore_progress):
        raise DataError("bad")
    assert list(FOLDER.iterdir()) == []


def test_a_file_that_its_reader_cannot_copy_is_kept(limits: DownloadParams, site: Site) -> None:
    url = site.serve("/full", ranged(CONTENT))
    with pytest.raises(OSError, match="full"), fetching.fetch(url, limits, ignore_progress):
        raise OSError(errno.ENOSPC, "full")
    assert only("part").read_bytes() == CONTENT


FACTS: dict[str, Any] = {"url": "x", "validator": ETAG, "total": TOTAL, "bytes": 1000}


@pytest.mark.parametrize(
    "facts",
    [
        None, b"", b"{", b"[]", b"\xff\xfe", FACTS | {"bytes": 1001}, FACTS | {"bytes": -1}, FACTS | {"bytes": "1000"},
        FACTS | {"bytes": 0}, FACTS | {"total": 999}, FACTS | {"total": "many"}, FACTS | {"validator": None},
        FACTS | {"validator": 'W/"weak"'}, FACTS | {"validator": '"a"\r\nHost: b'}, {"validator": ETAG},
    ],
)  # fmt: skip
def test_a_part_without_true_facts_is_thrown_away(get: Get, site: Site, begun: str, facts: Any) -> None:  # noqa: ANN401
    file = only("facts.json")
    file.unlink()
    if facts is not None:
        file.write_bytes(facts if isinstance(facts, bytes) else json.dumps(facts).encode())
    assert get(begun) == CONTENT
    assert ranges(site, begun) == [(None, None), (None, None)]


def test_facts_without_a_part_are_thrown_away(get: Get, site: Site, begun: str) -> None:
    only("part").unlink()
    assert get(begun) == CONTENT
    assert ranges(site, begun) == [(None, None), (None, None)]


def test_what_a_power_cut_leaves_behind_the_saved_bytes_is_cut_off(get: Get, site: Site, begun: str) -> None:
    with only("part").open("ab") as file:
        file.write(bytes(2 * TOTAL))
    assert get(begun) == CONTENT
    assert ranges(site, begun)[1] == ("bytes=1000-", ETAG)


def test_facts_of_another_version_stand_on_the_disk_before_its_bytes(
    get: Get, site: Site, begun: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    append = part.Part.append

    def look(self: part.Part, content: bytes) -> None:
        seen.append(json.loads(only("facts.json").read_text()))
        append(self, content)

    monkeypatch.setattr(part.Part, "append", look)
    site.serve(begun.removeprefix(site.base), ranged(CONTENT[:5000], etag='"two"'))
    assert get(begun) == CONTENT[:5000]
    assert seen[0] == {"url": begun, "validator": '"two"', "total": 5000, "bytes": 0}


def test_the_part_of_another_url_is_left_alone(get: Get, site: Site, begun: str) -> None:
    kept = files()
    assert get(site.serve("/another", ranged(CONTENT[:3000]))) == CONTENT[:3000]
    assert get(f"{begun}?version=2") == CONTENT
    assert files() == kept


def test_what_is_kept_is_private(get: Get, site: Site) -> None:
    modes: list[dict[str, int]] = []

    def look(_: Progress) -> None:
        places = [FOLDER, *FOLDER.rglob("*")]
        modes.append({("" if path.is_dir() else path.name): path.stat().st_mode & 0o777 for path in places})

    FOLDER.mkdir(parents=True)
    FOLDER.chmod(0o755)
    get(site.serve("/private", ranged(CONTENT)), look)
    assert modes[0] == {"": 0o700, "part": 0o600, "facts.json": 0o600, "lock": 0o600}


def test_two_downloads_of_one_url_do_not_share_a_part(get: Get, site: Site) -> None:
    begun, done = threading.Event(), threading.Event()
    url = site.serve("/two", stalls(CONTENT, stop=1000, until=done), ranged(CONTENT))
    ended: list[BaseException] = []

    def first() -> None:
        try:
            get(url, lambda _: begun.set())
        except DownloadError as error:
            ended.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert begun.wait(10)
        said = rf"^a download of {url} is under way already \(process {os.getpid()} on .*: wait for it, or stop it$"
        with pytest.raises(BusyError, match=said):
            get(url)
        (kept,) = run_state(FOLDER.parent)["kept"]
        assert (kept["kind"], kept["held"]) == ("download", True)
        assert get(site.serve("/other", ranged(CONTENT))) == CONTENT
    finally:
        done.set()
        thread.join()
    assert len(ended) == 1
    assert get(url) == CONTENT
    assert ranges(site, url) == [(None, None), ("bytes=1000-", ETAG)]
    assert list(FOLDER.iterdir()) == []


def test_a_full_disk_is_told_and_what_was_saved_before_is_kept(
    get: Get, site: Site, begun: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("bertpipe.sources.web.part.os.fsync", full)
        patch.setattr(part, "_SAVE_EVERY_S", 0)
        with pytest.raises(WriteError, match=r"/part cannot be written \(No space .*\(1,000 bytes of it are kept"):
            get(begun)
    assert json.loads(only("facts.json").read_text())["bytes"] == 1000
    assert get(begun) == CONTENT
    assert ranges(site, begun) == [(None, None), ("bytes=1000-", ETAG), ("bytes=1000-", ETAG)]


CHILD = """
import dataclasses, sys
from pathlib import Path
from bertpipe.core.artifacts import ZIP_FILE
from bertpipe.sources.web import part
from bertpipe.core.params_file import load_params
from bertpipe.stages.download import run_download
part._SAVE_EVERY_S = 0
params = load_params(Path(sys.argv[1]))
run_download(dataclasses.replace(params.download, source=sys.argv[2]), params.sample, params.masking, out=ZIP_FILE)
"""


def test_a_killed_download_goes_on_in_the_next_run(site: Site, sample_zip: Path) -> None:
    content, stop, done = sample_zip.read_bytes(), 20_000, threading.Event()
    url = site.serve("/killed", stalls(content, stop=stop, until=done), ranged(content))
    tiny = Path(__file__).parent.parent / "params" / "tiny.yaml"
    command = [sys.executable, "-c", CHILD, str(tiny), url]
    child = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            facts = list(FOLDER.glob("*/facts.json"))
            if facts and json.loads(facts[0].read_text())["bytes"] == stop:
                break
            time.sleep(0.01)
        assert child.poll() is None
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
        done.set()
    assert only("part").read_bytes() == content[:stop]
    assert not Path("data/raw/dataset.zip").exists()
    subprocess.run(command, check=True, timeout=60)
    assert Path("data/raw/dataset.zip").read_bytes() == content
    assert ranges(site, url) == [(None, None), (f"bytes={stop}-", ETAG)]
    assert list(FOLDER.iterdir()) == []


def test_what_is_kept_can_be_cleared(get: Get, site: Site, begun: str) -> None:
    (kept,) = run_state(FOLDER.parent)["kept"]
    assert (kept["kind"], kept["held"]) == ("download", False)
    run_state(FOLDER.parent, clear=[kept["name"]])
    assert get(begun) == CONTENT
    assert ranges(site, begun) == [(None, None), (None, None)]


def test_a_busy_server_leaves_what_is_there(get: Get, site: Site, begun: str) -> None:
    site.serve(begun.removeprefix(site.base), status(503), ranged(CONTENT))
    with pytest.raises(DownloadError, match=r"answered 503 .*\(1,000 bytes of it are kept"):
        get(begun)
    assert get(begun) == CONTENT
    assert ranges(site, begun) == [(None, None), ("bytes=1000-", ETAG), ("bytes=1000-", ETAG)]
