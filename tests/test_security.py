"""What data, models and sources can do to a user's machine: nothing but be read."""

import json
import os
import re
import stat
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file

from bertpipe.cli.app import main
from bertpipe.core.artifacts import REJECTS_REPORT
from bertpipe.core.errors import DataError, ModelError
from bertpipe.core.params import Params
from bertpipe.core.params_file import merged_text
from bertpipe.model.huggingface.load import load_huggingface
from bertpipe.sources import web
from bertpipe.sources.notebook import archive as archive_module
from bertpipe.sources.notebook.archive import check_archive
from bertpipe.stages.convert import run_convert
from bertpipe.stages.download import run_download
from datasets import GOOD, write_zip
from models import save_tiny_huggingface
from prepared import Prepare
from runs import train
from source_rules import faults

pytestmark = pytest.mark.promise("Security")

PROJECT = Path(__file__).parent.parent
CLIENT = PROJECT / "clients" / "python_client.py"
"""It calls others' libraries as their users do, on models that bertpipe has just made."""
SOURCES = sorted(
    path
    for name in ("src", "scripts", "benchmarks", "clients")
    for path in (PROJECT / name).rglob("*.py")
    if path != CLIENT
)

# What the sources may not say


def test_the_sources_run_nothing_that_they_read() -> None:
    assert len(SOURCES) > 100
    told = [
        fault for path in SOURCES for fault in faults(path.read_text("utf-8"), path.relative_to(PROJECT).as_posix())
    ]
    assert told == []


WEIGHTS = "weights = {'trust_remote_code': False, 'weights_only': True, 'attn_implementation': 'eager'}\n"
BAD = [
    "import pickle",
    "import pickle as p",
    "from pickle import loads",
    "from _pickle import loads",
    "import marshal",
    "import shelve",
    "import dill",
    "import joblib",
    "import importlib\nimportlib.import_module('pickle')",
    "import importlib\nimportlib.import_module(name)",
    "import torch\ntorch.load(path)",
    "import torch\ntorch.load(path, weights_only=False)",
    "import torch\ntorch.load(path, weights_only=flag)",
    "import torch as t\nt.load(path)",
    "from torch import load as read\nread(path)",
    "import torch\ntorch.load(path, weights_only=True, pickle_module=x)",
    "import torch\ntorch.jit.load(path)",
    "from torch import hub\nhub.load('owner/name', 'model')",
    "import numpy as np\nnp.load(path, allow_pickle=True)",
    "import pandas as pd\npd.read_pickle(path)",
    "eval(text)",
    "exec(text)",
    "compile(text, '', 'exec')",
    "import builtins\nbuiltins.eval(text)",
    "from builtins import eval as work_out\nwork_out(text)",
    "__import__(name)",
    "from transformers import AutoModel\nAutoModel.from_pretrained(x, trust_remote_code=True)",
    "from transformers import AutoConfig\nAutoConfig.from_pretrained(x)",
    "from transformers import AutoConfig\nAutoConfig.from_pretrained(x, trust_remote_code=flag)",
    "from transformers import AutoTokenizer\no = {'trust_remote_code': True}\nAutoTokenizer.from_pretrained(x, **o)",
    "from transformers import AutoTokenizer\no = {}\nAutoTokenizer.from_pretrained(x, **o)",
    "from transformers import BertModel\nBertModel.from_pretrained(x, trust_remote_code=False)",
    "from transformers import BertModel\n"
    + WEIGHTS.replace("True", "False")
    + "BertModel.from_pretrained(x, **weights)",
    "from transformers import BertModel\n"
    + WEIGHTS.replace("eager", "owner/kernel")
    + "BertModel.from_pretrained(x, **weights)",
    "o['trust_remote_code'] = True",
    "o['weights_only'] = False",
    "import yaml\nyaml.load(text)",
    "import yaml\nyaml.unsafe_load(text)",
    "from yaml import full_load\nfull_load(text)",
    "from ruamel.yaml import YAML\nYAML(typ='unsafe')",
    "from ruamel.yaml import YAML\nYAML(typ=kind)",
    "import subprocess",
    "from subprocess import run",
    "run(command, shell=True)",
    "import os\nos.system(command)",
    "from os import popen\npopen(command)",
    "import os\nos.execvp(name, arguments)",
    "import asyncio\nasyncio.create_subprocess_shell(command)",
    "import zipfile\nzipfile.ZipFile(path).extractall(folder)",
    "archive.extract(member)",
    "import shutil\nshutil.unpack_archive(path)",
    "import tempfile\ntempfile.mktemp()",
    "import socket",
    "import requests",
    "from urllib.request import urlopen",
    "import urllib.request",
    "import ftplib",
    "get(url, verify=False)",
    "import os\ndict(os.environ)",
    "import os\nlist(os.environ.items())",
    "from os import environ\nwrite(environ)",
    "import os\nos.environ | more",
]


