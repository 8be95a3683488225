"""Texts as rows of token ids `[CLS] window [SEP]`, one after the other in one array: a long text has several."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.errors import DataError, InputError, excerpt
from bertpipe.data.tokenization.model_tokenizer import ModelTokenizer
from bertpipe.sources.labelled.reading import LabelledText

FRAME_TOKENS = 2
"""`[CLS]` and `[SEP]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRows:
    """Row r has the tokens `token_ids[offsets[r]:offsets[r + 1]]`, `[CLS]` and `[SEP]` included.

    A row is a window of a text; a text's windows stand one after the other.
    """

    token_ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    text: NDArray[np.int64]
    """Number of each row's text; shape [rows]."""
    texts_cut: int
    """Texts that lost their end, because they have more windows than are read."""
    unknown_tokens: int
    """Tokens read as the unknown word."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row; shape [rows]."""
        return np.diff(self.offsets)

    @property
    def shares(self) -> NDArray[np.float32]:
        """Each row's share of its text's tokens, 1 where a text has one row; shape [rows]."""
        return (self.lengths / np.bincount(self.text, weights=self.lengths)[self.text]).astype(np.float32)


def encode_rows(
    texts: Sequence[LabelledText], tokenizer: ModelTokenizer, *, max_length: int, windows: Literal["all"] | int = "all"
) -> TextRows:
    """Return the rows of some texts, each in as few windows of at most `max_length` tokens as hold it.

    The windows of a text differ by one token at most, and do not overlap. Only the first `windows` full ones of a text
    are read; what follows is cut.

    Raises:
        DataError: a text holds no word that the tokenizer keeps; the message names its row.
    """
    ids: list[NDArray[np.int32]] = []
    counts, cut, room = list[int](), 0, max_length - FRAME_TOKENS
    for text in texts:
        try:
            words = tokenizer.encode(text.text, "the text").ids
        except InputError as error:
            raise DataError(
                f"{text.place}: the text {excerpt(text.text)} holds no word that the model's tokenizer keeps: "
                f"correct or drop the row"
            ) from error
        kept = np.array(words if windows == "all" else words[: windows * room], dtype=np.int32)
        cut += len(kept) < len(words)
        counts.append(-(-len(kept) // room))
        ids += [
            np.concatenate([[tokenizer.cls_id], part, [tokenizer.sep_id]], dtype=np.int32)
            for part in np.array_split(kept, counts[-1])
        ]
    token_ids = np.concatenate(ids)
    return TextRows(
        token_ids=token_ids,
        offsets=np.cumsum([0, *map(len, ids)], dtype=np.int64),
        text=np.repeat(np.arange(len(counts)), counts),
        texts_cut=cut,
        unknown_tokens=int((token_ids == tokenizer.unknown_id).sum()),
    )
