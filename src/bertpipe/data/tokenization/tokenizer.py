"""Text to token ids and back: a `tokenizer.json` with BERT's five special tokens."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import DATA_COMMANDS
from bertpipe.core.atomic import atomic_file
from bertpipe.core.errors import DataError, MissingInputError

if TYPE_CHECKING:
    import tokenizers

SPECIAL_TOKENS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]")
"""Their ids in a word-level vocabulary are 0 to 4, in this order, as in the notebook's data."""
PAD_ID, CLS_ID, SEP_ID, MASK_ID, UNK_ID = range(5)

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

    @cached_property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return int(self.backend.get_vocab_size())

    @cached_property
    def special_ids(self) -> tuple[int, ...]:
        """Ids of `[PAD] [CLS] [SEP] [MASK] [UNK]`."""
        vocabulary = self.backend.get_vocab()
        return tuple(vocabulary[token] for token in SPECIAL_TOKENS)

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
    def continues_word(self) -> NDArray[np.bool_]:
        """Whether each id is a piece that continues a word, such as WordPiece's `##s`; shape [vocab].

        False for all ids if the tokenizer's model does not mark pieces, like a word-level one.
        """
        table = np.zeros(self.vocab_size, dtype=np.bool_)
        prefix = getattr(self.backend.model, "continuing_subword_prefix", None)
        if prefix:
            table[[token_id for token, token_id in self.backend.get_vocab().items() if token.startswith(prefix)]] = True
        return table & ~self.is_special

    @cached_property
    def token_bytes(self) -> NDArray[np.int64]:
        """UTF-8 bytes of each id's text, 0 if it has none or it is not known; shape [vocab].

        A continuing piece counts without its prefix; special tokens and `[unknown-ID]` have no text.
        """
        sizes = np.zeros(self.vocab_size, dtype=np.int64)
        prefix = getattr(self.backend.model, "continuing_subword_prefix", None) or ""
        for token, token_id in self.backend.get_vocab().items():
            if not is_unknown_token(token):
                sizes[token_id] = len(token.removeprefix(prefix).encode("utf-8"))
        sizes[self.is_special] = 0
        return sizes

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
        raise DataError(f"a vocabulary begins with {' '.join(SPECIAL_TOKENS)}, this one with {words[:5]}")
    vocabulary = {word: token_id for token_id, word in enumerate(words)}
    if len(vocabulary) != len(words):
        twice = next(word for token_id, word in enumerate(words) if vocabulary[word] != token_id)
        raise DataError(f"the vocabulary names {twice!r} twice: keep each word once")
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


def parse_tokenizer(text: str, name: str) -> Tokenizer:
    """Return the tokenizer of a `tokenizer.json`'s text; `name` is what an error calls it.

    Raises:
        DataError: it is not a tokenizer, or lacks a special token.
    """
    from tokenizers import Tokenizer as Backend  # noqa: PLC0415

    try:
        backend = Backend.from_str(text)
    except Exception as error:  # the library raises plain Exception
        raise DataError(f"{name} is not a tokenizer.json: {error}") from error
    missing = [token for token in SPECIAL_TOKENS if backend.token_to_id(token) is None]
    if missing:
        raise DataError(f"{name} lacks {' '.join(missing)}: a BERT tokenizer needs all of {' '.join(SPECIAL_TOKENS)}")
    return Tokenizer(backend)