@pytest.mark.parametrize("source", BAD)
def test_each_rule_finds_its_fault(source: str) -> None:
    assert len(faults(source)) >= 1, source


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(path, weights_only=True)",
        "bert.eval()",
        "import re\nre.compile('a')",
        "from transformers import BertModel\n" + WEIGHTS + "BertModel.from_pretrained(x, **weights)",
        "from transformers import AutoConfig\nAutoConfig.from_pretrained(x, trust_remote_code=False)",
        "from ruamel.yaml import YAML\nYAML(typ='safe', pure=True)",
        "import numpy as np\nnp.load(path)",
        "archive.extractfile(member)",
        "import json\njson.load(file)",
        "import os\nos.environ['HOME'], os.environ.get('HOME'), list(os.environ)",
        "yaml = reader()\nyaml.load(path)",
    ],
)
def test_what_is_harmless_is_no_fault(source: str) -> None:
    assert faults(source) == []


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("import subprocess", "benchmarks/startup.py"),
        ("from requests import Session", "src/bertpipe/sources/web.py"),
    ],
)
def test_some_files_may_start_programs_and_one_may_talk(source: str, file: str) -> None:
    assert faults(source, file) == []


# Ruff's rules of security (bandit's): what is set aside, and why

SET_ASIDE = {
    "everywhere": {"S101"},  # assert states our own invariants, and never checks what comes from outside
    "scripts/*.py": {"S603", "S607"},  # git and dvc, from fixed lists of words
    "src/bertpipe/sources/sample/*.py": {"S311"},  # chance in a story
    "tests/**": {"S"},
}
EXCUSED = {
    ("benchmarks/peers/notebook_data.py", "S311"),  # the notebook's own chance, as it was
    ("benchmarks/prepare.py", "S603"),  # fixed lists of words, no shell
    ("benchmarks/processes.py", "S603"),
    ("benchmarks/quality.py", "S603"),
    ("benchmarks/shards.py", "S603"),
    ("benchmarks/startup.py", "S603"),
    ("clients/environments.py", "S603"),
    ("src/bertpipe/export/model_card.py", "S701"),  # Markdown, not HTML
    ("src/bertpipe/report/page.py", "S704"),  # its own style and scripts, and Vega's
}


def test_ruffs_rules_of_security_are_on_and_what_is_set_aside_is_known() -> None:
    lint = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    aside = {"everywhere": lint["ignore"], **lint["per-file-ignores"]}
    of_security = {place: {rule for rule in rules if re.fullmatch(r"S\d*", rule)} for place, rules in aside.items()}
    assert {place: rules for place, rules in of_security.items() if rules} == SET_ASIDE
    excused = {
        (path.relative_to(PROJECT).as_posix(), rule)
        for path in SOURCES
        for line in re.findall(r"# noqa: ([A-Z0-9, ]+)", path.read_text("utf-8"))
        for rule in line.split(", ")
        if re.fullmatch(r"S\d+", rule)
    }
    assert excused == EXCUSED


# Models of somebody else


