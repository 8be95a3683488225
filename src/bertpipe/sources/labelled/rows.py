"""Texts as rows of token ids `[CLS] text [SEP]`, one after the other in one array."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.errors import DataError, InputError, excerpt
from bertpipe.data.tokenization.model_tokenizer import ModelTokenizer
from bertpipe.sources.labelled.reading import LabelledText

FRAME_TOKENS = 2
"""`[CLS]` and `[SEP]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRows:
    """Row r has the tokens `token_ids[offsets[r]:offsets[r + 1]]`, `[CLS]` and `[SEP]` included."""

    token_ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    texts_cut: int
    """Texts that lost their end, because the model reads no more."""
    unknown_tokens: int
    """Tokens read as the unknown word."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row; shape [rows]."""
        return np.diff(self.offsets)


def encode_rows(texts: Sequence[LabelledText], tokenizer: ModelTokenizer, *, max_length: int) -> TextRows:
    """Return the rows of some texts, each cut to `max_length` tokens.

    Raises:
        DataError: a text holds no word that the tokenizer keeps; the message names its row.
    """
    ids: list[NDArray[np.int32]] = []
    cut = 0
    for text in texts:
        try:
            words = tokenizer.encode(text.text, "the text").ids
        except InputError as error:
            raise DataError(
                f"{text.place}: the text {excerpt(text.text)} holds no word that the model's tokenizer keeps: "
                f"correct or drop the row"
            ) from error
        kept = words[: max_length - FRAME_TOKENS]
        cut += len(kept) < len(words)
        ids.append(np.array([tokenizer.cls_id, *kept, tokenizer.sep_id], dtype=np.int32))
    token_ids = np.concatenate(ids)
    return TextRows(
        token_ids=token_ids,
        offsets=np.cumsum([0, *map(len, ids)], dtype=np.int64),
        texts_cut=cut,
        unknown_tokens=int((token_ids == tokenizer.unknown_id).sum()),
    )
