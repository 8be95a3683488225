"""Rows of segments: cut to their length, put together, masked."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertpipe.core.params import Params
from bertpipe.data.masking import Masking
from bertpipe.data.pair_dataset import read_dataset
from bertpipe.data.parquet_writer import PairWriter, table_of
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, word_level_tokenizer
from bertpipe.sources.text.chunks import Frame, assemble, cut_to_room
from bertpipe.sources.text.segments import Segments
from test_fitting import one_by_one

TOKENS = np.arange(100, 200, dtype=np.int32)
FRAME = Frame(cls_id=1, sep_id=2)


def segments(*pairs: tuple[int, int, int, int, int]) -> Segments:
    """Return pairs given as the start and end of A and B, and the room."""
    table = np.array(pairs, dtype=np.int64).reshape(-1, 5)
    return Segments(
        first_start=table[:, 0], first_end=table[:, 1], second_start=table[:, 2], second_end=table[:, 3],
        is_next=np.arange(len(table)) % 2 == 0, document=7 + np.arange(len(table)),
        identity=1000 + np.arange(len(table)), room=table[:, 4],
    )  # fmt: skip


def lengths(pairs: Segments) -> list[tuple[int, int]]:
    first, second = pairs.first_end - pairs.first_start, pairs.second_end - pairs.second_start
    return list(zip(first.tolist(), second.tolist(), strict=True))


def masking(tiny: Params) -> Masking:
    return Masking.of(tiny.masking, word_level_tokenizer([*SPECIAL_TOKENS, *(f"w{i}" for i in range(5, 200))]))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(2, 70))
def test_the_longer_half_gives_its_tokens_away(first: int, second: int, room: int) -> None:
    (cut,) = lengths(cut_to_room(segments((0, first, 0, second, room)), front_share=0.5, seed=1))
    assert cut == one_by_one(first, second, room)
    assert min(cut) >= 1


def test_from_the_end_alone_where_the_front_has_no_share() -> None:
    cut = cut_to_room(segments((10, 20, 30, 60, 14), (0, 2, 5, 8, 9)), front_share=0.0, seed=1)
    assert [cut.first_start.tolist(), cut.first_end.tolist()] == [[10, 0], [17, 2]]
    assert [cut.second_start.tolist(), cut.second_end.tolist()] == [[30, 5], [37, 8]]


def test_from_the_front_alone_where_it_has_all() -> None:
    cut = cut_to_room(segments((10, 20, 30, 60, 14)), front_share=1.0, seed=1)
    assert (cut.first_start[0], cut.first_end[0], cut.second_start[0], cut.second_end[0]) == (13, 20, 53, 60)


def test_each_token_comes_from_either_end_by_chance() -> None:
    pairs = segments(*[(0, 1, 0, 41, 21)] * 500)
    front = cut_to_room(pairs, front_share=0.5, seed=1).second_start
    assert abs(int(front.sum()) - 500 * 21 / 2) < 4 * math.sqrt(500 * 21 / 4)
    assert abs(float(front.var()) - 21 / 4) < 1.5  # 21 coins each, not one
    assert cut_to_room(pairs, front_share=0.5, seed=2).second_start.tolist() != front.tolist()


def test_rows_worked_by_hand(tiny: Params) -> None:
    rows = assemble(segments((0, 2, 10, 13, 9), (98, 99, 99, 100, 9)), TOKENS, FRAME, masking(tiny), seed=1)
    assert rows.token_ids.tolist() == [1, 100, 101, 2, 110, 111, 112, 2, 1, 198, 2, 199, 2]
    assert rows.offsets.tolist() == [0, 8, 13]
    assert rows.second_segment_start.tolist() == [4, 3]
    assert rows.row.tolist() == [0, 1]
    assert rows.document.tolist() == [7, 8]
    assert rows.is_next.tolist() == [True, False]


def test_masks_are_those_of_the_rule_for_the_pairs_identity(tiny: Params) -> None:
    pairs = segments(*[(at, at + 9, at + 20, at + 31, 50) for at in range(60)])
    rule = masking(tiny)
    rows = assemble(pairs, TOKENS, FRAME, rule, seed=5)
    assert len(rows.masked_labels) > 60
    for row in range(len(rows)):
        token_ids = rows.token_ids[rows.offsets[row] : rows.offsets[row + 1]]
        alone = rule.corrupt(token_ids, np.array(1000 + row), np.arange(len(token_ids)), seed=5, epoch=0)
        masks = slice(rows.masked_offsets[row], rows.masked_offsets[row + 1])
        assert rows.masked_positions[masks].tolist() == np.flatnonzero(alone.chosen).tolist()
        assert rows.masked_inputs[masks].tolist() == alone.inputs[alone.chosen].tolist()
        assert rows.masked_labels[masks].tolist() == token_ids[alone.chosen].tolist()


@pytest.mark.parametrize("pairs", [[(0, 2, 10, 13, 9)], [(0, 2, 10, 13, 9), (5, 30, 40, 70, 90)] * 9])
def test_rows_come_back_from_a_file_as_they_were(
    tiny: Params, tmp_path: Path, pairs: list[tuple[int, int, int, int, int]]
) -> None:
    rows = assemble(segments(*pairs), TOKENS, FRAME, masking(tiny), seed=1)
    table = table_of(rows)
    table.validate(full=True)
    assert table["length"].to_pylist() == rows.lengths.tolist()
    with PairWriter(tmp_path / "rows.parquet") as file:
        file.add(rows)
        file.add(assemble(segments(), TOKENS, FRAME, masking(tiny), seed=1))
        file.add(rows)
    again = read_dataset(tmp_path / "rows.parquet")
    assert again.row.tolist() == list(range(2 * len(rows)))
    for name in ("token_ids", "second_segment_start", "is_next", "document", "masked_positions", "masked_inputs"):
        assert getattr(again, name).tolist() == 2 * getattr(rows, name).tolist(), name
    assert again.offsets.tolist() == [*rows.offsets.tolist(), *(rows.offsets[-1] + rows.offsets[1:]).tolist()]
    counts = np.diff(rows.masked_offsets).tolist()
    assert np.diff(again.masked_offsets).tolist() == counts * 2
    assert again.masked_labels.tolist() == rows.masked_labels.tolist() * 2
