"""The documents of a corpus that are kept, each with its split."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from bertpipe.core.artifacts import SPLITS
from bertpipe.core.errors import DataError
from bertpipe.sources.text.documents import Document
from bertpipe.sources.text.sentences import without_line_break_tags

DIGEST_BYTES = 16
SPLIT_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A document of the data set."""

    number: int
    split: str
    text: str
    """As it was found."""
    plain: str
    """Without HTML's line breaks: what is read of it."""


@dataclass(slots=True, kw_only=True)
class Found:
    """What a pass through the corpus has met."""

    read: int = 0
    empty: int = 0
    duplicates: int = 0
    """Documents equal to an earlier one of their split but for white space, dropped."""
    test_documents_in_train: int = 0
    """Documents that the corpus has in both splits, dropped from the test split."""


@dataclass(slots=True, kw_only=True)
class Corpus:
    """A corpus that can be read several times.

    The split of a document depends on the seed and its own words alone, so that it stays where it is when the corpus
    grows; with `test_share` `source` it is the corpus's own.
    """

    read: Callable[[str | None], Iterable[Document]]
    """Gives the documents of a split anew at each call, or all with None; those without a split always."""
    test_share: float | Literal["source"]
    seed: int

    def documents(self, found: Found, *, train_only: bool = False) -> Iterator[Kept]:
        """Yield what is kept, in order, counting in `found`; with splits of its own, the corpus's training split first.

        Args:
            found: counts what is read.
            train_only: whether the test split is left out; where it is the corpus's own, it is not read then.

        Raises:
            DataError: a document has no split where the corpus's own are asked for, or holds half a surrogate pair.
        """
        seen: dict[str, set[bytes]] = {split: set() for split in SPLITS}
        number = 0
        for document, own_split in self._read(SPLITS[:1] if train_only else SPLITS):
            found.read += 1
            plain = without_line_break_tags(document.text)
            digest = text_digest(plain, document.origin, seed=self.seed)
            if digest is None:
                found.empty += 1
                continue
            split = own_split or self._split(digest)
            if digest in seen[split]:
                found.duplicates += 1
            elif split == "test" and digest in seen["train"]:
                found.test_documents_in_train += 1
            else:
                seen[split].add(digest)
                if split == "train" or not train_only:
                    yield Kept(number=number, split=split, text=document.text, plain=plain)
                number += 1

    def _read(self, splits: Sequence[str]) -> Iterator[tuple[Document, str | None]]:
        """Yield the documents of these splits, each with its own; all, with None, where chance gives them one."""
        if self.test_share != "source":
            for document in self.read(None):
                yield document, None
            return
        for split in splits:  # the training split has to be known when the test split is read
            for document in self.read(split):
                if document.split is None:
                    raise DataError(
                        f"{document.origin} belongs to no split, but prepare.test_share is source: "
                        "write the share of the documents that is to be the test split, such as 0.1"
                    )
                yield document, split

    def _split(self, digest: bytes) -> str:
        assert self.test_share != "source"
        return "test" if int.from_bytes(digest[:SPLIT_BYTES]) < split_bound(self.test_share) else "train"


def text_digest(plain: str, origin: str, *, seed: int) -> bytes | None:
    """Return a digest of the words of a text, of `DIGEST_BYTES`; None where it has none.

    Its first `SPLIT_BYTES` are a random number that decides the split.

    Raises:
        DataError: the text holds half of a surrogate pair.
    """
    words = " ".join(plain.split())
    if not words:
        return None
    try:
        content = words.encode("utf-8")
    except UnicodeEncodeError as error:
        at = max(0, error.start - 20)
        raise DataError(
            f"{origin} holds half of a surrogate pair, which is no character, after "
            f"{words[at : error.start]!r}: mend the file"
        ) from error
    return blake2b(content, digest_size=DIGEST_BYTES, key=seed.to_bytes(8)).digest()


def split_bound(test_share: float) -> int:
    """Return the number below which a document's random one puts it into the test split."""
    return math.ceil(test_share * 2.0 ** (8 * SPLIT_BYTES))
