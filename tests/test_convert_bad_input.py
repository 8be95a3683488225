"""`convert` on anything: valid rows, rejects with reasons or one clear error, and never a trace of half a run."""

import io
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertpipe.core.errors import BertpipeError, DataError
from bertpipe.data.pair_dataset import read_dataset
from bertpipe.sources.notebook.archive import member_name
from bertpipe.sources.notebook.writer import ArchiveWriter
from bertpipe.stages.convert import run_convert
from datasets import GOOD, csv_text, row_fields, write_zip
from defaults import DEFAULTS

OTHER = row_fields([1, 3, 8, 2, 9, 2, 0, 0], [0, 9, 0, 0, 9, 0, 0, 0], [1, 1, 1, 1, 2, 2, 0, 0], 0, 'Other "é", 2.')
LONG = row_fields([1, *[7] * 30, 2, *[8] * 20, 2], [0] * 53, [1] * 32 + [2] * 21, 1, "A\r\nlong one")


def convert(folder: Path, zip_file: Path, recover: str = "nothing") -> dict[str, Any]:
    params: dict[str, Any] = {"subset": "full", "max_length": 20, "max_reject_rate": 0.9, "recover": recover}
    return run_convert(
        replace(DEFAULTS.convert, **params),
        zip_file=zip_file,
        out=folder / "out",
        rejects_report=folder / "rejects.parquet",
    )


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}


def check(folder: Path, zip_file: Path, recover: str) -> dict[str, Any] | None:
    """Convert where an earlier conversion is; return its summary, or None if it was refused and lost nothing."""
    convert(folder, write_zip(folder / "good.zip", [GOOD]))
    before = content_of(folder)
    summary = None
    with suppress(BertpipeError):
        summary = convert(folder, zip_file, recover)
    if summary is None:
        assert content_of(folder) == before
    left = {path.name for path in folder.iterdir()} - {"rejects.parquet"}
    assert left == {"good.zip", "bad.zip", "out"}
    return summary


def check_rows(folder: Path, summary: dict[str, Any]) -> None:
    rejects = pq.read_table(folder / "out" / "rejects.parquet").to_pylist()
    assert all(reject["row"] >= 1 and reject["line"] >= 2 and reject["reason"] for reject in rejects)
    assert len(rejects) == sum(counts["rejects"] for counts in summary["splits"].values())
    for split, counts in summary["splits"].items():
        data = read_dataset(folder / "out" / f"{split}.parquet")
        assert len(data) == counts["rows"] > 0
        assert data.lengths.max() <= 20
        for row in range(len(data)):
            tokens = data.token_ids[data.offsets[row] : data.offsets[row + 1]].tolist()
            assert (tokens[0], tokens[-1], tokens[data.second_segment_start[row] - 1]) == (1, 2, 2)
            assert 0 not in tokens


PIECES = [
    b"", b"\0", b"\xff", b"\xe2\x82", b"\xef\xbb\xbf", b'"', b'""', b",", b"\n", b"\r", b"\r\n", b"[", b"]", b"-1",
    b"99999999999", b"[1, 2", b"NaN", b"x" * 500, b"\xf4\x8f\xbf\xa9", b"'", b";", b"1e3", b"{}",
]  # fmt: skip


@pytest.mark.thorough
@settings(max_examples=150)
@given(
    st.lists(st.sampled_from([GOOD, OTHER, LONG]), min_size=1, max_size=5),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6), st.sampled_from(PIECES)), min_size=1, max_size=3),
    st.sampled_from(["nothing", "words", "labels"]),
)
def test_whatever_is_wrong_with_a_member(
    rows: list[list[str]], changes: list[tuple[float, int, bytes]], recover: str
) -> None:
    content = csv_text(rows).encode("utf-8")
    for place, removed, piece in changes:
        at = int(place * len(content))
        content = content[:at] + piece + content[at + removed :]
    with TemporaryDirectory() as name:
        folder = Path(name)
        with ArchiveWriter(folder / "bad.zip") as archive:
            for split in ("train", "test"):
                for subset in ("full", "sampled"):
                    archive.add(member_name(split, subset), [csv_text([GOOD])])
        with_member(folder / "bad.zip", member_name("train", "full"), content)
        summary = check(folder, folder / "bad.zip", recover)
        if summary is not None:
            check_rows(folder, summary)


def with_member(path: Path, name: str, content: bytes) -> None:
    """Give a member of a zip other bytes."""
    with zipfile.ZipFile(path) as file:
        members = {info.filename: file.read(info) for info in file.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member, data in (members | {name: content}).items():
            file.writestr(member, data)


@pytest.mark.thorough
@settings(max_examples=150)
@given(st.floats(0, 1), st.integers(0, 9), st.binary(max_size=4))
def test_whatever_is_wrong_with_the_zip(place: float, removed: int, inserted: bytes) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        path = write_zip(folder / "bad.zip", [GOOD, OTHER, LONG], [OTHER])
        data = path.read_bytes()
        at = int(place * len(data))
        path.write_bytes(data[:at] + inserted + data[at + removed :])
        summary = check(folder, path, "nothing")
        if summary is not None:
            check_rows(folder, summary)


@settings(max_examples=60)
@given(st.floats(0, 1))
def test_a_zip_that_ends_early_is_refused(share: float) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        path = write_zip(folder / "bad.zip", [GOOD, OTHER], [OTHER])
        data = path.read_bytes()
        path.write_bytes(data[: int(share * (len(data) - 1))])
        assert check(folder, path, "nothing") is None


def test_a_member_packed_in_an_unknown_way_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "bad.zip", [GOOD])
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = data.find(signature)
        data[at + offset] = 97
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"bert_train_data\.csv is packed with method 97: zip it again with"):
        convert(tmp_path, path)


def test_a_damaged_member_is_told_from_a_bad_row(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "bad.zip", [[str(number), *GOOD[1:]] for number in range(9000)])
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        info = file.getinfo(member_name("train", "full"))
    middle = info.header_offset + info.compress_size // 2
    data[middle : middle + 20] = bytes(20)
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"bad\.zip is damaged: .*run `bertpipe download` again"):
        convert(tmp_path, path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["bad.zip"]


def test_one_giant_line_is_refused_without_reading_it_whole(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "bad.zip", [GOOD])
    buffer = io.BytesIO(csv_text([GOOD]).encode("utf-8") + b"x" * 30_000_000)
    with_member(path, member_name("train", "full"), buffer.getvalue())
    with pytest.raises(DataError, match=r"bert_train_data\.csv is not CSV.*a row has more than 4,194,304 bytes"):
        convert(tmp_path, path)
