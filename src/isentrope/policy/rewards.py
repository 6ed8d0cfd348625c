"""Reward parts: a `TokenBatch` in, changed rewards ``[B]`` out, before any advantage is estimated."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from isentrope.policy.batch import TokenBatch


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
