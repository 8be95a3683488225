"""Documents in chunks, and what becomes of a chunk: the work that processes share."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import ROWS_PER_GROUP
from bertpipe.core.params import MaskingParams, PrepareParams
from bertpipe.core.randomness import uniform
from bertpipe.data.masking import Masking
from bertpipe.data.pair_dataset import PairDataset
from bertpipe.data.ragged import places_within
from bertpipe.data.row_counts import RowCounts
from bertpipe.data.tokenization.encoder import Encoder, truncate_longest_first
from bertpipe.data.tokenization.tokenizer import parse_tokenizer
from bertpipe.sources.notebook.sentence_pairs import SENTENCE_ENDS
from bertpipe.sources.text.notebook_pairs import notebook_segments
from bertpipe.sources.text.segments import FRAME_TOKENS, Segments, Sentences, bert_segments
from bertpipe.sources.text.sentences import SentenceRule, split_pieces, split_sentences

if TYPE_CHECKING:
    from bertpipe.sources.text.corpus import SplitDocument  # what reads text is not needed where chunks are worked on

_CHARACTERS = 1 << 20
"""A chunk is complete with so many characters ..."""
_DOCUMENTS = 8
"""... and so many documents, among which pairs of two documents are drawn; or ..."""
_MOST_CHARACTERS = 1 << 22
"""... with so many characters, where documents are whole books. In either case no document has more than half of the
characters: its pairs would find no B of another one."""
_CUT = 60  # stream of randomness
_FIRST, _SECOND = range(2)


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


def chunks(documents: "Iterable[SplitDocument]") -> Iterator[Chunk]:
    """Yield the documents of each split in chunks; what is left of a split in the end joins its last chunk."""
    complete, waiting = (defaultdict[str, _Documents](_Documents) for _ in range(2))
    for document in documents:
        split = document.split
        waiting[split].add(document.number, document.plain)
        if waiting[split].are_enough():
            yield from _chunk(split, complete[split].texts)
            complete[split], waiting[split] = waiting[split], _Documents()
    for split in list(waiting):
        yield from _chunk(split, complete[split].texts + waiting[split].texts)


@dataclass(slots=True)
class _Documents:
    """Documents that may become a chunk, by number."""

    texts: list[tuple[int, str]] = field(default_factory=list)
    characters: int = 0
    largest: int = 0
    """Characters of the largest one."""

    def add(self, number: int, text: str) -> None:
        self.texts.append((number, text))
        self.characters += len(text)
        self.largest = max(self.largest, len(text))

    def are_enough(self) -> bool:
        is_large = self.characters >= _CHARACTERS and len(self.texts) >= _DOCUMENTS
        return (is_large or self.characters >= _MOST_CHARACTERS) and 2 * self.largest <= self.characters


def _chunk(split: str, documents: list[tuple[int, str]]) -> Iterator[Chunk]:
    if documents:
        numbers, texts = zip(*documents, strict=True)
        yield Chunk(split=split, numbers=numbers, texts=texts)


class Preparation:
    """Makes rows of chunks; one in each process. What it makes of a chunk depends on the chunk alone."""

    def __init__(self, prepare: PrepareParams, masking: MaskingParams, tokenizer_json: str) -> None:
        tokenizer = parse_tokenizer(tokenizer_json, prepare.tokenizer)
        self._prepare = prepare
        self._masking = Masking.of(masking, tokenizer)
        self._encoder = Encoder(tokenizer)
        self._unknown_id = tokenizer.unknown_id
        _, cls_id, sep_id, _, _ = tokenizer.special_ids
        self._frame = Frame(cls_id=cls_id, sep_id=sep_id)
        stops = () if prepare.sentences == "lines" else SENTENCE_ENDS
        ends = [token_id for end in stops if (token_id := tokenizer.backend.token_to_id(end)) is not None]
        self._sentence_ends = np.array(ends, dtype=np.int32)

    def __call__(self, chunk: Chunk) -> Prepared:
        """Return the rows of a chunk."""
        notebook = self._prepare.pairs == "notebook"
        token_ids, pairs, left_out = self._notebook_pairs(chunk) if notebook else self._bert_pairs(chunk)
        cut = cut_to_room(pairs, front_share=0.0 if notebook else 0.5, seed=self._prepare.seed)
        lost = _tokens(pairs) - _tokens(cut)
        counts = Counts(
            documents=len(chunk.texts),
            documents_without_pairs=len(chunk.texts) - len(np.unique(np.concatenate([pairs.document, left_out]))),
            pairs_left_out=len(left_out),
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

    def _bert_pairs(self, chunk: Chunk) -> tuple[NDArray[np.int32], Segments, NDArray[np.int64]]:
        """Return all tokens, the pairs as stretches of them, and the document of each pair that was left out."""
        token_ids, counts, owner = self._encoded(chunk, split_sentences)
        real = counts > 0  # not the breaks between paragraphs
        sentences = Sentences(token_ids=token_ids, offsets=_offsets(counts[real]), document=owner[real])
        pairs, left_out = bert_segments(
            sentences,
            max_length=self._prepare.max_length,
            short_share=self._prepare.short_share,
            seed=self._prepare.seed,
        )
        return token_ids, pairs, left_out

    def _notebook_pairs(self, chunk: Chunk) -> tuple[NDArray[np.int32], Segments, NDArray[np.int64]]:
        """Return the same by the notebook's recipe."""
        split = split_pieces if len(self._sentence_ends) else split_sentences
        token_ids, counts, owners = self._encoded(chunk, split)
        pairs = notebook_segments(
            token_ids,
            _offsets(counts),
            owners,
            sentence_ends=self._sentence_ends,
            max_length=self._prepare.max_length,
            seed=self._prepare.seed,
        )
        return token_ids, pairs, np.zeros(0, dtype=np.int64)

    def _encoded(
        self, chunk: Chunk, split: Callable[[str, str, SentenceRule], list[str]]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """Return all tokens, how many each piece of a text has, and the number of each piece's document."""
        pieces = [split(text, self._prepare.language, self._prepare.sentences) for text in chunk.texts]
        token_ids, counts = self._encoder.encode(list(chain.from_iterable(pieces)))
        return token_ids, counts, np.repeat(np.array(chunk.numbers, dtype=np.int64), list(map(len, pieces)))


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)])


