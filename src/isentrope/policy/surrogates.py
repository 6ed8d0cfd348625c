"""Surrogates: the token loss ``[B, T]`` whose gradient is the policy gradient.

Symbols: ``rho_t = pi(y_t) / pi_old(y_t)`` the importance ratio, ``A_t`` the advantage. Log-ratios are cut at ±20 before
the exponential.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from isentrope.policy.aggregation import row_means
from isentrope.policy.batch import TokenBatch


def importance_ratio(batch: TokenBatch) -> Float[Tensor, "batch time"]:
    """``rho_t = exp(log pi - log pi_old)``, with 1 outside the mask."""
    assert batch.log_probs is not None
    return torch.where(batch.mask, batch.log_probs - batch.old_log_probs, 0).clamp(-20, 20).exp()


def no_surrogate(batch: TokenBatch) -> Float[Tensor, "batch time"]:
    """Zero for every token, for objectives whose regularizers are the whole loss."""
    return torch.zeros_like(batch.old_log_probs)


def _clip_loss(ratio: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - low, 1 + high))


def _outside(ratio: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    return ((ratio > 1 + high) & (advantages > 0)) | ((ratio < 1 - low) & (advantages < 0))


@dataclass(frozen=True)
class ClippedRatio:
    """PPO's clipped surrogate: ``max(-A rho, -A clip(rho, 1 - low, 1 + high))``.

    With ``dual_clip = c`` the loss of tokens of negative advantage is also bounded above by ``-A c``.

    Args:
        low: ``epsilon_low``.
        high: ``epsilon_high``; larger than ``low`` for "clip-higher".
        dual_clip: ``c``, usually 3 to 10; none by default.

    References:
        Schulman et al., PPO, arXiv 1707.06347; clip-higher: Yu et al., DAPO, arXiv 2503.14476; dual clip: Ye et al.,
        arXiv 1912.09729.
    """

    low: float = 0.2
    high: float = 0.2
    dual_clip: float | None = None

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """Token loss ``[B, T]``."""
        assert batch.advantages is not None
        loss = _clip_loss(importance_ratio(batch), batch.advantages, self.low, self.high)
        if self.dual_clip is not None:
            bounded = torch.minimum(loss, -batch.advantages * self.dual_clip)
            loss = torch.where(batch.advantages < 0, bounded, loss)
        return loss

    def clipped(self, batch: TokenBatch) -> Bool[Tensor, "batch time"]:
        """Tokens whose gradient the clip removes."""
        assert batch.advantages is not None
        ratio = importance_ratio(batch)
        outside = _outside(ratio, batch.advantages, self.low, self.high)
        if self.dual_clip is not None:
            outside = outside | ((batch.advantages < 0) & (ratio > self.dual_clip))
        return outside


@dataclass(frozen=True)
class UnclippedRatio:
    """The plain importance-weighted surrogate ``-A rho``."""

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """Token loss ``[B, T]``."""
        assert batch.advantages is not None
        return -batch.advantages * importance_ratio(batch)

    def clipped(self, batch: TokenBatch) -> Bool[Tensor, "batch time"]:
        """No token is ever clipped."""
        return torch.zeros_like(batch.mask)


@dataclass(frozen=True)
class SequenceRatio:
    """GSPO's surrogate: the ratio is the geometric mean over the response, clipped as one.

    ``s_i = exp(mean_t (log pi - log pi_old))``; in token form ``s_it = sg[s_i] exp(log pi_t - sg[log pi_t])``, whose
    value is ``s_i`` and whose gradient reaches each token. ``mean="arithmetic"`` is the ratio of GRPO-S,
    ``s_i = mean_t rho_t``, in token form ``sg[s_i] + rho_t - sg[rho_t]``.

    Args:
        low: ``epsilon_low``; much smaller than for token ratios, because the mean over a response varies little.
        high: ``epsilon_high``.
        mean: ``"geometric"`` or ``"arithmetic"``.

    References:
        Zheng et al., Group Sequence Policy Optimization, arXiv 2507.18071; the arithmetic mean: Tan et al., GTPO and
        GRPO-S, arXiv 2508.04349.
    """

    low: float = 3e-4
    high: float = 4e-4
    mean: Literal["geometric", "arithmetic"] = "geometric"

    def __post_init__(self):
        if self.mean not in ("geometric", "arithmetic"):
            raise ValueError(f"SequenceRatio: mean must be 'geometric' or 'arithmetic', got {self.mean!r}")

    def _ratio(self, batch: TokenBatch) -> Tensor:
        assert batch.log_probs is not None
        if self.mean == "arithmetic":
            ratio = importance_ratio(batch)
            return row_means(ratio.detach(), batch.mask)[:, None] + ratio - ratio.detach()
        difference = torch.where(batch.mask, batch.log_probs - batch.old_log_probs, 0)
        mean = difference.detach().sum(-1, keepdim=True) / batch.mask.sum(-1, keepdim=True).clamp_min(1)
        # exp(d - sg[d]) is 1 in value and carries the token's gradient.
        return mean.clamp(-20, 20).exp() * (difference - difference.detach()).exp()

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """Token loss ``[B, T]``."""
        assert batch.advantages is not None
        return _clip_loss(self._ratio(batch), batch.advantages, self.low, self.high)

    def clipped(self, batch: TokenBatch) -> Bool[Tensor, "batch time"]:
        """Tokens of responses whose gradient the clip removes."""
        return _outside(self._ratio(batch), batch.advantages, self.low, self.high)  # pyright: ignore[reportArgumentType]
