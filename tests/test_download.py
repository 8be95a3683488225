"""`download`: one verified zip, or nothing and what stood there before."""

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertpipe.core.errors import BertpipeError, DataError, DownloadError, WriteError
from bertpipe.core.params import MaskingUnit, Params
from bertpipe.core.progress import Progress, ignore_progress
from bertpipe.data.masking import Masking
from bertpipe.data.tokenization.tokenizer import PAD_ID, word_level_tokenizer
from bertpipe.sources import web
from bertpipe.sources.notebook.archive import member_name
from bertpipe.stages.download import IMDB_COPY_VARIABLE, run_download
from datasets import GOOD, write_zip
from websites import ETAG, Answer, Site, body, ranged, status

pytestmark = [pytest.mark.promise("Downloads"), pytest.mark.usefixtures("workdir")]

OUT = Path("data/raw/dataset.zip")


@pytest.fixture(scope="module")
def zip_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    # Stored words that do not pack well: several chunks of the reader.
    text = "".join(hashlib.sha512(str(i).encode()).hexdigest() for i in range(40_000))
    return write_zip(tmp_path_factory.mktemp("zip") / "x.zip", [[text, *GOOD[1:]]]).read_bytes()


@pytest.fixture
def fetch(tiny: Params, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    monkeypatch.setattr(web, "sleep", lambda _: None)

    def run(
        source: str, *, sha256: str | None = None, on_progress: Callable[[Progress], None] = ignore_progress
    ) -> dict[str, Any]:
        download = dataclasses.replace(tiny.download, source=source, sha256=sha256)
        return run_download(download, tiny.sample, tiny.masking, out=OUT, on_progress=on_progress)

    return run


Fetch = Callable[..., dict[str, Any]]


def left_over() -> list[Path]:
    """Return every file that a download left, besides its output."""
    return [path for path in Path().rglob("*") if path.is_file() and path != OUT]


# What is brought


def test_a_path_is_copied(fetch: Fetch, zip_bytes: bytes) -> None:
    Path("here.zip").write_bytes(zip_bytes)
    result = fetch("here.zip")
    assert OUT.read_bytes() == zip_bytes
    assert result == {
        "source": "here.zip", "file": str(OUT), "bytes": len(zip_bytes),
        "sha256": hashlib.sha256(zip_bytes).hexdigest(),
    }  # fmt: skip
    assert left_over() == [Path("here.zip")]


def test_a_file_url_is_copied(fetch: Fetch, zip_bytes: bytes, tmp_path: Path) -> None:
    path = tmp_path / "with space.zip"
    path.write_bytes(zip_bytes)
    assert "%20" in path.as_uri()
    fetch(path.as_uri())
    assert OUT.read_bytes() == zip_bytes


def test_http_is_streamed_and_its_size_and_progress_told(fetch: Fetch, site: Site, zip_bytes: bytes) -> None:
    told: list[Progress] = []
    fetch(site.serve("/x.zip", body(zip_bytes)), on_progress=told.append)
    assert OUT.read_bytes() == zip_bytes
    assert len(told) > 2
    assert {report.total for report in told} == {len(zip_bytes)}
    completed = [report.completed for report in told]
    assert completed == sorted(completed)
    assert completed[-1] == len(zip_bytes)
    assert {report.unit for report in told} == {"bytes"}
    assert left_over() == []


def test_a_body_of_unknown_size_is_taken(fetch: Fetch, site: Site, zip_bytes: bytes) -> None:
    told: list[Progress] = []
    fetch(site.serve("/unknown.zip", body(zip_bytes, Content_Length=None)), on_progress=told.append)
    assert OUT.read_bytes() == zip_bytes
    assert {report.total for report in told} == {None}


def test_bytes_in_flight_never_stand_at_the_final_name(fetch: Fetch, site: Site, zip_bytes: bytes) -> None:
    seen: list[list[str]] = []

    def look(_: Progress) -> None:
        seen.append([path.name for path in OUT.parent.iterdir()] if OUT.parent.exists() else [])
        assert any(Path(".bertpipe/downloads").rglob("part"))

    fetch(site.serve("/flight.zip", body(zip_bytes)), on_progress=look)
    assert len(seen) > 2
    assert not any(seen)
    OUT.write_bytes(b"earlier")
    during: list[bytes] = []
    fetch(site.serve("/flight.zip", body(zip_bytes)), on_progress=lambda _: during.append(OUT.read_bytes()))
    assert set(during) == {b"earlier"}
    assert OUT.read_bytes() == zip_bytes


def test_a_redirect_to_http_is_followed(fetch: Fetch, site: Site, zip_bytes: bytes) -> None:
    target = site.serve("/target.zip", body(zip_bytes))
    fetch(site.serve("/redirect", status(302, Location=target)))
    assert OUT.read_bytes() == zip_bytes


def test_an_expected_hash_is_compared_in_any_case(fetch: Fetch, zip_bytes: bytes) -> None:
    Path("here.zip").write_bytes(zip_bytes)
    fetch("here.zip", sha256=hashlib.sha256(zip_bytes).hexdigest().upper())
    assert OUT.read_bytes() == zip_bytes


def test_imdb_takes_a_local_copy_that_the_environment_names(
    fetch: Fetch, zip_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("copy.zip").write_bytes(zip_bytes)
    monkeypatch.setenv(IMDB_COPY_VARIABLE, "copy.zip")
    assert fetch("imdb")["source"] == "imdb"
    assert OUT.read_bytes() == zip_bytes


def test_imdb_is_the_notebooks_url(fetch: Fetch, site: Site, zip_bytes: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(IMDB_COPY_VARIABLE, raising=False)
    monkeypatch.setattr("bertpipe.stages.download.IMDB_URL", site.serve("/imdb.zip", body(zip_bytes)))
    fetch("imdb")
    assert OUT.read_bytes() == zip_bytes


def test_the_sample_is_equal_to_the_byte_on_two_builds(fetch: Fetch, sample_zip: Path) -> None:
    told: list[Progress] = []
    fetch("sample", on_progress=told.append)
    assert OUT.read_bytes() == sample_zip.read_bytes()
    assert [report.label for report in told] == ["building the sample"]
    assert left_over() == []


def test_another_seed_gives_another_sample(tiny: Params, sample_zip: Path) -> None:
    sample = dataclasses.replace(tiny.sample, seed=tiny.sample.seed + 1)
    run_download(tiny.download, sample, tiny.masking, out=OUT)
    assert OUT.read_bytes() != sample_zip.read_bytes()


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_the_samples_stored_masks_are_chosen_by_the_unit(tiny: Params, unit: MaskingUnit) -> None:
    masking = dataclasses.replace(tiny.masking, unit=unit, rate=0.3)
    run_download(tiny.download, tiny.sample, masking, out=OUT)
    with zipfile.ZipFile(OUT) as file:
        text = file.read(member_name("train", "full")).decode("utf-8")
        rule = Masking.of(masking, word_level_tokenizer(file.read("bert_dataset/vocab.txt").decode("utf-8").split()))
    rows = list(csv.DictReader(io.StringIO(text)))
    for number, fields in enumerate(rows[:40]):
        inputs, labels = (np.array(json.loads(fields[name])) for name in ("BERT Input", "BERT Label"))
        real = inputs != PAD_ID
        inputs, labels = inputs[real].astype(np.int32), labels[real].astype(np.int32)
        true = np.where(labels > 0, labels, inputs)
        done = rule.corrupt(true, np.array(number), np.arange(len(true)), seed=tiny.sample.seed, epoch=0)
        assert inputs.tolist() == done.inputs.tolist()
        assert (labels > 0).tolist() == done.chosen.tolist()


def test_the_sample_holds_the_notebooks_members_and_the_vocabulary(sample_zip: Path) -> None:
    with zipfile.ZipFile(sample_zip) as file:
        assert set(file.namelist()) == {
            *(member_name(split, subset) for split in ("train", "test") for subset in ("full", "sampled")),
            "bert_dataset/vocab.txt",
            "bert_dataset/dataset.json",
        }


# What is refused

BROKEN: dict[str, tuple[Answer, type[BertpipeError], str]] = {
    "/404": (status(404), DownloadError, r"answered 404 Not Found: .*download\.source"),
    "/500": (status(500), DownloadError, r"answered 500 .*download\.retries is 5"),
    "/ftp": (status(302, Location="ftp://127.0.0.1/x.zip"), DownloadError, r"redirects to ftp://.*only https"),
    "/file": (status(302, Location="file:///etc/passwd"), DownloadError, r"file:///etc/passwd"),
    "/loop": (status(302, Location="/loop"), DownloadError, "cannot be asked .TooManyRedirects"),
    "/html": (
        body(b"<html>Sign in</html>"),
        DataError,
        r"what came from http\S+ is not a zip file: open it in a browser",
    ),
    "/empty": (body(b""), DataError, "is not a zip file"),
    "/short": (
        body(b"PK only this", Content_Length="10000"),
        DownloadError,
        "ended after 12 of 10,000 bytes; that was try 6",
    ),
    "/truncated": (body(b"PK only this", ETag='"x"'), DataError, r"what came from http\S+ is not a zip file"),
}


@pytest.mark.parametrize("path", BROKEN)
@pytest.mark.parametrize("earlier", [None, b"earlier"])
def test_what_is_no_such_zip_is_refused_and_the_earlier_file_stays(
    fetch: Fetch, site: Site, path: str, earlier: bytes | None
) -> None:
    answer, error, said = BROKEN[path]
    if earlier is not None:
        OUT.parent.mkdir(parents=True)
        OUT.write_bytes(earlier)
    with pytest.raises(error, match=said) as caught:
        fetch(site.serve(path, answer))
    assert OUT.exists() == (earlier is not None)
    assert left_over() == []
    if earlier is not None:
        assert OUT.read_bytes() == earlier
        assert str(caught.value).endswith(f"({OUT} is unchanged)")


def test_a_refused_connection_names_the_next_step(fetch: Fetch) -> None:
    with contextlib.closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))  # bound, but nobody listens
        port = held.getsockname()[1]
        with pytest.raises(DownloadError, match=r"failed \(Connection refused\); .*: check the network, or set"):
            fetch(f"http://127.0.0.1:{port}/x.zip")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("ftp://127.0.0.1/x.zip", r"^ftp://127\.0\.0\.1/x\.zip cannot be asked \(\w+\): check the address"),
        ("s3://bucket/x.zip", "cannot be asked"),
        ("nowhere.zip", r"nowhere\.zip cannot be read \(No such file or directory\): download\.source is `sample`"),
        (".", "cannot be read"),
        ("file:///nowhere/x.zip", r"/nowhere/x\.zip cannot be read"),
        ("http://127.0.0.1:port/x.zip", r"http://127\.0\.0\.1:port/x\.zip cannot be asked"),
    ],
)
def test_a_source_that_cannot_be_opened_says_what_one_may_be(fetch: Fetch, source: str, said: str) -> None:
    with pytest.raises(DownloadError, match=said):
        fetch(source)
    assert left_over() == []