class Evil:
    """What an attacker pickles: reading it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.marker,)


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a Hugging Face directory, in a place where nothing can be fetched or cached."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    save_tiny_huggingface(tmp_path / "theirs")
    return tmp_path / "theirs"


def pickled(folder: Path, content: object, *, sharded: bool = False, legacy: bool = False) -> None:
    """Put pickled weights in place of the safetensors."""
    names = list(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    file = folder / ("pytorch_model-00001-of-00001.bin" if sharded else "pytorch_model.bin")
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    if sharded:
        index = {"metadata": {}, "weight_map": dict.fromkeys(names, file.name)}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")


@pytest.mark.parametrize("sharded", [False, True], ids=["one file", "sharded"])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_pickle_with_code_in_it_is_not_run(theirs: Path, tmp_path: Path, sharded: bool, legacy: bool) -> None:
    marker = tmp_path / "marker"
    pickled(theirs, {"bert.pooler.dense.bias": Evil(marker)}, sharded=sharded, legacy=legacy)
    with pytest.raises(
        ModelError, match=r"weights of .* are not a pickle of plain tensors: .* a model with a model\.safet"
    ):
        load_huggingface(theirs)
    assert not marker.exists()
    file = next(theirs.glob("pytorch_model*.bin"))
    torch.load(file, weights_only=False)  # it would have been
    assert marker.exists()


def test_a_pickle_of_plain_tensors_is_read(theirs: Path) -> None:
    expected = load_huggingface(theirs).bert.state_dict()
    pickled(theirs, load_file(theirs / "model.safetensors"))
    read = load_huggingface(theirs).bert.state_dict()
    assert all(torch.equal(read[name], tensor) for name, tensor in expected.items())


def test_a_pickle_beside_safetensors_is_not_looked_at(theirs: Path, tmp_path: Path) -> None:
    torch.save({"x": Evil(tmp_path / "marker")}, theirs / "pytorch_model.bin")
    load_huggingface(theirs)
    assert not (tmp_path / "marker").exists()


CODE = """
from pathlib import Path
from transformers import BertConfig, BertForPreTraining, BertTokenizer
Path({marker!r}).touch()
class Config(BertConfig): pass
class Model(BertForPreTraining): pass
class Tokenizer(BertTokenizer): pass
"""
CONFIG_CODE = {"AutoConfig": "code.Config", "AutoModel": "code.Model", "AutoModelForPreTraining": "code.Model"}
TOKENIZER_CODE = {"AutoTokenizer": ["code.Tokenizer", "code.Tokenizer"]}


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("config.json", {"auto_map": CONFIG_CODE}, None),
        ("config.json", {"auto_map": CONFIG_CODE, "model_type": "own"}, "of type 'own'"),
        ("config.json", {"auto_map": {"AutoConfig": "owner/name--code.Config"}, "model_type": "own"}, "of type 'own'"),
        ("tokenizer_config.json", {"auto_map": TOKENIZER_CODE}, None),
        ("tokenizer_config.json", {"auto_map": TOKENIZER_CODE, "tokenizer_class": "Tokenizer"}, None),
    ],
)
def test_code_that_a_model_brings_or_names_is_not_run(
    theirs: Path, tmp_path: Path, file: str, change: dict[str, object], said: str | None
) -> None:
    (theirs / "code.py").write_text(CODE.format(marker=str(tmp_path / "marker")), encoding="utf-8")
    content = json.loads((theirs / file).read_text(encoding="utf-8"))
    (theirs / file).write_text(json.dumps(content | change), encoding="utf-8")
    if said is None:
        load_huggingface(theirs)
    else:
        with pytest.raises(ModelError, match=said):
            load_huggingface(theirs)
    assert not (tmp_path / "marker").exists()


# Archives


def zip_of(path: Path, name: str, content: bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Return a zip of the notebook's form with one more member."""
    write_zip(path, [GOOD])
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, content, method)
    return path


def convert(folder: Path, zip_file: Path, params: Params) -> object:
    return run_convert(
        params.convert, zip_file=zip_file, out=folder / "data", rejects_report=folder / "rejects.parquet"
    )


