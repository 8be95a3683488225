"""`prepare` with shards: the documents and words of one file, and the same bytes whoever works."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertpipe.core.artifacts import RECORDS_NAME, SPLITS, SUMMARY_NAME, TOKENIZER_NAME, file_sha256, table_sha256
from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.core.manifest import MANIFEST_NAME
from bertpipe.core.params import Params
from bertpipe.core.progress import Progress
from bertpipe.data.pair_dataset import read_dataset
from bertpipe.data.tokenization import wordpiece
from bertpipe.data.tokenization.tokenizer import Tokenizer, basic_english
from bertpipe.data.tokenization.vocabulary import WordCounts, count_words, rank_counts, rank_words
from bertpipe.data.tokenization.wordpiece import count_divisor, train_wordpiece, wordpiece_tokenizer
from bertpipe.sources.engines.engine import Processes
from bertpipe.sources.text import duplicates, pipeline, spill
from bertpipe.sources.text import shards as shards_module
from bertpipe.sources.text.documents import text_shards
from bertpipe.sources.text.spill import Part, Run, parts_of
from prepared import REVIEWS, Prepare, bytes_of, preparer
from runs import train
from texts import json_lines, write_files


@pytest.fixture
def prepare(tiny: Params) -> Prepare:
    """Return the stage `prepare` with chunks of their usual size: workers have no other."""
    return preparer(tiny)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of JSON lines: shards with duplicates within and across them, empty lines, and no document."""
    lines = [REVIEWS[:30], [*REVIEWS[30:50], REVIEWS[3], " ", REVIEWS[31]], [REVIEWS[40] + "\n\n"], REVIEWS[50:]]
    files = {f"{number}.jsonl": json_lines(*texts) for number, texts in enumerate(lines)}
    return write_files(tmp_path_factory.mktemp("shards") / "text", {**files, "5/none.jsonl": b""})


def tree(folder: Path) -> dict[str, bytes]:
    """Return the bytes of each file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the rows of all shards of a table."""
    return [row for path in sorted((folder / name).iterdir()) for row in pq.read_table(path).to_pylist()]


# What is written


@pytest.mark.parametrize("tokenizer", ["wordpiece", "words"])
def test_documents_splits_and_words_are_those_of_one_file(
    prepare: Prepare, corpus: Path, tmp_path: Path, tokenizer: str
) -> None:
    one = prepare(corpus, tmp_path / "one", tokenizer=tokenizer)
    shards = prepare(corpus, tmp_path / "shards", tokenizer=tokenizer, shards="files")
    assert table(tmp_path / "shards", "documents") == pq.read_table(tmp_path / "one" / "documents.parquet").to_pylist()
    assert (tmp_path / "shards" / TOKENIZER_NAME).read_bytes() == (tmp_path / "one" / TOKENIZER_NAME).read_bytes()
    assert shards["found"] == one["found"]
    assert one["found"] == {"read": 93, "empty": 0, "duplicates": 3, "test_documents_in_train": 0}
    assert shards["documents"] == one["documents"] == 90
    for split in SPLITS:
        assert shards["splits"][split]["documents"] == one["splits"][split]["documents"] > 0


