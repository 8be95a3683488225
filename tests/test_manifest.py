"""A directory of ours may hold files of the user's: nothing that bertpipe did not write is replaced or removed."""

import errno
import os
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from bertpipe.core.atomic import atomic_directory, check_target, remove_own
from bertpipe.core.errors import WriteError
from bertpipe.core.manifest import MANIFEST_NAME, Kind, contents_of, read_manifest, write_manifest

pytestmark = pytest.mark.promise("Other people's files")


def kind_of(*names: str) -> Kind:
    return Kind(name="thing", entries=[name.split("/", maxsplit=1)[0] for name in names])


def digests_in(path: Path) -> Mapping[str, frozenset[str]]:
    manifest = read_manifest(path)
    assert manifest is not None
    return manifest.digests


def write(path: Path, files: Mapping[str, str]) -> None:
    """Write a directory as a command does."""
    with atomic_directory(path, kind=kind_of(*files)) as staging:
        for name, text in files.items():
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).write_text(text, encoding="utf-8")


def tree(path: Path) -> dict[str, str]:
    """Return the text of every file below a directory, but for the manifest."""
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    return {name: file.read_text(encoding="utf-8") for name, file in files.items() if name != MANIFEST_NAME}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    write(path, {"model": "first", "shards/0": "first", "shards/1": "first"})
    return path


NEW = {"model": "second", "shards/0": "second", "card": "second"}


def test_what_is_ours_alone_is_replaced_as_a_whole(out: Path) -> None:
    before = out.stat().st_ino
    write(out, NEW)
    assert tree(out) == NEW
    assert out.stat().st_ino != before
    assert [entry.name for entry in out.parent.iterdir()] == ["out"]
    assert set(digests_in(out)) == set(NEW)


@pytest.mark.parametrize(
    "place", ["NOTES.md", ".git/HEAD", "figures/a/b.png", ".DS_Store", "shards/notes ñ \U0001f600.txt"]
)
def test_what_bertpipe_did_not_write_stays(out: Path, place: str) -> None:
    (out / place).parent.mkdir(parents=True, exist_ok=True)
    (out / place).write_text("precious", encoding="utf-8")
    before = out.stat().st_ino
    for number in range(2):
        with atomic_directory(out, kind=kind_of("model")) as staging:
            (staging / "model").write_text(f"{number}", encoding="utf-8")
        assert tree(out) == {"model": f"{number}", place: "precious"}
    assert out.stat().st_ino == before
    assert [entry.name for entry in out.parent.iterdir()] == ["out"]
    remove_own(out)
    assert tree(out) == {place: "precious"}


def test_links_and_empty_folders_of_the_users_stay(out: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "far").write_text("precious", encoding="utf-8")
    (out / "link").symlink_to(tmp_path / "elsewhere")
    (out / "dangling").symlink_to("nothing")
    (out / "empty").mkdir()
    write(out, NEW)
    assert tree(out) == {**NEW}
    assert (out / "link" / "far").read_text(encoding="utf-8") == "precious"
    assert (out / "dangling").is_symlink()
    assert (out / "empty").is_dir()


def test_a_file_of_ours_that_leads_into_a_cache_is_ours(out: Path, tmp_path: Path) -> None:
    """DVC may put links to its cache in the place of outputs: the cache stays as it is."""
    (out / "model").rename(tmp_path / "cached")
    (out / "model").symlink_to(tmp_path / "cached")
    write(out, NEW)
    assert tree(out) == NEW
    assert (tmp_path / "cached").read_text(encoding="utf-8") == "first"


def pointer_to(content: str) -> str:
    """Return what stands in a clone without Git LFS in the place of a large file."""
    data = content.encode()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(data).hexdigest()}\nsize {len(data)}\n"


