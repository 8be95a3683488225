"""Text classification by scikit-learn: the figures of a classifier, and what a bag of words gets."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Labels = NDArray[np.int64]
_MOST_ITERATIONS = 1000


def figures(true: _Labels, predicted: _Labels) -> dict[str, float]:
    """Return the accuracy, and the mean of F1 over the classes that are true or predicted at all."""
    from sklearn.metrics import accuracy_score, f1_score  # noqa: PLC0415

    return {
        "accuracy": float(accuracy_score(true, predicted)),
        "macro_f1": float(f1_score(true, predicted, average="macro", zero_division=0.0)),
    }


def by_class(true: _Labels, predicted: _Labels, classes: Sequence[str]) -> dict[str, Any]:
    """Return each class's F1, None where it is neither true nor predicted, and rows by true and predicted class."""
    from sklearn.metrics import confusion_matrix, f1_score  # noqa: PLC0415

    numbers = np.arange(len(classes))
    scores = f1_score(true, predicted, labels=numbers, average=None, zero_division=np.nan)
    matrix = confusion_matrix(true, predicted, labels=numbers).tolist()
    return {
        "f1": {name: None if np.isnan(score) else float(score) for name, score in zip(classes, scores, strict=True)},
        "confusion": {
            name: dict(zip(classes, counts, strict=True)) for name, counts in zip(classes, matrix, strict=True)
        },
    }


def majority(train: _Labels, rows: int) -> _Labels:
    """Return the most frequent class of the training rows, the lowest number among equals, for each of `rows` rows."""
    return np.full(rows, np.bincount(train).argmax(), dtype=np.int64)


def bag_of_words(train_texts: Sequence[str], train: _Labels, test_texts: Sequence[str]) -> _Labels | None:
    """Return the classes that logistic regression over weighted word counts predicts; None without a word to count.

    Words are what scikit-learn takes for words, single letters too, in small letters; a count weighs by the logarithm
    of how rare its word is among the training texts (tf-idf), and a text's weights have the length one.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    vectorizer = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b")  # noqa: S106 - no password
    words = vectorizer.build_analyzer()
    if not any(words(text) for text in train_texts):
        return None
    features = vectorizer.fit_transform(train_texts)
    regression = LogisticRegression(max_iter=_MOST_ITERATIONS).fit(features, train)
    predicted: _Labels = regression.predict(vectorizer.transform(test_texts)).astype(np.int64)
    return predicted
