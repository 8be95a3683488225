"""NSP pairs: the true next sentence, or one of another document that could have been a next one."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertpipe.sources.notebook.sentence_pairs import SentencePair, sentence_pairs

Document = list[tuple[int, ...]]


def documents(count: int, sentences: int) -> list[Document]:
    """Return documents whose sentences are all different: (document, position)."""
    return [[(number, position) for position in range(sentences)] for number in range(count)]


SEVERAL = st.lists(
    st.lists(st.tuples(st.integers(5, 9), st.integers(5, 9)), min_size=1, max_size=5), min_size=2, max_size=6
)


def test_each_sentence_with_a_successor_gives_one_pair_in_order() -> None:
    pairs = list(sentence_pairs([*documents(3, 4), [(9, 9)]], seed=1))
    assert [pair.first for pair in pairs] == [(d, p) for d in range(3) for p in range(3)]
    assert [pair.document for pair in pairs] == [0] * 3 + [1] * 3 + [2] * 3


def test_a_true_pair_holds_the_next_sentence() -> None:
    for pair in sentence_pairs(documents(20, 6), seed=1):
        document, position = pair.first
        assert pair.is_next == (pair.second == (document, position + 1))


def test_a_negative_comes_from_another_document_and_is_never_its_first_sentence() -> None:
    negatives = [pair for pair in sentence_pairs(documents(20, 6), seed=1) if not pair.is_next]
    assert negatives
    for pair in negatives:
        assert pair.second[0] != pair.document
        assert pair.second[1] != 0


def test_a_negative_comes_from_everywhere_else() -> None:
    seconds = {pair.second for pair in sentence_pairs(documents(7, 5), seed=1) if not pair.is_next}
    many = {
        pair.second for seed in range(60) for pair in sentence_pairs(documents(7, 5), seed=seed) if not pair.is_next
    }
    assert seconds < many
    assert many == {(document, position) for document in range(7) for position in range(1, 5)}


def test_a_negative_never_reads_like_the_true_next_sentence() -> None:
    # Every document but one has the same second sentence.
    same: list[Document] = [[(number,), (5,)] for number in range(10, 20)]
    same.append([(20,), (6,)])
    for seed in range(20):
        for pair in sentence_pairs(same, seed=seed):
            true_next = (6,) if pair.document == 10 else (5,)
            assert pair.is_next == (pair.second == true_next)


def test_half_of_the_pairs_are_true_within_four_deviations() -> None:
    labels = [pair.is_next for pair in sentence_pairs(documents(200, 51), seed=1)]
    assert len(labels) == 10_000
    assert abs(sum(labels) - 5_000) < 4 * math.sqrt(10_000 / 4)


def test_the_second_sentence_alone_says_nothing_about_the_label() -> None:
    # Each later position stands equally often as a true next sentence and as a negative.
    pairs = list(sentence_pairs(documents(200, 6), seed=3))
    for position in range(1, 6):
        labels = [pair.is_next for pair in pairs if pair.second[1] == position]
        assert abs(sum(labels) - len(labels) / 2) < 4 * math.sqrt(len(labels) / 4)


@settings(max_examples=40)
@given(SEVERAL, st.integers(0, 2**31))
def test_pairs_are_a_pure_function_of_documents_and_seed(several: list[Document], seed: int) -> None:
    def drawn() -> list[SentencePair] | str:
        try:
            return list(sentence_pairs(several, seed=seed))
        except ValueError as error:
            return str(error)

    assert drawn() == drawn()


def test_another_seed_gives_other_labels() -> None:
    one, other = ([pair.is_next for pair in sentence_pairs(documents(9, 9), seed=seed)] for seed in (1, 2))
    assert one != other


@pytest.mark.parametrize("few", [[], [[(5,), (6,)]], [[(5,), (6,)], [(7,)], [(8,)]]])
def test_fewer_than_two_documents_with_a_second_sentence_are_refused(few: list[Document]) -> None:
    with pytest.raises(ValueError, match="at least two documents"):
        list(sentence_pairs(few, seed=1))


def test_documents_that_are_all_equal_are_refused() -> None:
    equal: list[Document] = [[(5,), (6,)]] * 3
    with pytest.raises(ValueError, match="are all texts equal"):
        [list(sentence_pairs(equal, seed=seed)) for seed in range(20)]
