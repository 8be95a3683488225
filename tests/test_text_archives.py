"""A zip or a tar of text: its members as a folder's files, and nothing of a damaged one."""

import bz2
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bertpipe.core.errors import DataError
from bertpipe.core.params import TextFormat
from bertpipe.sources.text.documents import text_size
from texts import Files, documents, gz, json_lines, places, tar, texts, write, zipped, zst

FILES = {
    "b.txt": b"b1\n\nb2",
    "a/z.jsonl.gz": gz(json_lines("z1", "z2")),
    "a/y.md.zst": zst(b"y"),
    "__MACOSX/._b.txt": b"\0",
    ".DS_Store": b"\0",
    "empty.txt": b"",
}
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * b"a" + b"\nsize 44\n"
PACKERS: dict[str, Callable[[Files], bytes]] = {
    "x.zip": zipped,
    "x.tar": tar,
    "x.tar.gz": lambda files: gz(tar(files)),
    "x.TGZ": lambda files: gz(tar(files)),
    "x.tar.zst": lambda files: zst(tar(files)),
    "x.tzst": lambda files: zst(tar(files)),
    "x.tar.bz2": lambda files: bz2.compress(tar(files)),
    "x.txz": lambda files: lzma.compress(tar(files)),
}


def pack(folder: Path, name: str, files: Files) -> Path:
    return write(folder / name, PACKERS[name](files))


@pytest.mark.parametrize("name", PACKERS)
def test_members_are_read_as_a_folders_files_are(tmp_path: Path, name: str) -> None:
    b = [(f"{name}!b.txt", "b1\n\nb2", None)]
    y = [(f"{name}!a/y.md.zst", "y", None)]
    z = [(f"{name}!a/z.jsonl.gz:1", "z1", None), (f"{name}!a/z.jsonl.gz:2", "z2", None)]
    in_its_own_order, by_name = b + z + y, y + z + b
    assert places(pack(tmp_path, name, FILES)) == (by_name if name == "x.zip" else in_its_own_order)


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("text_format", ["blocks", "lines"])
def test_a_format_that_is_given_reads_members_of_any_name(tmp_path: Path, name: str, text_format: TextFormat) -> None:
    assert (
        places(pack(tmp_path, name, {"a": b"1\n2\n\n3"}), text_format)
        == {
            "blocks": [(f"{name}!a:1", "1\n2", None), (f"{name}!a:4", "3", None)],
            "lines": [(f"{name}!a:1", "1", None), (f"{name}!a:2", "2", None), (f"{name}!a:4", "3", None)],
        }[text_format]
    )


@pytest.mark.parametrize("name", PACKERS)
def test_with_auto_a_member_that_may_be_no_text_is_an_error(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path, name, {"a.txt": b"a", "d/b.pdf": b"b"})
    with pytest.raises(DataError) as caught:
        documents(path)
    assert str(caught.value).startswith(f"{path} holds d/b.pdf beside text; with text_format auto .txt, ")


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("inner", ["in.zip", "in.tar.gz"])
def test_an_archive_within_an_archive_is_an_error(tmp_path: Path, name: str, inner: str) -> None:
    path = pack(tmp_path, name, {"a.txt": b"a", inner: b"x"})
    with pytest.raises(DataError) as caught:
        documents(path, "file")
    assert str(caught.value) == f"{path} holds {inner} within: unpack it first, or read it by itself"


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("member", ["bad.txt", "bad.txt.gz"])
def test_bytes_that_are_not_text_are_named_with_their_member(tmp_path: Path, name: str, member: str) -> None:
    content = gz(b"\n\xff") if member.endswith(".gz") else b"\n\xff"
    path = pack(tmp_path, name, {member: content})
    with pytest.raises(DataError) as caught:
        documents(path)
    assert str(caught.value).startswith(f"{path}!{member}:2: byte 0xff is not UTF-8 (after 1 bytes); ")


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("member", ["bad.txt.gz", "bad.jsonl.zst"])
def test_an_empty_member_that_its_name_says_is_packed_is_damaged(tmp_path: Path, name: str, member: str) -> None:
    path = pack(tmp_path, name, {member: b""})
    with pytest.raises(DataError) as caught:
        documents(path)
    assert str(caught.value).startswith(f"{path}!{member} is damaged or cut off (")
    assert str(caught.value).endswith("): fetch or pack it again")


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize(
    ("member", "content", "said"),
    [
        ("bad.txt.gz", b"not packed", "is not gzip, as its suffix says (perhaps it is unpacked already)"),
        ("bad.jsonl.zst", b"not packed", "is not Zstandard, as its suffix says (perhaps it is unpacked already)"),
        ("bad.txt.gz", zst(b"text"), "is not gzip, as its suffix says (it looks like Zstandard)"),
        ("bad.txt.zst", b"BZh91AY", "is not Zstandard, as its suffix says (it looks like bzip2)"),
    ],
)
def test_a_member_that_is_not_packed_as_its_name_says_is_named(
    tmp_path: Path, name: str, member: str, content: bytes, said: str
) -> None:
    path = pack(tmp_path, name, {member: content})
    with pytest.raises(DataError) as caught:
        documents(path)
    assert str(caught.value) == f"{path}!{member} {said}: name it by what it holds"


