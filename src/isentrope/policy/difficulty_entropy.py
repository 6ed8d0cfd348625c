"""An entropy bonus that pays more on prompts that the policy rarely solves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from isentrope.policy.advantages import group_moments
from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number


@dataclass(frozen=True)
class BelowPivot:
    """A weight that falls linearly from 1 at accuracy 0 to 0 at the pivot: ``w(g) = max(0, (rho - g) / rho)``.

    Args:
        pivot: ``rho`` in ``(0, 1]``.

    Examples:
        >>> import torch
        >>> BelowPivot(0.5)(torch.tensor([0.0, 0.25, 0.5, 1.0]))
        tensor([1.0000, 0.5000, 0.0000, 0.0000])
    """

    pivot: float = 0.5

    def __post_init__(self):
        if not 0 < self.pivot <= 1:
            raise ValueError(f"BelowPivot: pivot must lie in (0, 1], got {self.pivot}")

    def __call__(self, accuracy: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        """Weights ``[B]``."""
        return ((self.pivot - accuracy) / self.pivot).clamp_min(0)


@dataclass(frozen=True)
class DifficultyEntropyBonus:
    """Rewards entropy by how hard the prompt is: adds ``-alpha w(g_i) H_t`` to the loss of response ``i``.

    ``g_i`` is the share of correct responses in its group, of the rewards before any shaping. Groups may be split
    between micro-batches.

    The paper's abstract names the parts of the method; the form of ``w`` and the constants are **inferred**, not taken
    from its text.

    A bonus that only hard prompts get cannot hold the entropy of the whole batch once few prompts are hard: on one softmax
    over 20 arms, where every prompt ends at an accuracy of 0.8, the entropy fell to 0.08 nats with a pivot of 0.5, as
    without a bonus, whatever the coefficient. With equal weights a target of 1.5 was held at 1.50.

    Args:
        coefficient: ``alpha``, a number or a controller.
        allocation: ``w``, from accuracies ``[B]`` in ``[0, 1]`` to weights ``[B]``.
        correct_above: reward above which a response is correct.

    References:
        Zhang et al., Rediscovering Entropy Regularization (AER), arXiv 2510.10959.

    Examples:
        >>> batch = TokenBatch(
        ...     mask=torch.ones(4, 1, dtype=torch.bool), rewards=torch.tensor([0.0, 0, 1, 0]),
        ...     group_ids=torch.tensor([0, 0, 1, 1]), old_log_probs=torch.zeros(4, 1))
        >>> DifficultyEntropyBonus(0.01, BelowPivot(0.8)).prepare(batch, torch.Generator())
        tensor([1.0000, 1.0000, 0.3750, 0.3750])
    """

    coefficient: Number
    allocation: Callable[[Tensor], Tensor] = BelowPivot()
    correct_above: float = 0.5
    needs: ClassVar[frozenset[str]] = frozenset({"entropy_grad"})

    def prepare(self, batch: TokenBatch, generator: torch.Generator) -> Float[Tensor, "batch"]:
        """The weight of each response."""
        correct = (batch.outcome_rewards > self.correct_above).to(batch.rewards.dtype)
        return self.allocation(group_moments(correct, batch.group_ids).mean)

    def __call__(self, batch: TokenBatch, prepared: Float[Tensor, "batch"]) -> Float[Tensor, "batch time"]:
        """The term for each token."""
        assert batch.entropy is not None
        return -self.coefficient * prepared[:, None] * batch.entropy
