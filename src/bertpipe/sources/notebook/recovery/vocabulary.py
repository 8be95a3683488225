"""The table of ids and words, learned from rows and the texts that they come from."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.randomness import uniform
from bertpipe.data.cooccurrence import CooccurrenceCounts
from bertpipe.data.tokenization.tokenizer import MASK_ID, SPECIAL_TOKENS, unknown_token
from bertpipe.sources.notebook.columns import RowColumns
from bertpipe.sources.notebook.recovery.matching import Known, match
from bertpipe.sources.notebook.recovery.rank_alignment import fill, rank
from bertpipe.sources.notebook.recovery.sentences import Lexicon, SentenceTable, sentence_table

EVIDENCE = ("unknown", "special", "read", "rank")
"""How the word of an id was found: not at all, as a special token, read in rows, or by its rank."""

_FIRST_WORD = len(SPECIAL_TOKENS)
_FIRST_BLOCKS = 4
"""Blocks from which the most frequent words are learned first."""
_LEAST_VOTES, _LEAST_SHARE = 5, 0.9
"""What such a word needs in these blocks, see `mutual_best_pairs`."""
_HIDDEN_SHARE, _HIDDEN = 0.1, 50
"""Share of the words read that is hidden to test how well ranks find words, and its stream of randomness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCheck:
    """How well ranks find words, tested on words that were read and then hidden."""

    hidden: int
    found: int
    """Hidden ids that got a word."""
    right: int
    """Those that got the right one."""

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
    """How each id's word was found, as an index of `EVIDENCE`; shape [vocab]."""
    votes: NDArray[np.int64]
    """How often the id was visible where its text has this word; shape [vocab]."""
    confidence: NDArray[np.float64]
    """Share of right words to expect: of the votes, or of hidden words found again by rank; shape [vocab]."""
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
    learner = _Learner(known=_most_frequent([rows for _, rows in first]))
    for number, (split, rows) in enumerate(chain(first, remaining), start=1):
        learner.add(rows, split)
        if number.bit_count() == 1:  # 1, 2, 4, 8 ... blocks
            learner.known = learner.read_words().known
    return learner.vocabulary()


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The words that ids were seen with."""

    known: Known
    votes: NDArray[np.int64]
    """How often each id was seen with its word; shape [ids]."""
    share: NDArray[np.float64]
    """As a share of all times that the id, or the word, was seen; shape [ids]."""


def mutual_best_pairs(seen: CooccurrenceCounts, *, ids: int, codes: int, least: int, share: float) -> Agreement:
    """Return the pairs of an id and a word that are each other's most frequent partner.

    Args:
        seen: how often each id was seen where a text has a certain word, as pairs of an id and the word's code.
        ids: size of the table of ids.
        codes: size of the table of words.
        least: a pair seen less often is left out.
        share: the share of both that the pair has to exceed; 0.5 or more, so that there is one partner at most.
    """
    id_of_pair, code_of_pair, counts = seen.pairs()
    by_id = np.bincount(id_of_pair, weights=counts, minlength=ids)
    by_code = np.bincount(code_of_pair, weights=counts, minlength=codes)
    agreement = counts / np.maximum(by_id[id_of_pair], by_code[code_of_pair])
    kept = (agreement > share) & (counts >= least)
    best_ids, best_codes = id_of_pair[kept], code_of_pair[kept]
    known = Known(id_of_code=np.full(codes, -1), code_of_id=np.full(ids, -1))
    known.id_of_code[best_codes], known.code_of_id[best_ids] = best_ids, best_codes
    votes, shares = np.zeros(ids, dtype=np.int64), np.zeros(ids)
    votes[best_ids], shares[best_ids] = counts[kept], agreement[kept]
    return Agreement(known=known, votes=votes, share=shares)


def texts_and_sentences(rows: RowColumns, lexicon: Lexicon) -> tuple[NDArray[np.int64], SentenceTable]:
    """Return the number of each row's text, and the sentences of these texts."""
    texts, text_of_row = rows.texts_in_turn()
    return text_of_row, sentence_table([text.decode("utf-8") for text in texts], lexicon)


@dataclass(slots=True, kw_only=True)
class _Learner:
    """What the rows so far tell."""

    known: Known = field(default_factory=Known.nothing)
    lexicon: Lexicon = field(default_factory=Lexicon)
    visible: CooccurrenceCounts = field(default_factory=CooccurrenceCounts)
    """Visible ids and the words where they stand."""
    labelled: CooccurrenceCounts = field(default_factory=CooccurrenceCounts)
    """Labels at `[MASK]`, of which a part is random, and the words there."""
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """How often each word occurs in the texts of the training split; by code."""
    size: int = _FIRST_WORD
    """Ids seen so far, special ones included."""

    def add(self, rows: RowColumns, split: str) -> None:
        """Count the ids and words of the halves whose sentences are found."""
        text_of_row, sentences = texts_and_sentences(rows, self.lexicon)
        self.size = max(self.size, 1 + int(rows.inputs.max(initial=0)), 1 + int(rows.labels.max(initial=0)))
        found = match(rows, text_of_row, sentences, self.known.covering(ids=self.size, codes=len(self.lexicon)))
        inputs, labels = rows.inputs[found.positions], rows.labels[found.positions]
        is_word, is_labelled = inputs >= _FIRST_WORD, (inputs == MASK_ID) & (labels >= _FIRST_WORD)
        self.visible.add(inputs[is_word], found.codes[is_word])
        self.labelled.add(labels[is_labelled], found.codes[is_labelled])
        if split == "train":
            self._count_words(sentences.codes)

    def read_words(self, *, least: int = 1, share: float = 0.5) -> Agreement:
        """Return the words that have been read."""
        return mutual_best_pairs(self.visible, ids=self.size, codes=len(self.lexicon), least=least, share=share)

    def vocabulary(self) -> RecoveredVocabulary:
        """Return all words that were read, and those that ranks find."""
        self._count_words(np.empty(0, dtype=np.int32))
        read = self.read_words()
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

    def _count_words(self, codes: NDArray[np.int32]) -> None:
        counts = np.bincount(codes, minlength=len(self.lexicon))
        counts[: len(self.counts)] += self.counts
        self.counts = counts

    def _by_rank(self, code_of_id: NDArray[np.int64], ranked: NDArray[np.int64]) -> dict[int, int]:
        """Return the words that ranks find; the labels at the `[MASK]` of a word are hints to its id."""
        ids, codes, _ = self.labelled.pairs()
        is_open = np.ones(len(self.lexicon), dtype=np.bool_)
        is_open[code_of_id[code_of_id >= 0]] = False
        hints: defaultdict[int, list[int]] = defaultdict(list)
        for token_id, code in zip(ids[is_open[codes]].tolist(), codes[is_open[codes]].tolist(), strict=True):
            hints[code].append(token_id)
        return fill(code_of_id, ranked, hints=hints)

    def _check_ranks(self, known: Known, ranked: NDArray[np.int64]) -> RankCheck:
        """Hide some of the rarer words that were read, and look for them by rank."""
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


def _most_frequent(blocks: list[RowColumns]) -> Known:
    """Return the most frequent words, from halves that have the length of only one sentence of their text."""
    learner = _Learner()
    for rows in blocks:
        learner.add(rows, "")
    return learner.read_words(least=_LEAST_VOTES, share=_LEAST_SHARE).known
