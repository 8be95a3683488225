"""One CSV row: checked on the way in, written on the way out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertpipe.data.masking import Corruption
from bertpipe.sources.notebook.row import PairRow, RowFault, parse_row
from bertpipe.sources.notebook.sentence_pairs import SentencePair
from bertpipe.sources.notebook.writer import csv_fields
from datasets import GOOD, Fields, row_fields

VOCAB = 19
WORD = st.integers(5, VOCAB - 1)


@st.composite
def corrupted_pairs(draw: st.DrawFn) -> tuple[SentencePair, Corruption]:
    first, second = draw(st.lists(WORD, min_size=1, max_size=9)), draw(st.lists(WORD, min_size=1, max_size=9))
    pair = SentencePair(document=0, first=tuple(first), second=tuple(second), is_next=draw(st.booleans()))
    inputs, chosen = [], []
    for token_id in [1, *first, 2, *second, 2]:
        is_word = token_id >= 5
        chosen.append(is_word and draw(st.booleans()))
        inputs.append(draw(st.one_of(st.just(3), st.just(token_id), WORD)) if chosen[-1] else token_id)
    return pair, Corruption(chosen=np.array(chosen), inputs=np.array(inputs, dtype=np.int32))


# What a row may hold: any text but NUL, a lone surrogate, which is not UTF-8, and the marks of bytes that are not.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0", max_codepoint=0x10FEFF))


@given(TEXTS, corrupted_pairs())
def test_what_is_written_reads_back(text: str, written: tuple[SentencePair, Corruption]) -> None:
    pair, corruption = written
    true = np.array([1, *pair.first, 2, *pair.second, 2])
    assert parse_row(csv_fields(text, pair, corruption), VOCAB) == PairRow(
        text=text,
        inputs=corruption.inputs.tolist(),
        labels=np.where(corruption.chosen, true, 0).tolist(),
        second_segment_start=len(pair.first) + 2,
        is_next=pair.is_next,
    )


def test_fields_are_padded_in_the_middle_as_the_notebooks_are() -> None:
    pair = SentencePair(document=0, first=(5,), second=(6, 7, 8), is_next=False)
    chosen = np.array([False, True, False, False, False, True, False])
    inputs = np.array([1, 3, 2, 6, 7, 9, 2], dtype=np.int32)
    assert csv_fields("Text", pair, Corruption(chosen=chosen, inputs=inputs)) == [
        "Text",
        "[1, 3, 2, 0, 6, 7, 9, 2]",
        "[0, 5, 0, 0, 0, 0, 8, 0]",
        "1,1,1,0,2,2,2,2",
        "0",
    ]


def test_padding_in_mid_row_is_dropped_and_masks_keep_their_tokens() -> None:
    fields = row_fields(
        [1, 3, 2, 0, 0, 6, 3, 8, 2, 0], [0, 5, 0, 0, 0, 0, 7, 8, 0, 0], [1, 1, 1, 0, 0, 2, 2, 2, 2, 0], 0
    )
    assert parse_row(fields, VOCAB) == PairRow(
        text="A text.",
        inputs=[1, 3, 2, 6, 3, 8, 2],
        labels=[0, 5, 0, 0, 7, 8, 0],
        second_segment_start=3,
        is_next=False,
    )


def test_a_random_label_may_be_a_special_token() -> None:
    fields = row_fields([1, 5, 3, 2, 6, 2], [0, 0, 4, 0, 0, 0], [1, 1, 1, 1, 2, 2])
    assert parse_row(fields, VOCAB).labels == [0, 0, 4, 0, 0, 0]


def test_an_empty_half_is_valid() -> None:
    fields = row_fields([1, 2, 6, 2], [0] * 4, [1, 1, 2, 2])
    assert parse_row(fields, VOCAB).second_segment_start == 2


# Rejects

TOKENS, LABELS, SEGMENTS = [1, 5, 3, 2, 6, 2, 0], [0, 0, 7, 0, 0, 0, 0], [1, 1, 1, 1, 2, 2, 0]


def changed(column: int, value: str) -> list[str]:
    fields = row_fields(TOKENS, LABELS, SEGMENTS)
    fields[column] = value
    return fields


def with_ids(inputs: list[int] = TOKENS, labels: list[int] = LABELS, segments: list[int] = SEGMENTS) -> list[str]:
    return row_fields(inputs, labels, segments)


BAD: list[tuple[Fields, str, str]] = [
    ([""] * 5, "", "an empty line"),
    (changed(1, "[1, 5"), "BERT Input", "not a JSON list: Expecting ',' delimiter"),
    (changed(1, ""), "BERT Input", "not a JSON list: Expecting value"),
    (changed(1, "7"), "BERT Input", "not a JSON list"),
    (changed(1, '{"a": 1}'), "BERT Input", "not a JSON list"),
    (changed(1, "[1, 5.0, 3, 2, 6, 2, 0]"), "BERT Input", "holds something that is not an integer"),
    (changed(1, "[true, 5, 3, 2, 6, 2, 0]"), "BERT Input", "holds something that is not an integer"),
    (changed(1, '[1, "5", 3, 2, 6, 2, 0]'), "BERT Input", "holds something that is not an integer"),
    (changed(1, "[1, NaN, 3, 2, 6, 2, 0]"), "BERT Input", "holds something that is not an integer"),
    (changed(1, "[" * 100_000), "BERT Input", "not a JSON list"),
    (changed(2, "null"), "BERT Label", "not a JSON list"),
    (changed(3, "1,1,x"), "Segment Label", "not a JSON list: Expecting value"),
    (changed(3, "1 1 1"), "Segment Label", "not a JSON list: Expecting ',' delimiter"),
    (changed(4, "2"), "Is Next", "neither 0 nor 1"),
    (changed(4, "True"), "Is Next", "neither 0 nor 1"),
    (changed(4, ""), "Is Next", "neither 0 nor 1"),
    (with_ids(inputs=[1, 19, 3, 2, 6, 2, 0]), "BERT Input", "19 is not in 0 to 18"),
    (with_ids(inputs=[1, -5, 3, 2, 6, 2, 0]), "BERT Input", "-5 is not in 0 to 18"),
    (with_ids(labels=[0, 0, 19, 0, 0, 0, 0]), "BERT Label", "19 is not in 0 to 18"),
    (with_ids(segments=[1, 1, 1, 1, 3, 3, 0]), "Segment Label", "3 is not in 0 to 2"),
    (with_ids(labels=LABELS[:-1]), "BERT Input", "7 ids, 6 labels, 7 segments"),
    (with_ids(segments=SEGMENTS[:-1]), "BERT Input", "7 ids, 7 labels, 6 segments"),
    (with_ids([5, 5, 3, 2, 6, 2, 0]), "BERT Input", "not of the form [CLS] A [SEP] B [SEP]"),
    (with_ids([1, 5, 3, 2, 6, 6, 0]), "BERT Input", "not of the form [CLS] A [SEP] B [SEP]"),
    (with_ids([1, 5, 2, 2, 6, 2, 0]), "BERT Input", "not of the form [CLS] A [SEP] B [SEP]"),
    (with_ids([1, 1, 3, 2, 6, 2, 0]), "BERT Input", "not of the form [CLS] A [SEP] B [SEP]"),
    (with_ids([1, 5, 3, 2, 2, 6, 0]), "BERT Input", "not of the form [CLS] A [SEP] B [SEP]"),
    (with_ids([0] * 7, [0] * 7, [0] * 7), "BERT Input", "not of the form [CLS] A [SEP] B [SEP]"),
    (with_ids([], [], []), "BERT Input", "not of the form [CLS] A [SEP] B [SEP]"),
    (with_ids(segments=[1, 1, 1, 2, 2, 2, 0]), "Segment Label", "not 1 for [CLS] A [SEP] and 2 for B [SEP]"),
    (with_ids(segments=[1, 1, 1, 1, 2, 0, 0]), "Segment Label", "not 1 for [CLS] A [SEP] and 2 for B [SEP]"),
    (with_ids(segments=[1, 1, 1, 1, 2, 2, 2]), "Segment Label", "segment 2 at padding, position 6"),
    (with_ids(labels=[0, 0, 7, 0, 0, 0, 8]), "BERT Label", "label 8 at padding, position 6"),
    (with_ids(labels=[8, 0, 7, 0, 0, 0, 0]), "BERT Label", "label 8 at [CLS] or [SEP], position 0"),
    (with_ids(labels=[0, 0, 7, 0, 0, 8, 0]), "BERT Label", "label 8 at [CLS] or [SEP], position 5"),
    (["\U0010ffe9", *GOOD[1:]], "Original Text", "not UTF-8"),  # the mark of a byte E9
    (["a\0b", *GOOD[1:]], "Original Text", "holds a NUL character"),
]


@pytest.mark.parametrize(("fields", "column", "reason"), BAD, ids=lambda value: None)
def test_a_bad_row_names_its_column_and_the_reason(fields: Fields, column: str, reason: str) -> None:
    with pytest.raises(RowFault) as caught:
        parse_row(fields, VOCAB)
    assert caught.value.column == column
    assert caught.value.reason.startswith(reason)


@given(st.lists(st.text(st.characters(max_codepoint=0x2FF)), min_size=5, max_size=5))
def test_whatever_text_a_row_holds_it_is_a_reject(fields: list[str]) -> None:
    with pytest.raises(RowFault):
        parse_row(fields, VOCAB)


@given(
    st.lists(st.integers(-1, 7), max_size=9),
    st.lists(st.integers(0, 7), max_size=9),
    st.lists(st.integers(0, 2)),
)
def test_whatever_ids_a_row_holds_it_keeps_the_contract_or_is_a_reject(
    inputs: list[int], labels: list[int], segments: list[int]
) -> None:
    try:
        row = parse_row(row_fields(inputs, labels, segments), VOCAB)
    except RowFault:
        return
    assert row.inputs[0] == 1
    assert row.inputs[-1] == row.inputs[row.second_segment_start - 1] == 2
    assert 0 not in row.inputs
    assert all(label == 0 for token, label in zip(row.inputs, row.labels, strict=True) if token in {1, 2})


def test_a_declared_vocabulary_bounds_ids_and_without_one_only_memory_does() -> None:
    fields = row_fields([1, 5, 2**20 - 1, 2, 6, 2], [0] * 6, [1, 1, 1, 1, 2, 2])
    assert parse_row(fields, None).inputs[2] == 2**20 - 1
    with pytest.raises(RowFault, match="1048575 is not in 0 to 18"):
        parse_row(fields, 19)
    fields = row_fields([1, 5, 2**20, 2, 6, 2], [0] * 6, [1, 1, 1, 1, 2, 2])
    with pytest.raises(RowFault, match="1048576 is not in 0 to 1048575"):
        parse_row(fields, None)
