"""A WordPiece vocabulary made from text, equal on every run."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from bertpipe.core.errors import DataError
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, UNK_ID, Tokenizer

CONTINUATION = "##"
"""What a piece that goes on with the word before it begins with."""
MOST_WORDS = 1 << 26
"""Words in all that the library is shown of a corpus of any size: more take long, and its counts have 32 bits."""
LONGEST_WORD = 100
"""Characters of the longest word that BERT's tokenizers take apart, the library's default; a longer one is `[UNK]`."""
_ALPHABET_SHARE = 0.25
"""Most of a vocabulary that single characters may take, those that go on with a word not counted."""
_WORDS_A_TEXT = 1 << 12
"""Times that a word stands in one of the texts that the library is shown."""


def train_wordpiece(
    words: Iterable[tuple[str, int]],
    characters: Mapping[str, int],
    *,
    vocab_size: int,
    min_frequency: int,
    lowercase: bool,
    strip_accents: bool,
    divisor: int = 1,
) -> Tokenizer:
    """Return a WordPiece tokenizer whose pieces are merged by how often they stand side by side in some texts.

    Text is taken apart as in BERT: at white space, around each punctuation mark and each Chinese character. The
    vocabulary holds the special tokens, the pieces of one character (the most frequent ones, at most a quarter of it)
    and what `tokenizers` merges from them. Its own order of pieces differs from run to run, and with it which of two
    equally frequent pairs is merged first; here all pieces of one character are given to it in sorted order.

    The library counts words and cannot be given counts, so each word is shown to it as often as it was counted: that
    gives the vocabulary that it would make of the texts.

    Args:
        words: each word of the texts, cut as `bert_words` cuts them, and how often it stands there.
        characters: how often each character does, before anything is done to the text.
        vocab_size: most entries, special tokens included.
        min_frequency: how often a merged piece has to be seen.
        lowercase: whether the words were lower-cased.
        strip_accents: whether accents were taken off.
        divisor: all counts and `min_frequency` are first divided by it, and rounded down and up; see `count_divisor`.

    Raises:
        DataError: there is no character in the texts.
    """
    from tokenizers.pre_tokenizers import WhitespaceSplit  # noqa: PLC0415

    backend = _backend({}, lowercase=lowercase, strip_accents=strip_accents)
    trainer = _trainer(backend, characters, vocab_size=vocab_size, min_frequency=-(-min_frequency // divisor))
    backend.normalizer, backend.pre_tokenizer = None, WhitespaceSplit()  # words are cut and changed already
    backend.train_from_iterator(_repeated(words, divisor), trainer)
    return wordpiece_tokenizer(_pieces(backend), lowercase=lowercase, strip_accents=strip_accents)


def count_divisor(words: int) -> int:
    """Return the least whole number that brings the words of a corpus below `MOST_WORDS`."""
    return max(1, -(-words // MOST_WORDS))


def bert_words(texts: Iterable[str], *, lowercase: bool, strip_accents: bool) -> Iterator[list[str]]:
    """Yield the words that BERT looks for pieces in, text by text."""
    backend = _backend({}, lowercase=lowercase, strip_accents=strip_accents)
    normalize, cut = backend.normalizer.normalize_str, backend.pre_tokenizer.pre_tokenize_str
    for text in texts:
        yield [word for word, _ in cut(normalize(text))]


def _repeated(words: Iterable[tuple[str, int]], divisor: int) -> Iterator[str]:
    """Yield texts of a bounded length in which each word stands as often as its count, divided."""
    for word, count in words:
        times = count // divisor
        for first in range(0, times, _WORDS_A_TEXT):
            yield " ".join([word] * min(_WORDS_A_TEXT, times - first))


def _trainer(backend: Any, characters: Mapping[str, int], *, vocab_size: int, min_frequency: int) -> Any:  # noqa: ANN401
    from tokenizers.trainers import WordPieceTrainer  # noqa: PLC0415

    normalize, cut = backend.normalizer.normalize_str, backend.pre_tokenizer.pre_tokenize_str
    alphabet = _alphabet(characters, normalize, most=int(_ALPHABET_SHARE * (vocab_size - len(SPECIAL_TOKENS))))
    if not alphabet:
        raise DataError("the training documents hold no characters to make a vocabulary of")
    going_on = [CONTINUATION + character for character in alphabet if len(cut(normalize("a" + character))) == 1]
    return WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        special_tokens=[*SPECIAL_TOKENS, *going_on],
        continuing_subword_prefix=CONTINUATION,
        show_progress=False,
    )


def _pieces(backend: Any) -> list[str]:  # noqa: ANN401
    """Return the vocabulary that was trained, in the order of its ids."""
    ids: dict[str, int] = backend.get_vocab(with_added_tokens=False)
    return sorted(ids, key=ids.__getitem__)


def wordpiece_tokenizer(
    pieces: Sequence[str],
    *,
    lowercase: bool,
    strip_accents: bool | None,
    handle_chinese_chars: bool = True,
    special_tokens: tuple[str, ...] = SPECIAL_TOKENS,
) -> Tokenizer:
    """Return a WordPiece tokenizer of these pieces, in the order of their ids, with BERT's preparation of text."""
    from tokenizers import AddedToken  # noqa: PLC0415

    vocabulary = {piece: token_id for token_id, piece in enumerate(pieces)}
    backend = _backend(
        vocabulary,
        lowercase=lowercase,
        strip_accents=strip_accents,
        handle_chinese_chars=handle_chinese_chars,
        unk_token=special_tokens[UNK_ID],
    )
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special_tokens])
    return Tokenizer(backend, special_tokens)


def _backend(
    vocabulary: Mapping[str, int],
    *,
    lowercase: bool,
    strip_accents: bool | None,
    handle_chinese_chars: bool = True,
    unk_token: str = SPECIAL_TOKENS[UNK_ID],
) -> Any:  # noqa: ANN401
    import tokenizers as library  # noqa: PLC0415
    from tokenizers.models import WordPiece  # noqa: PLC0415

    model = WordPiece(dict(vocabulary), unk_token=unk_token, continuing_subword_prefix=CONTINUATION)
    backend = library.Tokenizer(model)
    # Left unset, strip_accents follows lowercase: in Spanish that would make one word of "si" and "sí".
    backend.normalizer = library.normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=strip_accents, handle_chinese_chars=handle_chinese_chars
    )
    backend.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    backend.decoder = library.decoders.WordPiece(prefix=CONTINUATION)
    return backend


def _alphabet(raw: Mapping[str, int], normalize: Callable[[str], str], *, most: int) -> list[str]:
    """Return the `most` frequent characters after normalization, sorted; each is normalized on its own."""
    counts: Counter[str] = Counter()
    for character, count in raw.items():
        for made in normalize(character):
            counts[made] += count
    del counts[" "]
    return sorted(sorted(counts, key=lambda character: (-counts[character], character))[:most])
