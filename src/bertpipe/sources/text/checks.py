"""What cannot be prepared, and why: the checks of `prepare`."""

from collections.abc import Mapping
from pathlib import Path

from bertpipe.core.errors import DataError
from bertpipe.core.params import PrepareParams
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer
from bertpipe.sources.text.chunks import Counts

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
                "not next has to come from another one: bring more text, or documents of several sentences; "
                f"{_advice(prepare)}"
            )


def note_on_pairs(splits: Mapping[str, Mapping[str, float]], prepare: PrepareParams) -> str | None:
    """Return what to say where many documents have no pair; None if few are without.

    Args:
        splits: the counts of each split, as the summary has them.
        prepare: what they were prepared with.
    """
    documents, without = (
        int(sum(counts[name] for counts in splits.values())) for name in ("documents", "documents_without_pairs")
    )
    if without <= _FEW_WITHOUT_PAIRS * documents:
        return None
    return (
        f"{without:,} of the {documents:,} documents have no pair, because only one sentence was found in them: "
        f"{_advice(prepare)}"
    )


def _advice(prepare: PrepareParams) -> str:
    if prepare.sentences == "lines":
        sentences = "set prepare.sentences to auto if a line holds several sentences (it is lines)"
    else:
        sentences = f"set prepare.sentences to lines if each line is a sentence (it is {prepare.sentences})"
    return f"{sentences}, or prepare.text_format to what makes longer documents (it is {prepare.text_format})"
