"""The table of ids and words, learned from rows and the texts that they come from."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.randomness import uniform
from bertpipe.data.tokenization.tokenizer import MASK_ID, SPECIAL_TOKENS, unknown_token
from bertpipe.sources.notebook.columns import RowColumns
from bertpipe.sources.notebook.recovery.cooccurrence import Agreement, Votes, agreed
from bertpipe.sources.notebook.recovery.matching import Known, match
from bertpipe.sources.notebook.recovery.rank_alignment import fill, rank
from bertpipe.sources.notebook.recovery.sentences import Lexicon, SentenceTable, sentence_table

EVIDENCE = ("unknown", "special", "read", "rank")
"""How the word of an id was found: not at all, as a special token, read in rows, or by its rank."""

_FIRST_WORD = len(SPECIAL_TOKENS)
_FIRST_BLOCKS = 4
"""Blocks from which the commonest words are learned before anything else."""
_LEAST_VOTES, _LEAST_SHARE = 5, 0.9
"""What a word of these blocks needs."""
_HIDDEN_SHARE, _HIDDEN = 0.1, 50
"""Share of the words read that is hidden to see how well ranks find words, and its stream of randomness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCheck:
    """How well ranks find words: some that were read are hidden and looked for."""

    hidden: int
    found: int
    """Hidden ids that got a word."""
    right: int
    """Those that got their own."""

    @property
    def precision(self) -> float:
        """Share of the found words that are right; 0 where none was found."""
        return self.right / self.found if self.found else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredVocabulary:
    """Words by their ids, as far as they could be found."""

    lexicon: Lexicon
    known: Known
    evidence: NDArray[np.int8]
    """How each id's word was found, a place in `EVIDENCE`; shape [vocab]."""
    votes: NDArray[np.int64]
    """Visible tokens that say so; shape [vocab]."""
    confidence: NDArray[np.float64]
    """Share of right answers to expect: of the votes that agree, or of hidden words found again by rank; [vocab]."""
    in_training: NDArray[np.bool_]
    """Whether a word occurs in a text of the training split; by code."""
    rank_check: RankCheck

    @property
    def size(self) -> int:
        """Ids, special tokens included."""
        return len(self.evidence)

    def tokens(self) -> list[str]:
        """Return the word of each id, `[unknown-ID]` where it was not found."""
        words = self.lexicon.words()
        found = self.known.code_of_id.tolist()
        names = [words[code] if code >= 0 else unknown_token(token_id) for token_id, code in enumerate(found)]
        return [*SPECIAL_TOKENS, *names[_FIRST_WORD:]]


def learn_vocabulary(blocks: Iterable[tuple[str, RowColumns]]) -> RecoveredVocabulary:
    """Return the vocabulary behind the ids of rows.

    Args:
        blocks: all rows, as pairs of the split (`train`, `test`) and some rows of it, in the order of the file.
    """
    remaining = iter(blocks)
    first = list(islice(remaining, _FIRST_BLOCKS))
    tally = _Tally()
    tally.known = _commonest([rows for _, rows in first])
    for number, (split, rows) in enumerate(chain(first, remaining), start=1):
        tally.add(rows, split)
        if number.bit_count() == 1:  # 1, 2, 4, 8 ... blocks
            tally.known = tally.agreed().known
    return tally.vocabulary()


def texts_and_sentences(rows: RowColumns, lexicon: Lexicon) -> tuple[NDArray[np.int64], SentenceTable]:
    """Return the number of each row's text, and the sentences of these texts."""
    texts, text_of_row = rows.texts_in_turn()
    return text_of_row, sentence_table([text.decode("utf-8") for text in texts], lexicon)


