"""Advantage estimators: how much better a response is than what its group, or its batch, shows to be usual.

Each is a callable from a `TokenBatch` to ``[B]`` (the same for each token of a response) or ``[B, T]``.
Symbols: ``r_i`` the reward of response ``i``, ``g`` its group, ``G`` the group's size.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from isentrope.policy.batch import TokenBatch


class GroupMoments(NamedTuple):
    """Mean, standard deviation (``ddof=1``; 0 for a group of one) and size of each row's group."""

    mean: Float[Tensor, "batch"]
    std: Float[Tensor, "batch"]
    size: Float[Tensor, "batch"]


def group_moments(values: Float[Tensor, "batch"], group_ids: Int[Tensor, "batch"]) -> GroupMoments:
    """Mean, standard deviation and size of the group that each value belongs to.

    Args:
        values: ``[B]``.
        group_ids: ``[B]`` any integers; members of a group need not be neighbours.

    Examples:
        >>> import torch
        >>> group_moments(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([7, 7, 2])).mean
        tensor([2., 2., 5.])
    """
    _, index = group_ids.unique(return_inverse=True)
    precise = values.double()
    groups = int(index.max()) + 1 if len(index) else 0

    def total(x: Tensor) -> Tensor:
        return torch.zeros(groups, dtype=x.dtype, device=x.device).index_add(0, index, x)

    size = total(torch.ones_like(precise))
    # Counted from the group's smallest value, so that equal rewards leave exactly nothing rather than rounding noise.
    least = torch.full((groups,), torch.inf, dtype=precise.dtype, device=precise.device)
    least = least.scatter_reduce(0, index, precise, "amin")
    mean = least + total(precise - least[index]) / size
    variance = total((precise - mean[index]) ** 2) / (size - 1).clamp_min(1)
    return GroupMoments(*(x[index].to(values.dtype) for x in (mean, variance.sqrt(), size)))


def group_order_statistic(
    values: Float[Tensor, "batch"], group_ids: Int[Tensor, "batch"], rank: Int[Tensor, "batch"]
) -> Float[Tensor, "batch"]:
    """The value at ``rank`` (0 for the smallest) in the sorted group of each row.

    Args:
        values: ``[B]``.
        group_ids: ``[B]`` any integers; members of a group need not be neighbours.
        rank: ``[B]`` from 0 to the size of the row's group less 1.

    Examples:
        >>> import torch
        >>> ids = torch.tensor([7, 7, 2, 7])
        >>> group_order_statistic(torch.tensor([5.0, 1.0, 4.0, 3.0]), ids, torch.tensor([0, 1, 0, 2]))
        tensor([1., 3., 4., 5.])
    """
    _, index, size = group_ids.unique(return_inverse=True, return_counts=True)
    by_value = values.argsort(stable=True)
    order = by_value[index[by_value].argsort(stable=True)]
    start = size.cumsum(0) - size
    return values[order][start[index] + rank]


def leave_one_out(values: Float[Tensor, "batch"], group_ids: Int[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """Each value minus the mean of the *other* values of its group; a group of one keeps its value.

    Examples:
        >>> import torch
        >>> leave_one_out(torch.tensor([1.0, 0.0, 0.0]), torch.tensor([4, 4, 4]))
        tensor([ 1.0000, -0.5000, -0.5000])
    """
    mean, _, size = group_moments(values, group_ids)
    return torch.where(size > 1, (values - mean) * size / (size - 1).clamp_min(1), values)


def no_advantage(batch: TokenBatch) -> Float[Tensor, "batch"]:
    """Zero for every response, for objectives that look at no reward."""
    return torch.zeros_like(batch.rewards)


@dataclass(frozen=True)
class GroupNormalized:
    """Reward standardised within its group: ``A_i = (r_i - mean_g) / (std_g + epsilon)``.

    The standard deviation is the unbiased one. A group of one keeps its reward, as verl does; a group of equal rewards
    gets exactly zero.

    Args:
        epsilon: added to the standard deviation; ``1e-6`` in verl, ``1e-4`` in TRL.

    References:
        Shao et al., DeepSeekMath, arXiv 2402.03300, section 4.1.
    """

    epsilon: float = 1e-6

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch"]:
        """Advantages ``[B]``."""
        mean, std, size = group_moments(batch.rewards, batch.group_ids)
        return torch.where(size > 1, (batch.rewards - mean) / (std + self.epsilon), batch.rewards)


@dataclass(frozen=True)
class GroupCentered:
    """Reward minus its group's mean: ``A_i = r_i - mean_g``.

    Leaving out the standard deviation removes GRPO's extra weight on groups that are almost always right or wrong.

    References:
        Liu et al., Understanding R1-Zero-Like Training (Dr. GRPO), arXiv 2503.20783.
    """

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch"]:
        """Advantages ``[B]``."""
        mean, _, size = group_moments(batch.rewards, batch.group_ids)
        return torch.where(size > 1, batch.rewards - mean, batch.rewards)


@dataclass(frozen=True)
class LeaveOneOut:
    """Reward minus the mean of the *other* rewards of its group: ``A_i = G/(G-1) (r_i - mean_g)``.

    References:
        Ahmadian et al., Back to Basics (RLOO), arXiv 2402.14740.
    """

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch"]:
        """Advantages ``[B]``; a group of one keeps its reward."""
        return leave_one_out(batch.rewards, batch.group_ids)


@dataclass(frozen=True)
class BatchWhitened:
    """Reward-to-go with a per-token KL penalty, whitened over all valid tokens of the batch.

    ``R_t = sum_{s >= t} gamma^(s-t) (r_i 1[s last] - beta (log pi_old - log pi_ref)_s)``, then
    ``A = (R - mean) / sqrt(var + 1e-8)`` with the population moments over every response token.

    Args:
        kl_coefficient: ``beta``; needs reference log-probabilities unless 0.
        discount: ``gamma``.
        group_baseline: subtract the group's mean reward first (REINFORCE++-baseline).

    References:
        Hu et al., REINFORCE++, arXiv 2501.03262.
    """

    kl_coefficient: float = 0.0
    discount: float = 1.0
    group_baseline: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """The reference policy, if the KL penalty is on."""
        return frozenset({"reference"} if self.kl_coefficient else ())

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """Advantages ``[B, T]``."""
        rewards, mask = batch.rewards, batch.mask
        if self.group_baseline:
            rewards = GroupCentered()(batch)
        token_rewards = torch.zeros_like(batch.old_log_probs)
        if self.kl_coefficient:
            assert batch.reference_log_probs is not None
            penalty = self.kl_coefficient * (batch.old_log_probs - batch.reference_log_probs)
            token_rewards = torch.where(mask, -penalty, 0)
        columns = torch.arange(mask.shape[1], device=mask.device)
        last = torch.where(mask, columns, -1).amax(-1)
        rows = torch.nonzero(last >= 0).squeeze(-1)
        token_rewards[rows, last[rows]] += rewards[rows]
        returns = torch.zeros_like(token_rewards)
        ahead = torch.zeros_like(rewards)
        for t in reversed(range(mask.shape[1])):
            # Tool output and padding neither earn nor discount.
            ahead = torch.where(mask[:, t], token_rewards[:, t] + self.discount * ahead, ahead)
            returns[:, t] = ahead
        valid = returns[mask].double()
        if not len(valid):
            return torch.zeros_like(returns)
        whitened = (returns - valid.mean()) / (valid.var(correction=0) + 1e-8).sqrt()
        return torch.where(mask, whitened, 0).to(batch.rewards.dtype)
