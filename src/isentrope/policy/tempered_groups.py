"""Learning from correct responses that really were sampled hotter or colder, to set the entropy to any value."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number
from isentrope.policy.rollout import RolloutPlan


@dataclass(frozen=True)
class TemperedGroups:
    """Sample the responses to a share of the prompts at another temperature, and score all at the plan's own.

    Args:
        share: of the prompts, from 0 to 1.
        temperature: a number or a controller such as `isentrope.policy.tempered_gradient.Switch`.

    References:
        Wang et al., Arbitrary Entropy Policy Optimization, arXiv 2510.08141.

    Examples:
        >>> plan = TemperedGroups(0.25, 1.2)(RolloutPlan(group_size=8))
        >>> plan.temperature, plan.tempered_share, plan.tempered_at
        (1.0, 0.25, 1.2)
    """

    share: Number
    temperature: Number

    def __call__(self, plan: RolloutPlan) -> RolloutPlan:
        """The plan with groups at two temperatures."""
        if not 0 <= self.share <= 1:
            raise ValueError(f"TemperedGroups: share must lie in [0, 1], got {self.share}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"TemperedGroups: temperature must be positive and finite, got {self.temperature}")
        return replace(plan, tempered_share=self.share, tempered_at=self.temperature)


@dataclass(frozen=True)
class ImitateTempered:
    """Advantages of another estimator, but 1 for what succeeds at the other temperature, and 0 for what fails there.

    A tempered response succeeds if its own group's advantage is above ``threshold``: it is right where others are wrong.
    With advantage 1 and a ratio to the policy at the ordinary temperature its gradient is ``E_{pi^T}[R grad log pi]``,
    which flattens the policy for ``T`` above 1 and sharpens it below.

    If more than ``share`` of the batch's responses succeed so, all of them count in proportion less: that many in the
    mean. (The published code takes the first that many. Then the result depends on the order of the rows.)

    Args:
        advantage: the estimator of all others.
        share: largest share of the batch's responses that tempered ones count as; a number or a controller.
        threshold: what a tempered response's own advantage must exceed.

    References:
        Wang et al., Arbitrary Entropy Policy Optimization, arXiv 2510.08141.

    Examples:
        >>> from isentrope.policy.advantages import GroupCentered
        >>> batch = TokenBatch(
        ...     mask=torch.ones(4, 1, dtype=torch.bool), rewards=torch.tensor([1.0, 0, 1, 0]),
        ...     group_ids=torch.tensor([0, 0, 1, 1]), old_log_probs=torch.zeros(4, 1),
        ...     extras={"tempered": torch.tensor([False, False, True, True])})
        >>> ImitateTempered(GroupCentered())(batch)
        tensor([ 0.5000, -0.5000,  1.0000,  0.0000])
    """

    advantage: Callable[[TokenBatch], Tensor]
    share: Number = 1.0
    threshold: float = 0.05

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch"]:
        """Advantages ``[B]``."""
        tempered, present = batch.extra("tempered"), batch.mask.any(-1)
        advantages = self.advantage(batch)
        succeeded = tempered & present & (advantages > self.threshold)
        weight = (self.share * present.sum() / succeeded.sum().clamp_min(1)).clamp(max=1.0)
        return torch.where(tempered, succeeded * weight.to(advantages.dtype), advantages)


def failed_when_tempered(batch: TokenBatch) -> Bool[Tensor, "batch"]:
    """Drop the tempered responses that `ImitateTempered` gave nothing.

    References:
        Wang et al., Arbitrary Entropy Policy Optimization, arXiv 2510.08141.
    """
    assert batch.advantages is not None
    return ~batch.extra("tempered") | (torch.where(batch.mask, batch.advantages, 0) > 0).any(-1)
