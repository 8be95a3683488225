"""The word-level vocabulary of the notebook: special tokens, then words by (-frequency, word)."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS


def rank_words(texts: Iterable[Sequence[str]]) -> list[str]:
    """Return a vocabulary in the order of its ids.

    Args:
        texts: the words of each text of the training split; the test split must not shape the vocabulary.
    """
    counts: Counter[str] = Counter()
    for words in texts:
        counts.update(words)
    return rank_counts(counts)


def rank_counts(counts: Mapping[str, int]) -> list[str]:
    """Return the vocabulary of words that were counted, in the order of its ids."""
    words = counts.keys() - set(SPECIAL_TOKENS)
    return [*SPECIAL_TOKENS, *sorted(words, key=lambda word: (-counts[word], word))]
