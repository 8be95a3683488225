"""A model's answers, task by task; `to_dict` returns them as in files and `--json`."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class NspAnswer:
    """Whether the second sentence follows the first."""

    probability_next: float
    probability_not_next: float
    warnings: tuple[str, ...]

    @property
    def is_next(self) -> bool:
        """The verdict: the more probable of the two."""
        return self.probability_next > self.probability_not_next

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON content."""
        return {
            "is_next": self.is_next,
            "probability_next": _rounded(self.probability_next),
            "probability_not_next": _rounded(self.probability_not_next),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One candidate for a `[MASK]`."""

    token: str
    token_id: int
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskAnswer:
    """The candidates for one `[MASK]`."""

    position: int
    """Its position among the text's tokens, counted from 1 (`[CLS]` is 0)."""
    candidates: tuple[Candidate, ...]
    """The most probable first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlmAnswer:
    """The candidates for each `[MASK]` of a text."""

    masks: tuple[MaskAnswer, ...]
    filled_text: str
    """The text with each `[MASK]` replaced by its most probable token."""
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON content."""
        masks = [
            {
                "position": mask.position,
                "candidates": [
                    {"token": c.token, "token_id": c.token_id, "probability": _rounded(c.probability)}
                    for c in mask.candidates
                ],
            }
            for mask in self.masks
        ]
        return {"filled_text": self.filled_text, "masks": masks, "warnings": list(self.warnings)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreAnswer:
    """The pseudo-log-likelihood of a text (Salazar et al. 2020, "Masked Language Model Scoring", equation 2)."""

    tokens: tuple[str, ...]
    log_probabilities: tuple[float, ...]
    """Of each token if only that token is masked, in nats."""
    warnings: tuple[str, ...]

    @property
    def pseudo_log_likelihood(self) -> float:
        """The sum over the tokens, in nats."""
        return math.fsum(self.log_probabilities)

    @property
    def pseudo_perplexity(self) -> float:
        """The exponential of the mean loss per token: comparable across lengths."""
        try:
            return math.exp(-self.pseudo_log_likelihood / len(self.tokens))
        except OverflowError:
            return math.inf

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON content."""
        return {
            "pseudo_log_likelihood": _rounded(self.pseudo_log_likelihood),
            "pseudo_perplexity": _rounded(self.pseudo_perplexity) if math.isfinite(self.pseudo_perplexity) else None,
            "tokens": [
                {"token": token, "log_probability": _rounded(value)}
                for token, value in zip(self.tokens, self.log_probabilities, strict=True)
            ],
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingAnswer:
    """A text as one vector: the mean of the last layer's states over its tokens, `[CLS]` and `[SEP]` among them."""

    vector: NDArray[np.float32]
    """Shape [hidden]."""
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON content."""
        return {"embedding": [_rounded(value) for value in self.vector.tolist()], "warnings": list(self.warnings)}


def _rounded(number: float) -> float:
    """Return a number with six significant digits; the last bits differ between machines."""
    return float(f"{number:.6g}")
