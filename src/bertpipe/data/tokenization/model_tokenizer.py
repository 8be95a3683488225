"""The user's text to token ids and back, with our tokenizers or Hugging Face's."""

import unicodedata
from dataclasses import dataclass
from typing import Any

from bertpipe.core.errors import InputError, excerpt
from bertpipe.data.tokenization.tokenizer import Tokenizer, is_unknown_token, unknown_token

MASK = "[MASK]"
"""What the user writes for a hidden word, whatever the model's own mask token is."""
_SHOWN_WORDS = 5
"""Unknown words that a warning names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """A text as token ids, without `[CLS]` and `[SEP]`."""

    text: str
    """What was encoded: `[MASK]` is the model's own mask token in it."""
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    """Each token's start and end in the text."""


@dataclass(frozen=True)
class ModelTokenizer:
    """A model's tokenizer, for the texts of a user."""

    tokenizer: Tokenizer

    def __post_init__(self) -> None:
        """Switch off a tokenizer.json's own truncation and padding: the predictor truncates, with a warning."""
        self.backend.no_truncation()
        self.backend.no_padding()

    @property
    def backend(self) -> Any:  # noqa: ANN401
        """The `tokenizers.Tokenizer`."""
        return self.tokenizer.backend

    @property
    def cls_id(self) -> int:
        """Id of `[CLS]`."""
        return self.tokenizer.special_ids[1]

    @property
    def sep_id(self) -> int:
        """Id of `[SEP]`."""
        return self.tokenizer.special_ids[2]

    @property
    def mask_id(self) -> int:
        """Id of `[MASK]`."""
        return self.tokenizer.special_ids[3]

    @property
    def unknown_id(self) -> int:
        """Id of `[UNK]`."""
        return self.tokenizer.special_ids[4]

    def encode(self, text: str, name: str) -> Encoding:
        """Return the ids of a text; `name` is what an error calls it, for example "the first sentence".

        Raises:
            InputError: it is empty, or is not valid Unicode.
        """
        if not text.strip():
            raise InputError(f"{name} is empty: write some words")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"{name}, {excerpt(text)}, has half a character at {error.start + 1}: remove it"
            ) from error
        if type(self.backend.model).__name__ == "WordLevel":  # it looks up whole words, and theirs are composed
            text = unicodedata.normalize("NFC", text)
        marked = text.replace(MASK, self.token(self.mask_id))
        encoding = self.backend.encode(marked, add_special_tokens=False)
        if not encoding.ids:
            raise InputError(f"{name}, {excerpt(text)}, holds no word that the tokenizer keeps: write some words")
        return Encoding(text=marked, ids=tuple(encoding.ids), spans=tuple(encoding.offsets))

    def token(self, token_id: int) -> str:
        """Return the token of an id; `[unknown-ID]` where it has none."""
        return self.backend.id_to_token(token_id) or unknown_token(token_id)

    @property
    def has_words(self) -> bool:
        """Whether any token but the special ones has a name; data without a vocabulary have only ids."""
        special = {self.cls_id, self.sep_id, self.mask_id, self.unknown_id}
        ids = (i for i in range(self.backend.get_vocab_size()) if i not in special)
        return any(not is_unknown_token(self.token(i)) and self.token(i) != "[PAD]" for i in ids)

    def warnings(self, *texts: Encoding) -> tuple[str, ...]:
        """Return warnings about words that are not in the vocabulary."""
        if not self.has_words:
            return (
                "this model's vocabulary has no words (its data came without one): "
                "it reads every word as [UNK], and its answer means nothing",
            )
        unknown = self.token(self.unknown_id)
        pieces = (
            encoded.text[start:end].strip()
            for encoded in texts
            for token_id, (start, end) in zip(encoded.ids, encoded.spans, strict=True)
            if token_id == self.unknown_id
        )
        words = [word for word in dict.fromkeys(pieces) if word != unknown]
        if not words:
            return ()
        more = f" and {len(words) - _SHOWN_WORDS} more" if len(words) > _SHOWN_WORDS else ""
        return (f"not in the vocabulary, read as {unknown}: {', '.join(map(excerpt, words[:_SHOWN_WORDS]))}{more}",)
