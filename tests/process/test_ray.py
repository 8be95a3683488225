"""Ray as an engine: a real one of two workers, and what is said where there is none."""

import json
import os
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import pytest

from bertpipe.core.errors import DataError
from bertpipe.core.params import Params
from bertpipe.core.params_file import merged_text
from bertpipe.sources.engines.engine import Processes, make_engine
from bertpipe.sources.engines.ray import RayEngine
from bertpipe.stages.convert import run_convert
from bertpipe.stages.prepare import run_prepare
from conftest import TINY
from prepared import REVIEWS, bytes_of
from shard_functions import dies, dies_once, fails_at_3, has_a_fault, loses, squared, squared_by_two
from texts import json_lines, write_files

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

RAY = RayEngine(address="local", processes=2)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of shards with a duplicate across them, one of them empty."""
    lines = [REVIEWS[:30], [*REVIEWS[30:60], REVIEWS[3]], [], REVIEWS[60:]]
    files = {f"{number}.jsonl": json_lines(*texts) for number, texts in enumerate(lines)}
    return write_files(tmp_path_factory.mktemp("shards") / "text", files)


@pytest.fixture(scope="module")
def cluster() -> "Iterator[Cluster]":
    """Start a Ray of two nodes with a worker each on this machine, for all that join one."""
    import ray
    from ray.cluster_utils import Cluster

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent.parent), *sys.path]))
        nodes = Cluster()
        for _ in range(2):
            nodes.add_node(num_cpus=1, include_dashboard=False)
        ray.init(address=nodes.address, log_to_driver=False, logging_level="CRITICAL")
        yield nodes
        ray.shutdown()
        nodes.shutdown()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Where there is none; first, because a cluster that was joined is used whatever the address


def test_without_ray_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DataError, match=r"needs Ray Data \(.*ray.*\): pip install 'bertpipe\[ray\]'"):
        list(RAY.map(squared, [1]))


def test_an_address_at_which_nothing_answers_is_named_at_once() -> None:
    with socket.socket() as nobody:  # holds the port, and does not listen
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(
            DataError, match=rf"nothing answers at {address} within 10 s \(.*refused\): start the cluster"
        ):
            list(RayEngine(address=address, processes=2).map(squared, [1]))


def test_no_cluster_on_this_machine_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(DataError, match="no Ray cluster could be joined at auto: Could not find any running Ray"):
        list(RayEngine(address="auto", processes=2).map(squared, [1]))


@pytest.mark.parametrize("address", ["", "here", "host:", "host:port", "ray://host:10001", "http://host:80"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(DataError, match="is not the address of a Ray cluster: write local, auto or HOST:PORT"):
        RayEngine(address=address, processes=1)


def test_an_address_needs_an_engine_that_has_one() -> None:
    with pytest.raises(DataError, match=r"--address head:6379 is of a Ray cluster: give --engine ray too"):
        make_engine("processes", address="head:6379", processes=1)
    assert make_engine("ray", address="head:6379", processes=3) == RayEngine(address="head:6379", processes=3)
    assert make_engine("ray", address=None, processes=3) == RayEngine(address="local", processes=3)
    assert make_engine("processes", address=None, processes=3) == Processes(count=3)


def test_ray_works_on_shards_alone(tiny: Params, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"prepare\.shards is one, and a cluster works on shards alone: .* files"):
        run_prepare(tiny.prepare, tiny.masking, tiny.runtime, text=corpus, out=tmp_path / "out", engine=RAY)


# A cluster of two workers


@pytest.mark.usefixtures("cluster")
def test_results_come_in_order_from_two_workers(tmp_path: Path) -> None:
    found = list(RAY.map(partial(squared_by_two, tmp_path), range(12)))
    assert [square for square, _ in found] == [number * number for number in range(12)]
    workers = {process for _, process in found}
    assert len(workers) == 2
    assert os.getpid() not in workers
    assert list(RAY.map(squared, [])) == []


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("pairs", "tokenizer"), [("bert", "wordpiece"), ("notebook", "words")])
def test_shards_are_those_of_one_process(
    tiny: Params, corpus: Path, tmp_path: Path, pairs: Literal["bert", "notebook"], tokenizer: str
) -> None:
    prepare = replace(tiny.prepare, shards="files", pairs=pairs, tokenizer=tokenizer)
    for name, engine in (("one", Processes(count=1)), ("ray", RAY)):
        run_prepare(prepare, tiny.masking, tiny.runtime, text=corpus, out=tmp_path / name, engine=engine)
    assert tree(tmp_path / "ray") == tree(tmp_path / "one")
    assert len(tree(tmp_path / "ray")) == 3 * 4 + 4  # the shards; tokenizer, summary, records, manifest


@pytest.mark.usefixtures("cluster")
def test_zips_are_those_of_one_process(tiny: Params, sample_zip: Path, tmp_path: Path) -> None:
    """The sample without its vocabulary, which is found again and has to reach the workers."""
    (tmp_path / "zips").mkdir()
    members = ("train_data", "test_data", "train_data_sampled", "test_data_sampled")
    with zipfile.ZipFile(sample_zip) as whole:
        texts = {f"bert_dataset/bert_{name}.csv": whole.read(f"bert_dataset/bert_{name}.csv") for name in members}
    for name in ("a", "b"):
        with zipfile.ZipFile(tmp_path / "zips" / f"{name}.zip", "w") as file:
            for member, text in texts.items():
                file.writestr(member, text)
    for name, engine in (("one", None), ("ray", RAY)):
        summary = run_convert(
            replace(tiny.convert, recover="labels"), zip_file=tmp_path / "zips", out=tmp_path / name,
            rejects_report=tmp_path / "rejects.parquet", engine=engine,
        )  # fmt: skip
    assert tree(tmp_path / "ray") == tree(tmp_path / "one")
    assert summary["documents"] == 2 * 60
    assert summary["recovery"]["words"]["read"] > 100


@pytest.mark.usefixtures("cluster")
def test_an_error_of_the_work_arrives_and_the_earlier_output_stays(tiny: Params, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^shard 3 is no good$"):
        list(RAY.map(fails_at_3, range(5)))
    text = write_files(tmp_path / "text", {"a.jsonl": json_lines(*REVIEWS), "b.jsonl": b"{}\n"})
    earlier = write_files(tmp_path / "out", {"notes.txt": b"1"})
    with pytest.raises(DataError, match=r"b\.jsonl:1 has no field 'text'"):
        run_prepare(
            replace(tiny.prepare, shards="files"), tiny.masking, tiny.runtime, text=text, out=earlier, engine=RAY
        )
    assert bytes_of(earlier) == {"notes.txt": b"1"}
    assert {path.name for path in tmp_path.iterdir()} == {"out", "text"}


@pytest.mark.usefixtures("cluster")
def test_a_fault_of_the_work_keeps_its_traceback() -> None:
    from ray.exceptions import RayTaskError

    with pytest.raises(RayTaskError, match=r"shard_functions\.py.*\n.*return 1 / number(.*\n)*ZeroDivisionError"):
        list(RAY.map(has_a_fault, [1, 0]))


@pytest.mark.usefixtures("cluster")
def test_a_machine_without_the_package_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    away = ModuleType("away")
    away.__dict__["work"] = work = lambda number: number
    work.__module__, work.__qualname__ = "away", "work"
    monkeypatch.setitem(sys.modules, "away", away)  # here, and nowhere else
    with pytest.raises(DataError, match=r"a machine of the Ray cluster cannot do the work \(.*No module named 'away'"):
        list(RAY.map(work, [1]))


@pytest.mark.usefixtures("cluster")
def test_a_lost_worker_is_replaced_and_one_that_is_lost_again_and_again_is_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(RAY.map(dies_once, [tmp_path / "mark"])) == ["mark"]
    with pytest.raises(DataError, match="Ray lost the worker of a shard 4 times, most likely because memory ran out"):
        list(RAY.map(dies, [1]))
    assert capsys.readouterr().out == ""  # which is the result's


@dataclass(frozen=True, slots=True)
class LosingRay:
    """A Ray that loses a worker in each step of the work, and a node in one of them."""

    marks: Path
    lost_in: str

    def session(self) -> AbstractContextManager[None]:
        return RAY.session()

    def map(self, function: Callable[[Any], Any], things: Sequence[Any]) -> Generator[Any]:
        import ray

        here = ray.get_runtime_context().get_node_id()
        yield from RAY.map(partial(loses, self.marks, here, self.lost_in, function), things)


def test_a_lost_node_and_lost_workers_change_no_byte(
    cluster: "Cluster", tiny: Params, corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "marks").mkdir()
    prepare = replace(tiny.prepare, shards="files")
    lost_in = "count_shard"
    engines = {"one": Processes(count=1), "ray": LosingRay(tmp_path / "marks", lost_in)}
    for name, engine in engines.items():
        run_prepare(prepare, tiny.masking, tiny.runtime, text=corpus, out=tmp_path / name, engine=engine)
    assert tree(tmp_path / "ray") == tree(tmp_path / "one")
    steps = ("count_shard", "digest_shard", "find_duplicates", "merge_words", "write_shard")
    lost = {f"{step} {'node' if step == lost_in else 'worker'}" for step in steps}
    assert {path.name for path in (tmp_path / "marks").iterdir()} == lost
    assert {path.name for path in tmp_path.iterdir()} == {"marks", "one", "ray"}
    cluster.add_node(num_cpus=1, include_dashboard=False)


# A cluster of one's own


def test_the_command_starts_a_ray_of_its_own_and_says_nothing_of_it(corpus: Path, tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    content = merged_text(TINY)
    params.write_text(content.replace("shards: one", "shards: files").replace("processes: 1", "processes: 2"))
    command = [sys.executable, "-m", "bertpipe", "prepare", "--text", str(corpus), "--params", str(params), "--json"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "ray"), "--engine", "ray"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, "RAY_TMPDIR": "/tmp"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["documents"] == len(REVIEWS)
    assert {line.split(":")[0] for line in done.stderr.splitlines()} == {
        "looking for duplicates", "making the vocabulary", "preparing",
    }  # fmt: skip
    one = subprocess.run([*command, "--out", str(tmp_path / "one")], capture_output=True, check=True, cwd=tmp_path)
    assert json.loads(one.stdout) == summary
    assert tree(tmp_path / "ray") == tree(tmp_path / "one")
