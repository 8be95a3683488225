"""Words found by their rank: the notebook numbers words by descending frequency, then by the alphabet.

Between two ids whose words are known lie the ids of the words that rank between these words. Where as many words as ids
are left there, each word gets the id of its rank.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS

_FIRST_WORD = len(SPECIAL_TOKENS)


def rank(words: Sequence[str], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the codes of the words that occur, by descending count, then by the alphabet.

    Args:
        words: each word by its code.
        counts: how often each occurs in the texts of the training split; shape [words].
    """
    return np.array(
        sorted(np.flatnonzero(counts).tolist(), key=lambda code: (-counts[code], words[code])), dtype=np.int64
    )


def fill(
    code_of_id: NDArray[np.int64], ranked: NDArray[np.int64], *, hints: Mapping[int, Sequence[int]]
) -> dict[int, int]:
    """Return further words by their ids.

    Args:
        code_of_id: the words that are known; -1 elsewhere; shape [vocab].
        ranked: all words by rank, as codes.
        hints: for a word, ids that it may have; it gets one if only this one is in the word's gap.
    """
    found: dict[int, int] = {}
    known = code_of_id.copy()
    for _ in range(2):
        gaps = list(_gaps(known, ranked))
        for ids, codes in gaps:
            if len(ids) == len(codes):
                found.update(zip(ids, codes, strict=True))
            else:
                found.update(_hinted(ids, codes, hints))
        for token_id, code in found.items():
            known[token_id] = code
    return found


def _gaps(code_of_id: NDArray[np.int64], ranked: NDArray[np.int64]) -> "list[tuple[list[int], list[int]]]":
    """Return for each gap between two known neighbours the ids and the words that are left in it."""
    place = np.full(int(max(ranked.max(initial=-1), code_of_id.max(initial=-1))) + 1, -1)
    place[ranked] = np.arange(len(ranked))
    known = np.flatnonzero(code_of_id >= 0)
    known = known[place[code_of_id[known]] >= 0]
    places = place[code_of_id[known]]
    rising = _longest_rising(places.tolist())  # a word that occurs more often in texts without rows ranks elsewhere
    ids = [_FIRST_WORD - 1, *known[rising].tolist(), len(code_of_id)]
    ranks = [-1, *places[rising].tolist(), len(ranked)]
    is_free_id, is_free_word = code_of_id < 0, np.ones(len(place), dtype=np.bool_)
    is_free_word[code_of_id[code_of_id >= 0]] = False
    is_free_rank = is_free_word[ranked]
    gaps = []
    for (first_id, last_id), (first, last) in zip(pairwise(ids), pairwise(ranks), strict=True):
        if last_id - first_id > 1 and last - first > 1:
            free = first_id + 1 + np.flatnonzero(is_free_id[first_id + 1 : last_id])
            words = ranked[first + 1 : last][is_free_rank[first + 1 : last]]
            if len(free) and len(words):
                gaps.append((free.tolist(), words.tolist()))
    return gaps


def _hinted(ids: Sequence[int], codes: Sequence[int], hints: Mapping[int, Sequence[int]]) -> dict[int, int]:
    """Return the words of a gap that have exactly one hint in it."""
    within = {code: [token_id for token_id in hints.get(code, ()) if ids[0] <= token_id <= ids[-1]] for code in codes}
    sole = {code: found[0] for code, found in within.items() if len(found) == 1 and found[0] in set(ids)}
    claims = list(sole.values())
    return {token_id: code for code, token_id in sole.items() if claims.count(token_id) == 1}


def _longest_rising(values: Sequence[int]) -> list[int]:
    """Return the places of a longest rising subsequence (Schensted 1961, by patience sorting)."""
    tops: list[int] = []
    top_places: list[int] = []
    before = [-1] * len(values)
    for place, value in enumerate(values):
        pile = bisect_left(tops, value)
        if pile == len(tops):
            tops.append(value)
            top_places.append(place)
        else:
            tops[pile], top_places[pile] = value, place
        before[place] = top_places[pile - 1] if pile else -1
    place, rising = (top_places[-1] if top_places else -1), []
    while place >= 0:
        rising.append(place)
        place = before[place]
    return rising[::-1]
