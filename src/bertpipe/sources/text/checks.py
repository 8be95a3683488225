"""What cannot be prepared, and why: the checks of `prepare`."""

from collections.abc import Mapping
from pathlib import Path

from bertpipe.core.artifacts import VALIDATION
from bertpipe.core.errors import DataError
from bertpipe.core.params import PrepareParams
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, UNK_ID, Tokenizer
from bertpipe.data.tokenization.wordpiece import LONGEST_WORD
from bertpipe.sources.text.chunks import Counts
from bertpipe.sources.text.segments import FRAME_TOKENS

UNKNOWN = SPECIAL_TOKENS[UNK_ID]
_FEW = 0.01
"""Share of pairs left out, or of words that are too long, that is not worth a note."""
_MANY_UNKNOWN = 0.05
"""Share of unknown words that is worth one."""

_FEW_WITHOUT_PAIRS = 0.1
"""Share of the documents."""


def check_tokenizer(tokenizer: Tokenizer, prepare: PrepareParams, out: Path) -> None:
    """Refuse a tokenizer that the output's form cannot take.

    Raises:
        DataError: it does not fit.
    """
    if out.suffix == ".zip" and tokenizer.special_ids != tuple(range(len(SPECIAL_TOKENS))):
        raise DataError(
            f"{prepare.tokenizer} has {' '.join(SPECIAL_TOKENS)} as {tokenizer.special_ids}, and the notebook's zip "
            f"needs 0 to {len(SPECIAL_TOKENS) - 1}: name a directory as the output, or let prepare make the vocabulary"
        )


def check_splits(documents: Mapping[str, int], prepare: PrepareParams, text: Path) -> None:
    """Refuse a split without documents.

    Args:
        documents: how many there are, by split.
        prepare: what the message names.
        text: where they come from.

    Raises:
        DataError: a split has none.
    """
    total = sum(documents.values())
    if total == 0:
        raise DataError(f"{text} holds no document with any word in it")
    for split, count in documents.items():
        if count:
            continue
        if total == 1:
            advice = "give a folder of several files, or set prepare.text_format to what parts a file into documents"
        elif split == VALIDATION:
            advice = f"bring more text, or another prepare.validation_share than {prepare.validation_share}"
        elif prepare.test_share == "source":
            advice = f"the corpus marks none as its {split} split: set prepare.test_share to a share such as 0.1"
        else:
            advice = f"bring more text, or another prepare.test_share than {prepare.test_share} or prepare.seed"
        raise DataError(f"{text} holds {total} document(s) and none of them is in the {split} split: {advice}")


def check_pairs(counts: Mapping[str, Counts], prepare: PrepareParams, text: Path) -> None:
    """Refuse a split without pairs, or with pairs of one label alone because there was nothing to take the others from.

    Raises:
        DataError: there is one.
    """
    for split, count in counts.items():
        has_both = count.next_rows < count.rows or not count.pairs_left_out
        if not (count.rows and has_both):
            raise DataError(
                f"of the {count.documents} document(s) of {text} in the {split} split "
                f"{count.documents - count.documents_without_pairs} have pairs of sentences, and B of a pair that is "
                f"not next has to come from another one and to read differently ({count.pairs_left_out:,} pairs are "
                f"left out): bring more text, or documents of several sentences; {_advice(prepare)}"
            )


def _advice(prepare: PrepareParams) -> str:
    if prepare.sentences == "lines":
        sentences = "set prepare.sentences to auto if a line holds several sentences (it is lines)"
    else:
        sentences = f"set prepare.sentences to lines if each line is a sentence (it is {prepare.sentences})"
    return f"{sentences}, or prepare.text_format to what makes longer documents (it is {prepare.text_format})"


def long_words_note(words: int, too_long: int) -> str | None:
    """Return what the user should know of words that are too long for a vocabulary; None where there are few."""
    total = too_long + words
    if too_long <= _FEW * total:
        return None
    return (
        f"{too_long:,} of {total:,} words of the training documents have more than {LONGEST_WORD} characters "
        f"and become {UNKNOWN}, of which a model learns nothing: part them by spaces or take them out, then prepare "
        "again"
    )


def notes(counts: Mapping[str, Counts], prepare: PrepareParams) -> list[str]:
    """Return what the user should know: that many documents have no pair, words are unknown, or pairs left out."""
    documents, without, unknown, tokens, left_out, rows = (
        sum(getattr(count, name) for count in counts.values())
        for name in ("documents", "documents_without_pairs", "unknown_tokens", "tokens", "pairs_left_out", "rows")
    )
    found = []
    if without > _FEW_WITHOUT_PAIRS * documents:
        found.append(
            f"{without:,} of the {documents:,} documents have no pair, because only one sentence was found in them: "
            f"{_advice(prepare)}"
        )
    words = tokens - FRAME_TOKENS * rows
    if unknown > _MANY_UNKNOWN * words:
        found.append(
            f"{unknown / words:.0%} of the words are {UNKNOWN}, of which a model learns nothing: their characters or "
            f"they themselves are not in the vocabulary, or they have more than {LONGEST_WORD} characters. Look at the "
            f"text, and at prepare.tokenizer, which is {prepare.tokenizer}, or raise prepare.vocab_size"
        )
    if left_out > _FEW * (left_out + rows):
        found.append(
            f"{left_out:,} of {left_out + rows:,} pairs of sentences are left out: too many of them have the same B "
            "(such as a sentence that many documents end with), or come from one document, and then B alone would tell "
            "whether it follows A. Remove such sentences from the text, or part large documents by prepare.text_format"
        )
    return found
