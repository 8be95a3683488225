"""Which documents are kept, in which split; and the chunks that they are worked on in."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertpipe.core import artifacts
from bertpipe.core.errors import DataError
from bertpipe.core.params import Params
from bertpipe.sources.text import chunks as chunks_module
from bertpipe.sources.text.chunks import chunks
from bertpipe.sources.text.corpus import (
    AssignedShard,
    CorpusStats,
    SplitDocument,
    split_documents,
    text_digest,
)
from bertpipe.sources.text.documents import Document, TextShard
from bertpipe.sources.text.duplicates import assign, digest_shard, find_duplicates, places_in
from bertpipe.sources.text.shards import count_shard, read_words
from bertpipe.sources.text.spill import parts_of
from defaults import DEFAULTS

Share = float | Literal["source"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts(TextShard):
    """Documents in memory as a shard."""

    made: tuple[Document, ...]

    def documents(self, split: str | None = None) -> Iterator[Document]:
        """Yield those of a split, and those without one."""
        return (document for document in self.made if split is None or document.split in {split, None})


def shard_of(texts: Sequence[str | tuple[str, str | None]]) -> AssignedShard:
    """Return a shard of texts, or of texts with the split that is their own."""
    pairs = [(text, None) if isinstance(text, str) else text for text in texts]
    made = tuple(Document(text=text, origin=f"file:{at}", split=split) for at, (text, split) in enumerate(pairs))
    return AssignedShard(text=Texts(path=Path("file"), text_format="file", field="", made=made))


def kept(
    texts: Sequence[str | tuple[str, str | None]], *, test_share: Share = 0.5, seed: int = 1
) -> tuple[list[SplitDocument], CorpusStats]:
    stats = CorpusStats()
    return list(
        split_documents(shard_of(texts), stats, replace(DEFAULTS.prepare, test_share=test_share, seed=seed))
    ), stats


def test_equal_documents_are_kept_once_whatever_their_white_space() -> None:
    documents, stats = kept(["One  two.", "three", "One\n two. ", "One<br />two.", "one two."])
    assert [document.text for document in documents] == ["One  two.", "three", "one two."]
    assert [document.number for document in documents] == [0, 1, 2]
    assert stats == CorpusStats(read=5, empty=0, duplicates=2, test_documents_in_train=0)


def test_documents_without_a_word_are_dropped() -> None:
    documents, stats = kept(["<br /><br>", " \n", "word"])
    assert [document.text for document in documents] == ["word"]
    assert stats.empty == 2


def test_a_document_is_kept_as_it_was_found_and_read_without_line_breaks() -> None:
    (document,), _ = kept(["One.<br /><br />Two  <b>."])
    assert document.text == "One.<br /><br />Two  <b>."
    assert document.plain == "One.\n\nTwo  <b>."


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_test_split_has_its_share_within_four_deviations(share: float) -> None:
    documents, _ = kept([f"text {number}" for number in range(5000)], test_share=share)
    count = sum(document.split == "test" for document in documents)
    assert abs(count - 5000 * share) < 4 * math.sqrt(5000 * share * (1 - share))


def test_a_document_stays_in_its_split_when_the_corpus_grows() -> None:
    few, _ = kept([f"text {number}" for number in range(50)])
    many, _ = kept([f"other {number}" for number in range(99)] + [f"text  {number}\n" for number in range(50)])
    splits = {" ".join(document.text.split()): document.split for document in many}
    assert {document.text: document.split for document in few}.items() <= splits.items()


def test_another_seed_gives_another_split() -> None:
    texts = [f"text {number}" for number in range(50)]
    assert [d.split for d in kept(texts, seed=1)[0]] != [d.split for d in kept(texts, seed=2)[0]]


def test_the_corpuss_own_splits_are_kept_training_first() -> None:
    texts = [("a", "test"), ("b", "train"), ("c", "test"), ("d", "train")]
    documents, stats = kept(texts, test_share="source")
    assert [(d.number, d.split, d.text) for d in documents] == [
        (0, "train", "b"), (1, "train", "d"), (2, "test", "a"), (3, "test", "c"),
    ]  # fmt: skip
    assert stats.read == 4


def test_a_test_document_that_is_in_the_training_split_is_dropped_and_counted_apart() -> None:
    texts = [("leak", "test"), ("b", "train"), ("b ", "train"), ("c", "test"), ("c", "test"), ("leak", "train")]
    documents, stats = kept(texts, test_share="source")
    assert [(d.split, d.text) for d in documents] == [("train", "b"), ("train", "leak"), ("test", "c")]
    assert stats == CorpusStats(read=6, empty=0, duplicates=2, test_documents_in_train=1)


def test_own_splits_that_are_not_there_are_named() -> None:
    with pytest.raises(DataError, match=r"file:1 belongs to no split, but prepare\.test_share is source"):
        kept([("a", "train"), "b"], test_share="source")


def test_half_of_a_surrogate_pair_is_named() -> None:
    with pytest.raises(DataError, match=r"file:1 holds half of a surrogate pair, .* after 'some words '"):
        kept(["fine", "some words \ud800 more"])


@given(st.lists(st.tuples(st.text("ab \n", max_size=5), st.sampled_from(["train", "test"]))), st.booleans())
def test_no_text_is_in_both_splits_or_twice(texts: list[tuple[str, str]], own: bool) -> None:
    documents, stats = kept(texts, test_share="source" if own else 0.5)
    words = [" ".join(document.text.split()) for document in documents]
    assert len(set(words)) == len(words)
    assert set(words) == {" ".join(text.split()) for text, _ in texts} - {""}
    assert stats.read == len(texts) == len(words) + stats.empty + stats.duplicates + stats.test_documents_in_train


# Several shards


def shards_of(*texts: Sequence[str], seed: int = 1) -> list[AssignedShard]:
    """Return shards as workers get them, with the places of their duplicates."""
    prepare = replace(DEFAULTS.prepare, seed=seed)
    with TemporaryDirectory() as folder:
        shards = [replace(shard_of(each), number=number) for number, each in enumerate(texts)]
        digested = [digest_shard(prepare, Path(folder), shard) for shard in shards]
        runs = [each.runs for each in digested]
        found = [find_duplicates(Path(folder), runs, part) for part in parts_of(chain.from_iterable(runs))]
        assigned = assign(shards, digested, np.sum([each.per_shard for each in found], axis=0))
        dropped = [each.run for each in found]
        return [replace(shard, duplicates=places_in(number, dropped)) for number, shard in enumerate(assigned)]


def test_of_equal_documents_the_first_stays() -> None:
    shards = shards_of(["a", " ", "b"], [], ["b", "c", "a ", "c"], ["c", "d"])
    assert [each.first_document for each in shards] == [0, 2, 2, 3]
    assert [each.duplicates.tolist() for each in shards if each.duplicates is not None] == [[], [], [0, 2, 3], [0]]
    assert [each.expected for each in shards] == [
        CorpusStats(read=3, empty=1), CorpusStats(), CorpusStats(read=4, duplicates=3),
        CorpusStats(read=2, duplicates=1),
    ]  # fmt: skip


@given(st.lists(st.lists(st.text("ab \n", max_size=3), max_size=6), min_size=1, max_size=5), st.integers(0, 3))
def test_documents_of_shards_are_those_of_one_text(texts: list[list[str]], seed: int) -> None:
    together, alone = CorpusStats(), CorpusStats()
    found: list[SplitDocument] = []
    for shard in shards_of(*texts, seed=seed):
        stats = CorpusStats()
        found += split_documents(shard, stats, replace(DEFAULTS.prepare, test_share=0.5, seed=seed))
        together.merge(stats)
        assert shard.expected == stats
    one = shard_of([text for each in texts for text in each])
    assert found == list(split_documents(one, alone, replace(DEFAULTS.prepare, test_share=0.5, seed=seed)))
    assert together == alone


def test_a_text_that_is_another_than_before_is_noticed() -> None:
    first, second = shards_of(["a", "b"], ["b", "c"])
    assert [
        each.plain for each in split_documents(second, CorpusStats(), replace(DEFAULTS.prepare, test_share=0.5, seed=1))
    ] == ["c"]
    for texts in (["b"], ["b", "c", "d"], ["b", "c", "c"], ["d", "c"], ["b", "d"], ["c", "b"]):
        changed = replace(second, text=shard_of(texts).text)
        with pytest.raises(DataError, match="file was changed while it was read: run the command again"):
            list(split_documents(changed, CorpusStats(), replace(DEFAULTS.prepare, test_share=0.5, seed=1)))
    assert first.expected == CorpusStats(read=2)


def test_more_documents_than_there_are_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MOST_DOCUMENTS", 2)
    assert len(shards_of(["a"], ["b", "a"])) == 2
    with pytest.raises(DataError, match="3 documents are more than the 2 of a data set: make several data sets"):
        shards_of(["a"], ["b", "c"])


@pytest.mark.parametrize("share", ["source", 0.5])
def test_words_are_counted_in_the_training_documents_alone(tiny: Params, tmp_path: Path, share: Share) -> None:
    texts = [(f"text{n % 13}", ("test", "train")[n % 2]) for n in range(20)]
    prepare = replace(tiny.prepare, test_share=share, tokenizer="words", seed=1)
    counted = count_shard(prepare, tmp_path, None, shard_of(texts))
    documents, _ = kept(texts, test_share=share)
    train = [document.text for document in documents if document.split == "train"]
    assert dict(chain.from_iterable(map(read_words, counted.runs))) == dict.fromkeys(train, 1)
    assert counted.words == len(train)
    assert counted.documents["train"] == len(train) > 1
    assert counted.documents["test"] == (1 if share == "source" else len(documents) - len(train))


def test_letters_are_equal_whether_composed_or_not() -> None:
    composed, apart = "La canci\u00f3n", "La cancio\u0301n"
    assert text_digest(composed, "x", seed=1) == text_digest(apart, "x", seed=1)
    assert text_digest(composed, "x", seed=1) != text_digest("La cancion", "x", seed=1)


# Chunks


def documents(*sizes: int, splits: str = "train") -> Iterator[SplitDocument]:
    for number, size in enumerate(sizes):
        yield SplitDocument(number=number, split=splits, text="", plain="x" * size)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a chunk be complete with 10 characters and 3 documents, or with 50 characters."""
    monkeypatch.setattr(chunks_module, "_CHARACTERS", 10)
    monkeypatch.setattr(chunks_module, "_DOCUMENTS", 3)
    monkeypatch.setattr(chunks_module, "_MOST_CHARACTERS", 50)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("sizes", "numbers"),
    [
        ((4, 4, 4, 4, 4, 4), [(0, 1, 2), (3, 4, 5)]),
        ((4, 4, 4, 4, 4, 4, 4), [(0, 1, 2), (3, 4, 5, 6)]),
        ((1, 1, 1, 1, 6, 4), [(0, 1, 2, 3, 4, 5)]),
        ((90, 90, 90, 90), [(0, 1), (2, 3)]),
        ((90, 1, 90, 1, 90, 90), [(0, 1, 2), (3, 4, 5)]),  # one document is never more than half of a chunk
        ((90, 4, 4, 4, 4), [(0, 1, 2, 3, 4)]),
        ((4,), [(0,)]),
        ((), []),
    ],
)
def test_a_chunk_has_enough_text_and_enough_documents(sizes: tuple[int, ...], numbers: list[tuple[int, ...]]) -> None:
    found = list(chunks(documents(*sizes)))
    assert [chunk.numbers for chunk in found] == numbers
    assert all(len(text) == sizes[n] for chunk in found for n, text in zip(chunk.numbers, chunk.texts, strict=True))


