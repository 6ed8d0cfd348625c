"""Clip_B and Clip_V: tokens whose step would move the entropy most are left out.

The discriminator ``S_t = pi_t (log pi_t + H_t)`` of a sampled token says what rewarding it does to the entropy: it falls
where ``S_t > 0``, that is ``pi_t > exp(-H_t)``, and rises where ``S_t < 0``. Exactly, for a policy-gradient step on
separate logits, the change is ``-w (S_t - E_t)`` with ``E_t`` the mean of ``S`` over the vocabulary.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number
from isentrope.policy.dynamics import entropy_discriminator

_NO_SPREAD = 1e-12


@dataclass(frozen=True)
class BatchDiscriminatorClip:
    """Clip_B: a selection that drops the tokens whose discriminator lies far from the batch's mean.

    With the mean and the population standard deviation of ``S`` over the batch's valid tokens, a token stays if
    ``z = (S - mean) / std`` lies in the interval for the sign of its advantage. By default only punished unlikely tokens
    go: punishing what is unlikely lowers the entropy. Tokens of advantage 0 stay.

    The entropy of a policy with separate logits is moved by ``S - E``; this rule sees ``S`` less the batch's mean, for
    which no full logits are needed. On the bandit of 20 arms GRPO's entropy ends at 0.09 nats, with ``mu = 2.5`` at 0.55
    and with ``mu = 1`` at 1.5, where the reward is 0.76 instead of 0.80.

    Args:
        punished: interval of ``z`` in which tokens of negative advantage stay; ``(-mu, inf)`` is the paper's.
        rewarded: the same for tokens of positive advantage.

    References:
        Wang et al., On the Entropy Dynamics in Reinforcement Fine-Tuning of Large Language Models (Clip_B),
        arXiv 2602.03392.
    """

    punished: tuple[Number, Number] = (-2.5, math.inf)
    rewarded: tuple[Number, Number] = (-math.inf, math.inf)
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy"})

    def __post_init__(self):
        for name in ("punished", "rewarded"):
            ends = getattr(self, name)
            if len(ends) != 2 or (all(isinstance(end, (int, float)) for end in ends) and not ends[0] <= ends[1]):
                raise ValueError(f"BatchDiscriminatorClip: {name} must be (low, high) with low <= high, got {ends}")

    def __call__(self, batch: TokenBatch) -> Bool[Tensor, "batch time"]:
        """True for the tokens to train on."""
        assert batch.log_probs is not None
        assert batch.entropy is not None
        assert batch.advantages is not None
        score = entropy_discriminator(batch.log_probs.double(), batch.entropy.double())
        valid = score[batch.mask]
        spread = valid.std(correction=0) if len(valid) else valid.new_zeros(())
        if spread < _NO_SPREAD:
            return batch.mask
        z = (score - valid.mean()) / spread
        outside = [(z < low) | (z > high) for low, high in (self.punished, self.rewarded)]
        dropped = (batch.advantages < 0) & outside[0] | (batch.advantages > 0) & outside[1]
        return batch.mask & ~dropped


@dataclass(frozen=True)
class VocabularyDiscriminatorClip:
    """Clip_V: a selection that drops the punished tokens which, one by one, would lower the entropy most.

    A token of negative advantage goes if ``D = E - S > threshold std(D)``, with ``E`` the mean of ``S`` over the
    vocabulary at its position and the population standard deviation over the batch's valid tokens. (The threshold is on
    ``D`` itself, whose mean over tokens drawn from the policy is 0.) At most ``max(1, floor(maximum_fraction N))`` go,
    those of largest ``D``.

    The reference code also drops tokens of advantage exactly 0, outside that limit: they carry no gradient but leave the
    denominators. ``neutral_too=True`` does the same.

    Args:
        threshold: ``mu``; 8.5 in the reference configuration, 2 in its code's signature.
        maximum_fraction: largest share of the batch's ``N`` tokens that may go.
        neutral_too: let tokens of advantage 0 go as well.

    References:
        Wang et al., On the Entropy Dynamics in Reinforcement Fine-Tuning of Large Language Models (Clip_V),
        arXiv 2602.03392.
    """

    threshold: Number = 8.5
    maximum_fraction: float = 1e-4
    neutral_too: bool = False
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy", "probability_covariance"})

    def __post_init__(self):
        if not 0 <= self.maximum_fraction <= 1:
            raise ValueError(
                f"VocabularyDiscriminatorClip: maximum_fraction must lie in [0, 1], got {self.maximum_fraction}"
            )

    def __call__(self, batch: TokenBatch) -> Bool[Tensor, "batch time"]:
        """True for the tokens to train on."""
        assert batch.log_probs is not None
        assert batch.entropy is not None
        assert batch.advantages is not None
        mean = batch.extra("probability_covariance").double()
        excess = mean - entropy_discriminator(batch.log_probs.double(), batch.entropy.double())
        valid = excess[batch.mask]
        spread = valid.std(correction=0) if len(valid) else valid.new_zeros(())
        if spread < _NO_SPREAD:
            return batch.mask
        beyond = batch.mask & (excess > self.threshold * spread)
        limit = max(1, math.floor(self.maximum_fraction * len(valid) + 1e-9))
        punished = torch.where(beyond & (batch.advantages < 0), excess, -torch.inf).flatten()
        worst = punished.sort(descending=True, stable=True).indices[:limit]
        dropped = batch.mask.new_zeros(batch.mask.numel())
        dropped[worst] = punished[worst] > -torch.inf
        dropped = dropped.view(batch.mask.shape)
        if self.neutral_too:
            dropped |= beyond & (batch.advantages == 0)
        return batch.mask & ~dropped
