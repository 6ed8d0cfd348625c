"""Regularizers: terms added to the surrogate's loss.

A regularizer returns its term for each token, ``[B, T]``, which the objective aggregates like the surrogate but over
every response token, or a 0-d contribution that it has divided by the window's totals itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number
from isentrope.policy.surrogates import importance_ratio


@dataclass(frozen=True)
class EntropyBonus:
    """Rewards the policy's entropy: adds ``-coefficient H_t`` to the loss.

    ``H_t`` is the exact entropy over the vocabulary. (The sampled ``-log pi(y_t)`` has the same mean but, as a loss, a
    gradient of mean zero.)

    Args:
        coefficient: weight in loss per nat; negative values lower the entropy. A number or a controller.

    References:
        Williams and Peng, Function optimization using connectionist reinforcement learning algorithms (1991); as the
        baseline of arXiv 2505.22617.
    """

    coefficient: Number
    needs: ClassVar[frozenset[str]] = frozenset({"entropy_grad"})

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """The term for each token."""
        assert batch.entropy is not None
        return -self.coefficient * batch.entropy


@dataclass(frozen=True)
class KLPenalty:
    """Keeps the policy near a frozen reference: adds ``beta k(log pi - log pi_ref)``.

    With ``D = log pi - log pi_ref`` (cut at ±20) the estimators of ``KL(pi || pi_ref)`` are ``k1 = D``,
    ``k2 = D^2/2`` and ``k3 = exp(-D) - 1 + D``. Differentiated as a loss, on-policy, they are not the same: the
    gradient of ``k1`` has mean zero, that of ``k2`` is the gradient of ``KL(pi || pi_ref)``, that of ``k3`` the gradient
    of ``KL(pi_ref || pi)``. ``"k3+"`` has the value of ``k3`` and the gradient of ``k2``.

    Args:
        coefficient: ``beta``.
        estimator: ``"k1"``, ``"k2"``, ``"k3"`` (GRPO's choice) or ``"k3+"``.

    References:
        Schulman, Approximating KL divergence (2020); used in GRPO, arXiv 2402.03300, eq. 4.
    """

    coefficient: Number = 0.001
    estimator: Literal["k1", "k2", "k3", "k3+"] = "k3"
    needs: ClassVar[frozenset[str]] = frozenset({"reference"})

    def __post_init__(self):
        if self.estimator not in ("k1", "k2", "k3", "k3+"):
            raise ValueError(f"KLPenalty: estimator must be 'k1', 'k2', 'k3' or 'k3+', got {self.estimator!r}")

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """The term for each token."""
        assert batch.log_probs is not None
        assert batch.reference_log_probs is not None
        difference = torch.where(batch.mask, batch.log_probs - batch.reference_log_probs, 0).clamp(-20, 20)
        k2 = difference**2 / 2
        k3 = (-difference).exp() - 1 + difference
        value = {"k1": difference, "k2": k2, "k3": k3, "k3+": k2 + (k3 - k2).detach()}[self.estimator]
        return self.coefficient * value


@dataclass(frozen=True)
class LogRatioPenalty:
    """Holds chosen tokens near the policy that sampled them: adds ``coefficient |log pi - log pi_old|`` to their loss.

    The tokens are chosen on the whole batch. At the first optimiser step on a batch the two policies are the same, so
    the penalty and its gradient are 0: it bites from the second step on the same rollouts.

    Args:
        where: which tokens, a callable from `TokenBatch` to ``[B, T]`` booleans.
        coefficient: ``beta``.

    References:
        Cui et al., The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models (KL-Cov),
        arXiv 2505.22617, eq. 12-13.
    """

    where: Callable[[TokenBatch], Bool[Tensor, "batch time"]]
    coefficient: Number = 1.0

    def prepare(self, batch: TokenBatch, generator: torch.Generator) -> Bool[Tensor, "batch time"]:
        """The chosen tokens."""
        return self.where(batch)

    def __call__(self, batch: TokenBatch, prepared: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
        """The term for each token."""
        assert batch.log_probs is not None
        difference = torch.where(prepared, batch.log_probs - batch.old_log_probs, 0)
        return self.coefficient * difference.abs()


@dataclass(frozen=True)
class HighProbabilityAdvantage:
    """Re-weights positive against negative tokens where the policy is nearly sure: adds ``-alpha rho |A|`` there.

    On tokens with ``log pi > log threshold`` a positive advantage then counts ``1 + alpha`` times and a negative one
    ``1 - alpha`` times. Rewarding a nearly sure token sharpens the policy and punishing it flattens it, so ``alpha > 0``
    lowers the entropy and ``alpha < 0`` raises it. There is no clipping in this term.

    Args:
        alpha: the weight, a number or a controller whose output lies in ``[-1, 1]``.
        threshold: probability above which a token takes part.
        denominator: ``"selected"`` divides by the number of tokens that take part in the window, as the reference code
            does; ``"all"`` aggregates like the surrogate.

    References:
        Yang et al., EntroPIC, arXiv 2511.15248.
    """

    alpha: Number
    threshold: float = 0.95
    denominator: Literal["selected", "all"] = "selected"

    def prepare(self, batch: TokenBatch, generator: torch.Generator) -> Bool[Tensor, "batch time"]:
        """The tokens above the threshold."""
        assert batch.log_probs is not None
        return batch.mask & (batch.log_probs > math.log(self.threshold))

    def __call__(self, batch: TokenBatch, prepared: Bool[Tensor, "batch time"]) -> Float[Tensor, "..."]:
        """The term for each token, or the rows' contribution if the denominator is that of the selected tokens."""
        assert batch.advantages is not None
        term = torch.where(prepared, -self.alpha * importance_ratio(batch) * batch.advantages.abs(), 0)
        if self.denominator == "all":
            return term
        return term.sum() / batch.totals["selected"].clamp_min(1)