def _tokens(segments: Segments) -> NDArray[np.int64]:
    """Return the tokens of A and B of each pair."""
    return segments.first_end - segments.first_start + segments.second_end - segments.second_start


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The ids that stand around A and B."""

    cls_id: int
    sep_id: int


def cut_to_room(segments: Segments, *, front_share: float, seed: int) -> Segments:
    """Return the pairs shortened to the tokens they have room for.

    Token by token the longer half gives one away, B where both are equal; each is its first one with probability
    `front_share`, else its last.
    """
    first, second = segments.first_end - segments.first_start, segments.second_end - segments.second_start
    first_kept, second_kept = truncate_longest_first(first, second, segments.room)
    first_cut, second_cut = first - first_kept, second - second_kept
    first_front, second_front = (
        _front_cuts(cut, segments.identity, half, front_share=front_share, seed=seed)
        for cut, half in ((first_cut, _FIRST), (second_cut, _SECOND))
    )
    return replace(
        segments,
        first_start=segments.first_start + first_front,
        first_end=segments.first_end - (first_cut - first_front),
        second_start=segments.second_start + second_front,
        second_end=segments.second_end - (second_cut - second_front),
    )


def _front_cuts(
    cut: NDArray[np.int64], identity: NDArray[np.int64], half: int, *, front_share: float, seed: int
) -> NDArray[np.int64]:
    """Return how many of the tokens that each pair's half loses are its first ones; shape [pairs]."""
    pair = np.repeat(np.arange(len(cut)), cut)
    token = places_within(cut)
    is_front = uniform(seed, _CUT, half, identity[pair], token) < front_share
    return np.bincount(pair[is_front], minlength=len(cut))


def assemble(
    segments: Segments, token_ids: NDArray[np.int32], frame: Frame, masking: Masking, *, seed: int
) -> PairDataset:
    """Return the rows `[CLS] A [SEP] B [SEP]` with static masks, numbered from 0.

    Args:
        segments: pairs as stretches of `token_ids`.
        token_ids: true tokens.
        frame: what stands around A and B.
        masking: the rule of the masks.
        seed: seed of the masks; with it each mask is a function of the pair's identity and the position.
    """
    first, second = segments.first_end - segments.first_start, segments.second_end - segments.second_start
    lengths = first + second + FRAME_TOKENS
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    second_segment_start = first + 2
    row = np.repeat(np.arange(len(lengths)), lengths)
    position = places_within(lengths)
    in_second = position >= second_segment_start[row]
    source = np.where(in_second, (segments.second_start - second_segment_start)[row], segments.first_start[row] - 1)
    rows = token_ids.take(source + position, mode="clip")  # at the frame's places, whatever stands there
    rows[offsets[:-1]] = frame.cls_id
    rows[offsets[:-1] + second_segment_start - 1] = frame.sep_id
    rows[offsets[1:] - 1] = frame.sep_id
    corruption = masking.corrupt(rows, segments.identity[row], position, seed=seed, epoch=0)
    masked = np.flatnonzero(corruption.chosen)
    return PairDataset(
        token_ids=rows,
        offsets=offsets,
        row=np.arange(len(lengths)),
        second_segment_start=second_segment_start.astype(np.int32),
        is_next=segments.is_next,
        document=segments.document.astype(np.int32),
        masked_offsets=np.searchsorted(masked, offsets),
        masked_positions=position[masked].astype(np.int32),
        masked_inputs=corruption.inputs[masked],
        masked_labels=rows[masked],
    )
