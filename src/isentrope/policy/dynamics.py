"""Entropy dynamics: what a step of the policy does to its entropy, token by token.

For any small step ``dz`` of the logits at one position, with ``pi = softmax(z)`` and ``H`` its entropy,

    dH = -Cov_{a~pi}(log pi(a), dz_a) = -sum_a pi_a (log pi_a + H) dz_a + O(dz^2).

Write ``S_a = pi_a (log pi_a + H)`` (it sums to 0). A policy-gradient step on one sampled token ``k`` with weight ``w``
(learning rate times ratio times advantage) moves the logits by ``w (e_k - pi)``, hence

    dH = -w (S_k - E),    E = sum_a pi_a S_a = Cov_{a~pi}(pi_a, log pi_a).

``S_k`` is positive exactly where ``pi_k > exp(-H)``: rewarding likely tokens lowers the entropy, rewarding unlikely ones
raises it. Since ``E_{k~pi}[S_k - E] = 0``, advantages that do not depend on the token leave the entropy as it is, on
average and on-policy. These are statements about separate logits; a network shares its parameters between positions, so
there they predict sign and relative size, and the exact first-order change is the inner product of the entropy's
gradient with the parameter step.

References:
    Cui et al., The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models, arXiv 2505.22617; the
    discriminator ``S`` also in On the Entropy Dynamics in Reinforcement Fine-Tuning of LLMs, arXiv 2602.03392.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def entropy_change(
    logits: Float[Tensor, "... vocabulary"], logit_step: Float[Tensor, "... vocabulary"]
) -> Float[Tensor, "..."]:
    """First-order change of entropy under a step of the logits: ``-Cov_{a~pi}(log pi(a), dz_a)`` in nats.

    Args:
        logits: ``[..., V]``, the last axis being the vocabulary.
        logit_step: ``[..., V]``, ``dz``.

    References:
        arXiv 2505.22617, lemma 1.

    Examples:
        >>> import torch
        >>> z = torch.tensor([0.8, 0.2], dtype=torch.float64).log()
        >>> entropy_change(z, torch.tensor([0.01, 0.0], dtype=torch.float64))
        tensor(-0.0022, dtype=torch.float64)
    """
    log_probs = logits.log_softmax(-1)
    probs = log_probs.exp()
    surprise = torch.where(probs > 0, probs * log_probs, 0)
    entropy = -surprise.sum(-1, keepdim=True)
    return -((surprise + probs * entropy) * logit_step).sum(-1)


def entropy_discriminator(
    log_probs: Float[Tensor, "*shape"], entropy: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """``S = pi (log pi + H)``: minus the change of entropy, in nats, by raising the token's logit by one unit.

    To first order. It sums to 0 over the vocabulary and has the sign of ``pi - exp(-H)``.

    Args:
        log_probs: log-probabilities of the tokens.
        entropy: entropy at their positions, in nats.

    References:
        Wang et al., On the Entropy Dynamics in Reinforcement Fine-Tuning of Large Language Models, arXiv 2602.03392.

    Examples:
        >>> import torch
        >>> entropy_discriminator(torch.tensor([0.8, 0.2]).log(), torch.tensor(0.500402))
        tensor([ 0.2218, -0.2218])
    """
    return log_probs.exp() * (log_probs + entropy)


def token_entropy_change(
    log_probs: Float[Tensor, "*shape"],
    entropy: Float[Tensor, "*shape"],
    weight: Float[Tensor, "*shape"],
    probability_covariance: Float[Tensor, "*shape"] | None = None,
) -> Float[Tensor, "*shape"]:
    """First-order change of entropy from a policy-gradient step on each sampled token, in nats.

    Exact for separate logits if ``probability_covariance`` is given: ``-w (S_k - E)`` with
    ``S_k = pi_k (log pi_k + H)``. Otherwise ``-w pi_k (1 - pi_k) (log pi_k + H)``, which needs nothing but the sampled
    token's log-probability and the entropy.

    Args:
        log_probs: ``log pi`` of the sampled tokens.
        entropy: ``H`` at their positions.
        weight: ``w``, such as the advantage; the result is proportional to it.
        probability_covariance: ``E``, as `isentrope.measures.token_statistics` gives it.

    References:
        arXiv 2505.22617; arXiv 2602.03392; the factor ``1 - pi`` as in arXiv 2510.10150.

    Examples:
        >>> import torch
        >>> p = torch.tensor([0.8, 0.2])
        >>> H = torch.full((2,), 0.500402)
        >>> token_entropy_change(p.log(), H, torch.ones(2), torch.full((2,), 0.133084))
        tensor([-0.0887,  0.3549])
    """
    discriminator = entropy_discriminator(log_probs, entropy)
    if probability_covariance is None:
        return -weight * discriminator * (1 - log_probs.exp())
    return -weight * (discriminator - probability_covariance)


def covariance_contributions(
    log_probs: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
) -> Float[Tensor, "batch time"]:
    """Each token's share ``c_t = (A_t - mean A)(log pi_t - mean log pi)`` of the covariance; 0 outside the mask.

    Means are over the valid tokens given, so the mean of ``c`` is the (population) covariance of advantage and
    log-probability, which drives the entropy down while it is positive.

    References:
        arXiv 2505.22617, eq. 9.

    Examples:
        >>> import torch
        >>> one = torch.ones(1, 2, dtype=torch.bool)
        >>> covariance_contributions(torch.tensor([[-1.0, -3.0]]), torch.tensor([[1.0, -1.0]]), one)
        tensor([[1., 1.]])
    """
    count = mask.sum().clamp_min(1)
    log_probs, advantages = (torch.where(mask, x.detach().double(), 0) for x in (log_probs, advantages))
    contributions = (advantages - advantages.sum() / count) * (log_probs - log_probs.sum() / count)
    return torch.where(mask, contributions, 0).float()


class CovarianceParts(NamedTuple):
    """The covariance of advantage and log-probability, split by the advantage's sign and the token's likelihood.

    A token is *likely* if its probability exceeds ``exp(-H)``. The four parts sum to the covariance. Rewarded likely and
    punished unlikely tokens lower the entropy; rewarded unlikely and punished likely ones raise it.
    """

    rewarded_likely: float
    rewarded_unlikely: float
    punished_likely: float
    punished_unlikely: float


def covariance_parts(
    log_probs: Float[Tensor, "batch time"],
    entropy: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
) -> CovarianceParts:
    """The four parts of the covariance of advantage and log-probability over the valid tokens.

    References:
        The covariance: arXiv 2505.22617; the split by ``pi > exp(-H)``: arXiv 2602.03392.
    """
    share = covariance_contributions(log_probs, advantages, mask) / mask.sum().clamp_min(1)
    likely = log_probs > -entropy
    rewarded = advantages > 0
    parts = (rewarded & likely, rewarded & ~likely, ~rewarded & likely, ~rewarded & ~likely)
    return CovarianceParts(*(float(share[part & mask].sum()) for part in parts))


def concentration(changes: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], share: float = 0.8) -> float:
    """The smallest fraction of tokens that together carry ``share`` of the predicted fall of entropy.

    Only negative changes count as fall. Without any fall the answer is NaN.

    Args:
        changes: predicted change of each token, as from `token_entropy_change`.
        mask: valid tokens.
        share: share of the total fall.

    References:
        A few tokens dominate: arXiv 2505.22617, section 3.3.

    Examples:
        >>> import torch
        >>> changes = torch.tensor([[-8.0, -1.0, -1.0, 5.0]])
        >>> concentration(changes, torch.ones(1, 4, dtype=torch.bool))
        0.25
    """
    falls = (-changes[mask].double()).clamp_min(0).sort(descending=True).values
    total = falls.sum()
    if not total:
        return float("nan")
    # Rounding must not demand one token more than reaches the share.
    enough = falls.cumsum(0) >= share * total * (1 - 1e-12)
    return (int(enough.int().argmax()) + 1) / len(falls)


def entropy_drivers(
    log_probs: Float[Tensor, "batch time"],
    entropy: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
) -> dict[str, float]:
    """What pulls the entropy of a batch, as metrics that `isentrope.policy.diagnosis.diagnose` reads.

    ``covariance/<part>`` are the `covariance_parts`; ``fall_concentration`` is the `concentration` of the predicted fall,
    left out where nothing falls.

    References:
        arXiv 2505.22617; arXiv 2602.03392.
    """
    parts = covariance_parts(log_probs, entropy, advantages, mask)._asdict()
    fall = concentration(token_entropy_change(log_probs, entropy, advantages), mask)
    drivers = {f"covariance/{name}": value for name, value in parts.items()}
    return drivers | ({"fall_concentration": fall} if fall == fall else {})
