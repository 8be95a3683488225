"""Labelled texts to train a classifier on, and others to test it on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import file_sha256
from bertpipe.core.errors import DataError
from bertpipe.core.params import ProbeParams, SampleParams
from bertpipe.sources.labelled.holdout import choose, hold_out, text_digest
from bertpipe.sources.labelled.reading import LabelledText, read_labelled
from bertpipe.sources.sample.dataset import sample_reviews

SAMPLE = "sample"
"""Names the embedded sample's reviews, labelled with their verdicts, in place of a file; as in `download.source`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSplits:
    """Both splits; every class of the test split is in the training split."""

    train: Sequence[LabelledText]
    test: Sequence[LabelledText]
    sources: Mapping[str, Any]
    """What the texts came from."""

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
        DataError: a file is not as `read_labelled` wants it; there is one class alone; a class is tested that is not
            trained on; or the sample is given a file to test on.
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
    if probe.train_texts != "all":
        train = choose(train, count=probe.train_texts, seed=probe.seed)
    splits = LabelledSplits(train=train, test=held_out, sources=sources)
    _check_classes(splits, labelled)
    return splits


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
    return {"file": str(path), "sha256": file_sha256(path)}


def _check_classes(splits: LabelledSplits, labelled: str) -> None:
    classes = splits.classes
    if len(classes) == 1:
        raise DataError(
            f"{labelled} has one class to train on, {classes[0]!r}: a classifier needs texts of two or more"
        )
    for row in splits.test:
        if row.label not in classes:
            others = ", ".join(map(repr, classes))
            raise DataError(
                f"{row.place}: no training text has the class {row.label!r}, they have {others}: train on texts of it, "
                f"too, or leave it out of the test"
            )
