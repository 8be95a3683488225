"""Which documents are kept, in which split; and the chunks that they are worked on in."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertpipe.core.errors import DataError
from bertpipe.sources.text import chunks as chunks_module
from bertpipe.sources.text.chunks import chunks
from bertpipe.sources.text.corpus import Corpus, Found, Kept
from bertpipe.sources.text.documents import Document

Share = float | Literal["source"]


def corpus_of(texts: Sequence[str | tuple[str, str | None]], *, test_share: Share = 0.5, seed: int = 1) -> Corpus:
    """Return a corpus of texts, or of texts with the split that is their own."""
    pairs = [(text, None) if isinstance(text, str) else text for text in texts]
    made = [Document(text=text, origin=f"file:{at}", split=split) for at, (text, split) in enumerate(pairs)]

    def read(split: str | None) -> list[Document]:
        return [document for document in made if split is None or document.split in {split, None}]

    return Corpus(read=read, test_share=test_share, seed=seed)


def kept(texts: Sequence[str | tuple[str, str | None]], **settings: Share | int) -> tuple[list[Kept], Found]:
    found = Found()
    return list(corpus_of(texts, **settings).documents(found)), found  # type: ignore[arg-type]


def test_equal_documents_are_kept_once_whatever_their_white_space() -> None:
    documents, found = kept(["One  two.", "three", "One\n two. ", "One<br />two.", "one two."])
    assert [document.text for document in documents] == ["One  two.", "three", "one two."]
    assert [document.number for document in documents] == [0, 1, 2]
    assert found == Found(read=5, empty=0, duplicates=2, test_documents_in_train=0)


def test_documents_without_a_word_are_dropped() -> None:
    documents, found = kept(["<br /><br>", " \n", "word"])
    assert [document.text for document in documents] == ["word"]
    assert found.empty == 2


def test_a_document_is_kept_as_it_was_found_and_read_without_line_breaks() -> None:
    (document,), _ = kept(["One.<br /><br />Two  <b>."])
    assert document.text == "One.<br /><br />Two  <b>."
    assert document.plain == "One.\n\nTwo  <b>."


def test_a_passage_can_be_repeated_and_gives_the_same() -> None:
    corpus = corpus_of(["a", "b", "a", "c"])
    one, other = Found(), Found()
    assert list(corpus.documents(one)) == list(corpus.documents(other))
    assert one == other


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
    documents, found = kept(texts, test_share="source")
    assert [(d.number, d.split, d.text) for d in documents] == [
        (0, "train", "b"), (1, "train", "d"), (2, "test", "a"), (3, "test", "c"),
    ]  # fmt: skip
    assert found.read == 4


@pytest.mark.parametrize("share", ["source", 0.5])
def test_the_training_documents_alone_are_those_of_the_whole(share: Share) -> None:
    corpus = corpus_of([(f"text {n % 9}", ("test", "train")[n % 2]) for n in range(20)], test_share=share)
    found = Found()
    alone = list(corpus.documents(found, train_only=True))
    assert alone == [document for document in corpus.documents(Found()) if document.split == "train"]
    assert found.read == (10 if share == "source" else 20)
    assert len(alone) > 1


def test_a_test_document_that_is_in_the_training_split_is_dropped_and_counted_apart() -> None:
    texts = [("leak", "test"), ("b", "train"), ("b ", "train"), ("c", "test"), ("c", "test"), ("leak", "train")]
    documents, found = kept(texts, test_share="source")
    assert [(d.split, d.text) for d in documents] == [("train", "b"), ("train", "leak"), ("test", "c")]
    assert found == Found(read=6, empty=0, duplicates=2, test_documents_in_train=1)


def test_own_splits_that_are_not_there_are_named() -> None:
    with pytest.raises(DataError, match=r"file:1 belongs to no split, but prepare\.test_share is source"):
        kept([("a", "train"), "b"], test_share="source")


def test_half_of_a_surrogate_pair_is_named() -> None:
    with pytest.raises(DataError, match=r"file:1 holds half of a surrogate pair, .* after 'some words '"):
        kept(["fine", "some words \ud800 more"])


@given(st.lists(st.tuples(st.text("ab \n", max_size=5), st.sampled_from(["train", "test"]))), st.booleans())
def test_no_text_is_in_both_splits_or_twice(texts: list[tuple[str, str]], own: bool) -> None:
    documents, found = kept(texts, test_share="source" if own else 0.5)
    words = [" ".join(document.text.split()) for document in documents]
    assert len(set(words)) == len(words)
    assert set(words) == {" ".join(text.split()) for text, _ in texts} - {""}
    assert found.read == len(texts) == len(words) + found.empty + found.duplicates + found.test_documents_in_train


# Chunks


def documents(*sizes: int, splits: str = "train") -> Iterator[Kept]:
    for number, size in enumerate(sizes):
        yield Kept(number=number, split=splits, text="", plain="x" * size)


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
        ((90, 1, 90, 1, 1), [(0, 1), (2, 3, 4)]),
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
    made = [Kept(number=n, split=split, text="", plain="x" * size) for n, (size, split) in enumerate(sizes)]
    found = list(chunks(made))
    for split in ("train", "test"):
        numbers = [number for chunk in found if chunk.split == split for number in chunk.numbers]
        assert numbers == [document.number for document in made if document.split == split]
    few = [chunk for chunk in found if len(chunk.numbers) < 2]
    assert all(sum(d.split == chunk.split for d in made) < 2 for chunk in few)  # nobody is alone without need