@pytest.mark.parametrize("name", ["bert_dataset/vocab.txt", "bert_dataset/tokenizer.json", "bert_dataset/dataset.json"])
def test_what_is_read_whole_has_a_limit(
    tiny: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(archive_module, "_LARGEST_READ_WHOLE", 1000)
    check_archive(zip_of(tmp_path / "small.zip", name, os.urandom(1000)))
    path = zip_of(tmp_path / "large.zip", name, os.urandom(1001))
    for use in (lambda: check_archive(path), lambda: convert(tmp_path, path, tiny)):
        with pytest.raises(DataError, match=rf"{name} has 1,001 bytes, more than 1,000"):
            use()


def test_a_bomb_that_nobody_asks_for_is_refused_too(
    tiny: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "_LARGE", 1_000_000)
    path = zip_of(tmp_path / "x.zip", "picture.bmp", b"\0" * 2_000_000)
    for use in (lambda: check_archive(path), lambda: convert(tmp_path, path, tiny)):
        with pytest.raises(DataError, match=r"picture\.bmp would grow from [\d,]+ to 2,000,000 bytes, more than 200"):
            use()


def test_members_are_counted_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "_LARGE", 1_000_000)
    path = zip_of(tmp_path / "x.zip", "0", b"\0" * 900_000)
    check_archive(path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("1", b"\0" * 900_000, zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match=r"x\.zip would grow from [\d,]+ to 1,80\d,\d+ bytes"):
        check_archive(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_python_unpacks_without_a_bound_are_refused(tiny: Params, tmp_path: Path, method: int) -> None:
    path = zip_of(tmp_path / "x.zip", "more.csv", b"a" * 1000, method)
    for use in (lambda: check_archive(path), lambda: convert(tmp_path, path, tiny)):
        with pytest.raises(DataError, match=rf"more\.csv is packed with method {method}: zip it again with deflate"):
            use()


def test_names_and_links_that_lead_out_of_a_zip_are_never_followed(tiny: Params, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.csv").write_text("not to be read", encoding="utf-8")
    path = write_zip(tmp_path / "in" / "x.zip", [GOOD])
    link = zipfile.ZipInfo("bert_dataset/link.csv")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, str(tmp_path / "secret.csv"))
        file.writestr("../../climbed.csv", "x")
        file.writestr(str(tmp_path / "absolute.csv"), "x")
        file.writestr("..\\climbed.csv", "x")
    check_archive(path)
    convert(tmp_path / "in", path, tiny)
    assert {entry.name for entry in tmp_path.iterdir()} == {"in", "secret.csv"}
    assert {entry.name for entry in (tmp_path / "in").iterdir()} == {"x.zip", "data"}
    assert not any(b"not to be read" in entry.read_bytes() for entry in (tmp_path / "in" / "data").iterdir())


def test_one_giant_id_does_not_make_a_giant_vocabulary(tiny: Params, tmp_path: Path) -> None:
    giant = [GOOD[0], GOOD[1].replace("5", "2000000000"), *GOOD[2:]]
    path = write_zip(tmp_path / "x.zip", [GOOD, giant])
    with pytest.raises(DataError, match=r"1 of 3 rows are bad"):
        convert(tmp_path, path, tiny)


# Files in flight


@pytest.fixture(params=[0o000, 0o027], ids=["umask 000", "umask 027"])
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Let everything that is made be open to all, unless it is made private."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@dataclass
class Flight:
    """Looks at the files in flight below a folder: those with a hidden name, or in a hidden folder."""

    folder: Path
    seen: set[str] = field(default_factory=set)

    def look(self, *_: object) -> None:
        for path in self.folder.rglob("*"):
            parts = path.relative_to(self.folder).parts
            if path.is_file() and any(part.startswith(".") for part in parts):
                chain = [self.folder.joinpath(*parts[: end + 1]) for end in range(len(parts))]
                assert any(stat.S_IMODE(step.stat().st_mode) & 0o077 == 0 for step in chain), path
                self.seen.add(path.name)


def assert_final(path: Path, mask: int) -> None:
    """Assert that an output's permissions are those that the user asks for."""
    for entry in [path, *path.rglob("*")]:
        wanted = (0o777 if entry.is_dir() else 0o666) & ~mask
        assert stat.S_IMODE(entry.stat().st_mode) == wanted, entry


def test_a_download_in_flight_is_private(tiny: Params, workdir: Path, sample_zip: Path, mask: int) -> None:
    flight = Flight(workdir)
    source = replace(tiny.download, source=str(sample_zip))
    run_download(source, tiny.sample, tiny.masking, out=workdir / "x.zip", on_progress=flight.look)
    assert ".x.zip.bertpipe-partial" in flight.seen
    assert_final(workdir / "x.zip", mask)


def test_a_conversion_in_flight_is_private(tiny: Params, tmp_path: Path, sample_zip: Path, mask: int) -> None:
    flight = Flight(tmp_path)
    run_convert(
        tiny.convert, zip_file=sample_zip, out=tmp_path / "data",
        rejects_report=tmp_path / REJECTS_REPORT.name, on_progress=flight.look,
    )  # fmt: skip
    assert flight.seen >= {f".{table}.parquet.bertpipe-partial" for table in ("train", "test", "documents")}
    assert_final(tmp_path / "data", mask)


@pytest.mark.parametrize("name", ["data", "text.zip"])
def test_a_preparation_in_flight_is_private(
    prepare: Prepare, tmp_path: Path, reviews: Path, mask: int, name: str
) -> None:
    flight = Flight(tmp_path)
    prepare(reviews, tmp_path / name, on_progress=flight.look)
    assert flight.seen >= {f".{table}.parquet.bertpipe-partial" for table in ("train", "test", "documents")}
    assert_final(tmp_path / name, mask)


def test_a_model_and_a_checkpoint_in_flight_are_private(
    tiny: Params, tmp_path: Path, parquet: Path, mask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    flight, write = Flight(tmp_path), safetensors.torch.serialize_file
    places: list[Path] = []

    def watched(tensors: Any, filename: Any, **named: Any) -> None:  # noqa: ANN401
        write(tensors, filename, **named)
        places.append(Path(filename))
        assert Path(filename).parent.name.startswith(".")
        assert stat.S_IMODE(Path(filename).parent.stat().st_mode) == 0o700
        flight.look()

    monkeypatch.setattr(safetensors.torch, "serialize_file", watched)
    summary = train(tiny, tmp_path, parquet, runtime={"checkpoint_every_s": 0.0})
    # Weights and optimizer of a checkpoint a step, and a model an epoch.
    assert len(places) == 2 * summary["steps"] + tiny.train.epochs
    assert "model.safetensors" in flight.seen
    assert_final(tmp_path / "model", mask)


# Secrets

SECRETS = {
    "HF_TOKEN": "hf_DoNotShowThisTokenAnywhere",
    "HUGGING_FACE_HUB_TOKEN": "hf_NorThisOne",
    "AWS_SECRET_ACCESS_KEY": "aws-do-not-show-this",
    "GITHUB_TOKEN": "ghp_do_not_show_this",
    "BERTPIPE_PASSWORD": "do-not-show-this-password",
}


@pytest.mark.thorough
def test_what_the_environment_keeps_secret_is_neither_shown_nor_written(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(web, "sleep", lambda _: None)  # between the tries of a download
    (workdir / "params.yaml").write_text(merged_text(PROJECT / "params" / "tiny.yaml"), encoding="utf-8")
    commands = (
        ["download"], ["convert"], ["train", "--epochs", "1"], ["evaluate"], ["plot"],
        ["infer", "nsp", "a film", "a plot"], ["infer", "examples", "--json"], ["inspect", "a film"], ["export"],
        ["evaluate", "--model", "nowhere"], ["download", "--source", "http://127.0.0.1:9/x.zip"],
    )  # fmt: skip
    codes = []
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["bertpipe", *command])
        with pytest.raises(SystemExit) as ended:
            main()
        codes.append(ended.value.code or 0)
    assert codes[:9] == [0] * 9
    assert 0 not in codes[9:]
    written = b"".join(path.read_bytes() for path in workdir.rglob("*") if path.is_file())
    shown = "".join(capfd.readouterr())
    assert len(written) > 100_000
    assert len(shown) > 1000
    for value in SECRETS.values():
        assert value not in shown
        assert value.encode() not in written
