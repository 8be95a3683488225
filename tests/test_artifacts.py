"""Files appear whole or not at all, and what is written reads back."""

import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertpipe import artifacts
from bertpipe.artifacts import (
    Progress,
    file_sha256,
    ignore_progress,
    json_text,
    read_json,
    require,
    whole_directory,
    whole_file,
    write_csv,
    write_json,
)
from bertpipe.errors import DataError, MissingInputError


class BrokenError(Exception):
    pass


@pytest.fixture(params=[0o022, 0o077, 0o002], ids=oct)
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_appears_when_its_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with whole_file(path) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "new"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("error", [BrokenError, KeyboardInterrupt])
def test_an_earlier_file_survives_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file.txt"
    path.write_text("earlier", encoding="utf-8")

    def fail() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text(encoding="utf-8") == "earlier"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


def test_whoever_has_the_earlier_file_open_reads_it_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("earlier", encoding="utf-8")
    with path.open(encoding="utf-8") as reader:
        with whole_file(path) as temporary:
            temporary.write_text("new", encoding="utf-8")
        assert reader.read() == "earlier"
    assert path.read_text(encoding="utf-8") == "new"


def test_a_files_permissions_follow_the_umask(tmp_path: Path, mask: int) -> None:
    with whole_file(tmp_path / "file.txt"):
        pass
    assert mode(tmp_path / "file.txt") == 0o666 & ~mask


def test_a_directory_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "earlier.txt").touch()
    with whole_directory(path) as staging:
        (staging / "new.txt").write_text("new", encoding="utf-8")
        assert [entry.name for entry in path.iterdir()] == ["earlier.txt"]
    assert [entry.name for entry in path.iterdir()] == ["new.txt"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [BrokenError, KeyboardInterrupt])
def test_an_earlier_directory_survives_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "earlier.txt").write_text("earlier", encoding="utf-8")

    def fail() -> None:
        with whole_directory(path) as staging:
            (staging / "earlier.txt").write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(error):
        fail()
    assert (path / "earlier.txt").read_text(encoding="utf-8") == "earlier"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_an_earlier_directory_comes_back_if_the_exchange_itself_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "earlier.txt").touch()
    replace = Path.replace

    def replace_unless_new(self: Path, target: Path) -> Path:
        if target == path and not self.name.endswith(".earlier"):
            raise BrokenError
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_unless_new)

    def exchange() -> None:
        with whole_directory(path):
            pass

    with pytest.raises(BrokenError):
        exchange()
    assert [entry.name for entry in path.iterdir()] == ["earlier.txt"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_directorys_permissions_follow_the_umask_down_to_its_files(tmp_path: Path, mask: int) -> None:
    with whole_directory(tmp_path / "out") as staging:
        (staging / "inner").mkdir(mode=0o700)
        private = staging / "inner" / "private.txt"
        private.touch(mode=0o600)
    assert mode(tmp_path / "out") == mode(tmp_path / "out" / "inner") == 0o777 & ~mask
    assert mode(tmp_path / "out" / "inner" / "private.txt") == 0o666 & ~mask


def test_json_has_null_for_what_is_not_finite(tmp_path: Path) -> None:
    content = {"a": math.nan, "b": [math.inf, 1.5, (-math.inf,)], "c": {"d": math.nan}, 7: "é", "e": True}
    write_json(tmp_path / "x.json", content)
    assert read_json(tmp_path / "x.json") == {
        "a": None, "b": [None, 1.5, [None]], "c": {"d": None}, "7": "é", "e": True,
    }  # fmt: skip
    assert "é" in json_text(content)
    assert json_text({}).endswith("\n")


@pytest.mark.parametrize("content", ["{", "", "\xff"])
def test_what_is_not_json_is_said_to_be_so(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=r"x\.json cannot be read as JSON"):
        read_json(path)


def test_a_json_file_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_json(tmp_path / "x.json")


def test_csv_floats_have_nine_significant_digits(tmp_path: Path) -> None:
    rows = [[1, 0.1 + 0.2, 1 / 3, "a,b"], [12345678901, 1e-12 / 7, 123456789.123, None]]
    write_csv(tmp_path / "x.csv", ("n", "x", "y", "z"), rows)
    assert (tmp_path / "x.csv").read_bytes() == (
        b'n,x,y,z\n1,0.3,0.333333333,"a,b"\n12345678901,1.42857143e-13,123456789,\n'
    )


def test_a_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert file_sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_missing_input_names_the_command_that_makes_it(tmp_path: Path) -> None:
    assert require(tmp_path, made_by="mkdir") == tmp_path
    with pytest.raises(MissingInputError, match="run `bertpipe convert` first"):
        require(tmp_path / "none", made_by="bertpipe convert")


def test_progress_that_nobody_watches_is_ignored(capfd: pytest.CaptureFixture[str]) -> None:
    ignore_progress(Progress(label="x", completed=1, total=None, unit="bytes"))
    assert capfd.readouterr() == ("", "")


def test_schemas_forbid_null() -> None:
    for schema in (artifacts.pair_schema(), artifacts.document_schema(), artifacts.reject_schema()):
        assert not any(field.nullable for field in schema)


def test_json_text_is_json() -> None:
    assert json.loads(json_text([1, None, "x"])) == [1, None, "x"]
