"""The decisions of `Masking`, equal to the bit, made on a device in operations of fixed shapes.

`Masking` works on the chosen tokens only; here everything is computed for every token, because to count the chosen ones
the host would have to wait for the device.

All tensors have the shape [tokens]: complete rows, one after the other.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bertpipe.core import randomness
from bertpipe.core.randomness import FRACTION_BITS, GAMMA, mix
from bertpipe.data.masking import CHOICE, CORRUPTION, WORD, Masking

_TWO_TO_64 = 1 << 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMasking:
    """A masking rule with its tables on a device."""

    rule: Masking
    is_special: Tensor
    continues_word: Tensor
    ends_word: Tensor
    words: Tensor
    inner_rising: Tensor
    """`SpanDistribution.inner`, the smallest first."""
    opening_rising: Tensor
    """`SpanDistribution.opening`, the smallest first."""

    @classmethod
    def of(cls, rule: Masking, device: torch.device) -> "DeviceMasking":
        """Return a rule on a device."""
        return cls(
            rule=rule,
            is_special=torch.from_numpy(rule.is_special).to(device),
            continues_word=torch.from_numpy(rule.continues_word).to(device),
            ends_word=torch.from_numpy(rule.ends_word).to(device),
            words=torch.from_numpy(rule.words).to(device),
            inner_rising=torch.from_numpy(rule.spans.inner[::-1].copy()).to(device),
            opening_rising=torch.from_numpy(rule.spans.opening[::-1].copy()).to(device),
        )

    def corrupt(
        self, token_ids: Tensor, rows: Tensor, positions: Tensor, *, seed: int, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Return which tokens are chosen, and what the model reads: as `Masking.corrupt` does for whole rows."""
        rule = self.rule
        draws = uniform((seed, CHOICE, epoch), rows, positions)
        chosen, since_first = self._choose(token_ids, positions == 0, draws)
        fate = uniform((seed, CORRUPTION, epoch), rows, positions - since_first)
        drawn = self.words[below(len(rule.words), (seed, WORD, epoch), rows, positions)]
        drawn_or_true = torch.where(fate < rule.mask_share + rule.random_share, drawn, token_ids)
        corrupted = torch.where(fate < rule.mask_share, rule.mask_id, drawn_or_true)
        return chosen, torch.where(chosen, corrupted, token_ids)

    def _choose(self, token_ids: Tensor, opens_row: Tensor, draws: Tensor) -> tuple[Tensor, Tensor | int]:
        """Return which tokens are chosen, and how far each chosen one is from the one whose fate it shares."""
        special = self.is_special[token_ids]
        if self.rule.unit == "token":
            return (draws < self.rule.rate) & ~special, 0
        after_special = _shifted(special, before=False)
        begins = ~self.continues_word[token_ids] | opens_row | _shifted(self.ends_word[token_ids], before=False)
        if self.rule.unit == "word":
            chosen = (draws < self.rule.rate) & ~special
            return chosen[_last_place(begins)], 0
        return self._spans(draws, begins, special, opens_row | after_special)

    def _spans(self, draws: Tensor, begins: Tensor, special: Tensor, opens: Tensor) -> tuple[Tensor, Tensor]:
        """Return which tokens spans cover, and how far each is from the first of its run; see `SpanDistribution.runs`.

        The number drawn for a word is that of its first token. A special token is a word of its own.
        """
        length = torch.where(opens, _above(self.opening_rising, draws), _above(self.inner_rising, draws))
        starts = begins & ~special & (length > 0)
        word = torch.cumsum(begins, 0)
        # A span ends before the next word that is special or opens a text: the first border after its start.
        never = len(draws) + 1
        border = torch.where(begins & (special | opens), word, never)
        next_border = _shifted(border.flip(0).cummin(0).values.flip(0), before=never, back=True)
        end = torch.where(starts, torch.minimum(word + length, next_border), 0)
        furthest = end.cummax(0).values
        is_new = starts & (opens | (word > _shifted(furthest, before=0)))
        places = torch.arange(len(draws), device=draws.device)
        return furthest > word, places - _last_place(is_new)


def _above(rising: Tensor, values: Tensor) -> Tensor:
    """Return how many elements of `rising` are above each value."""
    return len(rising) - torch.searchsorted(rising, values, right=True)


def _last_place(marked: Tensor) -> Tensor:
    """Return the index of the last marked token at or before each one; 0 if there is none."""
    places = torch.arange(len(marked), device=marked.device)
    return torch.where(marked, places, 0).cummax(0).values


def _shifted(values: Tensor, *, before: int | bool, back: bool = False) -> Tensor:
    """Return for each token the value of the previous one, or of the next with `back`; `before` if there is none."""
    edge = values.new_full((min(len(values), 1),), before)
    return torch.cat([values[1:], edge] if back else [edge, values[:-1]])


def random_bits(keys: tuple[int, ...], *counters: Tensor) -> Tensor:
    """Return 64 random bits for every combination of counters: `randomness.random_bits(*keys, *counters)`.

    `keys`, such as seed, stream and epoch, are mixed on the host. `counters`, int64, are at least one, and broadcast.
    """
    first, *others = counters
    begun = int(randomness.random_bits(*keys)[0])
    state: Tensor = mix(first + _wrapped(begun * GAMMA + GAMMA))
    for counter in others:
        state = mix(state * GAMMA + counter + GAMMA)
    return state


def uniform(keys: tuple[int, ...], *counters: Tensor) -> Tensor:
    """Return one float in [0, 1) for every combination of counters; float64."""
    bits = (random_bits(keys, *counters) >> (64 - FRACTION_BITS)) & ((1 << FRACTION_BITS) - 1)
    return bits.to(torch.float64) * 2.0**-FRACTION_BITS


def below(limit: int, keys: tuple[int, ...], *counters: Tensor) -> Tensor:
    """Return one integer in [0, limit) for every combination of counters; int64."""
    return (uniform(keys, *counters) * limit).to(torch.int64)


def _wrapped(number: int) -> int:
    """Return an integer modulo 2**64, as a signed one."""
    return (number + _TWO_TO_64 // 2) % _TWO_TO_64 - _TWO_TO_64 // 2