def test_each_file_becomes_a_shard_of_every_table(prepare: Prepare, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = prepare(corpus, out, shards="files")
    names = [f"{number:05}.parquet" for number in range(5)]
    for name in ("train", "test", "documents"):
        assert sorted(path.name for path in (out / name).iterdir()) == names
    assert sorted(path.name for path in out.iterdir()) == [
        MANIFEST_NAME, "documents", RECORDS_NAME, SUMMARY_NAME, "test", TOKENIZER_NAME, "train",
    ]  # fmt: skip
    assert summary["sha256"] == {
        **{name: table_sha256(out / name) for name in ("documents", "test", "train")},
        TOKENIZER_NAME: file_sha256(out / TOKENIZER_NAME),
    }
    assert json.loads((out / SUMMARY_NAME).read_text(encoding="utf-8")) == summary
    counts = [pq.read_metadata(out / "documents" / name).num_rows for name in names]
    assert counts == [30, 20, 0, 40, 0]  # the third file's document stands in the second one too
    assert [pq.read_metadata(out / "train" / name).num_rows > 0 for name in names] == [True, True, False, True, False]


def test_rows_count_from_0_in_each_shard_and_documents_do_not(prepare: Prepare, corpus: Path, tmp_path: Path) -> None:
    summary = prepare(corpus, tmp_path / "out", shards="files")
    bounds = [range(30), range(30, 50), range(0), range(50, 90), range(0)]
    split_of = {row["document"]: row["split"] for row in table(tmp_path / "out", "documents")}
    for split in SPLITS:
        for path, documents in zip(sorted((tmp_path / "out" / split).iterdir()), bounds, strict=True):
            rows = pq.read_table(path).to_pylist()
            assert [row["row"] for row in rows] == list(range(len(rows)))
            assert {row["document"] for row in rows} <= set(documents)
        whole = read_dataset(tmp_path / "out" / split)
        assert whole.row.tolist() == list(range(summary["splits"][split]["rows"]))
        assert {split_of[document] for document in whole.document.tolist()} == {split}


def test_a_model_trains_on_shards(prepare: Prepare, tiny: Params, corpus: Path, tmp_path: Path) -> None:
    prepare(corpus, tmp_path / "data", shards="files")
    assert train(tiny, tmp_path / "run", tmp_path / "data", epochs=1)["steps"] > 0


# Who works


@pytest.mark.thorough
def test_bytes_do_not_depend_on_the_number_of_processes(prepare: Prepare, corpus: Path, tmp_path: Path) -> None:
    for processes in (1, 2, 3):
        prepare(corpus, tmp_path / str(processes), processes=processes, shards="files")
    assert tree(tmp_path / "1") == tree(tmp_path / "2") == tree(tmp_path / "3")


def test_progress_runs_over_the_bytes_of_the_files(prepare: Prepare, corpus: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    prepare(corpus, tmp_path / "out", shards="files", on_progress=told.append)
    assert list(dict.fromkeys(report.label for report in told)) == [
        "looking for duplicates",
        "making the vocabulary",
        "preparing",
    ]
    size = sum(path.stat().st_size for path in corpus.rglob("*") if path.is_file())
    assert {report.total for report in told} == {size}
    assert next(report.completed for report in told if report.label == "preparing") == 0
    assert told[-1].completed == size


# The vocabulary from counts


def trained_on_texts(
    texts: Sequence[str], *, vocab_size: int, min_frequency: int, lowercase: bool, strip_accents: bool
) -> Tokenizer:
    """Return the tokenizer that the library makes of the texts themselves."""
    backend = wordpiece._backend({}, lowercase=lowercase, strip_accents=strip_accents)
    characters = Counter("".join(texts))
    trainer = wordpiece._trainer(backend, characters, vocab_size=vocab_size, min_frequency=min_frequency)
    backend.train_from_iterator(iter(texts), trainer)
    return wordpiece_tokenizer(wordpiece._pieces(backend), lowercase=lowercase, strip_accents=strip_accents)


@settings(max_examples=60)
@given(
    st.lists(st.text("aabc áÁ.'\"-日İßß\x0b\x1c\x85\u0301\u2028<br/>", max_size=40), min_size=1, max_size=6),
    st.booleans(),
    st.booleans(),
)
def test_counts_tell_the_vocabulary_that_the_texts_do(texts: list[str], lowercase: bool, strip_accents: bool) -> None:
    counts = WordCounts()
    for text in texts:
        counts.merge(count_words([text], as_words=False, lowercase=lowercase, strip_accents=strip_accents))
    choice = {"vocab_size": 60, "min_frequency": 2, "lowercase": lowercase, "strip_accents": strip_accents}

    def made(make: Callable[[], Any]) -> str:
        try:
            return str(make().backend.to_str())
        except DataError as error:
            return str(error)

    assert made(lambda: train_wordpiece(counts.words.items(), counts.characters, **choice)) == made(
        lambda: trained_on_texts(texts, **choice)
    )
    words = count_words(texts, as_words=True, lowercase=lowercase, strip_accents=strip_accents).words
    assert rank_counts(words) == rank_words(basic_english(texts))


def test_counts_of_reviews_tell_the_vocabulary_that_the_reviews_do() -> None:
    counts = count_words(REVIEWS, as_words=False, lowercase=True, strip_accents=False)
    choice = {"vocab_size": 500, "min_frequency": 2, "lowercase": True, "strip_accents": False}
    made = train_wordpiece(counts.words.items(), counts.characters, **choice)
    assert made.backend.to_str() == trained_on_texts(REVIEWS, **choice).backend.to_str()
    assert made.vocab_size == 500


def test_counts_beyond_the_limit_are_divided() -> None:
    words = {"ab": 7, "abc": 6, "cb": 2}
    assert [count_divisor(words << 26) for words in (0, 1, 2)] == [1, 1, 2]
    assert count_divisor((1 << 26) + 1) == 2
    choice = {"vocab_size": 100, "lowercase": True, "strip_accents": False}
    characters = dict.fromkeys("abc", 20)
    whole = train_wordpiece(words.items(), characters, min_frequency=5, **choice)
    assert {"ab", "abc"} <= whole.backend.get_vocab().keys()
    shown = list(
        wordpiece._repeated(words.items(), 3)
    )  # 15 words by 3: "ab" twice, "abc" twice; 5 by 3 is 2, rounded up
    assert shown == ["ab ab", "abc abc"]
    divided = train_wordpiece(words.items(), characters, min_frequency=5, divisor=3, **choice)
    assert divided.backend.to_str() == whole.backend.to_str()
    rarer = train_wordpiece(words.items(), characters, min_frequency=7, divisor=3, **choice)  # 7 by 3 is 3
    assert {"ab", "abc"} & rarer.backend.get_vocab().keys() == {"ab"}  # 4 times side by side


def test_counts_are_divided_for_shards_alone(
    prepare: Prepare, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wordpiece, "MOST_WORDS", 1 << 40)
    for shards in ("one", "files"):
        prepare(corpus, tmp_path / f"all-{shards}", shards=shards)
    monkeypatch.setattr(wordpiece, "MOST_WORDS", 500)
    for shards in ("one", "files"):
        prepare(corpus, tmp_path / f"some-{shards}", shards=shards)
    names = ("all-one", "all-files", "some-one", "some-files")
    made = [(tmp_path / name / TOKENIZER_NAME).read_bytes() for name in names]
    assert made[0] == made[1] == made[2] != made[3]


@pytest.mark.parametrize("tokenizer", ["wordpiece", "words"])
def test_bytes_do_not_depend_on_what_workers_hold_at_a_time(
    prepare: Prepare, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: str
) -> None:
    """With a few rows per run and part there are many of them, also of one text."""
    for shards in ("one", "files"):
        prepare(corpus, tmp_path / f"{shards}-whole", tokenizer=tokenizer, shards=shards)
    parts, written = list[int](), list[int]()

    def counted_parts(runs: Iterable[Run]) -> Sequence[Part]:
        rows = [run.rows for run in runs]
        written.append(len(rows))
        found = parts_of([Run(path=Path(), rows=each) for each in rows])
        parts.append(len(found))
        return found

    monkeypatch.setattr(pipeline, "parts_of", counted_parts)
    monkeypatch.setattr(spill, "ROWS_PER_PART", 29)
    monkeypatch.setattr(duplicates, "ROWS_PER_RUN", 13)
    monkeypatch.setattr(shards_module, "ROWS_PER_RUN", 300)
    for shards in ("one", "files"):
        prepare(corpus, tmp_path / f"{shards}-parts", tokenizer=tokenizer, shards=shards)
        assert tree(tmp_path / f"{shards}-parts") == tree(tmp_path / f"{shards}-whole")
    assert parts[1] == 1 + 93 // 29  # of the documents; the first and last are of words
    assert written[1] == 3 + 2 + 1 + 4 + 1  # of 30, 22, 1, 40 and 0 documents
    assert min(parts) > 3
    assert min(written) > 8


# Errors


@pytest.mark.parametrize(
    ("changes", "out", "said"),
    [
        ({"test_share": "source"}, "out", r"belong to no split: set it to a share such as 0\.1, or prepare\.shards"),
        ({}, "out.zip", r"out\.zip is a zip, and prepare\.shards is files: name a directory, or set it to one"),
        ({"tokenizer": "nowhere.json"}, "out", "no such file: write wordpiece"),
        ({"test_share": 1e-9}, "out", "none of them is in the test split: bring more"),
    ],
)
def test_what_cannot_be_done_is_said(
    prepare: Prepare, corpus: Path, tmp_path: Path, changes: dict[str, Any], out: str, said: str
) -> None:
    earlier = write_files(tmp_path / "out", {"notes.txt": b"1"})
    with pytest.raises((DataError, MissingInputError), match=said):
        prepare(corpus, tmp_path / out, shards="files", **changes)
    assert bytes_of(earlier) == {"notes.txt": b"1"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_text_that_is_no_folder_has_no_shards(prepare: Prepare, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"0\.jsonl is one file, and prepare\.shards is files: name a folder"):
        prepare(corpus / "0.jsonl", tmp_path / "out", shards="files")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no file"):
        prepare(tmp_path / "empty", tmp_path / "out", shards="files")
    with pytest.raises(MissingInputError, match="nowhere does not exist"):
        prepare(tmp_path / "nowhere", tmp_path / "out", shards="files")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_bad_file_is_named_and_the_earlier_output_stays(
    prepare: Prepare, corpus: Path, tmp_path: Path, processes: int
) -> None:
    shutil.copytree(corpus, tmp_path / "text")
    with (tmp_path / "text" / "3.jsonl").open("ab") as file:
        file.write(b'{"text": 3}\n')
    earlier = write_files(tmp_path / "out", {"notes.txt": b"1"})
    with pytest.raises(DataError, match=r"text/3\.jsonl:41: field 'text' is a number, expected a string"):
        prepare(tmp_path / "text", earlier, shards="files", processes=processes)
    assert bytes_of(earlier) == {"notes.txt": b"1"}
    assert {path.name for path in tmp_path.iterdir()} == {"out", "text"}


@pytest.mark.parametrize("change", [json_lines("One more. And another."), None])
def test_a_file_that_changes_meanwhile_is_noticed(
    prepare: Prepare, corpus: Path, tmp_path: Path, change: bytes | None
) -> None:
    shutil.copytree(corpus, tmp_path / "text")
    file = tmp_path / "text" / "1.jsonl"

    def watch(report: Progress) -> None:
        if report.label == "preparing" and report.completed == 0:
            file.write_bytes(
                file.read_bytes() + change if change else b"".join(file.read_bytes().splitlines(keepends=True)[:-1])
            )

    with pytest.raises(DataError, match=r"1\.jsonl was changed while it was read: run the command again"):
        prepare(tmp_path / "text", tmp_path / "out", shards="files", on_progress=watch)
    assert not (tmp_path / "out").exists()


def test_documents_of_a_shard_are_found_wherever_it_is_read(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(corpus.parent)
    shards = text_shards(Path("text"), text_format="auto", field="text", as_files=True)
    monkeypatch.chdir("/")
    counts = list(Processes(count=1).map(lambda shard: len(list(shard.documents())), shards))
    assert counts == [30, 22, 1, 40, 0]
    assert shards[0].path == corpus / "0.jsonl"
