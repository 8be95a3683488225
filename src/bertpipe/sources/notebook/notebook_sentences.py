"""Sentences as the notebook cuts them."""

import numpy as np
from numpy.typing import NDArray

SENTENCE_ENDS = (".", "?", "!")
_SHORTEST = 3
"""Tokens of the shortest sentence that counts, its end among them; a tail without an end counts at any length."""


def notebook_sentences(
    token_ids: NDArray[np.int32], offsets: NDArray[np.int64], sentence_ends: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.intp]]:
    """Return where each sentence that counts starts and ends, and its document's place; each of shape [sentences].

    Args:
        token_ids: tokens of whole documents, one after the other.
        offsets: document d is `token_ids[offsets[d]:offsets[d + 1]]`; shape [documents + 1].
        sentence_ends: ids of the tokens that end a sentence.
    """
    is_end = np.isin(token_ids, sentence_ends)
    has_end = is_end.copy()
    is_end[offsets[1:][np.diff(offsets) > 0] - 1] = True  # a tail ends with its document
    end = np.flatnonzero(is_end) + 1
    start = np.concatenate([[0], end[:-1]]).astype(np.int64)[: len(end)]
    counts = (end - start >= _SHORTEST) | ~has_end[end - 1]
    start, end = start[counts], end[counts]
    return start, end, np.searchsorted(offsets, start, side="right") - 1