@pytest.mark.usefixtures("small")
@given(st.lists(st.tuples(st.integers(1, 30), st.sampled_from(["train", "test"])), max_size=40))
def test_every_document_is_in_one_chunk_of_its_split_in_order(sizes: list[tuple[int, str]]) -> None:
    made = [SplitDocument(number=n, split=split, text="", plain="x" * size) for n, (size, split) in enumerate(sizes)]
    found = list(chunks(made))
    for split in ("train", "test"):
        numbers = [number for chunk in found if chunk.split == split for number in chunk.numbers]
        assert numbers == [document.number for document in made if document.split == split]
    few = [chunk for chunk in found if len(chunk.numbers) < 2]
    assert all(sum(d.split == chunk.split for d in made) < 2 for chunk in few)  # nobody is alone without need


def test_a_validation_split_takes_its_share_of_the_other_documents_and_leaves_the_test_split_alone() -> None:
    shard = shard_of([f"text {number}" for number in range(2000)])

    def splits(**changes: Any) -> dict[str, set[str]]:  # noqa: ANN401
        found: dict[str, set[str]] = {}
        for document in split_documents(shard, CorpusStats(), replace(DEFAULTS.prepare, test_share=0.2, **changes)):
            found.setdefault(document.split, set()).add(document.plain)
        return found

    without, with_one = splits(), splits(validation_share=0.25)
    assert without["test"] == with_one["test"]
    assert without["train"] == with_one["train"] | with_one["validation"]
    assert not with_one["train"] & with_one["validation"]
    assert len(with_one["validation"]) / len(without["train"]) == pytest.approx(0.25, abs=0.04)  # 4 standard errors


def test_of_splits_of_its_own_only_training_documents_go_to_the_validation_split() -> None:
    own = {f"text {number}": "test" if number % 3 == 0 else "train" for number in range(600)}
    prepare = replace(DEFAULTS.prepare, test_share="source", validation_share=0.5)
    found = list(split_documents(shard_of(list(own.items())), CorpusStats(), prepare))
    assert {own[document.plain] for document in found if document.split == "validation"} == {"train"}
    assert sum(document.split == "validation" for document in found) == pytest.approx(200, abs=40)
    assert {document.plain for document in found if document.split == "test"} == {f"text {n}" for n in range(0, 600, 3)}
