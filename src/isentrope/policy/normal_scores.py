"""Advantages that keep only the order of rewards: each is replaced by the normal score of its rank.

Whatever the rewards look like (binary, heavy-tailed, on any scale), the advantages of a set are then the best discrete
approximation of a standard normal distribution that its ties allow, bounded by ``Phi^{-1}(1 - 1/(2N))``.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from isentrope.policy.batch import TokenBatch


def normal_scores(
    values: Float[Tensor, "batch"], set_ids: Int[Tensor, "batch"], tolerance: float = 0.0
) -> Float[Tensor, "batch"]:
    """Normal scores ``Phi^{-1}((k - 1/2) / N)`` of the ranks ``k = 1 ... N`` within each set.

    Equal values share the mean of the *scores* of their ranks (not the score of their mean rank), so that the sum over a
    set is 0 whatever the ties.

    Args:
        values: ``[B]``.
        set_ids: ``[B]`` equal for values that are ranked together.
        tolerance: neighbours in the order that differ by at most this much count as equal.

    Examples:
        >>> import torch
        >>> normal_scores(torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]), torch.zeros(5, dtype=torch.long))
        tensor([-0.3204, -0.3204, -0.3204, -0.3204,  1.2816])
    """
    _, index, size = set_ids.unique(return_inverse=True, return_counts=True)
    by_value = values.argsort(stable=True)
    order = by_value[index[by_value].argsort(stable=True)]
    owner, ordered = index[order], values[order]
    rank = torch.arange(len(values), device=values.device) - (size.cumsum(0) - size)[owner]
    score = torch.special.ndtri((rank.double() + 0.5) / size[owner])
    new = torch.ones_like(rank, dtype=torch.bool)
    new[1:] = (owner[1:] != owner[:-1]) | (ordered[1:] - ordered[:-1] > tolerance)
    tie = new.cumsum(0) - 1
    total, count = (torch.zeros_like(score).index_add(0, tie, x) for x in (score, torch.ones_like(score)))
    # The scores of a whole set cancel, which rounding would not quite show.
    shared = torch.where(count[tie] == size[owner], 0, (total / count.clamp_min(1))[tie])
    return torch.empty_like(values).index_copy(0, order, shared.to(values.dtype))


@dataclass(frozen=True)
class NormalScores:
    """Rewards replaced by the normal scores of their ranks, see `normal_scores`; no centring or scaling is left to do.

    Any increasing map of the rewards leaves the advantages as they are. A set of one, and a set of equal rewards, get
    zero. The variance is a little below 1 even without ties (0.85 for 8 responses).

    Args:
        sets: ``"group"`` ranks the responses to a prompt, ``"task"`` all of the batch's responses to one task,
            ``extras["task"]`` (``[B]`` integers).
        tolerance: rewards that differ by at most this much are ties.

    References:
        Hu et al., OpenVLThinkerV2 (G2RPO), arXiv 2604.08539, eq. 5-7.

    Examples:
        >>> import torch
        >>> batch = TokenBatch(
        ...     mask=torch.ones(3, 1, dtype=torch.bool), rewards=torch.tensor([0.1, 99.0, 0.2]),
        ...     group_ids=torch.zeros(3, dtype=torch.long), old_log_probs=torch.zeros(3, 1),
        ... )
        >>> NormalScores()(batch)
        tensor([-0.9674,  0.9674,  0.0000])
    """

    sets: Literal["group", "task"] = "group"
    tolerance: float = 0.0

    def __post_init__(self):
        if self.sets not in ("group", "task"):
            raise ValueError(f"NormalScores: sets must be 'group' or 'task', got {self.sets!r}")
        if self.tolerance < 0:
            raise ValueError(f"NormalScores: tolerance must not be negative, got {self.tolerance}")

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch"]:
        """Advantages ``[B]``."""
        ids = batch.group_ids if self.sets == "group" else batch.extra("task")
        return normal_scores(batch.rewards, ids, self.tolerance)
