"""Selections: which tokens enter the surrogate. Tokens left out also leave its denominators.

Ranks and thresholds are taken over the whole optimisation batch. A rule that picks a share of the tokens breaks ties by
position, so that the number picked does not depend on ties.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from isentrope.policy.batch import TokenBatch


def top_share(
    values: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], fraction: float
) -> Bool[Tensor, "batch time"]:
    """The ``max(1, floor(fraction N))`` largest of the ``N`` valid values; none if nothing is valid.

    Examples:
        >>> import torch
        >>> top_share(torch.tensor([[3.0, 1.0, 2.0]]), torch.ones(1, 3, dtype=torch.bool), 0.67)
        tensor([[ True, False,  True]])
    """
    count = int(mask.sum())
    chosen = mask.new_zeros(mask.numel())
    if count:
        share = max(1, math.floor(fraction * count + 1e-9))
        ranked = torch.where(mask, values, -torch.inf).flatten().sort(descending=True, stable=True).indices
        chosen[ranked[:share]] = True
    return chosen.view(mask.shape)


def row_quantile(
    values: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], level: float
) -> Float[Tensor, "batch"]:
    """The quantile of each row's valid values, linear between order statistics; 0 for a row without any.

    Args:
        values: ``[B, T]``.
        mask: ``[B, T]``.
        level: from 0, the smallest value, to 1, the largest.

    Raises:
        ValueError: if the level lies outside [0, 1].

    Examples:
        >>> import torch
        >>> values, mask = torch.tensor([[4.0, 1.0, 3.0, 9.0]]), torch.tensor([[True, True, True, False]])
        >>> row_quantile(values, mask, 0.75)
        tensor([3.5000])
    """
    if not 0 <= level <= 1:
        raise ValueError(f"row_quantile: level must lie in [0, 1], got {level}")
    # torch.nanquantile refuses batches of 2^24 values.
    last = (mask.sum(-1, keepdim=True) - 1).clamp_min(0)
    ranked = torch.where(mask, values, torch.inf).sort(-1).values
    # Rounded, so that 0.7 of ten steps is the seventh value and not a little more.
    place = (level * last.double()).mul(1e9).round() / 1e9
    below, above = (ranked.gather(-1, rank.long()) for rank in (place.floor(), place.ceil()))
    between = torch.lerp(below, above, place.frac().to(values.dtype))
    return torch.where(mask.any(-1), between.squeeze(-1), 0)


@dataclass(frozen=True)
class TopEntropy:
    """The tokens of highest entropy: the forks of a chain of thought.

    Args:
        fraction: share of the batch's tokens that is kept.

    References:
        Wang et al., Beyond the 80/20 Rule, arXiv 2506.01939.
    """

    fraction: float = 0.2
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy"})

    def __post_init__(self):
        if isinstance(self.fraction, (int, float)) and not 0 < self.fraction <= 1:
            raise ValueError(f"TopEntropy: fraction must lie in (0, 1], got {self.fraction}")

    def __call__(self, batch: TokenBatch) -> Bool[Tensor, "batch time"]:
        """True for the tokens to train on."""
        assert batch.entropy is not None
        return top_share(batch.entropy, batch.mask, self.fraction)
