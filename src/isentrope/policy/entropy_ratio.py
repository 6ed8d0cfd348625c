"""A gate on the change of entropy: tokens whose whole distribution has moved too far teach nothing."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from isentrope.policy.batch import TokenBatch
from isentrope.policy.surrogates import ClippedRatio

# Keeps the ratio of two entropies of almost certain tokens at 1.
_GUARD = 1e-8


@dataclass(frozen=True)
class EntropyRatioGate:
    """Takes the gradient from tokens whose entropy has left a band around that of the policy that sampled them.

    With ``q_t = (H_t + 1e-8) / (H_old,t + 1e-8)`` the token loss ``L_t`` of the inner surrogate becomes ``L_t`` where
    ``low < q_t < high`` and ``sg[L_t]`` elsewhere: the value and the denominators stay. The importance ratio sees one
    token of the distribution, the ratio of entropies all of it. At the first optimiser step on fresh rollouts ``q = 1``
    and nothing is gated, so with one step a batch this is the inner surrogate. Both entropies must be those at the
    sampling temperature. Gated tokens count as clipped, which puts their share into the clip fractions.

    Args:
        low: lower end of the band; 0.95 in the paper's recipes, 0.8 in its code's defaults.
        high: upper end; 1.05 and 1.2.
        surrogate: the inner surrogate.

    Raises:
        ValueError: if the ends are negative or in the wrong order.

    References:
        Su et al., Entropy Ratio Clipping as a Soft Global Constraint, arXiv 2512.05591.

    Examples:
        >>> batch = TokenBatch(
        ...     mask=torch.ones(1, 2, dtype=torch.bool), rewards=torch.ones(1), group_ids=torch.zeros(1).long(),
        ...     old_log_probs=torch.zeros(1, 2), log_probs=torch.zeros(1, 2), advantages=torch.ones(1, 2),
        ...     entropy=torch.tensor([[1.01, 1.06]]), old_entropy=torch.ones(1, 2))
        >>> EntropyRatioGate().clipped(batch)
        tensor([[False,  True]])
    """

    low: float = 0.95
    high: float = 1.05
    surrogate: Any = field(default=ClippedRatio(0.2, 0.28, dual_clip=10.0))
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy", "entropy"})

    def __post_init__(self):
        if not 0 <= self.low <= self.high:
            raise ValueError(f"EntropyRatioGate: 0 <= low <= high must hold, got {self.low} and {self.high}")

    def _gated(self, batch: TokenBatch) -> Tensor:
        if batch.entropy is None or batch.old_entropy is None:
            raise ValueError("EntropyRatioGate: the batch must carry entropy and old_entropy")
        ratio = (batch.entropy.detach() + _GUARD) / (batch.old_entropy + _GUARD)
        return batch.mask & ~((ratio > self.low) & (ratio < self.high))

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """Token loss ``[B, T]``."""
        loss = self.surrogate(batch)
        return torch.where(self._gated(batch), loss.detach(), loss)

    def clipped(self, batch: TokenBatch) -> Bool[Tensor, "batch time"]:
        """Tokens without gradient: those that the inner surrogate clips, and those outside the band."""
        return self.surrogate.clipped(batch) | self._gated(batch)
