"""One CSV row: checked on the way in, written on the way out."""

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertpipe import inference
from bertpipe.data.masking import Corruption
from bertpipe.data.pairs import SentencePair
from bertpipe.data.rows import COLUMNS, PairRow, Reject, RowFault, RowRules, csv_fields, parse_row, read_rows
from bertpipe.errors import DataError
from datasets import GOOD, Fields, csv_text, row_fields

VOCAB = 19
RULES = RowRules(vocab_size=VOCAB, max_length=10_000, labels_are_true=True)
WORD = st.integers(5, VOCAB - 1)


def rules(**changes: Any) -> RowRules:  # noqa: ANN401
    return RowRules(**({"vocab_size": VOCAB, "max_length": 128, "labels_are_true": False} | changes))


def read(text: str, given_rules: RowRules = RULES) -> list[PairRow | Reject]:
    return list(read_rows(io.StringIO(text, newline=""), "some.csv", given_rules))


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


# What a CSV file can hold: any text but a lone surrogate, which is not UTF-8.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.tuples(TEXTS, corrupted_pairs()), max_size=5))
def test_what_is_written_reads_back(written: list[tuple[str, tuple[SentencePair, Corruption]]]) -> None:
    rows = read(csv_text([csv_fields(text, pair, corruption) for text, (pair, corruption) in written]))
    assert len(rows) == len(written)
    for row, (text, (pair, corruption)) in zip(rows, written, strict=True):
        positions = np.flatnonzero(corruption.chosen).tolist()
        true = [1, *pair.first, 2, *pair.second, 2]
        assert row == PairRow(
            text=text,
            token_ids=true,
            second_segment_start=len(pair.first) + 2,
            is_next=pair.is_next,
            masked_positions=positions,
            masked_inputs=corruption.inputs[positions].tolist(),
            masked_labels=[true[at] for at in positions],
            tokens_cut=0,
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
    assert parse_row(fields, rules()) == PairRow(
        text="A text.",
        token_ids=[1, 3, 2, 6, 3, 8, 2],
        second_segment_start=3,
        is_next=False,
        masked_positions=[1, 4, 5],
        masked_inputs=[3, 3, 8],
        masked_labels=[5, 7, 8],
        tokens_cut=0,
    )


def test_true_labels_are_put_back_under_their_masks() -> None:
    assert parse_row(GOOD, rules(labels_are_true=True)).token_ids == [1, 5, 7, 2, 6, 2]
    assert parse_row(GOOD, rules(labels_are_true=False)).token_ids == [1, 5, 3, 2, 6, 2]


def test_a_mask_without_label_is_kept_unsupervised_and_a_row_may_have_no_label_at_all() -> None:
    fields = row_fields([1, 5, 3, 2, 6, 2], [0] * 6, [1, 1, 1, 1, 2, 2])
    row = parse_row(fields, rules(labels_are_true=True))
    assert (row.token_ids, row.masked_positions, row.masked_labels) == ([1, 5, 3, 2, 6, 2], [2], [0])


def test_a_random_label_may_be_a_special_token() -> None:
    fields = row_fields([1, 5, 3, 2, 6, 2], [0, 0, 4, 0, 0, 0], [1, 1, 1, 1, 2, 2])
    assert parse_row(fields, rules()).masked_labels == [4]


def test_an_empty_half_is_valid() -> None:
    fields = row_fields([1, 2, 6, 2], [0] * 4, [1, 1, 2, 2])
    assert parse_row(fields, rules()).second_segment_start == 2


# Truncation


def long_row(first: int, second: int) -> list[str]:
    """Return a row of words 5, 6, ... all of them masked and labelled with themselves."""
    words_a, words_b = list(range(5, 5 + first)), list(range(100, 100 + second))
    return row_fields(
        [1, *[3] * first, 2, *[3] * second, 2],
        [0, *words_a, 0, *words_b, 0],
        [1] * (first + 2) + [2] * (second + 1),
    )


@pytest.mark.parametrize(
    ("first", "second", "limit", "kept"),
    [
        (9, 3, 12, (6, 3)),  # only the longer half loses
        (3, 9, 12, (3, 6)),
        (9, 7, 13, (5, 5)),  # both, once they are equal
        (9, 7, 12, (5, 4)),  # of equals B loses first
        (5, 5, 13, (5, 5)),  # fits exactly
        (1, 50, 8, (1, 4)),
    ],
)
def test_a_long_row_loses_the_end_of_its_longer_half_and_masks_move_along(
    first: int, second: int, limit: int, kept: tuple[int, int]
) -> None:
    row = parse_row(long_row(first, second), rules(vocab_size=None, max_length=limit, labels_are_true=True))
    words_a, words_b = list(range(5, 5 + kept[0])), list(range(100, 100 + kept[1]))
    assert row.token_ids == [1, *words_a, 2, *words_b, 2]
    assert len(row.token_ids) <= limit
    assert row.second_segment_start == kept[0] + 2
    assert row.masked_labels == [*words_a, *words_b]
    assert row.masked_positions == [*range(1, kept[0] + 1), *range(kept[0] + 2, kept[0] + 2 + kept[1])]
    assert row.tokens_cut == first + second - sum(kept)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(8, 60))
