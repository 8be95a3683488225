"""Counts of words and characters for a vocabulary, and the notebook's ranking of words."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from bertpipe.data.tokenization.encoder import BERT_JOINS_AT, WORDS_JOIN_AT
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, basic_english
from bertpipe.data.tokenization.wordpiece import bert_words


@dataclass(slots=True, kw_only=True)
class WordCounts:
    """Counts of the words that a tokenizer sees, and of the characters of the unchanged text."""

    words: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)

    def merge(self, other: "WordCounts") -> None:
        """Add other counts."""
        self.words.update(other.words)
        self.characters.update(other.characters)


def count_words(texts: Iterable[str], *, as_words: bool, lowercase: bool, strip_accents: bool) -> WordCounts:
    """Return the counts of some texts.

    Text is split as by `basic_english` if `as_words`, else as BERT does it before WordPiece. Each distinct word is
    split once; only the few texts that `Encoder` tokenizes as a whole are split as a whole.
    """
    if as_words:
        cut, joins_at = basic_english, WORDS_JOIN_AT
    else:
        cut, joins_at = partial(bert_words, lowercase=lowercase, strip_accents=strip_accents), BERT_JOINS_AT
    between_spaces: Counter[str] = Counter()
    counts = WordCounts()
    for text in texts:
        between_spaces.update([text] if joins_at.search(text) else text.split())
        counts.characters.update(text)
    for words, count in zip(cut(between_spaces), between_spaces.values(), strict=True):
        for word in words:
            counts.words[word] += count
    return counts


def rank_words(texts: Iterable[Sequence[str]]) -> list[str]:
    """Return a vocabulary in the order of its ids, from the words of each training text."""
    return rank_counts(Counter(chain.from_iterable(texts)))


def rank_counts(counts: Mapping[str, int]) -> list[str]:
    """Return the vocabulary of words that were counted, in the order of its ids."""
    words = counts.keys() - set(SPECIAL_TOKENS)
    return [*SPECIAL_TOKENS, *sorted(words, key=lambda word: (-counts[word], word))]
