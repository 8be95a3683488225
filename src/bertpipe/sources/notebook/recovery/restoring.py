"""Rows with their true tokens, and counts of wrong labels and of pairs that are not what `Is Next` says."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import vocabulary_schema
from bertpipe.data.tokenization.tokenizer import MASK_ID, UNK_ID, is_unknown_token
from bertpipe.sources.notebook.columns import RowColumns
from bertpipe.sources.notebook.recovery.matching import match
from bertpipe.sources.notebook.recovery.vocabulary import EVIDENCE, RecoveredVocabulary, texts_and_sentences


@dataclass(slots=True, kw_only=True)
class RecoveryCounts:
    """What was found in the rows of a split."""

    sentences: int = 0
    """Halves of rows."""
    sentences_found: int = 0
    """Those whose sentence of the text is known."""
    words: int = 0
    """Tokens beside `[CLS]` and `[SEP]`."""
    words_masked: int = 0
    words_restored: int = 0
    """Masked ones whose true token is known."""
    labels: int = 0
    labels_checked: int = 0
    """Labels whose true token is known."""
    labels_wrong: int = 0
    """Those that are another token."""
    pairs_found: int = 0
    """Rows of which both sentences are known."""
    not_next_but_consecutive: int = 0
    """`Is Next` is 0, and B follows A."""
    not_next_and_reversed: int = 0
    """`Is Next` is 0, and A follows B."""
    next_but_not_consecutive: int = 0
    """`Is Next` is 1, and B does not follow A."""

    def add_pairs(self, sentence: NDArray[np.int64], texts: NDArray[np.int64], is_next: NDArray[np.bool_]) -> None:
        """Count rows by what their two sentences are to each other.

        Args:
            sentence: number of the sentence of each half, -1 where it is not known; A and B of each row in turn.
            texts: the text that each sentence belongs to.
            is_next: what the rows say.
        """
        first, second = sentence[::2], sentence[1::2]
        found = (first >= 0) & (second >= 0)
        first, second, says_next = first[found], second[found], is_next[found]
        same = texts[first] == texts[second]
        follows, reversed_ = same & (second == first + 1), same & (second == first - 1)
        self.sentences += len(sentence)
        self.sentences_found += int((sentence >= 0).sum())
        self.pairs_found += int(found.sum())
        self.not_next_but_consecutive += int((~says_next & follows).sum())
        self.not_next_and_reversed += int((~says_next & reversed_).sum())
        self.next_but_not_consecutive += int((says_next & ~follows).sum())

    def add_tokens(self, rows: RowColumns, tokens: NDArray[np.int32], is_known: NDArray[np.bool_]) -> None:
        """Count the tokens of rows, of which some are known to be the true ones."""
        is_masked, has_label = rows.inputs == MASK_ID, rows.labels != 0
        checked = has_label & is_known
        self.words += len(tokens) - 3 * len(rows)
        self.words_masked += int(is_masked.sum())
        self.words_restored += int((is_masked & is_known).sum())
        self.labels += int(has_label.sum())
        self.labels_checked += int(checked.sum())
        self.labels_wrong += int((checked & (rows.labels != tokens)).sum())


def restore(
    rows: RowColumns, vocabulary: RecoveredVocabulary, counts: RecoveryCounts
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the true tokens of rows, the row's own where they are unknown, and which are known. Shapes [tokens].

    A visible token is true, since the notebook hides tokens only behind `[MASK]`. The true token of a mask is the word
    of the sentence, or `[UNK]` if no training text has this word: the notebook's vocabulary is made from these texts.

    Args:
        rows: the rows, uncut.
        vocabulary: the words behind the ids.
        counts: gets what is found.
    """
    text_of_row, sentences = texts_and_sentences(rows, vocabulary.lexicon)
    codes = len(vocabulary.lexicon)
    known = vocabulary.known.covering(ids=vocabulary.size, codes=codes)
    found = match(rows, text_of_row, sentences, known)
    counts.add_pairs(found.sentence, sentences.text, rows.is_next)
    in_training = np.zeros(codes, dtype=np.bool_)
    in_training[: len(vocabulary.in_training)] = vocabulary.in_training
    ids = np.where((known.id_of_code < 0) & ~in_training, UNK_ID, known.id_of_code)[found.codes]
    tokens, is_known = rows.inputs.copy(), rows.inputs != MASK_ID
    here = found.positions[ids >= 0]  # a visible token stays as it is: no id contradicts those of its sentence
    tokens[here], is_known[here] = ids[ids >= 0], True
    counts.add_tokens(rows, tokens, is_known)
    return tokens, is_known


def write_vocabulary(path: Path, vocabulary: RecoveredVocabulary) -> None:
    """Write the table of ids and words as `vocabulary_schema`."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    words = [None if is_unknown_token(token) else token for token in vocabulary.tokens()]
    evidence = [EVIDENCE[kind] for kind in vocabulary.evidence.tolist()]
    columns = [list(range(len(words))), words, evidence, vocabulary.votes.tolist(), vocabulary.confidence.tolist()]
    pq.write_table(pa.Table.from_arrays(columns, schema=vocabulary_schema()), path, compression="zstd")


def recovery_report(vocabulary: RecoveredVocabulary, counts: Mapping[str, RecoveryCounts]) -> dict[str, Any]:
    """Return how many words were found in which way, and what the rows of each split turned out to be."""
    found = np.bincount(vocabulary.evidence, minlength=len(EVIDENCE)).tolist()
    words = dict(zip(EVIDENCE, found, strict=True))
    return {
        "words": {"read": words["read"], "by_rank": words["rank"], "unknown": words["unknown"]},
        "rank_check": asdict(vocabulary.rank_check),
        "splits": {split: asdict(count) for split, count in counts.items()},
    }
