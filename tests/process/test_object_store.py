"""Data, models and training state in a real S3 server, which fails in every way that a test tells it to."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bertpipe.core.artifacts import MODEL
from bertpipe.core.errors import BertpipeError, DataError, MissingInputError, StoreError, WriteError
from bertpipe.core.manifest import MANIFEST_NAME
from bertpipe.core.params import Params
from bertpipe.core.stores.directories import (
    COPIES_DIR,
    check_output,
    copy_for,
    fetched,
    fetched_text,
    output_directory,
    publish,
)
from bertpipe.data.pair_dataset import PairFile, read_dataset
from commands import Run
from object_stores import BUCKET, Fault, Request, Store, busy, cut, each_first, no_fault, running_store, slow, use
from runs import EACH_STEP, SMALL, Crash, at_step, crash, results, train

URL = f"s3://{BUCKET}"


@pytest.fixture(scope="module")
def _store() -> Iterator[Store]:
    with running_store() as store:
        yield store


@pytest.fixture
def store(_store: Store, monkeypatch: pytest.MonkeyPatch, workdir: Path) -> Store:
    """Return the store without faults, in an empty working folder."""
    assert workdir == Path.cwd()
    _store.fault, _store.sent = no_fault, 0
    _store.lines.clear()
    use(_store, monkeypatch)
    return _store


@pytest.fixture
def data(store: Store, parquet: Path) -> Path:
    """Return the URL of the sample's data, copied there by hand."""
    if not store.names("data"):
        for path in parquet.iterdir():
            store.write(f"data/{path.name}", path.read_bytes())
    return Path(f"{URL}/data")


def write(place: str, files: dict[str, bytes]) -> None:
    with output_directory(Path(place), kind=MODEL) as staging:
        staging.mkdir(exist_ok=True)
        for name, content in files.items():
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_bytes(content)


def files_at(place: str) -> dict[str, bytes]:
    shutil.rmtree(COPIES_DIR, ignore_errors=True)
    folder = fetched(place)
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found.pop(MANIFEST_NAME, None)
    return found


def large(seed: int) -> bytes:
    """Return more bytes than fit in one part of an upload."""
    return bytes([seed]) * 12_000_000


# The same bytes as with files


def test_a_training_from_url_to_url_gives_the_bytes_of_one_with_files(
    tiny: Params, store: Store, data: Path, whole: dict[str, bytes]
) -> None:
    places = {"model": Path(f"{URL}/trained"), "state": Path(f"{URL}/state")}
    summary = train(tiny, Path("run"), data, places=places, runtime=EACH_STEP, **SMALL)
    assert summary["model"] == f"{URL}/trained"
    shutil.copytree(fetched(f"{URL}/trained"), "run/model")
    assert results(Path("run")) == whole
    assert store.names("state") == []  # of a completed run
    assert any("state" in line and line.startswith("PUT") for line in store.lines)


