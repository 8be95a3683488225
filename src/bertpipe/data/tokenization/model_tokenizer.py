"""A person's text to token ids and back, for our tokenizers and for Hugging Face's alike."""

from dataclasses import dataclass
from typing import Any

from bertpipe.core.errors import InputError
from bertpipe.data.tokenization.tokenizer import Tokenizer, is_unknown_token, unknown_token

MASK = "[MASK]"
"""What the user writes for a hidden word, whatever the model's own mask token is."""
_SHOWN_WORDS = 5
"""Unknown words that a warning names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A text as token ids, without `[CLS]` and `[SEP]`."""

    text: str
    """What was encoded: `[MASK]` is the model's own mask token in it."""
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    """Where each token begins and ends in the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """From text to ids and back, for both kinds of model."""

    backend: Any
    """A `tokenizers.Tokenizer`."""
    cls_id: int
    sep_id: int
    mask_id: int
    unknown_id: int

    def __post_init__(self) -> None:
        """Switch off what a tokenizer.json says of cutting and padding: texts are cut here, and said so."""
        self.backend.no_truncation()
        self.backend.no_padding()

    def encode(self, text: str, name: str) -> Encoded:
        """Return the ids of a text.

        Args:
            text: the text.
            name: what an error calls it, for example "the first sentence".

        Raises:
            InputError: it is empty, or holds what is no text.
        """
        if not text.strip():
            raise InputError(f"{name} is empty: write some words")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(f"{name}, {text!a}, has half a character at {error.start + 1}: mend it") from error
        marked = text.replace(MASK, self.token(self.mask_id))
        encoding = self.backend.encode(marked, add_special_tokens=False)
        if not encoding.ids:
            raise InputError(f"{name}, {text!r}, holds no word that the tokenizer keeps: write some words")
        return Encoded(text=marked, ids=tuple(encoding.ids), spans=tuple(encoding.offsets))

    def token(self, token_id: int) -> str:
        """Return the token of an id; `[unknown-ID]` where it has none."""
        return self.backend.id_to_token(token_id) or unknown_token(token_id)

    @property
    def continuation_prefix(self) -> str:
        """What a token that goes on with the word before it begins with (`##`); empty if there are none."""
        return getattr(self.backend.model, "continuing_subword_prefix", None) or ""

    @property
    def has_words(self) -> bool:
        """Whether any token beside the special ones has a name; data without a vocabulary leave only ids."""
        special = {self.cls_id, self.sep_id, self.mask_id, self.unknown_id}
        ids = (i for i in range(self.backend.get_vocab_size()) if i not in special)
        return any(not is_unknown_token(self.token(i)) and self.token(i) != "[PAD]" for i in ids)

    def warnings(self, *texts: Encoded) -> tuple[str, ...]:
        """Return what is to be said of words that the vocabulary does not have."""
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
        return (f"not in the vocabulary, read as {unknown}: {', '.join(map(repr, words[:_SHOWN_WORDS]))}{more}",)


def own_vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """Return the vocabulary of one of our tokenizers."""
    _, cls_id, sep_id, mask_id, unknown_id = tokenizer.special_ids
    return Vocabulary(backend=tokenizer.backend, cls_id=cls_id, sep_id=sep_id, mask_id=mask_id, unknown_id=unknown_id)
