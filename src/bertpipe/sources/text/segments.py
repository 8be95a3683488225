"""Pairs of segments of several sentences, packed up to a length (Devlin et al. 2018, sections 3.1 and A.2)."""

from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.randomness import below, random_bits, uniform

FRAME_TOKENS = 3
"""`[CLS]` and twice `[SEP]`: what a row holds beside A and B."""
_SHORT, _TARGET, _SPLIT, _LABEL, _TIE, _DIRECTION = range(40, 46)  # streams of randomness, one per kind of choice
_NEXT_SHARE = 0.5
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


def bert_segments(sentences: Sentences, *, max_length: int, short_share: float, seed: int) -> tuple[Segments, int]:
    """Return the pairs of several documents, and how many had to be left out.

    Each document is cut into runs of two or more sentences that reach the tokens a row has room for; by chance, a share
    of them aims at a smaller number, drawn evenly from 2 up. A single sentence left at the end belongs to the last run;
    a document of one sentence has no pair. A random number of a run's first sentences is A, the rest B.

    Half of the pairs, by chance, stay so. The others exchange their B for one of another document: each takes the B
    that is next in length among theirs. Had a foreign B been drawn from anywhere, it could begin a document, or end
    early, as no true one does. So every B stands about once, and as often as a true one as as a false one: neither
    its place in its document nor its length nor its words tell the label, and the lengths of rows agree as well. A pair
    never takes a B that begins with the sentence which truly follows A; a pair without any other B is left out.
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
    return _with_foreign_seconds(pairs, _names(sentences, split), seed=seed)


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


def _names(sentences: Sentences, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number for each chosen sentence, equal where the sentences read the same; shape [chosen]."""
    known: dict[bytes, int] = {}
    starts, ends = sentences.offsets[chosen].tolist(), sentences.offsets[chosen + 1].tolist()
    texts = (sentences.token_ids[start:end].tobytes() for start, end in zip(starts, ends, strict=True))
    return np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int64)


def _with_foreign_seconds(pairs: Segments, opening: NDArray[np.int64], *, seed: int) -> tuple[Segments, int]:
    """Return the pairs, those that are not next with another B, and for how many there was none.

    Args:
        pairs: pairs with their true B.
        opening: the name of the sentence that B begins with; shape [pairs].
        seed: seed of the choice among B of one length, and of whether a longer or a shorter one is looked for first.
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
    return replace(pairs, second_start=second_start, second_end=second_end).select(kept), len(taken) - len(kept)


def _takes(pairs: Segments, opening: NDArray[np.int64], givers: NDArray[np.intp], *, seed: int) -> NDArray[np.intp]:
    """Return for each giver the pair whose B it takes, another giver that is next in length; -1 if none has another."""
    length = (pairs.second_end - pairs.second_start)[givers]
    is_full = (pairs.first_end - pairs.first_start)[givers] + length >= pairs.room[givers]
    tie, coin = random_bits(seed, _TIE, pairs.identity[givers]), uniform(seed, _DIRECTION, pairs.identity[givers])
    order = np.lexsort((tie, length, is_full))
    longer, shorter = _neighbours(pairs.document[givers[order]], opening[givers[order]])
    # A full row needs a B at least as long as its own: a row that just misses its length would give the label away.
    looks_up = (is_full | (coin < 0.5))[order]  # noqa: PLR2004
    found = np.where((looks_up & (longer >= 0)) | (shorter < 0), longer, shorter)
    taken = np.empty_like(found)
    taken[order] = np.where(found < 0, -1, givers[order[found]])
    return taken


def _neighbours(document: NDArray[np.int64], opening: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the nearest element after each, and before each, whose document and opening both differ; -1 if none."""
    after = _nearest_after(document.tolist(), opening.tolist())
    before = _nearest_after(document[::-1].tolist(), opening[::-1].tolist())[::-1]
    return after, np.where(before < 0, -1, len(document) - 1 - before)


def _nearest_after(document: list[int], opening: list[int]) -> NDArray[np.intp]:
    count = len(document)
    next_other = [count] * (count + 1)  # the next element of another document, without a search
    for at in range(count - 2, -1, -1):
        next_other[at] = at + 1 if document[at + 1] != document[at] else next_other[at + 1]
    nearest = np.full(count, -1, dtype=np.intp)
    for at in range(count):
        found = next_other[at]
        while found < count and opening[found] == opening[at]:
            found += 1
            if found < count and document[found] == document[at]:
                found = next_other[found]
        if found < count:
            nearest[at] = found
    return nearest