@dataclass(slots=True)
class _Tally:
    """What the rows so far say."""

    lexicon: Lexicon = field(default_factory=Lexicon)
    read: Votes = field(default_factory=Votes)
    """Visible ids."""
    labelled: Votes = field(default_factory=Votes)
    """Labels at `[MASK]`, of which a part is random."""
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """How often each word occurs in the texts of the training split; by code."""
    known: Known = field(default_factory=Known.nothing)
    size: int = _FIRST_WORD
    """Ids seen so far, special ones included."""

    def add(self, rows: RowColumns, split: str) -> None:
        """Count what the halves of some rows say."""
        text_of_row, sentences = texts_and_sentences(rows, self.lexicon)
        self.size = 1 + max(self.size - 1, int(rows.inputs.max(initial=0)), int(rows.labels.max(initial=0)))
        found = match(rows, text_of_row, sentences, self.known.covering(ids=self.size, codes=len(self.lexicon)))
        inputs, labels = rows.inputs[found.positions], rows.labels[found.positions]
        is_masked = inputs == MASK_ID
        for votes, ids, codes in (
            (self.read, inputs, found.codes),
            (self.labelled, labels[is_masked], found.codes[is_masked]),
        ):
            is_word = ids >= _FIRST_WORD
            votes.add(ids[is_word], codes[is_word])
        if split == "train":
            self._count(np.bincount(sentences.codes, minlength=len(self.lexicon)))

    def agreed(self, *, least: int = 1, share: float = 0.5) -> Agreement:
        """Return the words that have been read."""
        return agreed(self.read, ids=self.size, codes=len(self.lexicon), least=least, share=share)

    def vocabulary(self) -> RecoveredVocabulary:
        """Return all words that were read, and those that their ranks tell."""
        self._count(np.zeros(len(self.lexicon), dtype=np.int64))
        read = self.agreed()
        ranked = rank(self.lexicon.words(), self.counts)
        check = self._check_ranks(read.known, ranked)
        by_rank = self._by_rank(read.known.code_of_id, ranked)
        known, confidence = read.known.extended(by_rank), read.share.copy()
        evidence = np.where(read.known.code_of_id >= 0, EVIDENCE.index("read"), 0).astype(np.int8)
        places = np.fromiter(by_rank, dtype=np.int64, count=len(by_rank))
        evidence[places] = EVIDENCE.index("rank")
        confidence[places] = check.precision
        evidence[:_FIRST_WORD], confidence[:_FIRST_WORD] = EVIDENCE.index("special"), 1.0
        return RecoveredVocabulary(
            lexicon=self.lexicon,
            known=known,
            evidence=evidence,
            votes=read.votes,
            confidence=confidence,
            in_training=self.counts > 0,
            rank_check=check,
        )

    def _count(self, counts: NDArray[np.int64]) -> None:
        counts[: len(self.counts)] += self.counts
        self.counts = counts

    def _by_rank(self, code_of_id: NDArray[np.int64], ranked: NDArray[np.int64]) -> dict[int, int]:
        """Return the words that ranks tell; the labels that stood at the `[MASK]` of a word are hints to its id."""
        ids, codes, _ = self.labelled.pairs()
        is_open = np.ones(len(self.lexicon), dtype=np.bool_)
        is_open[code_of_id[code_of_id >= 0]] = False
        hints: defaultdict[int, list[int]] = defaultdict(list)
        for token_id, code in zip(ids[is_open[codes]].tolist(), codes[is_open[codes]].tolist(), strict=True):
            hints[code].append(token_id)
        return fill(code_of_id, ranked, hints=hints)

    def _check_ranks(self, known: Known, ranked: NDArray[np.int64]) -> RankCheck:
        """Hide some of the rarer words that were read, and see what their ranks make of them."""
        ids = np.flatnonzero(known.code_of_id >= 0)
        rarer = ids[len(ids) // 2 :]
        hidden = rarer[uniform(0, _HIDDEN, rarer) < _HIDDEN_SHARE]
        remaining = known.code_of_id.copy()
        remaining[hidden] = -1
        found = self._by_rank(remaining, ranked)
        answers = np.array([found.get(token_id, -1) for token_id in hidden.tolist()], dtype=np.int64)
        return RankCheck(
            hidden=len(hidden),
            found=int((answers >= 0).sum()),
            right=int((answers == known.code_of_id[hidden]).sum()),
        )


def _commonest(blocks: list[RowColumns]) -> Known:
    """Return the commonest words, from halves that have the length of one sentence only."""
    tally = _Tally()
    for rows in blocks:
        tally.add(rows, "")
    return tally.agreed(least=_LEAST_VOTES, share=_LEAST_SHARE).known
