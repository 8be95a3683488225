"""The notebook's own recipe of sentence pairs, with its label noise; its masks are not made here, nor its padding."""

from collections.abc import Iterator

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
    owners: NDArray[np.int64],
    *,
    sentence_ends: NDArray[np.int32],
    max_length: int,
    seed: int,
) -> Segments:
    """Return the pairs of several documents as the notebook draws them.

    A sentence ends at `.`, `?` or `!`, and where a piece of the document ends. While two or more sentences of a
    document are left, a coin decides: either a random one, but not the last of those left, and the sentence that
    follows it in the document (`is_next`); or two random ones of those left (not `is_next`, though these follow each
    other now and then: the recipe's label noise). Both are then taken away. All pairs come from one document.

    Args:
        token_ids: tokens of whole documents, one after the other, in one or more pieces each.
        offsets: piece p is `token_ids[offsets[p]:offsets[p + 1]]`; shape [pieces + 1].
        owners: number of each piece's document, rising; shape [pieces].
        sentence_ends: ids of the tokens that end a sentence.
        max_length: tokens of the longest row.
        seed: seed of all choices.
    """
    start, end, piece = notebook_sentences(token_ids, offsets, sentence_ends)
    owner = owners[piece]
    documents, begins, counts = np.unique(owner, return_index=True, return_counts=True)
    place = np.arange(len(owner)) - np.repeat(begins, counts)
    coins, firsts, seconds = (uniform(seed, stream, owner, place).tolist() for stream in (_LABEL, _FIRST, _SECOND))
    drawn: list[tuple[int, int, bool, int, int]] = []
    for document, begin, after in zip(documents.tolist(), begins.tolist(), (begins + counts).tolist(), strict=True):
        found = _drawn(after - begin, coins[begin:after], firsts[begin:after], seconds[begin:after])
        drawn += [(begin + a, begin + b, is_next, document, step) for step, (a, b, is_next) in enumerate(found)]
    table = np.array(drawn, dtype=np.int64).reshape(-1, 5)
    first, second, is_next, document, step = table.T
    return Segments(
        first_start=start[first],
        first_end=end[first],
        second_start=start[second],
        second_end=end[second],
        is_next=is_next.astype(np.bool_),
        document=document,
        identity=identity_of(document, step),
        room=np.full(len(table), max_length - FRAME_TOKENS, dtype=np.int64),
    )


def _drawn(
    sentences: int, coins: list[float], firsts: list[float], seconds: list[float]
) -> Iterator[tuple[int, int, bool]]:
    """Yield sentence A, sentence B and the label of each pair of one document."""
    left = _Left(sentences)
    step = 0
    while (count := len(left)) > 1:
        is_next = coins[step] < _NEXT_SHARE
        if is_next:
            first = left.take(int(firsts[step] * (count - 1)))
            second = first + 1
            left.discard(second)
        else:
            first = left.take(int(firsts[step] * count))
            second = left.take(int(seconds[step] * (count - 1)))
        yield first, second, is_next
        step += 1


class _Left:
    """The numbers from 0 that are left, in order, in a Fenwick tree: quick however many there are."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._half = 1 << max(0, count.bit_length() - 1)
        self._tree = [max(0, min(node, count) - (node & (node - 1))) for node in range(2 * self._half + 1)]
        self._is_gone = bytearray(count)

    def __len__(self) -> int:
        return self._count

    def take(self, place: int) -> int:
        """Take away the number at a place among those left, and return it."""
        number, step = 0, self._half
        while step:
            node = number + step
            if self._tree[node] <= place:
                place -= self._tree[node]
                number = node
            else:
                self._tree[node] -= 1
            step >>= 1
        self._is_gone[number] = True
        self._count -= 1
        return number

    def discard(self, number: int) -> None:
        """Take a number away if it is left."""
        if self._is_gone[number]:
            return
        self._is_gone[number] = True
        self._count -= 1
        node = number + 1
        while node <= 2 * self._half:
            self._tree[node] -= 1
            node += node & -node
