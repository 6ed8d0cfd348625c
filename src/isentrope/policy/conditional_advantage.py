"""Advantages that compare the two halves of a group: the responses of higher and of lower entropy, or length.

Sort a group of ``n`` responses by a metric; the first ``n // 2`` are the low half, the others the high half, with mean
rewards ``m_low`` and ``m_high``. Comparing each response with the *other* half tells which trend of the metric pays;
comparing it with its *own* half tells which response is better given the trend. Nothing presumes that high or low is
good. For equal halves the mean of both comparisons is the reward less the group's mean.

Responses that are equal in the metric at the cut between the halves are not told apart by the order of the rows (the
published code does): their advantages, and those of all others, are the mean over all ways to break the tie. A metric
that is the same for the whole group so compares each response with the mean of the others.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from isentrope.policy.advantages import group_moments, group_order_statistic
from isentrope.policy.aggregation import row_means
from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number


class Halves(NamedTuple):
    """What the halves of each row's group look like to it; a row in neither half for certain counts partly in both.

    Attributes:
        high: probability that the row is in the high half.
        high_mean: mean reward of the high half, given that the row is in the low one.
        low_mean: mean reward of the low half, given that the row is in the high one.
        own_high_mean: mean reward of the high half, given that the row is in it.
        own_low_mean: mean reward of the low half, given that the row is in it.
    """

    high: Float[Tensor, "batch"]
    high_mean: Float[Tensor, "batch"]
    low_mean: Float[Tensor, "batch"]
    own_high_mean: Float[Tensor, "batch"]
    own_low_mean: Float[Tensor, "batch"]


def halves(rewards: Float[Tensor, "batch"], metric: Float[Tensor, "batch"], group_ids: Int[Tensor, "batch"]) -> Halves:
    """Mean rewards of the halves of each group, ties at the cut averaged over all ways to break them.

    Args:
        rewards: ``[B]``.
        metric: ``[B]`` what groups are sorted by.
        group_ids: ``[B]`` any integers; members of a group need not be neighbours.

    Examples:
        >>> import torch
        >>> ids = torch.zeros(4, dtype=torch.long)
        >>> rewards, metric = torch.tensor([1.0, 1.0, 0.0, 1.0]), torch.tensor([0.9, 0.1, 0.2, 0.8])
        >>> halves(rewards, metric, ids).high
        tensor([1., 0., 0., 1.])
        >>> halves(rewards, metric, ids).low_mean
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """

    def total(values: Tensor, where: Tensor) -> Tensor:
        return torch.zeros_like(values).index_add(0, index, torch.where(where, values, 0))[index]

    index = group_ids.unique(return_inverse=True)[1]
    size = group_moments(rewards, group_ids).size.long()
    # Counted from the group's smallest reward, so that equal rewards leave exactly nothing rather than rounding noise.
    least = group_order_statistic(rewards, group_ids, torch.zeros_like(size)).double()
    rewards, dtype = rewards.double() - least, rewards.dtype
    cut = group_order_statistic(metric, group_ids, size // 2)
    below, above, tied = metric < cut, metric > cut, metric == cut
    one = torch.ones_like(rewards)
    low_size, high_size = (size // 2).double(), (size - size // 2).double()
    tied_size = total(one, tied)
    tied_high = high_size - total(one, above)
    tied_low = tied_size - tied_high
    # The mean reward of the tied: of all of them for an outsider, of the others for one of them.
    others = (total(rewards, tied) - rewards * tied) / (tied_size - tied.double()).clamp_min(1)
    low, high = total(rewards, below), total(rewards, above)
    means = (
        (high + tied_high * others) / high_size,
        (low + tied_low * others) / low_size.clamp_min(1),
        (high + torch.where(tied, rewards + (tied_high - 1) * others, tied_high * others)) / high_size,
        (low + torch.where(tied, rewards + (tied_low - 1) * others, tied_low * others)) / low_size.clamp_min(1),
    )
    chance = torch.where(tied, tied_high / tied_size, above.double())
    return Halves(chance.to(dtype), *((least + mean).to(dtype) for mean in means))


@dataclass(frozen=True)
class ConditionalAdvantage:
    """Reward against the other half of the group, and against the own half.

    ``inter_i = r_i - m_other(i)``, ``intra_i = r_i - m_own(i)``, ``A = mu inter + (1 - mu) intra``. The emphases scale
    the rewards of a half inside ``inter`` alone: ``e_high r - e_low m_low`` in the high half, ``e_low r - e_high m_high``
    in the low one; an emphasis below 1 disfavours its half. (The paper's ``alpha`` is the low half's emphasis for
    entropy, the long half's for length.) A group of one keeps its reward.

    Args:
        metric: ``"entropy"``, the mean token entropy under the policy that sampled, or ``"length"``, in tokens.
        inter_weight: ``mu``, 1 compares halves alone, 0 within halves alone, 0.5 is Dr. GRPO for groups of even size;
            a number, a controller, ``"accuracy"`` (the batch's mean reward: within halves first, between them later) or
            ``"error"`` (1 less that: between halves first). The last two need rewards in ``[0, 1]``.
        low_emphasis: ``e_low``.
        high_emphasis: ``e_high``.

    References:
        Chen et al., Conditional Advantage Estimation for Reinforcement Learning in Large Reasoning Models,
        arXiv 2509.23962.

    Examples:
        >>> import torch
        >>> batch = TokenBatch(
        ...     mask=torch.ones(4, 1, dtype=torch.bool), rewards=torch.tensor([1.0, 1.0, 0.0, 0.0]),
        ...     group_ids=torch.zeros(4, dtype=torch.long), old_log_probs=torch.zeros(4, 1),
        ...     old_entropy=torch.tensor([[0.9], [0.8], [0.2], [0.1]]),
        ... )
        >>> ConditionalAdvantage()(batch)
        tensor([ 1.,  1., -1., -1.])
    """

    metric: Literal["entropy", "length"] = "entropy"
    inter_weight: Number = 1.0
    low_emphasis: Number = 1.0
    high_emphasis: Number = 1.0

    def __post_init__(self):
        if self.metric not in ("entropy", "length"):
            raise ValueError(f"ConditionalAdvantage: metric must be 'entropy' or 'length', got {self.metric!r}")
        if isinstance(self.inter_weight, str) and self.inter_weight not in ("accuracy", "error"):
            raise ValueError(
                "ConditionalAdvantage: inter_weight must be a number, a controller, 'accuracy' or 'error', "
                f"got {self.inter_weight!r}"
            )

    @property
    def needs(self) -> frozenset[str]:
        """The sampling policy's entropy, if groups are split by it."""
        return frozenset({"old_entropy"} if self.metric == "entropy" else ())

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch"]:
        """Advantages ``[B]``."""
        rewards = batch.rewards
        if self.metric == "entropy":
            assert batch.old_entropy is not None
            metric = row_means(batch.old_entropy, batch.mask)
        else:
            metric = batch.lengths.to(rewards.dtype)
        high, high_mean, low_mean, own_high_mean, own_low_mean = halves(rewards, metric, batch.group_ids)
        up, down = self.high_emphasis, self.low_emphasis
        inter = high * (up * rewards - down * low_mean) + (1 - high) * (down * rewards - up * high_mean)
        intra = rewards - high * own_high_mean - (1 - high) * own_low_mean
        weight = self._inter_weight(rewards)
        alone = group_moments(rewards, batch.group_ids).size == 1
        return torch.where(alone, rewards, weight * inter + (1 - weight) * intra)

    def _inter_weight(self, rewards: Tensor) -> float:
        if not isinstance(self.inter_weight, str):
            return self.inter_weight
        if len(rewards) and not 0 <= float(rewards.min()) <= float(rewards.max()) <= 1:
            raise ValueError(
                f"ConditionalAdvantage: inter_weight={self.inter_weight!r} needs rewards in [0, 1], "
                f"got {float(rewards.min())} to {float(rewards.max())}"
            )
        accuracy = float(rewards.mean()) if len(rewards) else 0.0
        return accuracy if self.inter_weight == "accuracy" else 1 - accuracy