def test_a_zip_with_damaged_bytes_is_refused(fetch: Fetch, zip_bytes: bytes) -> None:
    damaged = bytearray(zip_bytes)
    damaged[1000] ^= 0xFF
    Path("here.zip").write_bytes(damaged)
    with pytest.raises(DataError, match=r"what came from here\.zip is damaged"):
        fetch("here.zip")
    assert not OUT.exists()


@pytest.mark.parametrize("wrong", ["hash", "bytes"])
def test_what_came_and_is_wrong_is_not_gone_on_from(fetch: Fetch, site: Site, zip_bytes: bytes, wrong: str) -> None:
    content = bytearray(zip_bytes)
    if wrong == "bytes":
        content[1000] ^= 0xFF
    path = f"/wrong/{wrong}"
    url = site.serve(path, ranged(bytes(content), stop=500_000), ranged(bytes(content)))
    with pytest.raises((DataError, DownloadError), match="is damaged" if wrong == "bytes" else "expected 0000"):
        fetch(url, sha256=None if wrong == "bytes" else "0000")
    assert left_over() == []
    with contextlib.suppress(DataError):
        fetch(url)
    assert site.ranges(path) == [(None, None), ("bytes=499999-", ETAG), (None, None)]
    assert OUT.exists() == (wrong == "hash")


