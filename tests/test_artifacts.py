"""Files appear whole or not at all, and what is written reads back."""

import json
import math
from pathlib import Path

import pytest

from bertpipe.core import artifacts
from bertpipe.core.artifacts import file_sha256, json_text, read_json, require, write_csv, write_json
from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.core.progress import Progress, ignore_progress


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


def test_missing_data_name_both_commands_that_make_data(tmp_path: Path) -> None:
    assert require(tmp_path) == tmp_path
    with pytest.raises(MissingInputError) as caught:
        require(tmp_path / "none")
    assert str(caught.value) == (
        f"{tmp_path}/none does not exist: run `bertpipe convert` or `bertpipe prepare` first, or name another path"
    )


def test_progress_that_nobody_watches_is_ignored(capfd: pytest.CaptureFixture[str]) -> None:
    ignore_progress(Progress(label="x", completed=1, total=None, unit="bytes"))
    assert capfd.readouterr() == ("", "")


def test_schemas_forbid_null() -> None:
    for schema in (artifacts.pair_schema(), artifacts.document_schema(), artifacts.reject_schema()):
        assert not any(field.nullable for field in schema)


def test_json_text_is_json() -> None:
    assert json.loads(json_text([1, None, "x"])) == [1, None, "x"]
