"""Self-imitation: good responses are kept, and imitated later with advantages that the present policy's level sets.

A response that was better than its group is worth repeating only as long as it is better than what the policy does now. So
its advantage is taken anew when it is replayed: ``A = R - P50``, its reward less the median of the mean rewards of the last
groups. As the policy improves, the median rises, the advantage of what is stored falls, and what falls below is left out.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from isentrope.policy.advantages import group_moments
from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number
from isentrope.policy.objective import Objective, State
from isentrope.policy.rollout import RolloutPlan


@dataclass(frozen=True)
class Replay:
    """A rollout part: the host keeps responses of positive advantage, and trains on them again once it has enough.

    After the optimiser steps on fresh responses, those in store are dropped that are older than ``maximum_age`` steps; if
    more than ``1.5 size`` of the others have a reward above the baseline, they are trained on by `self_imitation` and the
    store is emptied. Then the fresh responses of positive mean advantage enter it.

    Args:
        weight: ``gamma``, weight of the imitation's loss. A number or a controller.
        size: ``N_D``.
        maximum_age: in batches of rollouts.
        baselines: how many groups' mean rewards the baseline is the median of.

    Raises:
        ValueError: if a size or the age is less than 1.

    References:
        Qin et al., Learn the Ropes, Then Trust the Wins (SPEAR), arXiv 2509.22601; self-imitation: Oh et al.,
        arXiv 1806.05635.
    """

    weight: Number = 1.0
    size: int = 2048
    maximum_age: int = 10
    baselines: int = 10240

    def __post_init__(self):
        for name in ("size", "maximum_age", "baselines"):
            if getattr(self, name) < 1:
                raise ValueError(f"Replay: {name} must be at least 1, got {getattr(self, name)}")

    def __call__(self, plan: RolloutPlan) -> RolloutPlan:
        """The plan, with this replay."""
        return replace(plan, replay=self)


@dataclass(frozen=True)
class AboveBaseline:
    """The advantage ``R - baseline`` of a replayed response.

    Args:
        baseline: ``P50``.

    References:
        Qin et al., SPEAR, arXiv 2509.22601.
    """

    baseline: float

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch"]:
        """Advantages ``[B]``."""
        return batch.rewards - self.baseline


@dataclass(frozen=True)
class Scaled:
    """The same weight for every token."""

    weight: float

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """Weights ``[B, T]``."""
        return torch.full_like(batch.old_log_probs, self.weight)


def self_imitation(objective: Objective, state: State, baseline: float, weight: float) -> Objective:
    """What replayed responses are trained with: the objective's own loss of their recalibrated advantages, times a weight.

    Surrogate, selection, token weights and aggregation stay, at their numbers of this step. Rewards are those that were
    stored, after the reward parts; filters, shaping and regularizers are for fresh responses and left out. So is an output
    activation that is decided on the whole batch, because the stored log-probabilities are those of the policy that
    sampled, which is without it. The result remembers nothing: start a state for it.

    Args:
        objective: that of the fresh responses.
        state: its state.
        baseline: subtracted from the rewards.
        weight: ``gamma``.

    References:
        Qin et al., SPEAR, arXiv 2509.22601.

    Examples:
        >>> from isentrope.policy import recipes
        >>> objective = recipes.dapo()
        >>> self_imitation(objective, objective.start(), baseline=0.5, weight=0.1).advantage
        AboveBaseline(baseline=0.5)
    """
    now = objective.at(state)
    activation = None if hasattr(now.output_activation, "prepare") else now.output_activation
    return now.with_(
        name=f"{now.name}, replayed",
        rollout=(),
        reward=(),
        advantage=AboveBaseline(baseline),
        row_filter=(),
        shaping=(),
        output_activation=activation,
        token_weight=(*now.token_weight, Scaled(weight)),
        regularizers=(),
    )


@dataclass(frozen=True)
class ToolCallBonus:
    """Adds ``weight min(largest, per_call n)`` to the reward of a response in which ``n`` tool answers were read.

    Right and wrong responses are paid alike: with a weight that fades it teaches to use the tool, not to answer.

    Args:
        weight: ``mu``. A number or a controller.
        per_call: pay for one call.
        largest: most pay.

    References:
        Qin et al., SPEAR, arXiv 2509.22601.

    Examples:
        >>> batch = TokenBatch(
        ...     mask=torch.ones(2, 3, dtype=torch.bool), rewards=torch.tensor([1.0, 0.0]),
        ...     group_ids=torch.zeros(2).long(), old_log_probs=torch.zeros(2, 3),
        ...     extras={"turn": torch.tensor([[0, 0, 0], [0, 1, 2]])})
        >>> ToolCallBonus(0.5)(batch)
        tensor([1.0000, 0.1000])
    """

    weight: Number = 1.0
    per_call: float = 0.1
    largest: float = 1.0

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch"]:
        """Rewards ``[B]``."""
        calls = torch.where(batch.mask, batch.extra("turn"), 0).amax(-1)
        return batch.rewards + self.weight * (self.per_call * calls.to(batch.rewards.dtype)).clamp(max=self.largest)


@dataclass(frozen=True)
class KeepVariedGroups:
    """A row filter that keeps the share of groups whose rewards have the largest standard deviations.

    At least ``max(1, floor(share n))`` of ``n`` groups stay; groups that tie with the last of them stay too.

    Args:
        share: from 0 to 1, which keeps all.

    References:
        Qin et al., SPEAR, arXiv 2509.22601.

    Examples:
        >>> batch = TokenBatch(
        ...     mask=torch.ones(4, 1, dtype=torch.bool), rewards=torch.tensor([1.0, 0.0, 1.0, 1.0]),
        ...     group_ids=torch.tensor([0, 0, 1, 1]), old_log_probs=torch.zeros(4, 1))
        >>> KeepVariedGroups(0.5)(batch)
        tensor([ True,  True, False, False])
    """

    share: Number = 0.75

    def __post_init__(self):
        if isinstance(self.share, (int, float)) and not 0 <= self.share <= 1:
            raise ValueError(f"KeepVariedGroups: share must lie in [0, 1], got {self.share}")

    def __call__(self, batch: TokenBatch) -> Bool[Tensor, "batch"]:
        """True for the rows to keep."""
        std = group_moments(batch.rewards, batch.group_ids).std
        _, group = batch.group_ids.unique(return_inverse=True)
        of_groups = std.new_zeros(int(group.max()) + 1 if len(group) else 0).scatter(0, group, std)
        if not len(of_groups):
            return torch.ones_like(batch.rewards, dtype=torch.bool)
        kept = max(1, int(self.share * len(of_groups) + 1e-9))
        return std >= of_groups.sort(descending=True).values[kept - 1]
