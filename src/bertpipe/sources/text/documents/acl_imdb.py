"""aclImdb's own tree (Maas et al. 2011): which of its files are reviews, and of which split.

`train` and `test` hold `pos` and `neg`, `train` also `unsup`; one review a file. Word lists, counts and addresses that
stand beside them are no documents. https://ai.stanford.edu/~amaas/data/sentiment/
"""

import re
from collections.abc import Iterable

TREE = "aclImdb/"
"""The top folder of the archive as Stanford distributes it."""

_FIRST_FOLDER = "train/pos/"
_REVIEW = re.compile(r"(train|test)/(?:pos|neg|unsup)/[^/]+\.txt")
_BESIDE = re.compile(r"README|imdb\.vocab|imdbEr\.txt|(?:train|test)/(?:urls_\w+\.txt|\w+Bow\.feat)")


def tree_root(names: Iterable[str]) -> str | None:
    """Return the prefix below which names make the tree: `aclImdb/` or nothing; None where they do not."""
    for name in names:
        for root in ("", TREE):
            if name.startswith(root + _FIRST_FOLDER):
                return root
    return None


def review_split(name: str, root: str) -> str | None:
    """Return `train` or `test` for a review; None for another file."""
    match = _REVIEW.fullmatch(name.removeprefix(root)) if name.startswith(root) else None
    return match[1] if match else None


def stands_beside(name: str, root: str) -> bool:
    """Return whether a file belongs to the tree and is no document."""
    return name.startswith(root) and _BESIDE.fullmatch(name.removeprefix(root)) is not None
