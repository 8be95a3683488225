"""Which labelled texts are held out of training, and which are trained on."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from bertpipe.core.errors import DataError
from bertpipe.core.randomness import random_bits
from bertpipe.sources.labelled.reading import LabelledText

_TEST_CHOICE, _TRAIN_CHOICE = range(70, 72)  # streams of randomness, one a kind of choice
_DIGEST_BYTES = 8
_FEWEST = 2
"""Distinct texts that a class needs: one to train on, one to test on."""


def hold_out(
    rows: Sequence[LabelledText], *, test_share: float, seed: int
) -> tuple[list[LabelledText], list[LabelledText]]:
    """Return the training rows and the test rows, each in the order given.

    Of the distinct texts of each class, about `test_share` are held out: one at least, and not all. Which ones depends
    on the seed and the words of each text; texts that differ in white space alone are one, and stay together. A text of
    several labels counts as one of its first.

    Raises:
        DataError: a class has fewer than two distinct texts.
    """
    classes: dict[str, dict[int, LabelledText]] = {row.label: {} for row in rows}
    seen = dict[int, str]()
    for row in rows:
        digest = text_digest(row.text)
        if seen.setdefault(digest, row.label) == row.label:
            classes[row.label].setdefault(digest, row)
    held_out = set[int]()
    for label, texts in classes.items():
        if len(texts) < _FEWEST:
            where = f" ({next(iter(texts.values())).place})" if texts else ""
            raise DataError(
                f"the class {label!r} has {len(texts)} text of its own{where}, and {_FEWEST} are needed, one to train "
                f"on and one to test on: add rows of it or drop it, or give a test file with --test"
            )
        digests = np.fromiter(texts, dtype=np.int64)
        order = np.argsort(random_bits(seed, _TEST_CHOICE, digests), kind="stable")
        count = min(max(1, round(test_share * len(texts))), len(texts) - 1)
        held_out.update(digests[order[:count]].tolist())
    is_test = [text_digest(row.text) in held_out for row in rows]
    return (
        [row for row, held in zip(rows, is_test, strict=True) if not held],
        [row for row, held in zip(rows, is_test, strict=True) if held],
    )


def choose(rows: Sequence[LabelledText], *, count: int, seed: int) -> list[LabelledText]:
    """Return `count` of the rows, or all if there are no more, in the order given.

    Those of a smaller count are among those of a larger one.
    """
    digests = np.array([text_digest(row.text) for row in rows], dtype=np.int64)
    order = np.argsort(random_bits(seed, _TRAIN_CHOICE, digests), kind="stable")
    return [rows[index] for index in np.sort(order[:count]).tolist()]


def text_digest(text: str) -> int:
    """Return 64 bits that tell texts apart; equal for texts that differ in white space alone."""
    digest = blake2b(" ".join(text.split()).encode("utf-8"), digest_size=_DIGEST_BYTES).digest()
    return int.from_bytes(digest, "little", signed=True)