def test_an_output_that_cannot_be_written_keeps_what_came(fetch: Fetch, site: Site, zip_bytes: bytes) -> None:
    Path("data").write_text("in the way of the folder")
    url = site.serve("/unwritable.zip", ranged(zip_bytes))
    with pytest.raises(WriteError, match=r"^data/raw/dataset\.zip cannot be written \("):
        fetch(url)
    Path("data").unlink()
    fetch(url)
    assert OUT.read_bytes() == zip_bytes
    assert site.ranges("/unwritable.zip") == [(None, None), (f"bytes={len(zip_bytes) - 1}-", ETAG)]


def test_the_summary_and_the_errors_name_no_secret(fetch: Fetch, site: Site, zip_bytes: bytes) -> None:
    url = site.serve("/secret.zip", ranged(zip_bytes)).replace("://", "://me:hidden@") + "?token=hidden"
    assert fetch(url)["source"] == f"{site.base}/secret.zip?…"
    with pytest.raises(DownloadError) as wrong_hash:
        fetch(url, sha256="0000")
    site.serve("/secret.zip", ranged(b"PK is not all"))
    with pytest.raises(DataError) as no_zip:
        fetch(url)
    assert "hidden" not in f"{wrong_hash.value} {no_zip.value}"


def test_another_hash_is_refused_and_the_earlier_file_stays(fetch: Fetch, zip_bytes: bytes) -> None:
    Path("here.zip").write_bytes(zip_bytes)
    OUT.parent.mkdir(parents=True)
    OUT.write_bytes(b"earlier")
    with pytest.raises(DownloadError, match="expected 0000: the source has changed or was tampered with"):
        fetch("here.zip", sha256="0000")
    assert OUT.read_bytes() == b"earlier"


def test_dvc_checkout_is_named_where_dvc_may_have_removed_the_earlier_file(fetch: Fetch) -> None:
    Path(".dvc").mkdir()
    with pytest.raises(DownloadError, match="`dvc checkout` restores it"):
        fetch("nowhere.zip")


def test_a_stop_in_flight_leaves_nothing_that_cannot_be_gone_on_from(
    fetch: Fetch, site: Site, zip_bytes: bytes
) -> None:
    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(site.serve("/x.zip", body(zip_bytes)), on_progress=interrupt)
    assert not OUT.exists()
    assert left_over() == []
