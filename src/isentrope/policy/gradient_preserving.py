"""Surrogates that bound the importance ratio and keep its gradient.

PPO's clip puts a constant in the place of a ratio ``rho`` that has gone too far, so that the token teaches nothing more.
Here ``bound rho / sg[rho]`` stands in its place (``sg``: stop-gradient): its value is the bound, its gradient
``bound grad log pi``.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number
from isentrope.policy.surrogates import ClippedRatio, importance_ratio


def ratio_over_itself(batch: TokenBatch) -> Float[Tensor, "batch time"]:
    """``rho / sg[rho]``: 1 in value, ``grad log pi`` in gradient; what it multiplies is kept and gets a gradient.

    Examples:
        >>> import torch
        >>> log_probs = torch.tensor([[-0.5, -2.0]], requires_grad=True)
        >>> mask = torch.tensor([[True, False]])
        >>> batch = TokenBatch(mask, torch.ones(1), torch.zeros(1), old_log_probs=-torch.ones(1, 2), log_probs=log_probs)
        >>> bounded = 1.2 * ratio_over_itself(batch)
        >>> bounded.sum().backward()
        >>> bounded[0, 0].item(), log_probs.grad
        (1.2..., tensor([[1.2000, 0.0000]]))
    """
    assert batch.log_probs is not None
    log_probs = torch.where(batch.mask, batch.log_probs, 0)
    return (log_probs - log_probs.detach()).exp()


@dataclass(frozen=True)
class GradientPreservingClip:
    """PPO's clip, with a share of the gradient given back to the tokens that it clips.

    The value is that of PPO's clip. The gradient of the token loss is ``-F A grad log pi`` with

    - ``F = beta_1 (1 - low)`` where ``rho < 1 - low`` and ``A < 0``,
    - ``F = beta_2 (1 + high)`` where ``rho > 1 + high`` and ``A > 0``,
    - ``F = 0`` where the dual clip bounds the loss, and ``F = rho`` everywhere else.

    Clipped tokens of positive advantage are mostly unlikely ones, so ``beta_2`` favours exploration; clipped tokens of
    negative advantage are mostly unlikely too, and punishing them sharpens the policy, so ``beta_1`` favours exploitation.
    ``beta_1 = beta_2 = 0`` is PPO, ``beta_1 = beta_2 = 1`` is GPPO. (The paper's loss also scales the *value* of clipped
    tokens by ``beta``; its gradient is this one.)

    On one softmax over 20 arms (8 optimiser steps a batch, 15 batches, three seeds) the entropy fell from 3.0 nats to 2.0
    with PPO's clip, 1.2 with ``beta = (0, 1)`` and 0.01 with ``(1, 0)`` and ``(1, 1)``. So ``beta_2`` does keep more entropy
    than ``beta_1``; that it keeps more than PPO, which moves least, did not appear there.

    Args:
        low: ``epsilon_low``.
        high: ``epsilon_high``.
        low_gradient: ``beta_1``, a number or a controller; 0.5 for 1.5B and 0.75 for 7B models in the paper.
        high_gradient: ``beta_2``.
        dual_clip: bound ``c`` of the loss of tokens of negative advantage, as in `ClippedRatio`; none if None.

    References:
        Su et al., CE-GPPO, arXiv 2509.20712; GPPO: Su et al., Klear-Reasoner, arXiv 2508.07629; the upper bound alone:
        Dong et al., Agentic Entropy-Balanced Policy Optimization, arXiv 2510.14545.

    Examples:
        >>> import torch
        >>> log_probs = torch.zeros(1, 2, requires_grad=True)
        >>> batch = TokenBatch(
        ...     mask=torch.ones(1, 2, dtype=torch.bool), rewards=torch.ones(1), group_ids=torch.zeros(1).long(),
        ...     old_log_probs=torch.tensor([[-1.0, 1.0]]), log_probs=log_probs, advantages=torch.tensor([[1.0, -1.0]]))
        >>> GradientPreservingClip()(batch).sum().backward()
        >>> log_probs.grad
        tensor([[-1.2000,  0.6000]])
    """

    low: float = 0.2
    high: float = 0.2
    low_gradient: Number = 0.75
    high_gradient: Number = 1.0
    dual_clip: float | None = 10.0

    @property
    def _clip(self) -> ClippedRatio:
        return ClippedRatio(self.low, self.high, self.dual_clip)

    def _kept(self, batch: TokenBatch) -> Tensor:
        """``F`` of the tokens that PPO's clip leaves without gradient and this one does not."""
        assert batch.advantages is not None
        ratio = importance_ratio(batch).detach()
        below = (ratio < 1 - self.low) & (batch.advantages < 0)
        above = (ratio > 1 + self.high) & (batch.advantages > 0)
        return self.low_gradient * (1 - self.low) * below + self.high_gradient * (1 + self.high) * above

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """Token loss ``[B, T]``."""
        assert batch.advantages is not None
        return self._clip(batch) - batch.advantages * self._kept(batch) * (ratio_over_itself(batch) - 1)

    def clipped(self, batch: TokenBatch) -> Bool[Tensor, "batch time"]:
        """Tokens that are left without gradient."""
        return self._clip.clipped(batch) & (self._kept(batch) == 0)


@dataclass(frozen=True)
class ClippedWeight:
    """CISPO's surrogate: REINFORCE with a clipped and detached importance weight, ``-sg[clip(rho)] A log pi``.

    Every token keeps its gradient, whatever its ratio: ``-clip(rho, 1 - low, 1 + high) A grad log pi``. The value is no
    estimate of a return; only its gradient means something.

    Args:
        low: ``epsilon_low``; no lower bound if None, as in the paper.
        high: ``epsilon_high``. The paper tunes it and does not say to what; 4 (weights up to 5) is what ScaleRL
            (arXiv 2510.13786) uses and TRL recommends.

    References:
        MiniMax, MiniMax-M1, arXiv 2506.13585, eq. 4-5.

    Examples:
        >>> import torch
        >>> log_probs = torch.zeros(1, 2, requires_grad=True)
        >>> batch = TokenBatch(
        ...     mask=torch.ones(1, 2, dtype=torch.bool), rewards=torch.ones(1), group_ids=torch.zeros(1).long(),
        ...     old_log_probs=torch.tensor([[-1.0, 1.0]]), log_probs=log_probs, advantages=torch.tensor([[1.0, -1.0]]))
        >>> ClippedWeight(high=1.0)(batch).sum().backward()
        >>> log_probs.grad
        tensor([[-2.0000,  0.3679]])
    """

    low: float | None = None
    high: float = 4.0

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """Token loss ``[B, T]``."""
        assert batch.advantages is not None
        assert batch.log_probs is not None
        weight = importance_ratio(batch).detach().clamp(None if self.low is None else 1 - self.low, 1 + self.high)
        return -weight * batch.advantages * torch.where(batch.mask, batch.log_probs, 0)

    def clipped(self, batch: TokenBatch) -> Bool[Tensor, "batch time"]:
        """No token is left without gradient."""
        return torch.zeros_like(batch.mask)
