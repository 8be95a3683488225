"""Text to token ids and back: a `tokenizer.json` with BERT's five special tokens."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import DATA_COMMANDS
from bertpipe.core.atomic import atomic_file
from bertpipe.core.errors import DataError, MissingInputError, first_line
from bertpipe.data.tokenization.pieces import Pieces, piece_tables

if TYPE_CHECKING:
    import tokenizers

SPECIAL_TOKENS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]")
"""Their ids in a word-level vocabulary are 0 to 4, in this order, as in the notebook's data."""
PAD_ID, CLS_ID, SEP_ID, MASK_ID, UNK_ID = range(5)
_UNKNOWN = "\U00010a80\U0001e904"
"""Letters of Old North Arabian and Adlam, which hardly any vocabulary has."""
_OTHER_NAMES = ("<pad>", "<s>", "</s>", "<mask>", "<unk>")
"""The same in vocabularies of RoBERTa's kind."""

# Replacements of torchtext's `basic_english` after lower-casing, in order; then it splits on white space.
BASIC_ENGLISH = (
    ("'", " '  "),
    ('"', ""),
    (".", " . "),
    ("<br />", " "),
    (",", " , "),
    ("(", " ( "),
    (")", " ) "),
    ("!", " ! "),
    ("?", " ? "),
    (";", " "),
    (":", " "),
    # Python's `split` takes these separators for white space; Rust's does not.
    *((separator, " ") for separator in "\x1c\x1d\x1e\x1f"),
)


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer and the ids of its special tokens."""

    backend: "tokenizers.Tokenizer"
    special_tokens: tuple[str, ...] = SPECIAL_TOKENS
    """Its names of `[PAD] [CLS] [SEP] [MASK] [UNK]`."""

    @cached_property
    def vocab_size(self) -> int:
        """The largest id plus one, special tokens included."""
        return max(self.backend.get_vocab().values()) + 1

    @cached_property
    def special_ids(self) -> tuple[int, ...]:
        """Ids of `[PAD] [CLS] [SEP] [MASK] [UNK]`."""
        vocabulary = self.backend.get_vocab()
        return tuple(vocabulary[token] for token in self.special_tokens)

    @property
    def mask_id(self) -> int:
        """Id of `[MASK]`."""
        return self.special_ids[3]

    @property
    def unknown_id(self) -> int:
        """Id of `[UNK]`."""
        return self.special_ids[4]

    @cached_property
    def is_special(self) -> NDArray[np.bool_]:
        """Whether each id is a special token; shape [vocab]."""
        table = np.zeros(self.vocab_size, dtype=np.bool_)
        table[list(self.special_ids)] = True
        return table

    @cached_property
    def pieces(self) -> Pieces:
        """How the vocabulary writes text down."""
        return Pieces.of(self.backend)

    @cached_property
    def _tables(self) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
        named = {token: token_id for token, token_id in self.backend.get_vocab().items() if not is_unknown_token(token)}
        return piece_tables(self.pieces, named, self.vocab_size)

    @property
    def continues_word(self) -> NDArray[np.bool_]:
        """Whether each id is a piece of the same word as the token before it, such as WordPiece's `##s`; shape [vocab].

        False for all ids if the vocabulary does not mark words, like a word-level one. Where it marks the spaces before
        words, white space, punctuation marks and Chinese characters separate words, as in BERT.
        """
        return self._tables[1] & ~self.is_special

    @property
    def ends_word(self) -> NDArray[np.bool_]:
        """Whether the token after each id begins a word, whatever it is; shape [vocab]. So it is for special tokens."""
        return self._tables[2] | self.is_special

    @property
    def token_bytes(self) -> NDArray[np.int64]:
        """UTF-8 bytes of each id's text, 0 if it has none or it is not known; shape [vocab].

        The text is the normalised one: what the normaliser removes is not counted. A space is counted where the token
        has it, as byte-level and SentencePiece tokens do and WordPiece's do not. The marks of the vocabulary (`##`,
        `</w>`) are not counted; special tokens and `[unknown-ID]` have no text.
        """
        return np.where(self.is_special, 0, self._tables[0])

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without `[CLS]` and `[SEP]`; `[MASK]` in the text is the mask token."""
        return list(self.backend.encode(text, add_special_tokens=False).ids)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return the token of each id; `[unknown-ID]` for an id without one."""
        return [self.backend.id_to_token(int(token_id)) or unknown_token(int(token_id)) for token_id in ids]

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`."""
        with atomic_file(path) as temporary:
            temporary.write_text(self.backend.to_str(pretty=False) + "\n", encoding="utf-8")


