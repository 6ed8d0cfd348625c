"""Outcome rewards shared out by entropy: uncertain steps of right answers earn more, sure steps of wrong ones lose more.

In each group the right answers (``n`` of them) and the wrong ones are treated apart. A unit, which is a token among the
tokens at its position or a whole response, gets ``base + bonus n H / sum H`` among the right and
``-base - bonus n (1/H) / sum 1/H`` among the wrong: the sum at each position is what it was, ``n (base + bonus)``.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from isentrope.policy.advantages import group_moments
from isentrope.policy.aggregation import row_means
from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number


def entropy_shares(
    entropy: Float[Tensor, "batch units"],
    mask: Bool[Tensor, "batch units"],
    right: Bool[Tensor, "batch"],
    group_ids: Int[Tensor, "batch"],
) -> Float[Tensor, "batch units"]:
    """Each unit's share of its column's entropy among the right answers of its group, of 1/entropy among the wrong.

    Shares are multiplied by the number of units that share, so their mean is 1; they are 1 outside the mask.

    Args:
        entropy: ``[B, U]`` in nats.
        mask: ``[B, U]``.
        right: ``[B]`` which responses are right.
        group_ids: ``[B]`` any integers; members of a group need not be neighbours.

    Examples:
        >>> import torch
        >>> entropy, yes = torch.tensor([[1.0], [3.0], [1.0], [3.0]]), torch.tensor([True, True, False, False])
        >>> entropy_shares(entropy, torch.ones(4, 1, dtype=torch.bool), yes, torch.zeros(4, dtype=torch.long)).view(-1)
        tensor([0.5000, 1.5000, 1.5000, 0.5000])
    """
    index = 2 * group_ids.unique(return_inverse=True)[1] + right
    positive = torch.where(mask, entropy, 1).clamp_min(1e-8)
    amount = torch.where(mask, torch.where(right[:, None], positive, 1 / positive), 0)

    def total(values: Tensor) -> Tensor:
        sums = torch.zeros(2 * len(values), values.shape[1], dtype=values.dtype, device=values.device)
        return sums.index_add(0, index, values)[index]

    return torch.where(mask, amount * total(mask.to(amount.dtype)) / total(amount).clamp_min(1e-30), 1)


@dataclass(frozen=True)
class TokenEntropyShares:
    """GTPO's advantages: token rewards ``±(base + bonus share)``, see `entropy_shares`, standardised.

    ``"joint"`` takes mean and (unbiased) standard deviation over the responses of a group, each by its mean token
    reward: without a bonus this is GRPO on rewards ``±base``. ``"split"``, as the paper is described, standardises the
    tokens of right and of wrong answers apart. Then ``base`` and ``bonus`` cancel and the advantages of the right
    answers, like those of the wrong, sum to zero: uncertain tokens are reinforced and sure ones suppressed, whether the
    answer was right or not. On a bandit (one token a response) nothing is learned at all that way.

    Args:
        base: reward of a right answer, and its negative that of a wrong one.
        bonus: what is shared out by entropy; 0 is GRPO.
        normalization: ``"joint"`` or ``"split"``.
        threshold: rewards above it count as right.
        epsilon: added to the standard deviation.

    References:
        Tan et al., GTPO and GRPO-S: Token and Sequence-Level Reward Shaping with Policy Entropy, arXiv 2508.04349.
    """

    base: float = 1.0
    bonus: Number = 0.1
    normalization: Literal["joint", "split"] = "joint"
    threshold: float = 0.0
    epsilon: float = 1e-6
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy"})

    def __post_init__(self):
        if self.normalization not in ("joint", "split"):
            raise ValueError(
                f"TokenEntropyShares: normalization must be 'joint' or 'split', got {self.normalization!r}"
            )

    def rewards(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """Token rewards ``[B, T]``."""
        assert batch.old_entropy is not None
        right = batch.rewards > self.threshold
        shares = entropy_shares(batch.old_entropy, batch.mask, right, batch.group_ids)
        return torch.where(right[:, None], 1, -1) * (self.base + self.bonus * shares)

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """Advantages ``[B, T]``."""
        rewards, mask = self.rewards(batch), batch.mask
        if self.normalization == "joint":
            # A response without tokens still counts in its group, with the reward that its tokens would have had.
            responses = row_means(rewards, mask | ~mask.any(-1, keepdim=True))
            mean, std, size = (x[:, None] for x in group_moments(responses, batch.group_ids))
            return torch.where(size > 1, (rewards - mean) / (std + self.epsilon), rewards)
        halves = 2 * batch.group_ids.unique(return_inverse=True)[1] + (batch.rewards > self.threshold)
        mean, std, _ = group_moments(rewards[mask], halves[:, None].expand(mask.shape)[mask])
        return torch.zeros_like(rewards).masked_scatter(mask, (rewards[mask] - mean) / (std + self.epsilon))


@dataclass(frozen=True)
class ResponseEntropyShares:
    """GRPO-S's rewards: ``±(base + bonus share)`` with each response's share of mean entropy, see `entropy_shares`.

    Args:
        base: reward of a right answer, and its negative that of a wrong one.
        bonus: what is shared out by entropy.
        threshold: rewards above it count as right.

    References:
        Tan et al., GTPO and GRPO-S: Token and Sequence-Level Reward Shaping with Policy Entropy, arXiv 2508.04349.
    """

    base: float = 1.0
    bonus: Number = 0.1
    threshold: float = 0.0
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy"})

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch"]:
        """Rewards ``[B]``."""
        assert batch.old_entropy is not None
        right = batch.rewards > self.threshold
        entropy = row_means(batch.old_entropy, batch.mask)[:, None]
        shares = entropy_shares(entropy, batch.mask.any(-1, keepdim=True), right, batch.group_ids).squeeze(-1)
        return torch.where(right, 1, -1) * (self.base + self.bonus * shares)