def test_a_killed_training_resumes_on_another_machine_through_every_fault(
    tiny: Params, store: Store, data: Path, whole: dict[str, bytes]
) -> None:
    program = (
        "import os, signal, sys; sys.path[:0] = sys.argv[1:2]\n"
        "from pathlib import Path\n"
        "from bertpipe.core.params_file import load_params\n"
        "from runs import EACH_STEP, SMALL, at_step, train\n"
        "places = {'model': Path(sys.argv[3] + '/killed'), 'state': Path(sys.argv[3] + '/state')}\n"
        "with at_step(8, lambda: os.kill(os.getpid(), signal.SIGKILL)):\n"
        "    train(load_params(Path(sys.argv[2])), Path('first'), Path(sys.argv[4]), places=places,\n"
        "          runtime=EACH_STEP, **SMALL)\n"
    )
    tests = Path(__file__).parent.parent
    Path("other").mkdir()
    command = [sys.executable, "-c", program, str(tests), str(tests.parent / "params/tiny.yaml"), URL, str(data)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, cwd="other", capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    shutil.rmtree("other")
    assert (
        len({name.split("/")[1] for name in store.names("state") if "step-" in name}) == tiny.runtime.keep_checkpoints
    )

    faults = [each_first(busy), each_first(cut), each_first(slow, path=MANIFEST_NAME)]
    store.fault = lambda request: any(fault(request) for fault in faults)
    notes: list[str] = []
    places = {"model": Path(f"{URL}/killed"), "state": Path(f"{URL}/state")}
    options = {"on_note": notes.append}
    summary = train(tiny, Path("run"), data, places=places, options=options, **SMALL)
    assert summary["resumed_after_step"] == 7
    assert any("the state after step 7 comes from s3://" in note for note in notes)
    store.fault = no_fault
    shutil.copytree(fetched(f"{URL}/killed"), "run/model")
    assert results(Path("run")) == whole
    assert store.names("state") == []


def test_a_store_that_is_away_for_a_while_does_not_end_a_training(
    tiny: Params, store: Store, data: Path, whole: dict[str, bytes]
) -> None:
    def away(request: Request) -> bool:
        if request.command == "PUT" and "/step-00000000" in request.path:
            busy(request)
            return True
        return False

    store.fault = away
    notes: list[str] = []
    places = {"model": Path(f"{URL}/patient"), "state": Path(f"{URL}/state")}
    options = {"on_note": notes.append}
    with at_step(3, crash), pytest.raises(Crash):
        train(tiny, Path("run"), data, places=places, runtime=EACH_STEP, options=options, **SMALL)
    assert "SlowDown" in notes[-1] or "SLOW_DOWN" in notes[-1], notes
    assert "is kept at .bertpipe/state" in notes[-1]
    store.fault = no_fault
    assert train(tiny, Path("run"), data, places=places, **SMALL)["resumed_after_step"] == 2
    shutil.copytree(fetched(f"{URL}/patient"), "run/model")
    assert results(Path("run")) == whole


def test_text_is_read_and_pairs_are_written_by_url(store: Store, run: Run, reviews: Path) -> None:
    for path in reviews.rglob("*.txt"):
        store.write(f"reviews/{path.relative_to(reviews)}", path.read_bytes())
    params = Path(__file__).parents[2] / "params/tiny.yaml"
    for text, out in ((reviews, "local"), (f"{URL}/reviews", f"{URL}/pairs")):
        ended = run("prepare", "--params", params, "--text", text, "--out", out)
        assert ended.code == 0, ended.err
    assert f"Prepared in {URL}/pairs" in ended.out
    there, here = fetched(f"{URL}/pairs", by_ranges=True), Path("local")
    assert (there / "tokenizer.json").read_bytes() == (here / "tokenizer.json").read_bytes()
    ours, theirs = read_dataset(there / "train.parquet"), read_dataset(here / "train.parquet")
    assert ours.token_ids.tolist() == theirs.token_ids.tolist()


# Reading


def test_a_text_is_fetched_again_once_it_changes(store: Store) -> None:
    store.write("texts/a.txt", b"one")
    store.write("texts/b/c.txt", b"two")
    folder = fetched_text("s3://shelf/texts")
    assert folder.name == "texts"
    assert (folder / "b/c.txt").read_bytes() == b"two"
    assert fetched_text("s3://shelf/texts") == folder
    store.write("texts/a.txt", b"three")
    assert (fetched_text("s3://shelf/texts") / "a.txt").read_bytes() == b"three"
    assert fetched_text("s3://shelf/texts/a.txt").read_bytes() == b"three"
    with pytest.raises(MissingInputError, match="there is nothing at s3://shelf/none"):
        fetched_text("s3://shelf/none")


@pytest.mark.parametrize("fault", [busy, cut, slow])
def test_ranges_are_read_through_faults(store: Store, data: Path, parquet: Path, fault: Callable[..., None]) -> None:
    store.fault = each_first(fault)
    there, here = (read_dataset(folder / "train.parquet") for folder in (fetched(data, by_ranges=True), parquet))
    assert there.token_ids.tolist() == here.token_ids.tolist()
    store.lines.clear()
    shutil.rmtree(next(COPIES_DIR.glob("*/*-ranges")))
    read_dataset(fetched(data, by_ranges=True) / "train.parquet")
    assert not any("train.parquet" in line for line in store.lines)  # what was read is kept


def test_only_what_is_needed_of_a_file_is_read(store: Store) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from bertpipe.core.artifacts import DATA, pair_schema

    rows, groups, length = 4096, 8, 200
    ids = np.random.default_rng(1).integers(0, 30_000, (groups * rows, length), dtype=np.int32)
    empty = pa.array([[]] * len(ids), pa.list_(pa.int32()))
    columns = {
        "row": np.arange(len(ids)), "length": np.full(len(ids), length, np.int32), "token_ids": list(ids),
        "second_segment_start": np.full(len(ids), 9, np.int32), "is_next": np.ones(len(ids), bool),
        "document": np.zeros(len(ids), np.int32), "masked_positions": empty, "masked_inputs": empty,
        "masked_labels": empty,
    }  # fmt: skip
    with output_directory(Path(f"{URL}/wide"), kind=DATA) as staging:
        staging.mkdir(exist_ok=True)
        pq.write_table(pa.table(columns, schema=pair_schema()), staging / "train.parquet", row_group_size=rows)
    size = next(COPIES_DIR.glob("*/written/wide/train.parquet")).stat().st_size
    store.sent = 0
    pairs = PairFile(fetched(f"{URL}/wide", by_ranges=True) / "train.parquet", groups_per_window=1)
    assert pairs.read(np.array([3])).token_ids.tolist() == ids[3 * rows : 4 * rows].ravel().tolist()
    assert store.sent < 0.75 * size


@pytest.mark.parametrize("by_ranges", [False, True])
def test_an_object_that_is_short_or_missing_is_refused(
    store: Store, parquet: Path, run: Run, *, by_ranges: bool
) -> None:
    folder = f"broken-{by_ranges}"
    for path in parquet.iterdir():
        store.write(f"{folder}/{path.name}", path.read_bytes())
    url, name = f"{URL}/{folder}", "train.parquet" if by_ranges else "summary.json"
    from bertpipe.core.stores import directories as storage

    with output_directory(Path(f"{url}/copy"), kind=storage.DATA) as staging:
        shutil.copytree(parquet, staging, dirs_exist_ok=True)
    stored = next(each for each in store.names(f"{folder}/copy") if each.startswith(name))
    content = store.read(f"{folder}/copy/{stored}")

    def read() -> None:
        shutil.rmtree(COPIES_DIR, ignore_errors=True)
        read_dataset(fetched(f"{url}/copy", by_ranges=True) / "train.parquet")

    read()
    store.write(f"{folder}/copy/{stored}", content[:-1])
    with pytest.raises(DataError, match=rf"{stored} has {len(content) - 1:,} bytes, and its manifest says"):
        read()
    if not by_ranges:
        store.write(f"{folder}/copy/{stored}", content.replace(b"a", b"b"))
        with pytest.raises(DataError, match="is damaged"):
            read()
    store.files().delete_file(f"{BUCKET}/{folder}/copy/{stored}")
    with pytest.raises(MissingInputError, match="is missing, and the manifest names it"):
        read()


def test_an_endless_fault_is_an_error_of_one_line(store: Store, data: Path, run: Run, project: Path) -> None:
    def always(answer: Callable[[Request], None]) -> Fault:
        return each_first(answer, times=1000)

    for fault, reason in ((busy, "SLOW_DOWN|503"), (cut, "transfer|closed|NETWORK")):
        store.fault = always(fault)
        ended = run("evaluate", "--model", "models/bert", "--data", data, "--out", "m.json")
        assert ended.code == 1
        error = [line for line in ended.err.splitlines() if line.startswith("error: ")]
        assert len(error) == 1
        assert error[0].startswith(f"error: {URL}/data/")
        assert "4 tries" in error[0]
        assert "run the same command again" in error[0]
        assert re.search(reason, error[0]), error[0]
        assert not Path("m.json").exists()


def test_wrong_credentials_and_buckets_that_are_not_there_are_named_without_secrets(
    store: Store, data: Path, run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bertpipe.core.stores import objects as object_store

    def said_by(*options: object) -> str:
        object_store._connected.cache_clear()
        ended = run("evaluate", "--out", "m.json", *options)
        assert ended.code == 1
        text = ended.out + ended.err
        assert store.secret not in text
        assert store.key not in text
        assert "wrongwrong" not in text
        assert "Traceback" not in text
        return text

    assert "there is no bucket s3://nowhere-at-all: make it" in said_by("--data", "s3://nowhere-at-all/data")
    assert "there is no bucket s3://nowhere-at-all: make it" in said_by("--model", "s3://nowhere-at-all/model")
    assert f"{URL}/data-of-nobody has no bertpipe-manifest.json" in said_by("--data", f"{URL}/data-of-nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrongwrong")
    assert "check the credentials in the environment (AWS_ACCESS_KEY_ID" in said_by("--data", data)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWRONGWRONG")
    assert "check the credentials in the environment (AWS_ACCESS_KEY_ID" in said_by("--data", data)
    ended = run("convert", "--zip", "data/raw/dataset.zip", "--out", f"{URL}/unwritable")
    assert "check the credentials" in ended.err
    object_store._connected.cache_clear()


# Writing


@pytest.mark.parametrize("fault", [busy, cut, slow])
def test_files_are_written_through_faults(store: Store, fault: Callable[..., None]) -> None:
    files = {"config.json": b"{}", "model.safetensors": large(1), "nsp/part": b"x", "empty": b""}
    store.fault = each_first(fault)
    write(f"{URL}/{fault.__name__}", files)
    assert any("partNumber=2" in line for line in store.lines)
    store.fault = no_fault
    assert files_at(f"{URL}/{fault.__name__}") == files


def test_a_part_that_never_arrives_is_written_again(store: Store) -> None:
    def lost(request: Request) -> None:
        request.reply(200, [("ETag", '"0123456789abcdef0123456789abcdef"')], b"")

    store.fault = each_first(lost, path="partNumber=2")
    write(f"{URL}/part", {"model.safetensors": large(2)})
    store.fault = each_first(lost, path="partNumber=2", times=1000)
    with pytest.raises(StoreError, match=rf"{URL}/part/model.safetensors\.[0-9a-f]+ cannot be written"):
        write(f"{URL}/part", {"model.safetensors": large(3)})
    store.fault = no_fault
    assert files_at(f"{URL}/part") == {"model.safetensors": large(2)}


def test_an_interrupted_write_is_never_taken_for_a_whole_one(store: Store) -> None:
    store.fault = each_first(busy, path=f"again/{MANIFEST_NAME}", times=1000)
    is_put = store.fault
    store.fault = lambda request: request.command == "PUT" and is_put(request)
    with pytest.raises(StoreError):
        write(f"{URL}/again", {"config.json": b"1", "model.safetensors": b"one"})
    assert len(store.names("again")) == 2
    with pytest.raises(MissingInputError, match="nothing was written there, or not to its end"):
        fetched(f"{URL}/again")
    fault, store.fault = store.fault, no_fault
    write(f"{URL}/again", {"config.json": b"1", "model.safetensors": b"one"})
    store.fault = fault
    with pytest.raises(StoreError):
        write(f"{URL}/again", {"config.json": b"2", "tokenizer.json": b"two"})
    store.fault = no_fault
    assert files_at(f"{URL}/again") == {"config.json": b"1", "model.safetensors": b"one"}
    write(f"{URL}/again", {"config.json": b"2", "tokenizer.json": b"two"})
    assert files_at(f"{URL}/again") == {"config.json": b"2", "tokenizer.json": b"two"}


def test_only_what_bertpipe_wrote_is_removed(store: Store) -> None:
    write(f"{URL}/mine", {"config.json": b"1", "tokenizer.json": b"same"})
    for name in ("notes.txt", "config.json", "config.json.0123456789abcdef"):
        store.write(f"mine/{name}", b"a user's")
    puts = len([line for line in store.lines if line.startswith("PUT")])
    write(f"{URL}/mine", {"config.json": b"2", "tokenizer.json": b"same"})
    names = store.names("mine")
    assert {"notes.txt", "config.json", "config.json.0123456789abcdef"} < set(names)
    assert len(names) == 6
    put = [line for line in store.lines if line.startswith("PUT")][puts:]
    assert not any("tokenizer" in line for line in put)  # it is there


def test_a_reader_that_is_overtaken_by_a_writer_reads_the_new_directory(store: Store) -> None:
    write(f"{URL}/raced", {"config.json": b"1", "tokenizer.json": b"one"})
    done: list[bool] = []

    def overtaken(request: Request) -> bool:
        if "tokenizer.json" in request.path and request.command in {"GET", "HEAD"} and not done:
            done.append(True)
            write(f"{URL}/raced", {"config.json": b"2", "tokenizer.json": b"two"})
        return False

    store.fault = overtaken
    assert files_at(f"{URL}/raced") == {"config.json": b"2", "tokenizer.json": b"two"}
    assert done


def test_the_second_of_two_writers_is_refused(store: Store) -> None:
    url = f"{URL}/shared"
    copy = copy_for(url)
    check_output(copy, MODEL)
    first: Any = {"config.json": b"1"}
    with output_directory(Path(url), kind=MODEL) as staging:
        staging.mkdir(exist_ok=True)
        (staging / "config.json").write_bytes(first["config.json"])
    publish(copy)
    store.write(f"shared/{MANIFEST_NAME}", store.read(f"shared/{MANIFEST_NAME}").replace(b'"model"', b'"model" '))
    (copy / "config.json").write_bytes(b"2")
    with pytest.raises(WriteError, match="was written by another process while this one worked"):
        publish(copy)


def test_another_kind_of_directory_is_not_replaced(store: Store, data: Path, run: Run, project: Path) -> None:
    ended = run("train", "--data", data, "--out", data)
    assert ended.code == 1
    assert f"{URL}/data holds the data set that bertpipe wrote there" in ended.err
    assert issubclass(StoreError, BertpipeError)
