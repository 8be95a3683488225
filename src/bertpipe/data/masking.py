"""Masked-language modelling: which tokens are predicted, and what the model reads in their place."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertpipe.data.randomness import below, uniform
from bertpipe.data.tokenization import Tokenizer
from bertpipe.params import MaskingParams

_CHOICE, _CORRUPTION, _WORD = range(10, 13)  # streams of randomness, one a kind of choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Corruption:
    """What masking does to token ids, each array in the shape of the tokens."""

    chosen: NDArray[np.bool_]
    """Which positions the model has to predict."""
    inputs: NDArray[np.int32]
    """What the model reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Masking:
    """The masking rule for one vocabulary."""

    rate: float
    mask_share: float
    random_share: float
    mask_id: int
    is_special: NDArray[np.bool_]
    """Ids that are never chosen and never drawn; shape [vocab]."""
    words: NDArray[np.int32]
    """Ids that a random word is drawn from."""

    @classmethod
    def of(cls, params: MaskingParams, tokenizer: Tokenizer) -> "Masking":
        """Return the rule of `params` for a tokenizer's vocabulary."""
        return cls(
            rate=params.rate,
            mask_share=params.mask_share,
            random_share=params.random_share,
            mask_id=tokenizer.mask_id,
            is_special=tokenizer.is_special,
            words=np.flatnonzero(~tokenizer.is_special).astype(np.int32),
        )

    def corrupt(
        self,
        token_ids: NDArray[np.int32],
        rows: NDArray[np.int64],
        positions: NDArray[np.int64],
        *,
        seed: int,
        epoch: int,
    ) -> Corruption:
        """Choose and corrupt tokens (Devlin et al. 2018, section 3.1, task 1).

        Each token that is not special is chosen with probability `rate`; a chosen one becomes `[MASK]`, a random
        word, or stays, by the shares. Every decision is a pure function of (seed, epoch, row, position).

        Args:
            token_ids: true tokens, any shape.
            rows: identity of each token's row, broadcastable to that shape.
            positions: position of each token in its row, likewise.
            seed: seed of all decisions.
            epoch: number of the epoch; another epoch has other masks.
        """
        chosen = (uniform(seed, _CHOICE, epoch, rows, positions) < self.rate) & ~self.is_special[token_ids]
        fate = uniform(seed, _CORRUPTION, epoch, rows, positions)
        drawn = self.words[below(len(self.words), seed, _WORD, epoch, rows, positions)]
        inputs = token_ids.copy()
        masked = chosen & (fate < self.mask_share)
        replaced = chosen & (fate >= self.mask_share) & (fate < self.mask_share + self.random_share)
        inputs[masked] = self.mask_id
        np.copyto(inputs, drawn, where=replaced)
        return Corruption(chosen=chosen, inputs=inputs)
