"""Which sentence of its text each half of a row is.

A half is as long as its sentence. Where several sentences of the text have this length, the words that are already
known decide.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertpipe.data.ragged import places_within
from bertpipe.data.tokenization.tokenizer import MASK_ID
from bertpipe.sources.notebook.columns import RowColumns
from bertpipe.sources.notebook.recovery.sentences import SentenceTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the vocabulary so far; -1 where nothing is."""

    id_of_code: NDArray[np.int64]
    code_of_id: NDArray[np.int64]

    @classmethod
    def nothing(cls) -> "Known":
        """Return what is known at the start."""
        return cls(id_of_code=np.empty(0, dtype=np.int64), code_of_id=np.empty(0, dtype=np.int64))

    @property
    def any(self) -> bool:
        """Whether anything is known."""
        return bool((self.code_of_id >= 0).any())

    def covering(self, *, ids: int, codes: int) -> "Known":
        """Return the same knowledge in tables of at least these sizes."""

        def widened(table: NDArray[np.int64], size: int) -> NDArray[np.int64]:
            return np.concatenate([table, np.full(max(0, size - len(table)), -1)])

        return Known(id_of_code=widened(self.id_of_code, codes), code_of_id=widened(self.code_of_id, ids))

    def extended(self, words: Mapping[int, int]) -> "Known":
        """Return the same knowledge and more words: codes by their ids."""
        id_of_code, code_of_id = self.id_of_code.copy(), self.code_of_id.copy()
        for token_id, code in words.items():
            id_of_code[code], code_of_id[token_id] = token_id, code
        return Known(id_of_code=id_of_code, code_of_id=code_of_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The sentences of the halves of some rows: A of the first row, B of the first row, A of the second row ..."""

    sentence: NDArray[np.int64]
    """Number of each half's sentence in the table, -1 where it was not found; shape [2 * rows]."""
    positions: NDArray[np.int64]
    """Flat positions of the tokens of all found halves."""
    codes: NDArray[np.int64]
    """The word at each of these positions."""


def match(rows: RowColumns, text_of_row: NDArray[np.int64], sentences: SentenceTable, known: Known) -> Match:
    """Return the sentence of each half.

    A half is a sentence of its text of the same length in which no word contradicts a visible id; of several, the one
    with most words that agree. Nothing is found where two different ones agree equally well. As long as no word is
    known, a half is found if only one sentence has its length.

    Args:
        rows: the rows, uncut.
        text_of_row: number of each row's text in the table; shape [rows].
        sentences: the sentences of these texts.
        known: what is known of the vocabulary.
    """
    starts, lengths = _halves(rows)
    half, sentence = _same_length(np.repeat(text_of_row, 2), lengths, sentences)
    counts = lengths[half]
    within = places_within(counts)
    positions = np.repeat(starts[half], counts) + within
    codes = sentences.codes[np.repeat(sentences.starts[sentence], counts) + within].astype(np.int64)
    agreements, contradictions = _compare(rows.inputs[positions], codes, known)
    score = np.where(_sums(contradictions, counts) > 0, -1, _sums(agreements, counts))
    chosen = _best(half, sentence, score, sentences, halves=len(lengths), strict=not known.any)
    found = np.repeat(chosen[half] == sentence, counts)
    return Match(sentence=chosen, positions=positions[found], codes=codes[found])


def _halves(rows: RowColumns) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the words of each half begin and how many there are."""
    second = rows.second_segment_start.astype(np.int64)
    starts = np.stack([rows.offsets[:-1] + 1, rows.offsets[:-1] + second], axis=1)
    lengths = np.stack([second - 2, rows.lengths - second - 1], axis=1)
    return starts.ravel(), lengths.ravel()


def _same_length(
    text: NDArray[np.int64], lengths: NDArray[np.int64], sentences: SentenceTable
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return every pair of a half and a sentence of its text that has as many words."""
    longest = 1 + max(int(lengths.max(initial=0)), int(sentences.lengths.max(initial=0)))
    keys = sentences.text * longest + sentences.lengths
    order = np.argsort(keys, kind="stable")
    wanted = text * longest + lengths
    first = np.searchsorted(keys[order], wanted, side="left")
    counts = np.searchsorted(keys[order], wanted, side="right") - first
    return np.repeat(np.arange(len(counts)), counts), order[np.repeat(first, counts) + places_within(counts)]


def _sums(values: NDArray[np.bool_], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many values are true in each of some lists of these lengths, which stand one after the other."""
    running, ends = np.concatenate([[0], np.cumsum(values)]), np.cumsum(lengths)
    sums: NDArray[np.int64] = running[ends] - running[ends - lengths]
    return sums


def _compare(
    inputs: NDArray[np.int32], codes: NDArray[np.int64], known: Known
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where a word is the one that the visible id stands for, and where it cannot be."""
    visible = inputs != MASK_ID
    id_of_word, word_of_id = known.id_of_code[codes], known.code_of_id[inputs]
    contradictions = visible & (
        ((id_of_word >= 0) & (id_of_word != inputs)) | ((word_of_id >= 0) & (word_of_id != codes))
    )
    return visible & (word_of_id == codes), contradictions


def _best(
    half: NDArray[np.int64],
    sentence: NDArray[np.int64],
    score: NDArray[np.int64],
    sentences: SentenceTable,
    *,
    halves: int,
    strict: bool,
) -> NDArray[np.int64]:
    """Return for each half the candidate with the highest score, -1 where there is none or more than one."""
    possible = np.flatnonzero(score >= 0)
    order = possible[np.lexsort((sentence[possible], -score[possible], half[possible]))]
    first = np.flatnonzero(np.diff(half[order], prepend=-1))
    chosen = np.full(halves, -1, dtype=np.int64)
    chosen[half[order[first]]] = sentence[order[first]]
    candidates = np.bincount(half[possible], minlength=halves)
    for place in first[candidates[half[order[first]]] > 1].tolist():
        best, rival = order[place], order[place + 1]
        if score[best] == score[rival] and (strict or not _alike(sentences, int(sentence[best]), int(sentence[rival]))):
            chosen[half[best]] = -1
    return chosen


def _alike(sentences: SentenceTable, one: int, other: int) -> bool:
    first, second = (
        sentences.codes[sentences.starts[number] : sentences.starts[number] + sentences.lengths[number]]
        for number in (one, other)
    )
    return bool(np.array_equal(first, second))
