"""Places by URL, without a server: which URLs are taken where, and what a manifest may say."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs

from bertpipe.core.artifacts import MODEL
from bertpipe.core.errors import DataError, InputError, MissingInputError, StoreError, WriteError
from bertpipe.core.manifest import MANIFEST_FORMAT, MANIFEST_NAME
from bertpipe.core.stores import objects as object_store
from bertpipe.core.stores.directories import fetched, output_directory, published_folders, unpublish, upload
from bertpipe.core.stores.objects import url_of, without_file_scheme
from commands import Run

pytestmark = pytest.mark.usefixtures("workdir")

SECRET = "hunter2hunter2"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[fs.FileSystem]:
    """Return a file system in memory, which stands for every store."""
    memory = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem(skip_instance_cache=True)
    memory.makedirs("/shelf", exist_ok=True)
    system = fs.PyFileSystem(fs.FSSpecHandler(memory))
    monkeypatch.setattr(object_store, "_connected", lambda *_: system)
    monkeypatch.setattr(object_store, "_PAUSE_S", 0.0)
    yield system
    memory.rm("/shelf", recursive=True)


def put(system: fs.FileSystem, name: str, content: bytes) -> None:
    with system.open_output_stream(f"shelf/{name}") as file:
        file.write(content)


def manifest_of(**changes: object) -> bytes:
    content = {
        "format": MANIFEST_FORMAT,
        "kind": "model",
        "sha256": {"config.json": "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9"},
        "objects": {"config.json": {"name": "config.json", "bytes": 1}},
    }
    return json.dumps(content | changes).encode()


@pytest.mark.parametrize(
    ("place", "url"),
    [
        ("s3://shelf/a/b", "s3://shelf/a/b"),
        ("s3:/shelf/a/b", "s3://shelf/a/b"),
        ("s3://shelf//a/b/", "s3://shelf/a/b"),
        ("gs://shelf/a", "gs://shelf/a"),
        ("abfs://box@account.dfs.core.windows.net/a", "abfs://box@account.dfs.core.windows.net/a"),
        ("file:///tmp/a", None),
        ("data/parquet", None),
        ("google-bert/bert-base-uncased", None),
        ("a:b", None),
        ("C:/models", None),
    ],
)
def test_a_url_is_told_from_a_path(place: str, url: str | None) -> None:
    assert url_of(place) == url
    assert url_of(Path(place)) == url


def test_a_path_as_a_url_is_the_path() -> None:
    assert without_file_scheme(Path("file:///tmp/a b")) == Path("/tmp/a b")
    assert without_file_scheme("data/x") == Path("data/x")


@pytest.mark.parametrize(
    "url",
    [
        f"s3://ada:{SECRET}@shelf/a",
        f"s3://ada@shelf/a?password={SECRET}",
        f"s3://shelf/a?X-Amz-Signature={SECRET}",
        f"s3://shelf?X-Amz-Signature={SECRET}",
        f"az://box/a?sig={SECRET}#part",
        f"abfs://box:{SECRET}@account.dfs.core.windows.net/a",
        f"https://ada:{SECRET}@example.org/a",
        "s3://shelf",
        "s3://shelf/../other",
    ],
)
def test_a_url_with_a_secret_or_without_a_path_is_refused(url: str) -> None:
    with pytest.raises(InputError) as caught:
        url_of(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "command",
    [
        ["download", "--out", "s3://shelf/x.zip"],
        ["convert", "--zip", "s3://shelf/x.zip"],
        ["prepare", "--text", "text", "--out", "ftp://shelf/x"],
        ["train", "--history", "s3://shelf/history.csv"],
        ["train", "--data", "https://example.org/data"],
        ["evaluate", "--out", "s3://shelf/metrics.json"],
        ["plot", "--out", "gs://shelf/plots"],
        ["report", "--out", "s3://shelf/report.html"],
        ["infer", "embed", "--input", "s3://shelf/lines.txt"],
    ],
)
def test_a_url_where_a_path_is_needed_is_refused_before_any_work(project: Path, run: Run, command: list[str]) -> None:
    before = sorted(project.rglob("*"))
    ended = run(*command)
    assert ended.code == 1
    assert len(ended.err.strip().splitlines()) == 1
    assert "URL" in ended.err
    assert sorted(project.rglob("*")) == before


def test_a_path_of_this_machine_may_be_written_as_a_url(project: Path, run: Run) -> None:
    model, data, out = (f"file://{project}/{name}" for name in ("models/bert", "data/parquet", "m.json"))
    ended = run("evaluate", "--model", model, "--data", data, "--out", out)
    assert ended.code == 0, ended.err
    assert (project / "m.json").is_file()


def test_a_directory_comes_back_as_it_was_written(bucket: fs.FileSystem) -> None:
    for content in (b"one", b"two"):
        with output_directory(Path("s3://shelf/a/model"), kind=MODEL) as staging:
            staging.mkdir(exist_ok=True)
            (staging / "config.json").write_bytes(content)
        assert (fetched("s3://shelf/a/model") / "config.json").read_bytes() == content
    names = [each.base_name for each in bucket.get_file_info(fs.FileSelector("shelf/a/model"))]
    assert len(names) == 2
    assert MANIFEST_NAME in names
    with pytest.raises(DataError, match="s3://shelf/a/model holds a model: name the URL of a data set"):
        fetched("s3://shelf/a/model", by_ranges=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "other"},
        {"sha256": {"../../x": "5" * 64}, "objects": {"../../x": {"name": "config.json", "bytes": 1}}},
        {"sha256": {"/etc/x": "5" * 64}, "objects": {"/etc/x": {"name": "config.json", "bytes": 1}}},
        {"objects": {"config.json": {"name": "../other/config.json", "bytes": 1}}},
        {"objects": {"config.json": {"name": "config.json", "bytes": -1}}},
        {"objects": {}},
        {"sha256": {"config.json": "x"}},
        {"sha256": []},
    ],
)
def test_a_manifest_that_is_damaged_or_leads_elsewhere_is_refused(
    bucket: fs.FileSystem, changes: dict[str, object]
) -> None:
    put(bucket, "m/config.json", b"0")
    put(bucket, f"m/{MANIFEST_NAME}", manifest_of())
    assert (fetched("s3://shelf/m") / "config.json").read_bytes() == b"0"
    put(bucket, f"m/{MANIFEST_NAME}", manifest_of(**changes))
    with pytest.raises(DataError, match="is damaged, or not bertpipe's"):
        fetched("s3://shelf/m")
    with pytest.raises(DataError), output_directory(Path("s3://shelf/m"), kind=MODEL) as staging:
        raise AssertionError(staging)


def test_a_directory_without_a_manifest_is_refused(bucket: fs.FileSystem) -> None:
    put(bucket, "m/config.json", b"0")
    with pytest.raises(MissingInputError, match=rf"s3://shelf/m has no {MANIFEST_NAME}"):
        fetched("s3://shelf/m")


def test_another_kind_is_not_replaced(bucket: fs.FileSystem) -> None:
    put(bucket, f"m/{MANIFEST_NAME}", manifest_of(kind="data set", sha256={}, objects={}))
    with (
        pytest.raises(WriteError, match="holds the data set that bertpipe wrote there"),
        output_directory(Path("s3://shelf/m"), kind=MODEL) as staging,
    ):
        raise AssertionError(staging)


def test_an_error_shows_no_secret_of_the_store(bucket: fs.FileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_KEY", SECRET)

    def fail() -> None:
        raise OSError(f"GET https://account.blob.core.windows.net/a?sig={SECRET}x failed for key {SECRET}: 500")

    with pytest.raises(StoreError) as caught:
        object_store.retried("az://box/a", "read", fail)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "4 tries" in str(caught.value)


def test_a_models_url_given_for_the_state_keeps_its_model(bucket: fs.FileSystem, tmp_path: Path) -> None:
    with output_directory(Path("s3://shelf/m"), kind=MODEL) as staging:
        (staging / "config.json").write_text("0", encoding="utf-8")
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    before = {info.path for info in bucket.get_file_info(fs.FileSelector("shelf/m", recursive=True))}
    for command in (
        lambda: published_folders("s3://shelf/m", kind="state of a training"),
        lambda: upload(tmp_path, "s3://shelf/m", kind="state of a training", names={"run.json": "0" * 64}),
        lambda: unpublish("s3://shelf/m", kind="state of a training"),
    ):
        with pytest.raises(WriteError, match=r"s3://shelf/m holds the model .* name another URL"):
            command()
    assert {info.path for info in bucket.get_file_info(fs.FileSelector("shelf/m", recursive=True))} == before
    assert len(before) == 2
