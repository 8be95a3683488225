"""Labelled texts to train a classifier on, and others to test it on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.errors import DataError, excerpt, excerpts
from bertpipe.core.file_kinds import shown
from bertpipe.core.params import ProbeParams, SampleParams
from bertpipe.core.randomness import random_bits
from bertpipe.sources.labelled.reading import LabelledText, labelled_sha256, read_labelled
from bertpipe.sources.sample.dataset import sample_reviews
from bertpipe.sources.text.corpus import comparable

SAMPLE = "sample"
"""Names the embedded sample's reviews, labelled with their verdicts, in place of a file; as in `download.source`."""
_TEST_CHOICE, _TRAIN_CHOICE = range(70, 72)  # streams of randomness, one a kind of choice
_DIGEST_BYTES = 8
_FEWEST = 2
"""Distinct texts that a class needs to be tested: one to train on, one to test on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSplits:
    """Both splits; every class of the test split is in the training split."""

    train: Sequence[LabelledText]
    test: Sequence[LabelledText]
    sources: Mapping[str, Any]
    """What the texts came from."""
    left_out: Sequence[str] = ()
    """Classes for which the number of training texts is too small; their test texts are left out, too."""

    @property
    def classes(self) -> list[str]:
        """The classes, sorted; their places in this list are their numbers."""
        return sorted({row.label for row in self.train})

    @property
    def train_labels(self) -> NDArray[np.int64]:
        """Number of each training text's class."""
        return self._labels(self.train)

    @property
    def test_labels(self) -> NDArray[np.int64]:
        """Number of each test text's class."""
        return self._labels(self.test)

    def tested_in_training(self) -> int:
        """Return how many test texts are training texts, too, white space aside."""
        seen = {text_digest(row.text) for row in self.train}
        return sum(text_digest(row.text) in seen for row in self.test)

    def notes(self) -> list[str]:
        """Return what the user should know of classes that have few texts."""
        tested, counts = {row.label for row in self.test}, Counter(row.label for row in self.train)
        found = []
        if self.left_out:
            found.append(
                f"{len(self.train):,} training texts are fewer than the classes: {excerpts(self.left_out)} are neither "
                "trained on nor tested: raise probe.train_texts (--train-texts)"
            )
        if untested := [name for name in self.classes if name not in tested]:
            found.append(f"no text is left to test these classes, which have too few of them: {excerpts(untested)}")
        if single := [name for name in self.classes if counts[name] == 1]:
            found.append(f"classes with one text to train on, whose figures mean little: {excerpts(single)}")
        return found

    def _labels(self, rows: Sequence[LabelledText]) -> NDArray[np.int64]:
        number = {name: index for index, name in enumerate(self.classes)}
        return np.array([number[row.label] for row in rows], dtype=np.int64)


def read_splits(probe: ProbeParams, sample: SampleParams, *, labelled: str, test: Path | None) -> LabelledSplits:
    """Return the texts of a file, or of the sample, as the params split them.

    Args:
        probe: columns, the share held out, the number of training texts.
        sample: the embedded sample, for its reviews; their split is the one of its zip.
        labelled: a path, or `sample`.
        test: a file to test on; None holds out a share of `labelled`.

    Raises:
        MissingInputError: a file is not there.
        DataError: a file is not as `read_labelled` wants it; there is one class alone; the test file has a class that
            the other file lacks, or none of those that are trained on; or the sample is given a file to test on.
    """
    sources: dict[str, Any]
    if labelled == SAMPLE:
        if test is not None:
            raise DataError(f"the sample has a test split of its own: leave out --test {test}, or name two files")
        train, held_out = _verdicts(sample)
        sources = {"labelled": {"file": SAMPLE, **asdict(sample)}, "test_file": None}
    else:
        train, held_out = _from_files(probe, Path(labelled), test)
        sources = {"labelled": _identity(Path(labelled)), "test_file": None if test is None else _identity(test)}
    splits = LabelledSplits(train=train, test=held_out, sources=sources)
    _check_classes(splits, labelled)
    return splits if probe.train_texts == "all" else _with_fewer(splits, count=probe.train_texts, seed=probe.seed)


def _with_fewer(splits: LabelledSplits, *, count: int, seed: int) -> LabelledSplits:
    """Return the splits with `count` training texts at most, and without the classes that these do not have."""
    if count == 1:
        raise DataError("probe.train_texts is 1, and a classifier needs texts of two classes: set it to 2 or more")
    train = choose(splits.train, count=count, seed=seed)
    trained = {row.label for row in train}
    test = [row for row in splits.test if row.label in trained]
    if not test:
        raise DataError(
            f"no text to test on has one of the classes of the {count:,} training texts, {excerpts(sorted(trained))}: "
            "raise probe.train_texts (--train-texts)"
        )
    left_out = [name for name in splits.classes if name not in trained]
    return replace(splits, train=train, test=test, left_out=left_out)


