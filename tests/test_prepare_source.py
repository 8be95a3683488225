"""How often `prepare` reads what of a corpus that has splits of its own."""

import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Literal

import pytest

from bertpipe.core.errors import DataError
from bertpipe.core.progress import Progress
from bertpipe.sources.notebook.archive import member_name
from bertpipe.sources.text.documents import containers
from bertpipe.sources.text.documents.streams import ByteStream
from prepared import BERT_VOCABULARY, REVIEWS, Prepare
from texts import write, write_files, zipped

TRAIN, TEST = (member_name(split, "full") for split in ("train", "test"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return how often each file of a folder, by its path below `train` or `test`, and each member of a zip opens."""
    counts = Counter[str]()
    open_file, open_member = containers.open_file, zipfile.ZipFile.open

    def counted_file(path: Path, on_bytes: Callable[[int], None]) -> AbstractContextManager[ByteStream]:
        counts["/".join(path.parts[-3:])] += 1
        return open_file(path, on_bytes)

    def counted_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, mode: Literal["r", "w"] = "r") -> IO[bytes]:
        counts[info.filename] += mode == "r"
        return open_member(archive, info, mode)

    monkeypatch.setattr(containers, "open_file", counted_file)
    monkeypatch.setattr(zipfile.ZipFile, "open", counted_member)
    return counts


@pytest.fixture
def tree() -> dict[str, bytes]:
    """Return aclImdb's tree: 12 reviews of each split, three of the test split such that they are not kept."""
    texts = [text.encode("utf-8") for text in REVIEWS[:21]]
    files = {f"train/{folder}/{n}.txt": texts[n] for n, folder in enumerate(("pos", "neg", "unsup") * 4)}
    test = [b"<br />", texts[0], texts[5] + b" \n", *texts[12:]]  # an empty one, two of the training split
    return files | {f"test/pos/{n + 20}.txt": text for n, text in enumerate(test)}


def settings(tokenizer: str, tmp_path: Path) -> dict[str, Any]:
    given = write(tmp_path / "vocab.txt", "\n".join(BERT_VOCABULARY).encode("utf-8"))
    return {"test_share": "source", "tokenizer": str(given) if tokenizer == "given" else tokenizer}


@pytest.mark.parametrize(("tokenizer", "train", "test"), [("wordpiece", 2, 2), ("words", 2, 2), ("given", 1, 1)])
def test_the_test_member_of_a_zip_is_opened_to_see_that_it_has_a_document_and_to_be_written(
    prepare: Prepare, sample_zip: Path, tmp_path: Path, opened: Counter[str], tokenizer: str, train: int, test: int
) -> None:
    prepare(sample_zip, tmp_path / "out", **settings(tokenizer, tmp_path))
    assert opened == {TRAIN: train, TEST: test}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("tokenizer", "train", "test"), [("wordpiece", 2, 2), ("words", 2, 2), ("given", 1, 1)])
def test_of_a_tree_no_test_review_after_the_first_that_is_kept_is_opened_for_the_vocabulary(
    prepare: Prepare, tree: dict[str, bytes], tmp_path: Path, opened: Counter[str],
    tokenizer: str, train: int, test: int, packed: bool,
) -> None:  # fmt: skip
    text = write(tmp_path / "x.zip", zipped(tree)) if packed else write_files(tmp_path / "text", tree)
    summary = prepare(text, tmp_path / "out", **settings(tokenizer, tmp_path))
    seen = {f"test/pos/{n}.txt": test for n in (20, 21, 22, 23)}  # 23 is the first that is kept
    assert opened == {name: train if name.startswith("train/") else 1 for name in tree} | seen
    assert summary["found"] == {"read": 24, "empty": 1, "duplicates": 0, "test_documents_in_train": 2}


@pytest.mark.parametrize("tokenizer", ["wordpiece", "words"])
@pytest.mark.parametrize(
    ("test_share", "vocabulary", "rows"), [("source", ["train"], ["train", "test"]), (0.5, [""], [""])]
)
def test_each_reading_is_reported_to_its_end(
    prepare: Prepare, tree: dict[str, bytes], tmp_path: Path,
    tokenizer: str, test_share: float | str, vocabulary: list[str], rows: list[str],
) -> None:  # fmt: skip
    told: list[Progress] = []
    text = write_files(tmp_path / "text", tree)
    prepare(text, tmp_path / "out", tokenizer=tokenizer, test_share=test_share, on_progress=told.append)
    last = [one for one, after in pairwise(told) if after.label != one.label or after.completed < one.completed]
    labels = ["making the vocabulary"] * len(vocabulary) + ["preparing"] * len(rows)
    sizes = [sum(len(tree[name]) for name in tree if name.startswith(split)) for split in vocabulary + rows]
    assert [(report.label, report.completed, report.total) for report in [*last, told[-1]]] == [
        (label, size, size) for label, size in zip(labels, sizes, strict=True)
    ]


@pytest.mark.parametrize("tokenizer", ["wordpiece", "words"])
@pytest.mark.parametrize(
    ("files", "split"),
    [
        ({"train/pos/1.txt": b"One.", "train/neg/2.txt": b"Two.", "train/neg/3.txt": b"Two. "}, "test"),
        ({"train/pos/1.txt": b"One.", "train/neg/2.txt": b"Two.", "test/pos/3.txt": b"Two. "}, "test"),
        ({"train/pos/1.txt": b"<br>", "test/neg/2.txt": b"One.", "test/pos/3.txt": b"Two."}, "train"),
    ],
    ids=["no test review", "test review of the training split", "empty training review"],
)
def test_a_split_without_documents_is_told_before_the_vocabulary_is_made(
    prepare: Prepare, tmp_path: Path, opened: Counter[str], tokenizer: str, files: dict[str, bytes], split: str
) -> None:
    text = write_files(tmp_path / "text", files)
    with pytest.raises(DataError) as caught:
        prepare(text, tmp_path / "out", **settings(tokenizer, tmp_path))
    assert str(caught.value) == (
        f"{text} holds 2 document(s) and none of them is in the {split} split: "
        f"the corpus marks none as its {split} split: set prepare.test_share to a share such as 0.1"
    )
    assert opened == dict.fromkeys(files, 1)
