"""Pairs of segments of several sentences, packed up to a length (Devlin et al. 2018, sections 3.1 and A.2)."""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.randomness import below, random_bits, uniform
from bertpipe.data.ragged import places_within

FRAME_TOKENS = 3
"""`[CLS]` and twice `[SEP]`: what a row holds beside A and B."""
_SHORT, _TARGET, _SPLIT, _LABEL, _TIE, _DIRECTION, _LIMIT = range(40, 47)  # streams of randomness, one per choice
_NEXT_SHARE = 0.5
_TEXTS, _GROUPS = 20, 2
"""One text of B stands in a twentieth of the pairs at most; one first sentence of B, or one document, in a half."""
_TRIES = 4
"""Elements that wait for a place and are tried at one."""
_IDENTITY_SHIFT = 32


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """The sentences of several documents, in order; none is empty."""

    token_ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    """Sentence s is `token_ids[offsets[s]:offsets[s + 1]]`; shape [sentences + 1]."""
    document: NDArray[np.int64]
    """Number of each sentence's document, rising; shape [sentences]."""

    @cached_property
    def bounds(self) -> NDArray[np.int64]:
        """Document d has the sentences from `bounds[d]` to before `bounds[d + 1]`; shape [documents + 1]."""
        edges = np.flatnonzero(np.diff(self.document)) + 1
        return np.concatenate([[0], edges, [len(self.document)]]) if len(self.document) else np.zeros(1, dtype=np.int64)

    @cached_property
    def place(self) -> NDArray[np.int64]:
        """How many sentences of its document stand before each sentence; shape [sentences]."""
        return np.arange(len(self.document)) - np.repeat(self.bounds[:-1], np.diff(self.bounds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """Pairs of segments as stretches of one array of tokens; each array of shape [pairs]."""

    first_start: NDArray[np.int64]
    first_end: NDArray[np.int64]
    second_start: NDArray[np.int64]
    second_end: NDArray[np.int64]
    is_next: NDArray[np.bool_]
    document: NDArray[np.int64]
    """Number of A's document."""
    identity: NDArray[np.int64]
    """What all chance about a pair goes by: where A begins, whatever other documents there are."""
    room: NDArray[np.int64]
    """Tokens that A and B may have together; the stretches may still be longer."""

    def select(self, chosen: NDArray[np.intp]) -> "Segments":
        """Return the chosen pairs."""
        return Segments(**{name: getattr(self, name)[chosen] for name in self.__slots__})


def identity_of(document: NDArray[np.int64], place: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one number for each place in each document."""
    return (document << _IDENTITY_SHIFT) + place


def bert_segments(
    sentences: Sentences, *, max_length: int, short_share: float, seed: int
) -> tuple[Segments, NDArray[np.int64]]:
    """Return the pairs of several documents, and the document of each pair that had to be left out.

    Each document is cut into runs of two or more sentences that reach the tokens a row has room for; by chance, a share
    of them aims at a smaller number, drawn evenly from 2 up. A single sentence left at the end belongs to the last run;
    a document of one sentence has no pair. A random number of a run's first sentences is A, the rest B.

    Half of the pairs, by chance, stay so. The others exchange their B: each takes one that is next in length among
    theirs, of another document, and gives its own away. Had a foreign B been drawn from anywhere, it could begin a
    document, or end early, as no true one does. So every B stands once, as a true one or as a false one by chance:
    neither its place in its document nor its length nor its words tell the label, and the lengths of rows agree as
    well. A pair never takes a B that begins with the sentence which truly follows A.

    That needs a variety of B. Where one text is B of more than a twentieth of the pairs, or more than half of the pairs
    have a B that begins with one sentence, or come from one document, then those above this limit are left out, before
    it is known which of them are next; and so is a pair for which no B is left.
    """
    target = _targets(sentences, max_length - FRAME_TOKENS, short_share, seed)
    begin, end = _runs(sentences, target)
    document, place = sentences.document[begin], sentences.place[begin]
    split = begin + 1 + (uniform(seed, _SPLIT, document, place) * (end - begin - 1)).astype(np.int64)
    offsets = sentences.offsets
    pairs = Segments(
        first_start=offsets[begin],
        first_end=offsets[split],
        second_start=offsets[split],
        second_end=offsets[end],
        is_next=uniform(seed, _LABEL, document, place) < _NEXT_SHARE,
        document=document,
        identity=identity_of(document, place),
        room=target[begin],
    )
    opening = _names(sentences.token_ids, offsets[split], offsets[split + 1])
    kept = _varied(pairs, opening, _names(sentences.token_ids, pairs.second_start, pairs.second_end), seed=seed)
    made = _with_foreign_seconds(pairs.select(kept), opening[kept], seed=seed)
    return made, document[~np.isin(pairs.identity, made.identity)]


def _targets(sentences: Sentences, room: int, short_share: float, seed: int) -> NDArray[np.int64]:
    """Return how many tokens a run aims at that begins with each sentence; shape [sentences]."""
    at = sentences.document, sentences.place
    is_short = uniform(seed, _SHORT, *at) < short_share
    return np.where(is_short, 2 + below(room - 1, seed, _TARGET, *at), room)


def _runs(sentences: Sentences, target: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first sentence of each run and the one after its last; each of shape [runs]."""
    offsets, targets = sentences.offsets.tolist(), target.tolist()
    bounds = sentences.bounds.tolist()
    begins, ends = [], []
    for begin, last in pairwise(bounds):
        while last - begin >= 2:  # noqa: PLR2004 - A and B
            end = bisect_left(offsets, offsets[begin] + targets[begin], begin + 2, last)
            end = last if last - end == 1 else end
            begins.append(begin)
            ends.append(end)
            begin = end  # noqa: PLW2901
    return np.array(begins, dtype=np.int64), np.array(ends, dtype=np.int64)


def _names(token_ids: NDArray[np.int32], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number for each stretch of tokens, equal where these are; shape [stretches]."""
    known: dict[bytes, int] = {}
    texts = (token_ids[start:end].tobytes() for start, end in zip(starts.tolist(), ends.tolist(), strict=True))
    return np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int64)


def _varied(pairs: Segments, opening: NDArray[np.int64], text: NDArray[np.int64], *, seed: int) -> NDArray[np.intp]:
    """Return the pairs that stay, in order: no text of B, first sentence of B or document has too many of them.

    Args:
        pairs: pairs with their true B.
        opening: the name of the sentence that B begins with; shape [pairs].
        text: the name of all of B; shape [pairs].
        seed: seed of the choice among those of one kind.
    """
    tie = random_bits(seed, _LIMIT, pairs.identity)
    kept, before = np.arange(len(tie)), -1
    while len(kept) != before:  # what one limit takes away raises the shares of the others
        before = len(kept)
        for name, parts in ((text, _TEXTS), (opening, _GROUPS), (pairs.document, _GROUPS)):
            kept = kept[_within_limit(name[kept], parts, tie[kept])]
    return kept


def _within_limit(name: NDArray[np.int64], parts: int, tie: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which elements stay so that none of the names has more than one part of them, or one element."""
    _, name, counts = np.unique(name, return_inverse=True, return_counts=True)
    sizes = range(2, int(counts.max(initial=0)) + 1)
    limit = 1 + bisect_left(sizes, True, key=lambda size: parts * size > np.minimum(counts, size).sum())
    order = np.lexsort((tie, name))
    place = np.empty_like(order)
    place[order] = places_within(counts)
    return place < limit


def _with_foreign_seconds(pairs: Segments, opening: NDArray[np.int64], *, seed: int) -> Segments:
    """Return the pairs, those that are not next with another B; without those for which there was none.

    Args:
        pairs: pairs with their true B.
        opening: the name of the sentence that B begins with; shape [pairs].
        seed: seed of the choice among B of one length, and of whether a longer or a shorter one is looked for.
    """
    false = np.flatnonzero(~pairs.is_next)
    taken = np.full(len(pairs.is_next), -1)
    for givers in (false, np.arange(len(pairs.is_next))):  # those that are next give theirs only where none is left
        if (taken[false] < 0).any():
            found = _takes(pairs, opening, givers, seed=seed)
            taken[givers] = np.where(taken[givers] < 0, found, taken[givers])
    has_one = false[taken[false] >= 0]
    second_start, second_end = pairs.second_start.copy(), pairs.second_end.copy()
    second_start[has_one] = pairs.second_start[taken[has_one]]
    second_end[has_one] = pairs.second_end[taken[has_one]]
    kept = np.flatnonzero(pairs.is_next | (taken >= 0))
    return replace(pairs, second_start=second_start, second_end=second_end).select(kept)


def _takes(pairs: Segments, opening: NDArray[np.int64], givers: NDArray[np.intp], *, seed: int) -> NDArray[np.intp]:
    """Return for each giver the pair whose B it takes, another giver, each of them once; -1 if none is left for it.

    The givers stand in a ring, in which each takes the B of the next: upwards in length, and down again.
    """
    length = (pairs.second_end - pairs.second_start)[givers]
    is_full = (pairs.first_end - pairs.first_start)[givers] + length >= pairs.room[givers]
    tie, coin = random_bits(seed, _TIE, pairs.identity[givers]), uniform(seed, _DIRECTION, pairs.identity[givers])
    order = np.lexsort((tie, length, is_full))
    # A full row needs a B at least as long as its own: a row that just misses its length would give the label away.
    goes_up = (is_full | (coin < 0.5))[order]  # noqa: PLR2004
    ring = np.concatenate([order[goes_up], order[~goes_up][::-1]])
    document, opening = pairs.document[givers], opening[givers]
    ring = _without_like_neighbours(ring.tolist(), document.tolist(), opening.tolist())
    following = np.roll(ring, -1)
    differs = (document[ring] != document[following]) & (opening[ring] != opening[following])
    taken = np.full(len(givers), -1)
    taken[ring[differs]] = givers[following[differs]]
    return taken


def _without_like_neighbours(order: list[int], document: list[int], opening: list[int]) -> NDArray[np.intp]:
    """Return elements in about this order, so that no two neighbours share their document or opening.

    Those left at the end find a place on the way back, or are left out.
    """
    waiting = deque[int]()
    for _ in range(2):
        placed = list[int]()
        for at in order:
            for _ in range(min(len(waiting), _TRIES)):
                if _differ(placed, waiting[0], document, opening):
                    placed.append(waiting.popleft())
                    break
                waiting.rotate(-1)
            if _differ(placed, at, document, opening):
                placed.append(at)
            else:
                waiting.append(at)
        order = placed[::-1]
    return np.array(order, dtype=np.intp)


def _differ(placed: Sequence[int], at: int, document: Sequence[int], opening: Sequence[int]) -> bool:
    """Return whether an element may stand after the last one that is placed."""
    return not placed or (document[placed[-1]] != document[at] and opening[placed[-1]] != opening[at])