def unknown_token(token_id: int) -> str:
    """Return the name of an id whose word is not known."""
    return f"[unknown-{token_id}]"


def is_unknown_token(token: str) -> bool:
    """Return whether a token is the name of an id whose word is not known."""
    return re.fullmatch(r"\[unknown-\d+\]", token) is not None


def word_level_tokenizer(words: Sequence[str], *, composed: bool = False) -> Tokenizer:
    """Return the notebook's tokenizer: torchtext's `basic_english`, then one id per word.

    Args:
        words: the whole vocabulary in the order of its ids, `SPECIAL_TOKENS` first.
        composed: whether an accent that stands after its letter is first put on it (NFC), as it is in `words`.

    Raises:
        DataError: the vocabulary does not begin with the special tokens, or names a word twice.
    """
    from tokenizers import AddedToken, normalizers, pre_tokenizers  # noqa: PLC0415
    from tokenizers import Tokenizer as Backend  # noqa: PLC0415
    from tokenizers.models import WordLevel  # noqa: PLC0415

    if tuple(words[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
        raise DataError(f"a vocabulary begins with {' '.join(SPECIAL_TOKENS)}, this one with {words[:5]!s:.100}")
    vocabulary = {word: token_id for token_id, word in enumerate(words)}
    if len(vocabulary) != len(words):
        twice = next(word for token_id, word in enumerate(words) if vocabulary[word] != token_id)
        raise DataError(f"the vocabulary names {twice!r:.60} twice: keep each word once")
    backend = Backend(WordLevel(vocabulary, unk_token=SPECIAL_TOKENS[UNK_ID]))
    replacements: list[Any] = [normalizers.Replace(old, new) for old, new in BASIC_ENGLISH]
    first = [normalizers.NFC()] if composed else []
    backend.normalizer = normalizers.Sequence([*first, normalizers.Lowercase(), *replacements])
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return Tokenizer(backend)


def basic_english(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield the `basic_english` words of each text, their letters composed."""
    splitter = word_level_tokenizer(SPECIAL_TOKENS, composed=True).backend
    normalize, split = splitter.normalizer.normalize_str, splitter.pre_tokenizer.pre_tokenize_str
    for text in texts:
        yield [word for word, _ in split(normalize(text))]


def load_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer of a `tokenizer.json`.

    Raises:
        MissingInputError: there is no such file.
        DataError: it is not a tokenizer, or lacks a special token.
    """
    if not path.is_file():
        raise MissingInputError(f"no tokenizer at {path}: run {DATA_COMMANDS} first")
    return parse_tokenizer(path.read_text(encoding="utf-8", errors="replace"), str(path))


def parse_tokenizer(
    text: str, name: str, names: Callable[[Mapping[str, int]], tuple[str, ...]] | None = None
) -> Tokenizer:
    """Return the tokenizer of a `tokenizer.json`'s text.

    Args:
        text: what stands in the file.
        name: what an error calls it.
        names: returns the names of the special tokens in a vocabulary; None for `special_tokens_of`.

    Raises:
        DataError: it is not a tokenizer, or lacks a special token.
    """
    from tokenizers import AddedToken  # noqa: PLC0415
    from tokenizers import Tokenizer as Backend  # noqa: PLC0415

    try:
        backend = Backend.from_str(text)
        backend.encode(_UNKNOWN, add_special_tokens=False)  # refused where there is no token for what is unknown
    except Exception as error:  # the library raises plain Exception
        raise DataError(f"{name} is not a tokenizer.json: {first_line(error):.200}") from error
    found = (names or special_tokens_of)(backend.get_vocab())
    missing = [usual for usual, token in zip(SPECIAL_TOKENS, found, strict=True) if not token]
    if missing:
        raise DataError(f"{name} lacks {' '.join(missing)}: a BERT tokenizer needs all of {' '.join(SPECIAL_TOKENS)}")
    added = {token.content for token in backend.get_added_tokens_decoder().values()}
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in found if t not in added])
    return Tokenizer(backend, found)


def special_tokens_of(vocabulary: Mapping[str, int]) -> tuple[str, ...]:
    """Return a vocabulary's names of `SPECIAL_TOKENS`; an empty one for each that it lacks."""
    pairs = zip(SPECIAL_TOKENS, _OTHER_NAMES, strict=True)
    return tuple(next((name for name in pair if name in vocabulary), "") for pair in pairs)
