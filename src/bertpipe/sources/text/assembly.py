"""Pairs of segments to rows: cut to their length, put together, masked."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.randomness import uniform
from bertpipe.data.masking import Masking
from bertpipe.data.pair_dataset import PairDataset
from bertpipe.data.ragged import places_within
from bertpipe.data.tokenization.fitting import kept_lengths
from bertpipe.sources.text.segments import FRAME_TOKENS, Segments

_CUT = 60  # stream of randomness
_FIRST, _SECOND = range(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The ids that stand around A and B."""

    cls_id: int
    sep_id: int


def cut_to_room(segments: Segments, *, front_share: float, seed: int) -> Segments:
    """Return the pairs shortened to the tokens they have room for.

    Token by token the longer half gives one away, B where both are equal; each is its first one with probability
    `front_share`, else its last.
    """
    first, second = segments.first_end - segments.first_start, segments.second_end - segments.second_start
    first_kept, second_kept = kept_lengths(first, second, segments.room)
    first_cut, second_cut = first - first_kept, second - second_kept
    first_front, second_front = (
        _front_cuts(cut, segments.identity, half, front_share=front_share, seed=seed)
        for cut, half in ((first_cut, _FIRST), (second_cut, _SECOND))
    )
    return replace(
        segments,
        first_start=segments.first_start + first_front,
        first_end=segments.first_end - (first_cut - first_front),
        second_start=segments.second_start + second_front,
        second_end=segments.second_end - (second_cut - second_front),
    )


def _front_cuts(
    cut: NDArray[np.int64], identity: NDArray[np.int64], half: int, *, front_share: float, seed: int
) -> NDArray[np.int64]:
    """Return how many of the tokens that each pair's half loses are its first ones; shape [pairs]."""
    pair = np.repeat(np.arange(len(cut)), cut)
    token = places_within(cut)
    is_front = uniform(seed, _CUT, half, identity[pair], token) < front_share
    return np.bincount(pair[is_front], minlength=len(cut))


def assemble(
    segments: Segments, token_ids: NDArray[np.int32], frame: Frame, masking: Masking, *, seed: int
) -> PairDataset:
    """Return the rows `[CLS] A [SEP] B [SEP]` with static masks, numbered from 0.

    Args:
        segments: pairs as stretches of `token_ids`.
        token_ids: true tokens.
        frame: what stands around A and B.
        masking: the rule of the masks.
        seed: seed of the masks; with it each mask is a function of the pair's identity and the position.
    """
    first, second = segments.first_end - segments.first_start, segments.second_end - segments.second_start
    lengths = first + second + FRAME_TOKENS
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    second_segment_start = first + 2
    row = np.repeat(np.arange(len(lengths)), lengths)
    position = places_within(lengths)
    in_second = position >= second_segment_start[row]
    source = np.where(in_second, (segments.second_start - second_segment_start)[row], segments.first_start[row] - 1)
    rows = token_ids.take(source + position, mode="clip")  # at the frame's places, whatever stands there
    rows[offsets[:-1]] = frame.cls_id
    rows[offsets[:-1] + second_segment_start - 1] = frame.sep_id
    rows[offsets[1:] - 1] = frame.sep_id
    corruption = masking.corrupt(rows, segments.identity[row], position, seed=seed, epoch=0)
    masked = np.flatnonzero(corruption.chosen)
    return PairDataset(
        token_ids=rows,
        offsets=offsets,
        row=np.arange(len(lengths)),
        second_segment_start=second_segment_start.astype(np.int32),
        is_next=segments.is_next,
        document=segments.document.astype(np.int32),
        masked_offsets=np.searchsorted(masked, offsets),
        masked_positions=position[masked].astype(np.int32),
        masked_inputs=corruption.inputs[masked],
        masked_labels=rows[masked],
    )
