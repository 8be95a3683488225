"""What all tests share: one thread, a plain environment, and tiny data made once by the real code."""

import fcntl
import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch

from bertpipe.cli import app
from bertpipe.core.artifacts import REJECTS_REPORT, write_json
from bertpipe.core.params import Params
from bertpipe.core.params_file import load_params, merged_text
from bertpipe.model import flops
from bertpipe.sources.text import chunks
from bertpipe.stages.convert import run_convert
from bertpipe.stages.download import run_download
from commands import Ended, Run
from exports import METRICS
from models import save_tiny_huggingface, save_tiny_model
from prepared import REVIEWS, Prepare, folder_of, preparer
from projects import Copy, copy_in, make_copy
from runs import EACH_STEP, SMALL, STEPS, Crash, at_step, crash, results, train
from websites import Site, running
from worlds import Worlds, running_worlds

# The same examples each time, however slow the machine.
hypothesis.settings.register_profile("bertpipe", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("bertpipe")

TINY = Path(__file__).parent.parent / "params" / "tiny.yaml"
BuiltOnce = Callable[[str, Callable[[Path], object]], Path]


_SEEN = set[str]()
"""Tests of which coverage has seen a case."""
_PROMISE, _CASES, _POINTS = "promise", "cases", "points"
_COUNTS_VARIABLE = "BERTPIPE_COUNTS"
"""Names the JSON file that gets the number of cases of each promise; see docs/explanation/reliability.md."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first, so that no worker begins one when the others have nothing left to do."""
    for item in items:
        if item.path.parent.name == "process":
            item.add_marker("thorough")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    """Let coverage see the first case of each quick test alone: while it looks, everything takes twice the time."""
    name, tracer = item.nodeid.partition("[")[0], sys.gettrace()
    seen = name in _SEEN or item.get_closest_marker("thorough")
    _SEEN.add(name)
    if not seen or not type(tracer).__module__.startswith("coverage"):
        return (yield)
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Note on a test's report which promise it holds."""
    report = yield
    marker = item.get_closest_marker(_PROMISE)
    if marker is not None:
        report.user_properties.append((_PROMISE, marker.args[0]))
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:  # noqa: ANN401
    """Write how many cases of each promise held; a test that looped over several recorded their number."""
    if _COUNTS_VARIABLE not in os.environ:
        return
    assert not terminalreporter.stats.get("failed"), "counts are of runs in which all promises held"
    file = Path(os.environ[_COUNTS_VARIABLE])
    counts: dict[str, Counter[str]] = {_CASES: Counter(), _POINTS: Counter()}
    for report in terminalreporter.stats.get("passed", []):
        facts = dict(report.user_properties)
        if report.when == "call" and _PROMISE in facts:
            counts[_CASES][facts[_PROMISE]] += facts.get(_CASES, 1)
            counts[_POINTS].update(facts.get(_POINTS, {}))
    file.write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@pytest.fixture(autouse=True, scope="session")
def _same_everywhere() -> Iterator[None]:
    """Let one thread compute, and no proxy, colour setting or ignored signal of the user decide anything."""
    torch.set_num_threads(1)
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:  # of a shell that runs the tests in the background, or of nohup
            signal.signal(number, usual)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "all_proxy", "FORCE_COLOR", "NO_COLOR", "COLUMNS"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # only the tests' own processes are measured
        yield


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """Restore the environment after each test: a command settles it for its whole process."""
    before = dict(os.environ)
    yield
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(autouse=True, scope="session")
def _quick_peak() -> Iterator[None]:
    """Let the machine's peak, which takes a training a second at its end, be measured on a small product."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(flops._PEAK_WIDTH, "cpu", 256)
        yield


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Return a web server on this machine."""
    with running() as site:
        yield site


@pytest.fixture(scope="session")
def worlds() -> Iterator[Worlds]:
    """Return a function that runs a program in several processes."""
    with running_worlds() as worlds:
        yield worlds


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the test in an empty folder: some files have their place under the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def tiny() -> Params:
    """Return params/tiny.yaml."""
    return load_params(TINY)


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> BuiltOnce:
    """Return a function that returns a folder of all workers; the first worker that asks for it fills it."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    shared.mkdir(exist_ok=True)

    def folder_of_all(name: str, build: Callable[[Path], object]) -> Path:
        folder, built = shared / name, shared / f"{name}.built"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not built.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                build(folder)
                built.touch()
        return folder

    return folder_of_all


@pytest.fixture(scope="session")
def sample_zip(tiny: Params, built_once: BuiltOnce) -> Path:
    """Return the zip of a small sample; read only."""

    def build(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            run_download(tiny.download, tiny.sample, tiny.masking, out=folder / "dataset.zip")

    return built_once("sample", build) / "dataset.zip"


@pytest.fixture(scope="session")
def parquet(tiny: Params, sample_zip: Path, built_once: BuiltOnce) -> Path:
    """Return the Parquet files of the small sample; read only."""

    def build(folder: Path) -> None:
        rejects = folder / REJECTS_REPORT.name
        run_convert(tiny.convert, zip_file=sample_zip, out=folder / "parquet", rejects_report=rejects)

    return built_once("converted", build) / "parquet"


@pytest.fixture(scope="session")
def trained(tiny: Params, parquet: Path, built_once: BuiltOnce) -> Path:
    """Return a folder with the model and tables of an uninterrupted run on the small sample; read only."""
    return built_once("trained", lambda folder: train(tiny, folder, parquet))


@pytest.fixture(scope="session")
def whole(tiny: Params, parquet: Path, built_once: BuiltOnce) -> dict[str, bytes]:
    """Return the bytes that an uninterrupted run of `SMALL` leaves."""

    def build(folder: Path) -> None:
        assert train(tiny, folder, parquet, **SMALL)["steps"] == STEPS

    return results(built_once("whole", build))


@pytest.fixture(scope="session")
def crashed(tiny: Params, parquet: Path, built_once: BuiltOnce) -> Path:
    """Return the folder of a run that broke off after step 8, with checkpoints of steps 6 and 7; read only."""

    def build(folder: Path) -> None:
        with at_step(8, crash), pytest.raises(Crash):
            train(tiny, folder, parquet, runtime=EACH_STEP, **SMALL)

    return built_once("crashed", build)


@pytest.fixture(scope="session")
def repro(built_once: BuiltOnce) -> Copy:
    """Return a copy of the project in which DVC has run the pipeline; its outputs are read only."""
    return copy_in(built_once("repro", lambda folder: make_copy(folder).dvc("repro")))


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of reviews, a text file each; read only."""
    return folder_of(tmp_path_factory.mktemp("text") / "reviews", REVIEWS)


@pytest.fixture
def prepare(tiny: Params, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Return the stage `prepare` with the tiny params and chunks of a few documents."""
    monkeypatch.setattr(chunks, "_CHARACTERS", 4000)
    return preparer(tiny)


@pytest.fixture(params=["bert", "notebook"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a model directory of ours, untrained; each architecture in turn."""
    save_tiny_model(tmp_path / "own", architecture=request.param)
    return tmp_path / "own"


@pytest.fixture
def huggingface(tmp_path: Path) -> Path:
    """Return a Hugging Face directory with random weights."""
    save_tiny_huggingface(tmp_path / "hf")
    return tmp_path / "hf"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs one command line in this process."""

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["bertpipe", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            app.main()
        written = capsys.readouterr()
        return Ended(int(caught.value.code or 0), written.out, written.err)

    return call


@pytest.fixture
def project(workdir: Path, sample_zip: Path, parquet: Path, trained: Path) -> Path:
    """Fill the working folder with the results of the tiny pipeline at their default places."""
    (workdir / "params.yaml").write_text(merged_text(TINY), encoding="utf-8")
    (workdir / "data/raw").mkdir(parents=True)
    shutil.copy(sample_zip, workdir / "data/raw/dataset.zip")
    shutil.copytree(parquet, workdir / "data/parquet")
    folder_of(workdir / "text", REVIEWS)
    shutil.copytree(trained / "model", workdir / "models/bert")
    (workdir / "reports").mkdir()
    for name in ("history", "epochs", "timing"):
        shutil.copy(trained / f"{name}.csv", workdir / "reports")
    write_json(workdir / "reports/metrics.json", METRICS)
    return workdir
