"""Counts of words and characters for a vocabulary, and the notebook's ranking of words."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from bertpipe.data.tokenization.encoder import BERT_JOINS_AT, WORDS_JOIN_AT
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, basic_english
from bertpipe.data.tokenization.wordpiece import LONGEST_WORD, bert_words

_LONGEST_STRING = 1000
"""ASCII characters without white space that may be language; more are a picture, a key or a program."""
_MOST_CHARACTERS = 1 << 26
"""Characters of texts that are split as a whole, which are held until they are."""


@dataclass(slots=True, kw_only=True)
class WordCounts:
    """Counts of the words that a vocabulary is made of, and of the characters of the unchanged text."""

    words: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    too_long: int = 0
    """Words and strings that are not counted, because they have too many characters."""

    def merge(self, other: "WordCounts") -> None:
        """Add other counts."""
        self.words.update(other.words)
        self.characters.update(other.characters)
        self.too_long += other.too_long


def count_words(texts: Iterable[str], *, as_words: bool, lowercase: bool, strip_accents: bool) -> WordCounts:
    """Return the counts of some texts; see `word_counts`."""
    together = WordCounts()
    for counts in word_counts(texts, as_words=as_words, lowercase=lowercase, strip_accents=strip_accents):
        together.merge(counts)
    return together


def word_counts(
    texts: Iterable[str], *, as_words: bool, lowercase: bool, strip_accents: bool, most_strings: int = 1 << 20
) -> Iterator[WordCounts]:
    """Yield counts that add up to those of some texts, and hold at a time those of `most_strings` distinct strings.

    Text is split as by `basic_english` if `as_words`, else as BERT does it before WordPiece. Each distinct word is
    split once; only the few texts that `Encoder` tokenizes as a whole are split as a whole. Words above `LONGEST_WORD`,
    and long strings that are not language, do not count: one picture in a text would fill the vocabulary.
    """
    if as_words:
        cut, joins_at = basic_english, WORDS_JOIN_AT
    else:
        cut, joins_at = partial(bert_words, lowercase=lowercase, strip_accents=strip_accents), BERT_JOINS_AT
    between_spaces: Counter[str] = Counter()
    counts, characters = WordCounts(), 0
    for text in texts:
        if joins_at.search(text):
            between_spaces.update([text])
            characters += len(text)
        else:
            strings = text.split()
            kept = [each for each in strings if len(each) <= _LONGEST_STRING or not each.isascii()]
            between_spaces.update(kept)
            counts.too_long += len(strings) - len(kept)
        counts.characters.update(text)
        if len(between_spaces) >= most_strings or characters >= _MOST_CHARACTERS:
            _add_words(counts, cut(between_spaces), between_spaces.values())
            yield counts
            between_spaces.clear()
            counts, characters = WordCounts(), 0
    _add_words(counts, cut(between_spaces), between_spaces.values())
    yield counts


def _add_words(counts: WordCounts, texts: Iterable[Sequence[str]], times: Iterable[int]) -> None:
    for words, count in zip(texts, times, strict=True):
        for word in words:
            if len(word) <= LONGEST_WORD:
                counts.words[word] += count
            else:
                counts.too_long += count


def rank_words(texts: Iterable[Sequence[str]]) -> list[str]:
    """Return a vocabulary in the order of its ids, from the words of each training text."""
    return rank_counts(Counter(chain.from_iterable(texts)))


def rank_counts(counts: Mapping[str, int]) -> list[str]:
    """Return the vocabulary of words that were counted, in the order of its ids."""
    words = counts.keys() - set(SPECIAL_TOKENS)
    return [*SPECIAL_TOKENS, *sorted(words, key=lambda word: (-counts[word], word))]