@pytest.mark.parametrize("name", PACKERS)
def test_names_that_climb_out_or_hide_something_do_no_harm(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    path = pack(tmp_path / "in", name, {"../../up.txt": b"1", "/etc/x.txt": b"2", "a\nb\x1b[2J.txt": b"3"})
    found = {origin: text for origin, text, _ in places(path)}
    assert found == {f"{name}!../../up.txt": "1", f"{name}!/etc/x.txt": "2", f"{name}!a\\nb\\x1b[2J.txt": "3"}
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "in", path]


@pytest.mark.parametrize("name", ["x.txt.gz", "x.txt.zst", "x.txt.bz2", "x.txt.xz", *PACKERS])
def test_wherever_a_packed_file_is_cut_off_it_is_an_error(tmp_path: Path, name: str) -> None:
    text = b"".join(b"line %d\n" % (i * i) for i in range(50))
    packers = {"x.txt.gz": gz, "x.txt.zst": zst, "x.txt.bz2": bz2.compress, "x.txt.xz": lzma.compress}
    whole = packers[name](text) if name in packers else PACKERS[name]({"a.txt": text, "b.txt": text})
    # A tar may lack its padding: its first empty block says that it is whole.
    needed = len(whole.rstrip(b"\0")) // 512 * 512 + 1024 if name == "x.tar" else len(whole)
    for length in range(0, needed, 1 if needed < 2000 else 7):
        with pytest.raises(DataError, match=r"is damaged or cut off \(.+\): fetch or pack it again"):
            documents(write(tmp_path / name, whole[:length]), "lines")
    assert len(documents(write(tmp_path / name, whole[:needed]), "lines")) == (50 if name in packers else 100)


@pytest.mark.parametrize("name", ["x.txt.gz", "x.zip", "x.tar.gz", "x.txz"])
def test_bytes_that_changed_are_found_by_their_checksum(tmp_path: Path, name: str) -> None:
    text = b"".join(b"line %d\n" % (i * i) for i in range(50))
    whole = gz(text) if name == "x.txt.gz" else PACKERS[name]({"a.txt": text})
    spoiled = bytearray(whole)
    spoiled[len(whole) - 6 if name != "x.zip" else 100] ^= 1
    with pytest.raises(DataError, match="is damaged or cut off"):
        documents(write(tmp_path / name, bytes(spoiled)), "lines")


