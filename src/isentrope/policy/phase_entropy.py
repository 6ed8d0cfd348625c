"""A reward that charges right answers for thinking with more entropy than they answer with."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from isentrope.policy.aggregation import row_means
from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number


@dataclass(frozen=True)
class PhaseEntropyPenalty:
    """Subtracts ``weight max(0, H_think - alpha H_answer)`` from the reward of right answers.

    ``H_think`` and ``H_answer`` are the mean entropies, under the sampling policy, over the tokens of the thinking phase
    (``extras["thinking"]``, ``[B, T]`` booleans, its closing tag included) and over the other tokens of the response;
    the mean of an empty phase is 0, so that a response that never stops thinking is charged for all of its entropy.
    Wrong answers keep their reward.

    The charge is not bounded: a right answer that is very uncertain earns less than a wrong one, unless ``floor`` says
    otherwise.

    Args:
        alpha: what of the answer's entropy is allowed.
        weight: reward per nat; 1 in the paper, 0 turns the part off. A number or a controller.
        floor: smallest reward of a right answer; none in the paper.
        threshold: rewards above it count as right.

    References:
        Huang et al., PEAR: Phase Entropy Aware Reward for Efficient Reasoning, arXiv 2510.08026.

    Examples:
        >>> import torch
        >>> batch = TokenBatch(
        ...     mask=torch.ones(2, 3, dtype=torch.bool), rewards=torch.tensor([1.0, 0.0]), old_log_probs=torch.zeros(2, 3),
        ...     group_ids=torch.zeros(2, dtype=torch.long), old_entropy=torch.tensor([[0.75, 0.25, 0.25]] * 2),
        ...     extras={"thinking": torch.tensor([[True, True, False]] * 2)},
        ... )
        >>> PhaseEntropyPenalty()(batch)
        tensor([0.7500, 0.0000])
    """

    alpha: Number = 1.0
    weight: Number = 1.0
    floor: float | None = None
    threshold: float = 0.0
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy"})

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch"]:
        """Rewards ``[B]``."""
        assert batch.old_entropy is not None
        thinking = batch.extra("thinking").bool()
        think = row_means(batch.old_entropy, batch.mask & thinking)
        answer = row_means(batch.old_entropy, batch.mask & ~thinking)
        charged = batch.rewards - self.weight * (think - self.alpha * answer).clamp_min(0)
        if self.floor is not None:
            charged = charged.clamp_min(self.floor)
        return torch.where(batch.rewards > self.threshold, charged, batch.rewards)
