"""The entropy of forking tokens, kept inside a band of their own response."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number
from isentrope.policy.selection import row_quantile


def _mean_over_chosen(batch: TokenBatch, term: Float[Tensor, "batch time"]) -> Float[Tensor, ""]:
    """The rows' contribution to the window's mean of a token term over the tokens that the selection kept."""
    return torch.where(batch.chosen, term, 0).sum() / batch.totals["loss_tokens"].clamp_min(1)


@dataclass(frozen=True)
class ForkingEntropyBand:
    """Keeps the entropy of the selected tokens inside a band: adds a hinge on either side.

    ``w_high relu(H_t - H_high) + w_low relu(H_low - H_t)``, averaged over the tokens that the objective's selection kept
    (all, without one). ``H_low`` and ``H_high`` are quantiles of the entropy of the response's selected tokens, taken on
    the whole batch before the update and held fixed.

    The upper edge is, by default, the median of the very tokens it bounds. Half of them are therefore above it whatever
    the entropy is, a tenth below the lower edge: with equal weights the band presses the entropy down, five tokens to one.

    Args:
        high_weight: ``w_high``, loss per nat. (The paper's weights are not known to us; 0.01 is ours.)
        low_weight: ``w_low``.
        low_quantile: the quantile that is ``H_low``.
        high_quantile: the quantile that is ``H_high``.

    References:
        Wu et al., SPINE: Token-Selective Test-Time Reinforcement Learning with Entropy-Band Regularization,
        arXiv 2511.17938.

    Examples:
        >>> batch = TokenBatch(
        ...     mask=torch.ones(1, 3, dtype=torch.bool), rewards=torch.ones(1), group_ids=torch.zeros(1).long(),
        ...     old_log_probs=torch.zeros(1, 3), entropy=torch.tensor([[0.0, 1.0, 3.0]]))
        >>> band = ForkingEntropyBand(high_weight=0.3, low_weight=0.3)
        >>> edges = band.prepare(batch, torch.Generator())
        >>> edges, band(batch.with_totals(), edges)  # above the edge by 2, below by 0.2
        (tensor([[0.2000, 1.0000]]), tensor(0.2200))
    """

    high_weight: Number = 0.01
    low_weight: Number = 0.01
    low_quantile: float = 0.1
    high_quantile: float = 0.5
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy", "entropy_grad"})

    def __post_init__(self):
        if not 0 <= self.low_quantile <= self.high_quantile <= 1:
            raise ValueError(
                "ForkingEntropyBand: 0 <= low_quantile <= high_quantile <= 1 must hold, "
                f"got {self.low_quantile} and {self.high_quantile}"
            )

    def prepare(self, batch: TokenBatch, generator: torch.Generator) -> Float[Tensor, "batch 2"]:
        """The lower and upper edge of each response's band."""
        assert batch.entropy is not None
        edges = [row_quantile(batch.entropy, batch.chosen, q) for q in (self.low_quantile, self.high_quantile)]
        return torch.stack(edges, -1)

    def __call__(self, batch: TokenBatch, prepared: Float[Tensor, "batch 2"]) -> Float[Tensor, ""]:
        """The rows' contribution to the mean over selected tokens."""
        assert batch.entropy is not None
        low, high = prepared[:, :1], prepared[:, 1:]
        hinge = self.high_weight * (batch.entropy - high).relu() + self.low_weight * (low - batch.entropy).relu()
        return _mean_over_chosen(batch, hinge)


@dataclass(frozen=True)
class OnSelected:
    """Applies a regularizer to the tokens that the objective's selection kept, as a mean over them.

    Args:
        term: a regularizer that gives ``[B, T]`` from the batch alone, such as `KLPenalty`.

    Raises:
        ValueError: if the term prepares on the whole batch.

    References:
        The masked KL of Wu et al., SPINE, arXiv 2511.17938.

    Examples:
        >>> batch = TokenBatch(
        ...     mask=torch.ones(1, 2, dtype=torch.bool), rewards=torch.ones(1), group_ids=torch.zeros(1).long(),
        ...     old_log_probs=torch.zeros(1, 2), entropy=torch.tensor([[2.0, 8.0]]),
        ...     loss_mask=torch.tensor([[True, False]]))
        >>> OnSelected(lambda batch: 0.1 * batch.entropy)(batch.with_totals())
        tensor(0.2000)
    """

    term: Any

    def __post_init__(self):
        if hasattr(self.term, "prepare"):
            raise ValueError(
                f"OnSelected: term must work from the batch alone, but {self.term} prepares on the whole one"
            )

    def __call__(self, batch: TokenBatch) -> Float[Tensor, ""]:
        """The rows' contribution to the mean over selected tokens."""
        return _mean_over_chosen(batch, self.term(batch))