@pytest.mark.parametrize("file_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_every_form_of_tar_is_read(tmp_path: Path, file_format: int) -> None:
    name = "./" + "d" * 90 + "/" + ("é" * 80 if file_format != tarfile.USTAR_FORMAT else "e" * 90) + ".txt"
    path = write(tmp_path / "x.tar", tar({name: b"text" * 1000, "b.txt": b"b"}, file_format=file_format))
    assert places(path) == [(f"x.tar!{name[2:]}", "text" * 1000, None), ("x.tar!b.txt", "b", None)]


def test_joined_tars_are_an_error(tmp_path: Path) -> None:
    one, other = tar({"a.txt": b"a"}), tar({"b.txt": b"b"})
    for name, content in (("x.tar", one + other), ("x.tar.gz", gz(one) + gz(other))):
        with pytest.raises(DataError, match=r"has more after its end \(were several tars joined\?\): unpack it"):
            documents(write(tmp_path / name, content))


@pytest.mark.parametrize("pack_one", [bz2.compress, lzma.compress])
def test_packed_files_that_were_joined_are_read_to_the_end(tmp_path: Path, pack_one: Callable[[bytes], bytes]) -> None:
    name = f"x.txt.{'bz2' if pack_one is bz2.compress else 'xz'}"
    joined = pack_one(b"a\n") + pack_one(b"") + pack_one(b"b" * 100_000) + b"\0" * 8
    assert texts(write(tmp_path / name, joined)) == ["a\n" + "b" * 100_000]
    for rest in (b"rest", pack_one(b"c")[:-4]):
        with pytest.raises(DataError, match="is damaged or cut off"):
            documents(write(tmp_path / name, joined + rest))


@pytest.mark.parametrize("content", [b"old", b"a"])
def test_a_name_that_is_there_twice_is_an_error(tmp_path: Path, content: bytes) -> None:
    buffer = io.BytesIO(tar({"a.txt": content, "b.txt": b"b"}))
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        archive.addfile(tarfile.TarInfo("./a.txt"))
    with pytest.raises(DataError, match=r"x\.tar!a\.txt is there twice .*: unpack the tar, which leaves the last one"):
        documents(write(tmp_path / "x.tar", buffer.getvalue()))
    twice = io.BytesIO(zipped({"a.txt": content}))
    with zipfile.ZipFile(twice, "a") as zip_file, pytest.warns(UserWarning, match="Duplicate name"):
        zip_file.writestr("a.txt", b"a")
    path = write(tmp_path / "x.zip", twice.getvalue())
    if content == b"a":
        assert texts(path) == ["a"]
        return
    with pytest.raises(DataError, match=r"x\.zip!a\.txt is there twice, with different contents: unpack the zip"):
        documents(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.tar", gz(tar({"a.txt": b"a"})), r"is not a tar, as its suffix says \(it looks like gzip\): name it by"),
        ("x.tar.gz", b"<!doctype html><p>Sign in", r"is not gzip, as its suffix says \(it looks like a web page\)"),
        ("x.zip", gz(b"a"), r"is not a zip file, as its suffix says \(it looks like gzip\): name it by what it holds"),
        ("x.zip", b"no zip", r"is damaged or cut off \(File is not a zip file\)"),
        *(
            (name, LFS, "is a pointer to a file .*: fetch it with `git lfs pull`")
            for name in ("x.zip", "x.tgz", "x.txt")
        ),
    ],
)
def test_a_file_is_named_as_what_it_is(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        documents(write(tmp_path / name, content))


def test_a_first_name_may_begin_as_another_kind_of_file(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "x.tar", tar({"ORC.txt": b"a"}))) == ["a"]


def test_folders_of_a_zip_may_be_parted_by_backslashes(tmp_path: Path) -> None:
    names = {r"d\b.txt": b"b", "d\\": b"", r"__MACOSX\._b.txt": b"\0", r".git\c.txt": b"c"}
    assert places(write(tmp_path / "x.zip", zipped(names))) == [("x.zip!d/b.txt", "b", None)]
    folder = zipfile.ZipInfo("folder")
    folder.external_attr = 0o40755 << 16
    buffer = io.BytesIO(zipped({"a.txt": b"a"}))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(folder, b"")
    assert texts(write(tmp_path / "x.zip", buffer.getvalue())) == ["a"]


def test_a_damaged_header_is_not_the_end_of_a_tar(tmp_path: Path) -> None:
    content = bytearray(tar({"a.txt": b"a", "b.txt": b"b"}))
    content[1024 + 148] ^= 1  # the checksum of the second member's header
    with pytest.raises(DataError, match=r"x\.tar is damaged or cut off \(bad checksum\)"):
        documents(write(tmp_path / "x.tar", bytes(content)))


