"""What a model's token embeddings say about words: which are near each other.

Shapes in this file: words, hidden.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bertpipe.data.tokenization.tokenizer import Tokenizer, is_unknown_token

_Vectors = NDArray[np.float64]


def whole_words(tokenizer: Tokenizer, counts: NDArray[np.int64] | None) -> dict[int, str]:
    """Return the text of each id that is a word of its own with a letter in it, the most frequent first.

    Args:
        tokenizer: its vocabulary.
        counts: how often each id was seen, [vocab]; ids that were not are left out. None: all ids, in their order.
    """
    ids = np.arange(tokenizer.vocab_size)
    if counts is not None:
        ids = np.argsort(-counts, kind="stable")
        ids = ids[counts[ids] > 0]
    pieces, inner = tokenizer.pieces, tokenizer.continues_word | tokenizer.is_special
    found = {}
    for token_id, token in zip(ids.tolist(), tokenizer.tokens(ids.tolist()), strict=True):
        text = pieces.text(token).decode("utf-8", errors="replace").strip()
        if not inner[token_id] and not is_unknown_token(token) and any(map(str.isalpha, text)):
            found[token_id] = text
    return found


def nearest(vectors: _Vectors, chosen: Sequence[int], most: int) -> list[list[tuple[int, float]]]:
    """Return, for each chosen word, the other words with the highest cosine to it, and these cosines.

    Args:
        vectors: an embedding per word, [words, hidden].
        chosen: indices of words.
        most: how many others.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths > 0, lengths, 1.0)
    near = []
    for index in chosen:
        cosines = unit @ unit[index]
        order = [other for other in np.argsort(-cosines, kind="stable").tolist() if other != index][:most]
        near.append([(other, float(cosines[other])) for other in order])
    return near


def plane(vectors: _Vectors) -> tuple[_Vectors, float]:
    """Return the words on their first two principal components, [words, 2], and the share of the variance there.

    A component's sign is chosen so that its largest entry is positive.
    """
    centred = vectors - vectors.mean(axis=0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(vectors), 2))
    kept = min(2, len(sizes))
    largest = np.abs(right[:kept]).argmax(axis=1)
    signs = np.where(right[np.arange(kept), largest] < 0, -1.0, 1.0)
    points[:, :kept] = left[:, :kept] * sizes[:kept] * signs
    total = float((sizes**2).sum())
    return points, float((sizes[:kept] ** 2).sum()) / total if total else 0.0