def _verdicts(sample: SampleParams) -> tuple[list[LabelledText], list[LabelledText]]:
    """Return the sample's reviews with their verdicts."""
    train, test = (
        [
            LabelledText(
                text=review.text, label="positive" if review.positive else "negative", place=f"{split} review {number}"
            )
            for number, review in enumerate(reviews, start=1)
        ]
        for split, reviews in sample_reviews(sample).items()
    )
    return train, test


def _from_files(probe: ProbeParams, path: Path, test: Path | None) -> tuple[list[LabelledText], list[LabelledText]]:
    fields = {"text_field": probe.text_field, "label_field": probe.label_field}
    rows = read_labelled(path, **fields)
    if test is None:
        return hold_out(rows, test_share=probe.test_share, seed=probe.seed)
    return rows, read_labelled(test, **fields)


def _identity(path: Path) -> dict[str, str]:
    return {"file": shown(str(path)), "sha256": labelled_sha256(path)}


def _check_classes(splits: LabelledSplits, labelled: str) -> None:
    classes = splits.classes
    if len(classes) == 1:
        raise DataError(
            f"{labelled} has one class to train on, {excerpt(classes[0])}: a classifier needs texts of two or more"
        )
    for row in splits.test:
        if row.label not in classes:
            raise DataError(
                f"{row.place}: no training text has the class {excerpt(row.label)}, they have {excerpts(classes)}: "
                "train on texts of it, too, or take it out of the test file"
            )


def hold_out(
    rows: Sequence[LabelledText], *, test_share: float, seed: int
) -> tuple[list[LabelledText], list[LabelledText]]:
    """Return the training rows and the test rows, each in the order given.

    Of the distinct texts of each class, about `test_share` are held out: one at least, and not all; of a class with a
    single one, none. Which ones depends on the seed and the words of each text; texts that `comparable` takes for one
    stay together. A text of several labels counts as one of its first.

    Raises:
        DataError: no class has two distinct texts.
    """
    classes: dict[str, dict[int, LabelledText]] = {row.label: {} for row in rows}
    seen = dict[int, str]()
    for row in rows:
        digest = text_digest(row.text)
        if seen.setdefault(digest, row.label) == row.label:
            classes[row.label].setdefault(digest, row)
    rare = {label for label, texts in classes.items() if len(texts) < _FEWEST}
    to_train_on = {text_digest(row.text) for row in rows if row.label in rare}
    held_out = set[int]()
    for texts in classes.values():
        count = min(max(1, round(test_share * len(texts))), len(texts) - 1)
        digests = np.array([digest for digest in texts if digest not in to_train_on], dtype=np.int64)
        order = np.argsort(random_bits(seed, _TEST_CHOICE, digests), kind="stable")
        held_out.update(digests[order[: max(count, 0)]].tolist())
    if not held_out:
        raise DataError(
            f"no class of {excerpts(sorted(classes))} has {_FEWEST} texts of its own, one to train on and one to test "
            "on: add rows, or give a test file with --test"
        )
    is_test = [text_digest(row.text) in held_out for row in rows]
    return (
        [row for row, held in zip(rows, is_test, strict=True) if not held],
        [row for row, held in zip(rows, is_test, strict=True) if held],
    )


def choose(rows: Sequence[LabelledText], *, count: int, seed: int) -> list[LabelledText]:
    """Return `count` of the rows, or all if there are no more, in the order given.

    One row of each class comes first, that of the class with most rows before the others; so no class is missing if
    there are as many. Those of a smaller count are among those of a larger one.
    """
    digests = np.array([text_digest(row.text) for row in rows], dtype=np.int64)
    order = np.argsort(random_bits(seed, _TRAIN_CHOICE, digests), kind="stable").tolist()
    sizes = Counter(row.label for row in rows)
    first_of = dict[str, int]()
    for index in order:
        first_of.setdefault(rows[index].label, index)
    firsts = sorted(first_of.values(), key=lambda index: -sizes[rows[index].label])
    chosen = list(dict.fromkeys([*firsts, *order]))[:count]
    return [rows[index] for index in sorted(chosen)]


def text_digest(text: str) -> int:
    """Return 64 bits that tell texts apart; equal for texts that `comparable` takes for one."""
    digest = blake2b(comparable(text).encode("utf-8"), digest_size=_DIGEST_BYTES).digest()
    return int.from_bytes(digest, "little", signed=True)