def test_a_pointer_to_a_large_file_of_ours_is_ours(out: Path) -> None:
    (out / ".git").mkdir()
    (out / ".git" / "HEAD").write_text("precious", encoding="utf-8")
    (out / "model").write_text(pointer_to("first"), encoding="utf-8")
    write(out, NEW)
    assert tree(out) == {**NEW, ".git/HEAD": "precious"}


@pytest.mark.parametrize("text", [pointer_to("another"), pointer_to("first") + "more", "x" + pointer_to("first")])
def test_a_pointer_to_anything_else_is_the_users(out: Path, text: str) -> None:
    (out / "model").write_text(text, encoding="utf-8")
    with pytest.raises(WriteError, match="out holds model, which was changed"):
        write(out, NEW)
    assert tree(out)["model"] == text


@pytest.mark.parametrize("stranger", [None, "NOTES.md"])
def test_a_file_of_ours_that_was_changed_is_not_replaced(out: Path, stranger: str | None) -> None:
    (out / "model").write_text("edited", encoding="utf-8")
    if stranger:
        (out / stranger).write_text("precious", encoding="utf-8")
    before = tree(out)
    said = r"out holds model, which was changed since bertpipe wrote it .*move what you want to keep"
    with pytest.raises(WriteError, match=said), atomic_directory(out, kind=kind_of("model")):
        pytest.fail("the work has begun")
    assert tree(out) == before


@pytest.mark.parametrize("name", ["config.json", "CONFIG.json", "config.json/inner", MANIFEST_NAME])
def test_a_file_of_the_users_with_a_name_of_ours_is_not_replaced(tmp_path: Path, name: str) -> None:
    theirs = tmp_path / "mine" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("precious", encoding="utf-8")
    said = rf"mine holds {name.split('/', maxsplit=1)[0]}, which bertpipe did not write .*name another directory"
    with pytest.raises(WriteError, match=said), atomic_directory(tmp_path / "mine", kind=kind_of("config.json")):
        pytest.fail("the work has begun")
    assert theirs.read_text(encoding="utf-8") == "precious"


def test_a_directory_of_another_kind_is_not_replaced(out: Path) -> None:
    before = tree(out)
    other = Kind(name="other thing", entries=["card"])
    said = "out holds the thing that bertpipe wrote there, and the other thing would replace it"
    with pytest.raises(WriteError, match=said), atomic_directory(out, kind=other):
        pytest.fail("the work has begun")
    assert tree(out) == before


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(WriteError, match=r" holds a, b, c, \.\.\., which"):
        check_target(tmp_path, kind_of(*names))


def test_a_folder_of_the_users_takes_our_files_in(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "table.tex").write_text("precious", encoding="utf-8")
    write(tmp_path / "figures", {"loss.png": "ours"})
    assert tree(tmp_path / "figures") == {"table.tex": "precious", "loss.png": "ours"}


def test_what_comes_while_the_work_goes_on_stays(out: Path) -> None:
    with atomic_directory(out, kind=kind_of("model")) as staging:
        (staging / "model").write_text("second", encoding="utf-8")
        (out / "notes").write_text("precious", encoding="utf-8")
    assert tree(out) == {"model": "second", "notes": "precious"}

    def collide() -> None:
        with atomic_directory(out, kind=kind_of("model")) as staging:
            (staging / "notes").write_text("third", encoding="utf-8")

    with pytest.raises(WriteError, match="out holds notes, which bertpipe did not write"):
        collide()
    assert tree(out) == {"model": "second", "notes": "precious"}


def test_a_file_or_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", NEW)
    assert tree(tmp_path / "empty") == NEW
    (tmp_path / "file").write_text("precious", encoding="utf-8")
    with pytest.raises(WriteError, match="file is a file, and the output is a directory"):
        check_target(tmp_path / "file", kind_of())
    assert (tmp_path / "file").read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize("broken_at", range(1, 6))
