"""Reward parts: a `TokenBatch` in, changed rewards ``[B]`` out, before any advantage is estimated."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number


@dataclass(frozen=True)
class OverlongPenalty:
    """Soft punishment of long responses.

    Added to the reward of a response of ``L`` tokens: ``0`` up to ``L_max - L_cache``, then linearly down to ``-1`` at
    ``L_max``, and ``-1`` beyond.

    Args:
        maximum_length: ``L_max`` in tokens.
        cache: ``L_cache``, the length of the slope.

    References:
        Yu et al., DAPO, arXiv 2503.14476, eq. 13.
    """

    maximum_length: int = 20480
    cache: int = 4096

    def __post_init__(self):
        if not 1 <= self.cache <= self.maximum_length:
            raise ValueError(
                f"OverlongPenalty: cache must lie between 1 and maximum_length = {self.maximum_length}, got {self.cache}"
            )

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch"]:
        """Rewards ``[B]``."""
        excess = batch.lengths - (self.maximum_length - self.cache)
        return batch.rewards - torch.clamp(excess / self.cache, 0, 1).to(batch.rewards.dtype)


@dataclass(frozen=True)
class LengthTrapezoid:
    """A bonus on responses of a wanted length.

    Added to the reward of a response of ``L`` tokens: ``weight`` for ``low <= L <= high``, falling linearly to 0 at
    ``minimum`` and ``maximum``, and 0 beyond. For other lengths in each task, give one part a task.

    Args:
        minimum: length in tokens up to which there is no bonus.
        low: start of the plateau.
        high: end of the plateau.
        maximum: length from which there is no bonus.
        weight: height of the plateau; the paper gives none. A number or a controller.
        task: apply only to rows with this number in ``extras["task"]`` (``[B]`` integers); all rows by default.

    References:
        Hu et al., OpenVLThinkerV2 (G2RPO), arXiv 2604.08539, eq. 8-9.

    Examples:
        >>> mask = torch.arange(8) < torch.tensor([1, 2, 3, 5, 7])[:, None]
        >>> batch = TokenBatch(
        ...     mask=mask, rewards=torch.zeros(5), group_ids=torch.zeros(5, dtype=torch.long),
        ...     old_log_probs=torch.zeros(5, 8),
        ... )
        >>> LengthTrapezoid(1, 3, 4, 6)(batch)
        tensor([0.0000, 0.5000, 1.0000, 0.5000, 0.0000])
    """

    minimum: int
    low: int
    high: int
    maximum: int
    weight: Number = 1.0
    task: int | None = None

    def __post_init__(self):
        if not 0 <= self.minimum <= self.low <= self.high <= self.maximum:
            raise ValueError(
                "LengthTrapezoid: minimum, low, high, maximum must be increasing and not negative, got "
                f"{self.minimum}, {self.low}, {self.high}, {self.maximum}"
            )

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch"]:
        """Rewards ``[B]``."""
        length = batch.lengths.to(batch.rewards.dtype)
        rising = (length - self.minimum) / max(self.low - self.minimum, 1)
        falling = (self.maximum - length) / max(self.maximum - self.high, 1)
        bonus = torch.minimum(rising, falling).clamp(0, 1)
        bonus = torch.where((self.low <= length) & (length <= self.high), 1, bonus)
        if self.task is not None:
            bonus = bonus * (batch.extra("task") == self.task)
        return batch.rewards + self.weight * bonus


@dataclass(frozen=True)
class FormatBonus:
    """Pays for keeping to the form that was asked for: ``r + w f``, whether ``r`` is earned or not.

    ``f``, from 0 to 1, is the host's ``extras["format"]``, ``[B]``. Whether a response is right is told from the outcome,
    which the pay is no part of. A part that replaces rewards, such as `MajorityVote`, must come before this one.

    Args:
        weight: ``w``. A number or a controller.

    Raises:
        ValueError: if the weight is not finite.

    References:
        Lu et al., Prompt Augmentation Scales up GRPO Training on Mathematical Reasoning, arXiv 2602.03190.

    Examples:
        >>> batch = TokenBatch(
        ...     mask=torch.ones(2, 1, dtype=torch.bool), rewards=torch.tensor([1.0, 0.0]), old_log_probs=torch.zeros(2, 1),
        ...     group_ids=torch.zeros(2, dtype=torch.long), extras={"format": torch.tensor([0.5, 1.0])},
        ... )
        >>> FormatBonus(0.5)(batch)
        tensor([1.2500, 0.5000])
    """

    weight: Number = 1.0

    def __post_init__(self):
        if isinstance(self.weight, (int, float)) and not math.isfinite(self.weight):
            raise ValueError(f"FormatBonus: weight must be finite, got {self.weight}")

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch"]:
        """Rewards ``[B]``."""
        return batch.rewards + self.weight * batch.extra("format").to(batch.rewards.dtype)
