"""Token weights: detached factors ``[B, T]`` on the surrogate's token loss. Denominators keep every token.

The choice of tokens is made on the whole optimisation batch (`prepare`), because a choice made on micro-batches depends
on their size: the ``max(1, ...)`` in the rule below alone would pick one token from each.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from isentrope.policy.batch import TokenBatch
from isentrope.policy.dynamics import covariance_contributions
from isentrope.policy.selection import top_share


def _covariances(batch: TokenBatch) -> Tensor:
    assert batch.log_probs is not None
    assert batch.advantages is not None
    return covariance_contributions(batch.log_probs, batch.advantages, batch.chosen)


@dataclass(frozen=True)
class CovarianceBetween:
    """Tokens whose share of the covariance ``(A - mean A)(log pi - mean log pi)`` lies strictly between two values.

    Args:
        low: lower end; the unit is that of advantage times nats.
        high: upper end.
    """

    low: float = 1.0
    high: float = 5.0

    def __call__(self, batch: TokenBatch) -> Bool[Tensor, "batch time"]:
        """True where the covariance lies in the window."""
        covariance = _covariances(batch)
        return (covariance > self.low) & (covariance < self.high)


@dataclass(frozen=True)
class TopCovariance:
    """The ``max(1, floor(fraction N))`` tokens with the largest share of the covariance.

    Args:
        fraction: share of the batch's tokens.
    """

    fraction: float

    def __call__(self, batch: TokenBatch) -> Bool[Tensor, "batch time"]:
        """True for the chosen tokens."""
        mask = batch.chosen
        return top_share(_covariances(batch), mask, self.fraction)


@dataclass(frozen=True)
class DropRandom:
    """Take the gradient from some tokens, chosen at random among those that ``where`` points out.

    ``n = max(1, floor(fraction N))`` of the candidates (all of them, if fewer) get weight 0, every other token 1.
    Tokens that the surrogate clips already are no candidates. No candidates: nothing changes. ``fraction=0`` turns the
    part off.

    Args:
        fraction: share of the batch's ``N`` valid tokens.
        where: the candidates, a callable from `TokenBatch` to ``[B, T]`` booleans.

    References:
        Cui et al., The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models (Clip-Cov),
        arXiv 2505.22617, eq. 10-11.
    """

    fraction: float
    where: Callable[[TokenBatch], Bool[Tensor, "batch time"]]
    needs: ClassVar[frozenset[str]] = frozenset({"clipped"})

    def prepare(self, batch: TokenBatch, generator: torch.Generator) -> Bool[Tensor, "batch time"]:
        """True for the tokens that are dropped."""
        mask = batch.chosen
        if not self.fraction:
            return torch.zeros_like(mask)
        candidates = self.where(batch) & mask
        if batch.clipped is not None:
            candidates &= ~batch.clipped
        index = candidates.flatten().nonzero().squeeze(-1)
        count = min(len(index), max(1, math.floor(self.fraction * int(mask.sum()))))
        order = torch.randperm(len(index), generator=generator)[:count].to(index.device)
        dropped = mask.new_zeros(mask.numel())
        dropped[index[order]] = True
        return dropped.view(mask.shape)

    def __call__(self, batch: TokenBatch, prepared: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
        """Weights 0 and 1."""
        return (~prepared).to(batch.old_log_probs.dtype)


@dataclass(frozen=True)
class KeepOnly:
    """Give a gradient to chosen tokens alone: weight 1 for them and 0 for the others, which stay in the denominators.

    As a selection the same rule would take the others from the denominators too, which multiplies the gradient by the
    inverse of the chosen share.

    Args:
        where: which tokens, a callable from `TokenBatch` to ``[B, T]`` booleans, such as `TopEntropy`.

    References:
        Wang et al., Beyond the 80/20 Rule, arXiv 2506.01939, whose mean is over all tokens.
    """

    where: Callable[[TokenBatch], Bool[Tensor, "batch time"]]

    def prepare(self, batch: TokenBatch, generator: torch.Generator) -> Bool[Tensor, "batch time"]:
        """True for the tokens that are kept."""
        return self.where(batch) & batch.chosen

    def __call__(self, batch: TokenBatch, prepared: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
        """Weights 0 and 1."""
        return prepared.to(batch.old_log_probs.dtype)
