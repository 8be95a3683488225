"""Sentences as the notebook cuts them, and pairs for next-sentence prediction (Devlin et al. 2018, section 3.1)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.randomness import below, uniform

_LABEL, _DOCUMENT, _SENTENCE = range(3)  # streams of randomness, one per kind of choice
_NEXT_SHARE = 0.5
SENTENCE_ENDS = (".", "?", "!")
_SHORTEST = 3
"""Tokens of the shortest sentence that counts, with its end; a rest without an end counts at any length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentencePair:
    """Sentence A, sentence B, and whether B follows A in its document."""

    document: int
    first: tuple[int, ...]
    second: tuple[int, ...]
    is_next: bool


def sentence_pairs(documents: Sequence[Sequence[tuple[int, ...]]], *, seed: int) -> Iterator[SentencePair]:
    """Yield one pair for each sentence that has a successor.

    Half of the pairs, by chance, take the true next sentence. The others take a sentence of *another* document that
    is not its first, because a true next sentence never is: so sentence B alone says nothing about the label. A
    sentence that happens to equal the true next one is drawn again.

    Args:
        documents: token ids of each sentence of each document, without special tokens.
        seed: seed of the labels and of the draws.

    Raises:
        ValueError: fewer than two documents have a second sentence, so that no sentence could be drawn.
    """
    donors = np.flatnonzero([len(document) > 1 for document in documents])
    if len(donors) <= 1:
        raise ValueError("pairs need at least two documents of two or more sentences")
    for number, document in enumerate(documents):
        for position in range(len(document) - 1):
            is_next = bool(uniform(seed, _LABEL, number, position)[0] < _NEXT_SHARE)
            true_next = document[position + 1]
            second = true_next if is_next else _foreign_sentence(documents, donors, number, position, seed=seed)
            yield SentencePair(document=number, first=document[position], second=second, is_next=is_next)


def _foreign_sentence(
    documents: Sequence[Sequence[tuple[int, ...]]],
    donors: "np.typing.NDArray[np.intp]",
    number: int,
    position: int,
    *,
    seed: int,
) -> tuple[int, ...]:
    true_next = documents[number][position + 1]
    for attempt in range(1000):
        donor = int(donors[below(len(donors), seed, _DOCUMENT, number, position, attempt)[0]])
        if donor == number:
            continue
        sentences = documents[donor]
        drawn = sentences[1 + int(below(len(sentences) - 1, seed, _SENTENCE, number, position, attempt)[0])]
        if drawn != true_next:
            return drawn
    raise ValueError(f"no sentence differs from sentence {position + 2} of document {number}: are all texts equal?")


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
    is_end[offsets[1:][np.diff(offsets) > 0] - 1] = True  # the rest of a document ends with it
    end = np.flatnonzero(is_end) + 1
    start = np.concatenate([[0], end[:-1]]).astype(np.int64)[: len(end)]
    counts = (end - start >= _SHORTEST) | ~has_end[end - 1]
    start, end = start[counts], end[counts]
    return start, end, np.searchsorted(offsets, start, side="right") - 1
