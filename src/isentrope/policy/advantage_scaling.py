"""Advantages rescaled or bounded after they were estimated."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from isentrope.policy.advantages import group_moments
from isentrope.policy.aggregation import row_means
from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number


@dataclass(frozen=True)
class ScaledByCertainty:
    """Advantages weighted by how certain a response is within its group: ``A_i' = A_i max(0, 1 + s (1 - H_i / H_g))``.

    ``H_i`` is the response's mean token entropy under the sampling policy, ``H_g`` the group's mean of it. At ``s = 1``
    the weight is ``2 - H_i / H_g``, with mean 1 over the group; it would change the advantage's sign for a response more
    than twice as uncertain as its group, and is cut off at 0 there.

    Args:
        strength: ``s``; 0 leaves the advantages as they are. A number or a controller.

    References:
        Liu et al., ETTRL: Balancing Exploration and Exploitation in LLM Test-Time Reinforcement Learning Via Entropy
        Mechanism (Adv-Res), arXiv 2508.11356.

    Examples:
        >>> import torch
        >>> batch = TokenBatch(
        ...     mask=torch.ones(3, 1, dtype=torch.bool), rewards=torch.zeros(3), old_log_probs=torch.zeros(3, 1),
        ...     group_ids=torch.zeros(3, dtype=torch.long), old_entropy=torch.tensor([[1.0], [2.0], [3.0]]),
        ...     advantages=torch.ones(3, 1),
        ... )
        >>> ScaledByCertainty()(batch).view(-1)
        tensor([1.5000, 1.0000, 0.5000])
    """

    strength: Number = 1.0
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy"})

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """Advantages ``[B, T]``."""
        assert batch.old_entropy is not None
        assert batch.advantages is not None
        entropy = row_means(batch.old_entropy, batch.mask)
        present = batch.mask.any(-1)
        usual = torch.zeros_like(entropy)
        usual[present] = group_moments(entropy[present], batch.group_ids[present]).mean
        relative = torch.where(usual > 0, entropy / usual.clamp_min(1e-30), 1)
        return batch.advantages * (1 + self.strength * (1 - relative)).clamp_min(0)[:, None]


@dataclass(frozen=True)
class Bounded:
    """Advantages cut off at ``±bound``.

    Args:
        bound: largest size of an advantage; a number or a controller.

    References:
        Liu et al., ETTRL (Adv-Clip), arXiv 2508.11356.
    """

    bound: Number = 2.0

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """Advantages ``[B, T]``."""
        assert batch.advantages is not None
        return batch.advantages.clamp(-self.bound, self.bound)
