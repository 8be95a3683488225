"""A WordPiece vocabulary made from text, equal on every run."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bertpipe.data.tokenization import SPECIAL_TOKENS, UNK_ID, Tokenizer
from bertpipe.errors import DataError

CONTINUATION = "##"
"""What a piece that goes on with the word before it begins with."""
_ALPHABET_SHARE = 0.25
"""Most of a vocabulary that single characters may take, those that go on with a word not counted."""


def train_wordpiece(
    texts: Callable[[], Iterable[str]],
    *,
    vocab_size: int,
    min_frequency: int,
    lowercase: bool,
    strip_accents: bool,
) -> Tokenizer:
    """Return a WordPiece tokenizer whose pieces are merged by how often they stand side by side in the texts.

    Text is taken apart as in BERT: at white space, around each punctuation mark and each Chinese character. The
    vocabulary holds the special tokens, the pieces of one character (the most frequent ones, at most a quarter of it)
    and what `tokenizers` merges from them. Its own order of pieces differs from run to run, and with it which of two
    equally frequent pairs is merged first; here all pieces of one character are given to it in sorted order.

    Args:
        texts: gives the training texts anew at each call; they are read twice.
        vocab_size: most entries, special tokens included.
        min_frequency: how often a merged piece has to be seen.
        lowercase: whether text is lower-cased.
        strip_accents: whether accents are taken off.

    Raises:
        DataError: there is no character in the texts.
    """
    from tokenizers.trainers import WordPieceTrainer  # noqa: PLC0415

    backend = _backend({}, lowercase=lowercase, strip_accents=strip_accents)
    normalize, cut = backend.normalizer.normalize_str, backend.pre_tokenizer.pre_tokenize_str
    alphabet = _alphabet(texts(), normalize, most=int(_ALPHABET_SHARE * (vocab_size - len(SPECIAL_TOKENS))))
    if not alphabet:
        raise DataError("the training documents hold no characters to make a vocabulary of")
    going_on = [CONTINUATION + character for character in alphabet if len(cut(normalize("a" + character))) == 1]
    trainer = WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        special_tokens=[*SPECIAL_TOKENS, *going_on],
        continuing_subword_prefix=CONTINUATION,
        show_progress=False,
    )
    backend.train_from_iterator(texts(), trainer)
    ids: dict[str, int] = backend.get_vocab(with_added_tokens=False)
    return wordpiece_tokenizer(sorted(ids, key=ids.__getitem__), lowercase=lowercase, strip_accents=strip_accents)


def wordpiece_tokenizer(pieces: Sequence[str], *, lowercase: bool, strip_accents: bool) -> Tokenizer:
    """Return a WordPiece tokenizer with BERT's preparation of text.

    Args:
        pieces: the whole vocabulary in the order of its ids, the special tokens anywhere in it.
        lowercase: whether text is lower-cased.
        strip_accents: whether accents are taken off.
    """
    from tokenizers import AddedToken  # noqa: PLC0415

    vocabulary = {piece: token_id for token_id, piece in enumerate(pieces)}
    backend = _backend(vocabulary, lowercase=lowercase, strip_accents=strip_accents)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return Tokenizer(backend)


def _backend(vocabulary: Mapping[str, int], *, lowercase: bool, strip_accents: bool) -> Any:  # noqa: ANN401
    import tokenizers as library  # noqa: PLC0415
    from tokenizers.models import WordPiece  # noqa: PLC0415

    model = WordPiece(dict(vocabulary), unk_token=SPECIAL_TOKENS[UNK_ID], continuing_subword_prefix=CONTINUATION)
    backend = library.Tokenizer(model)
    # Left unset, strip_accents follows lowercase: in Spanish that would make one word of "si" and "sí".
    backend.normalizer = library.normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    backend.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    backend.decoder = library.decoders.WordPiece(prefix=CONTINUATION)
    return backend


def _alphabet(texts: Iterable[str], normalize: Callable[[str], str], *, most: int) -> list[str]:
    """Return the `most` frequent characters after normalization, sorted; each is normalized on its own."""
    raw: Counter[str] = Counter()
    for text in texts:
        raw.update(text)
    counts: Counter[str] = Counter()
    for character, count in raw.items():
        for made in normalize(character):
            counts[made] += count
    del counts[" "]
    return sorted(sorted(counts, key=lambda character: (-counts[character], character))[:most])