def test_a_header_without_bound_is_not_held_in_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 2 << 20
    content = info.tobuf(tarfile.USTAR_FORMAT) + bytes(2 << 20) + tar({"a.txt": b"a"})
    with pytest.raises(DataError, match=r"a header of 2,097,152 bytes, the limit is 1,048,576"):
        documents(write(tmp_path / "x.tar", content))


@pytest.mark.parametrize("size", [-1, -512, -(2**40)])
def test_a_size_below_zero_leads_nowhere(tmp_path: Path, size: int) -> None:
    content = bytearray(tar({"a.txt": b"a", "b.txt": b"b"}))
    header = content[1024:1536]
    header[124:136] = size.to_bytes(12, "big", signed=True)  # the size in base 256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content[1024:1536] = header
    with pytest.raises(DataError, match=r"x\.tar(!b\.txt)? is damaged or cut off"):
        documents(write(tmp_path / "x.tar", bytes(content)))


def test_headers_of_headers_do_not_exhaust_the_stack(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 5
    header = info.tobuf(tarfile.GNU_FORMAT) + b"a.txt".ljust(512, b"\0")
    with pytest.raises(DataError, match=r"x\.tar is damaged or cut off \(maximum recursion depth exceeded"):
        documents(write(tmp_path / "x.tar", header * 2000 + tar({"a.txt": b"a"})))


@pytest.mark.parametrize(
    ("kind", "said"),
    [(tarfile.SYMTYPE, "a link"), (tarfile.LNKTYPE, "a link"), (tarfile.FIFOTYPE, "neither a file nor a folder")],
)
def test_a_member_of_a_tar_that_is_no_file_is_an_error(tmp_path: Path, kind: bytes, said: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo("d")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        info = tarfile.TarInfo("d/b.txt")
        info.type, info.linkname = kind, "a.txt"
        archive.addfile(info)
    path = write(tmp_path / "x.tar", buffer.getvalue())
    with pytest.raises(DataError) as caught:
        documents(path)
    assert str(caught.value) == f"{path}!d/b.txt is {said}: unpack the tar and read the folder"


def zip_with(member: zipfile.ZipInfo, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("d/", b"")
        archive.writestr("d/a.txt", b"a")
        archive.writestr(member, b"text" * 100, method)
    return buffer.getvalue()


def test_members_of_a_zip_that_are_not_packed_are_read(tmp_path: Path) -> None:
    content = zip_with(zipfile.ZipInfo("b.txt"), zipfile.ZIP_STORED)
    assert texts(write(tmp_path / "x.zip", content)) == ["text" * 100, "a"]


def test_a_member_without_a_name_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.zip", zip_with(zipfile.ZipInfo("")))
    assert places(path, "file") == [("x.zip!", "text" * 100, None), ("x.zip!d/a.txt", "a", None)]


def test_an_encrypted_member_is_an_error(tmp_path: Path) -> None:
    content = bytearray(zip_with(zipfile.ZipInfo("b.txt")))
    content[content.rindex(b"PK\x01\x02") + 8] |= 1  # general purpose bit flag, bit 0
    path = write(tmp_path / "x.zip", bytes(content))
    with pytest.raises(DataError) as caught:
        documents(path)
    assert str(caught.value) == (
        f"{path}!b.txt is encrypted: unpack the zip and read the folder, or zip it without a password"
    )


@pytest.mark.parametrize(("method", "called"), [(zipfile.ZIP_BZIP2, "12 (bzip2)"), (zipfile.ZIP_LZMA, "14 (LZMA)")])
def test_a_member_packed_in_a_way_without_a_bound_is_an_error(tmp_path: Path, method: int, called: str) -> None:
    path = write(tmp_path / "x.zip", zip_with(zipfile.ZipInfo("b.txt"), method))
    with pytest.raises(DataError) as caught:
        documents(path)
    assert str(caught.value) == (
        f"{path}!b.txt is packed with method {called}, only 8 (deflate) is read: unpack the zip and read the folder"
    )


def test_a_link_in_a_zip_is_an_error(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("b.txt")
    link.external_attr = 0o120777 << 16
    path = write(tmp_path / "x.zip", zip_with(link))
    with pytest.raises(DataError) as caught:
        documents(path)
    assert str(caught.value) == f"{path}!b.txt is a link: unpack the zip and read the folder"


def test_a_packed_zip_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "x.zip.gz", gz(zipped({"a.txt": b"a"})))
    with pytest.raises(DataError) as caught:
        documents(path)
    assert str(caught.value) == f"{path} is a packed zip: unpack it first"


@pytest.mark.parametrize("name", PACKERS)
def test_an_archive_without_files_yields_nothing(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path, name, {})
    assert documents(path) == []
    assert text_size(path) == (0 if name == "x.zip" else path.stat().st_size)


# Settings that packers have


def long_window(content: bytes, power: int) -> bytes:
    """Return a Zstandard frame of one block, not compressed, that asks for a window of 2 to this power bytes."""
    return b"\x28\xb5\x2f\xfd\0" + bytes([(power - 10) << 3]) + (len(content) << 3 | 1).to_bytes(3, "little") + content


SKIPPABLE = b"\x5a\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"


@pytest.mark.parametrize("begun", [b"", SKIPPABLE, zst(b"c")])
def test_a_window_above_what_is_read_is_named_and_how_to_unpack_it(tmp_path: Path, begun: bytes) -> None:
    assert texts(write(tmp_path / "x.txt.zst", begun + long_window(b"a", 27)))[0].endswith("a")
    for power in (28, 31):
        with pytest.raises(DataError, match=r"x\.txt\.zst was packed with a window .* zstd -d --long=31 and read"):
            documents(write(tmp_path / "x.txt.zst", begun + long_window(b"a", power)))
    with pytest.raises(DataError, match=r"x\.tar\.zst was packed with a window .* zstd -d --long=31 and read"):
        documents(write(tmp_path / "x.tar.zst", long_window(tar({"a.txt": b"a"}), 31)))


def test_a_dictionary_is_named(tmp_path: Path) -> None:
    with_dictionary = b"\x28\xb5\x2f\xfd" + bytes([0x21, 77, 1]) + (1 << 3 | 1).to_bytes(3, "little") + b"a"
    with pytest.raises(DataError, match=r"x\.txt\.zst was packed with a dictionary: unpack it with zstd -d -D"):
        documents(write(tmp_path / "x.txt.zst", with_dictionary))


def test_frames_that_hold_no_text_are_passed_over(tmp_path: Path) -> None:
    content = SKIPPABLE + zst(b"a\n") + zst(b"") + SKIPPABLE + zst(b"b")
    assert texts(write(tmp_path / "x.txt.zst", content)) == ["a\nb"]


@pytest.mark.parametrize(("flags", "more"), [(4, b"\2\0ab"), (8, b"name.txt\0"), (16, b"a comment\0")])
def test_a_header_of_gzip_may_hold_more(tmp_path: Path, flags: int, more: bytes) -> None:
    plain = gz(b"a")
    content = plain[:3] + bytes([flags]) + plain[4:10] + more + plain[10:] + b"\0" * 512
    assert texts(write(tmp_path / "x.txt.gz", content)) == ["a"]


def test_a_zip_that_was_written_to_a_pipe_or_is_of_64_bits_is_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a.txt", "w", force_zip64=True) as member:
            member.write(b"a")
        archive.comment = b"a comment"
    assert texts(write(tmp_path / "x.zip", b"#!/bin/sh\n" + buffer.getvalue())) == ["a"]


def test_what_systems_add_to_folders_is_left_out(tmp_path: Path) -> None:
    added = dict.fromkeys(("Thumbs.db", "d/desktop.ini", "_SUCCESS", ".part-0.txt.crc", "_metadata"), b"\0")
    assert texts(write(tmp_path / "x.zip", zipped({"d/part-0.txt": b"a", **added}))) == ["a"]