def test_files_put_in_one_by_one_can_be_put_in_again_wherever_it_broke_off(
    out: Path, monkeypatch: pytest.MonkeyPatch, broken_at: int
) -> None:
    (out / "notes").write_text("precious", encoding="utf-8")
    replace, calls = Path.replace, 0

    def replace_and_fail(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += Path(target).is_relative_to(out)
        if calls == broken_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace_and_fail)
        with pytest.raises(WriteError):
            write(out, NEW)
    assert tree(out)["notes"] == "precious"
    write(out, NEW)
    assert tree(out) == {**NEW, "notes": "precious"}


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": "other"}', '{"format": "bertpipe-manifest-1", "kind": "x", "sha256": 3}', "\x00"]
)
def test_a_manifest_that_says_nothing_makes_everything_the_users(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_NAME).write_text(text, encoding="utf-8")
    (tmp_path / "model").touch()
    assert contents_of(tmp_path).foreign == {MANIFEST_NAME, "model"}


def test_a_manifest_names_nothing_outside_its_directory(tmp_path: Path) -> None:
    """Whoever writes a manifest can have files of that directory removed, and no others."""
    outside = tmp_path / "outside"
    outside.write_text("precious", encoding="utf-8")
    directory = tmp_path / "in"
    directory.mkdir()
    digest = digest_of("precious", tmp_path / "scratch")
    write_manifest(directory, kind_of(), {"../outside": digest, str(outside): digest})
    remove_own(directory)
    write(directory, NEW)
    assert outside.read_text(encoding="utf-8") == "precious"


def digest_of(text: str, scratch: Path) -> frozenset[str]:
    write(scratch, {"file": text})
    return digests_in(scratch)["file"]


def test_only_our_own_files_are_removed(out: Path) -> None:
    (out / "notes").write_text("precious", encoding="utf-8")
    remove_own(out)
    assert tree(out) == {"notes": "precious"}
    (out / "notes").unlink()
    remove_own(out)
    assert not out.exists()


needs_mounts = pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode != 0,
    reason="this user may not mount",
)


@needs_mounts
@pytest.mark.parametrize("kind", ["volume", "read-only parent", "lower layer"])
def test_a_directory_that_cannot_be_renamed_takes_the_files(tmp_path: Path, kind: str) -> None:
    """A container's volume is a mount point, and often the only place that can be written to."""
    code = (
        "import sys; from pathlib import Path; from bertpipe.core.atomic import atomic_directory\n"
        "from bertpipe.core.manifest import Kind\n"
        "for text in ('first', 'second'):\n"
        "    with atomic_directory(Path(sys.argv[1]), kind=Kind(name='thing', entries=['model'])) as staging:\n"
        "        (staging / 'model').write_text(text)\n"
        "print(sorted(p.name for p in Path(sys.argv[1]).iterdir()), (Path(sys.argv[1]) / 'model').read_text())"
    )
    volume = tmp_path / "parent" / "volume"
    volume.mkdir(parents=True)
    mounts = [f"mount -t tmpfs none {volume}"]
    if kind == "read-only parent":
        mounts = [f"mount --bind {volume.parent} {volume.parent}", *mounts, f"mount -o remount,bind,ro {volume.parent}"]
    if kind == "lower layer":  # of a container's image: a folder there cannot be renamed, though its parent is writable
        image, layer, work, shown = (tmp_path / name for name in ("image", "layer", "work", "shown"))
        for folder in (image / "volume", layer, work, shown):
            folder.mkdir(parents=True)
        options = f"lowerdir={image},upperdir={layer},workdir={work},redirect_dir=off"
        # Not every file system can be an upper layer.
        mounts = [f"mount -t tmpfs none {tmp_path}", f"mkdir -p {image}/volume {layer} {work} {shown}"]
        mounts.append(f"mount -t overlay overlay -o {options} {shown}")
        volume = shown / "volume"
    script = " && ".join([*mounts, 'exec "$@"'])
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", code, str(volume)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == f"['{MANIFEST_NAME}', 'model'] second"