def test_training_rows_and_questions_are_cut_alike(first: int, second: int, limit: int) -> None:
    row = parse_row(long_row(first, second), rules(vocab_size=None, max_length=limit))
    kept = row.second_segment_start - 2, len(row.token_ids) - row.second_segment_start - 1
    assert kept == inference._cut_longer(first, second, limit - 3)


# Rejects

TOKENS, LABELS, SEGMENTS = [1, 5, 3, 2, 6, 2, 0], [0, 0, 7, 0, 0, 0, 0], [1, 1, 1, 1, 2, 2, 0]


def changed(column: int, value: str) -> list[str]:
    fields = row_fields(TOKENS, LABELS, SEGMENTS)
    fields[column] = value
    return fields


def with_ids(inputs: list[int] = TOKENS, labels: list[int] = LABELS, segments: list[int] = SEGMENTS) -> list[str]:
    return row_fields(inputs, labels, segments)


BAD: list[tuple[Fields, str, str]] = [
    (["a", "b"], "", "2 columns, expected 5"),
    ([*GOOD, ""], "", "6 columns, expected 5"),
    ([], "", "0 columns, expected 5"),
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
    (["\udcff", *GOOD[1:]], "Original Text", "not UTF-8"),
]


@pytest.mark.parametrize(("fields", "column", "reason"), BAD, ids=lambda value: None)
def test_a_bad_row_names_its_column_and_the_reason(fields: Fields, column: str, reason: str) -> None:
    with pytest.raises(RowFault) as caught:
        parse_row(fields, RULES)
    assert caught.value.column == column
    assert caught.value.reason.startswith(reason)


@given(st.lists(st.text(st.characters(max_codepoint=0x2FF)), max_size=6))
def test_whatever_text_a_row_holds_it_is_a_reject(fields: list[str]) -> None:
    with pytest.raises(RowFault):
        parse_row(fields, RULES)


@given(
    st.lists(st.integers(-1, 7), max_size=9),
    st.lists(st.integers(0, 7), max_size=9),
    st.lists(st.integers(0, 2)),
)
def test_whatever_ids_a_row_holds_it_keeps_the_contract_or_is_a_reject(
    inputs: list[int], labels: list[int], segments: list[int]
) -> None:
    try:
        row = parse_row(row_fields(inputs, labels, segments), rules())
    except RowFault:
        return
    assert row.token_ids[0] == 1
    assert row.token_ids[-1] == row.token_ids[row.second_segment_start - 1] == 2
    assert 0 not in row.token_ids
    assert all(row.token_ids[at] not in {1, 2} for at in row.masked_positions)


