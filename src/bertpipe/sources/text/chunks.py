"""Documents in chunks, and what becomes of a chunk: the work that processes share."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import ROWS_PER_GROUP, SPLITS
from bertpipe.core.params import MaskingParams, PrepareParams
from bertpipe.data.masking import Masking
from bertpipe.data.pair_dataset import PairDataset
from bertpipe.data.row_counts import RowCounts
from bertpipe.data.tokenization.encoder import Encoder
from bertpipe.data.tokenization.tokenizer import Tokenizer
from bertpipe.sources.notebook.notebook_sentences import SENTENCE_ENDS
from bertpipe.sources.text.assembly import Frame, assemble, cut_to_room
from bertpipe.sources.text.notebook_pairs import notebook_segments
from bertpipe.sources.text.segments import Segments, Sentences, bert_segments
from bertpipe.sources.text.sentences import split_sentences

if TYPE_CHECKING:
    from bertpipe.sources.text.corpus import Kept  # what reads text is not needed where chunks are worked on

_CHARACTERS = 1 << 20
"""A chunk is complete with so many characters ..."""
_DOCUMENTS = 8
"""... and so many documents, among which pairs of two documents are drawn; or ..."""
_MOST_CHARACTERS = 1 << 22
"""... with so many characters and two documents, where documents are whole books."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Documents of one split that stand next to each other in it."""

    split: str
    numbers: tuple[int, ...]
    texts: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Counts(RowCounts):
    """What became of documents."""

    documents: int = 0
    documents_without_pairs: int = 0
    unknown_tokens: int = 0
    pairs_left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What became of a chunk: its rows, in parts that are numbered from 0 each."""

    split: str
    parts: tuple[PairDataset, ...]
    counts: Counts


def chunks(documents: "Iterable[Kept]") -> Iterator[Chunk]:
    """Yield the documents of each split in chunks; what is left of a split in the end joins its last chunk."""
    filling = {split: _Filling() for split in SPLITS}
    complete: dict[str, _Filling] = {}
    for document in documents:
        part = filling[document.split]
        part.add(document)
        if part.is_complete:
            if document.split in complete:
                yield complete[document.split].chunk(document.split)
            complete[document.split], filling[document.split] = part, _Filling()
    for split, rest in filling.items():
        last = complete.get(split, _Filling())
        last.numbers += rest.numbers
        last.texts += rest.texts
        if last.texts:
            yield last.chunk(split)


class _Filling:
    """A chunk in the making."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.texts: list[str] = []
        self._characters = 0

    def add(self, document: "Kept") -> None:
        """Take one more document."""
        self.numbers.append(document.number)
        self.texts.append(document.plain)
        self._characters += len(document.plain)

    @property
    def is_complete(self) -> bool:
        """Whether nothing more is needed."""
        documents = len(self.texts)
        enough = self._characters >= _CHARACTERS and documents >= _DOCUMENTS
        return enough or (self._characters >= _MOST_CHARACTERS and documents > 1)

    def chunk(self, split: str) -> Chunk:
        """Return the documents as a chunk."""
        return Chunk(split=split, numbers=tuple(self.numbers), texts=tuple(self.texts))


class Preparation:
    """Makes rows of chunks; one in each process. What it makes of a chunk depends on the chunk alone."""

    def __init__(self, prepare: PrepareParams, masking: MaskingParams, tokenizer: Tokenizer) -> None:
        self._prepare = prepare
        self._masking = Masking.of(masking, tokenizer)
        self._encoder = Encoder(tokenizer)
        self._unknown_id = tokenizer.unknown_id
        _, cls_id, sep_id, _, _ = tokenizer.special_ids
        self._frame = Frame(cls_id=cls_id, sep_id=sep_id)
        ends = [token_id for end in SENTENCE_ENDS if (token_id := tokenizer.backend.token_to_id(end)) is not None]
        self._sentence_ends = np.array(ends, dtype=np.int32)

    def __call__(self, chunk: Chunk) -> Prepared:
        """Return the rows of a chunk."""
        notebook = self._prepare.pairs == "notebook"
        token_ids, pairs, left_out = self._notebook_pairs(chunk) if notebook else self._bert_pairs(chunk)
        cut = cut_to_room(pairs, front_share=0.0 if notebook else 0.5, seed=self._prepare.seed)
        lost = _tokens(pairs) - _tokens(cut)
        counts = Counts(
            documents=len(chunk.texts),
            documents_without_pairs=len(chunk.texts) - len(np.unique(pairs.document)),
            pairs_left_out=left_out,
        )
        counts.add_cuts(lost)
        parts = []
        for first in range(0, len(lost), ROWS_PER_GROUP):  # in a book's chunk, all rows at once take much memory
            some = cut.select(np.arange(first, min(first + ROWS_PER_GROUP, len(lost))))
            rows = assemble(some, token_ids, self._frame, self._masking, seed=self._prepare.seed)
            parts.append(rows)
            counts.add_rows(rows)
            counts.unknown_tokens += int(np.count_nonzero(rows.token_ids == self._unknown_id))
        return Prepared(split=chunk.split, parts=tuple(parts), counts=counts)

    def _bert_pairs(self, chunk: Chunk) -> tuple[NDArray[np.int32], Segments, int]:
        """Return all tokens, the pairs as stretches of them, and how many pairs were left out."""
        pieces = [split_sentences(text, self._prepare.language) for text in chunk.texts]
        encoded = self._encoder.encode(list(chain.from_iterable(pieces)))
        owner = np.repeat(np.array(chunk.numbers, dtype=np.int64), [len(sentences) for sentences in pieces])
        real = encoded.counts > 0  # not the breaks between paragraphs
        sentences = Sentences(token_ids=encoded.token_ids, offsets=_offsets(encoded.counts[real]), document=owner[real])
        pairs, left_out = bert_segments(
            sentences,
            max_length=self._prepare.max_length,
            short_share=self._prepare.short_share,
            seed=self._prepare.seed,
        )
        return encoded.token_ids, pairs, left_out

    def _notebook_pairs(self, chunk: Chunk) -> tuple[NDArray[np.int32], Segments, int]:
        """Return the same by the notebook's recipe."""
        encoded = self._encoder.encode(chunk.texts)
        pairs = notebook_segments(
            encoded.token_ids,
            _offsets(encoded.counts),
            np.array(chunk.numbers, dtype=np.int64),
            sentence_ends=self._sentence_ends,
            max_length=self._prepare.max_length,
            seed=self._prepare.seed,
        )
        return encoded.token_ids, pairs, 0


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)])


def _tokens(segments: Segments) -> NDArray[np.int64]:
    """Return the tokens of A and B of each pair."""
    return segments.first_end - segments.first_start + segments.second_end - segments.second_start
