"""The notebook's own recipe of sentence pairs, with its label noise; its masks are not made here, nor its padding."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.randomness import uniform
from bertpipe.sources.notebook.sentence_pairs import notebook_sentences
from bertpipe.sources.text.segments import FRAME_TOKENS, Segments, identity_of

_LABEL, _FIRST, _SECOND = range(50, 53)  # streams of randomness, one per kind of choice
_NEXT_SHARE = 0.5


def notebook_segments(
    token_ids: NDArray[np.int32],
    offsets: NDArray[np.int64],
    documents: NDArray[np.int64],
    *,
    sentence_ends: NDArray[np.int32],
    max_length: int,
    seed: int,
) -> Segments:
    """Return the pairs of several documents as the notebook draws them.

    A sentence ends at `.`, `?` or `!`. While two or more sentences of a document are left, a coin decides: either a
    random one, but not the last of those left, and the sentence that follows it in the document (`is_next`); or two
    random ones of those left (not `is_next`, though these follow each other now and then: the recipe's label noise).
    Both are then taken away. All pairs come from one document.

    Args:
        token_ids: tokens of whole documents, one after the other.
        offsets: document d is `token_ids[offsets[d]:offsets[d + 1]]`; shape [documents + 1].
        documents: number of each document; shape [documents].
        sentence_ends: ids of the tokens that end a sentence.
        max_length: tokens of the longest row.
        seed: seed of all choices.
    """
    start, end, owner = notebook_sentences(token_ids, offsets, sentence_ends)
    place = np.arange(len(owner)) - np.searchsorted(owner, owner)
    draws = [uniform(seed, stream, documents[owner], place) for stream in (_LABEL, _FIRST, _SECOND)]
    drawn: list[tuple[int, int, bool, int, int]] = []
    bounds = np.searchsorted(owner, np.arange(len(documents) + 1)).tolist()
    coins, firsts, seconds = (draw.tolist() for draw in draws)
    for document, (begin, after) in enumerate(pairwise(bounds)):
        found = _drawn(after - begin, coins[begin:after], firsts[begin:after], seconds[begin:after])
        drawn += [(begin + a, begin + b, is_next, document, step) for step, (a, b, is_next) in enumerate(found)]
    table = np.array(drawn, dtype=np.int64).reshape(-1, 5)
    first, second, is_next, which, step = table.T
    return Segments(
        first_start=start[first],
        first_end=end[first],
        second_start=start[second],
        second_end=end[second],
        is_next=is_next.astype(np.bool_),
        document=documents[which],
        identity=identity_of(documents[which], step),
        room=np.full(len(table), max_length - FRAME_TOKENS, dtype=np.int64),
    )


def _drawn(
    sentences: int, coins: list[float], firsts: list[float], seconds: list[float]
) -> Iterator[tuple[int, int, bool]]:
    """Yield sentence A, sentence B and the label of each pair of one document."""
    left = list(range(sentences))
    step = 0
    while len(left) > 1:
        is_next = coins[step] < _NEXT_SHARE
        if is_next:
            first = left[int(firsts[step] * (len(left) - 1))]
            second = first + 1
        else:
            first = left[int(firsts[step] * len(left))]
            others = [sentence for sentence in left if sentence != first]
            second = others[int(seconds[step] * len(others))]
        yield first, second, is_next
        left = [sentence for sentence in left if sentence not in {first, second}]
        step += 1