def test_a_reject_tells_file_row_line_and_value() -> None:
    text = csv_text([["two\r\nlines", *GOOD[1:]], GOOD, ["x\ny\nz", *changed(4, "?")[1:]], changed(1, "[1"), GOOD])
    rows = read(text, rules())
    assert [isinstance(row, Reject) for row in rows] == [False, False, True, True, False]
    bad_next, bad_input = rows[2], rows[3]
    assert bad_next == Reject(file="some.csv", row=3, line=5, column="Is Next", reason="neither 0 nor 1", value="?")
    assert isinstance(bad_input, Reject)
    assert (bad_input.row, bad_input.line, bad_input.column, bad_input.value) == (4, 8, "BERT Input", "[1")


def test_a_rejects_value_is_short_and_can_be_written_as_utf8() -> None:
    (row,) = read(csv_text([["\udcff" * 1000, *GOOD[1:]]]))
    assert isinstance(row, Reject)
    assert row.value == ("\\udcff" * 1000)[:200]
    assert len(json.dumps(row.value).encode("utf-8")) < 400


# Whole files


def test_nul_and_line_breaks_in_a_text_are_kept() -> None:
    (row,) = read(csv_text([["a\x00b\r\nc\n", *GOOD[1:]]]))
    assert isinstance(row, PairRow)
    assert row.text == "a\x00b\r\nc\n"


def test_a_byte_order_mark_is_no_part_of_the_header() -> None:
    assert len(read("\ufeff" + csv_text([GOOD]))) == 1


def test_bytes_that_are_not_utf8_make_a_reject_of_their_row_alone() -> None:
    content = csv_text([GOOD, ["caf#", *GOOD[1:]], GOOD]).encode("utf-8").replace(b"#", b"\xe9")
    stream = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="surrogateescape", newline="")
    good, bad, last = read_rows(stream, "some.csv", rules())
    assert isinstance(bad, Reject)
    assert (bad.row, bad.column, bad.reason, bad.value) == (2, "Original Text", "not UTF-8", "caf\\udce9")
    assert isinstance(good, PairRow)
    assert isinstance(last, PairRow)


def test_a_text_longer_than_the_csv_modules_limit_is_read() -> None:
    (row,) = read(csv_text([["x" * 200_000, *GOOD[1:]]]))
    assert isinstance(row, PairRow)
    assert len(row.text) == 200_000


@pytest.mark.parametrize("header", [COLUMNS[:-1], [*COLUMNS, "More"], ["Text", *COLUMNS[1:]]])
def test_other_columns_are_refused(header: Fields) -> None:
    with pytest.raises(DataError, match=r"some\.csv has the header .*, expected \['Original Text', "):
        read(csv_text([GOOD], header))


def test_an_empty_file_is_refused_and_one_without_rows_is_read() -> None:
    with pytest.raises(DataError, match="has the header None"):
        read("")
    assert read(csv_text([])) == []


def test_an_unclosed_quote_names_the_row_where_it_opens() -> None:
    text = csv_text([["two\nlines", *GOOD[1:]], GOOD]) + '"never closed,[1]\r\nmore\r\n'
    with pytest.raises(DataError, match=r"some\.csv, row 3 \(line 5\) is not CSV: unexpected end of data"):
        read(text)


def test_an_unclosed_quote_in_the_header_is_not_csv() -> None:
    with pytest.raises(DataError, match=r"some\.csv, line 1, is not CSV"):
        read('"Original Text,BERT Input')


def test_a_declared_vocabulary_bounds_ids_and_without_one_only_the_integer_does() -> None:
    fields = row_fields([1, 5, 2**31 - 1, 2, 6, 2], [0] * 6, [1, 1, 1, 1, 2, 2])
    assert parse_row(fields, rules(vocab_size=None)).token_ids[2] == 2**31 - 1
    with pytest.raises(RowFault, match="2147483647 is not in 0 to 18"):
        parse_row(fields, rules(vocab_size=19))
    fields = row_fields([1, 5, 2**31, 2, 6, 2], [0] * 6, [1, 1, 1, 1, 2, 2])
    with pytest.raises(RowFault, match="2147483648 is not in 0 to 2147483647"):
        parse_row(fields, rules(vocab_size=None))
