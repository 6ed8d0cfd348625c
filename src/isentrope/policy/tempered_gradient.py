"""Learning from correct responses as if they had been sampled hotter or colder, to set the entropy to any value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from isentrope.measures import token_statistics_from_logits
from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Memory, Number, Stateful, _metric
from isentrope.policy.surrogates import importance_ratio


@dataclass(frozen=True)
class Switch(Stateful):
    """One of two values: ``below`` while a metric is at most its target, ``above`` otherwise.

    Args:
        target: in the metric's unit (nats for entropies).
        below: value up to and at the target, and before anything was seen.
        above: value beyond it.
        metric: name of the metric.

    References:
        Wang et al., Arbitrary Entropy Policy Optimization, arXiv 2510.08141.

    Examples:
        >>> switch = Switch(target=0.5, below=1.2, above=0.8)
        >>> [switch.at(switch.update({}, {"entropy": entropy}, 0), 0) for entropy in (0.4, 0.5, 0.6)]
        [1.2, 1.2, 0.8]
    """

    target: Number
    below: float
    above: float
    metric: str = "entropy"

    def start(self) -> Memory:
        """Below the target."""
        return {"above": False}

    def at(self, memory: Memory, step: int) -> float:
        """The value on this side of the target."""
        return self.above if memory["above"] else self.below

    def update(self, memory: Memory, metrics: Mapping[str, float], step: int) -> Memory:
        """See on which side the metric is."""
        return {"above": _metric(metrics, self.metric) > self.target}


@dataclass(frozen=True)
class Distance(Stateful):
    """How far a metric is from its target, at most ``largest``: ``min(|target - m|, largest)``.

    Args:
        target: in the metric's unit (nats for entropies).
        largest: upper bound.
        metric: name of the metric.

    References:
        Wang et al., Arbitrary Entropy Policy Optimization, arXiv 2510.08141.

    Examples:
        >>> distance = Distance(target=0.5, largest=0.1)
        >>> [round(distance.at(distance.update({}, {"entropy": h}, 0), 0), 3) for h in (0.1, 0.53)]
        [0.1, 0.03]
    """

    target: Number
    largest: float = 0.1
    metric: str = "entropy"

    def start(self) -> Memory:
        """At the target."""
        return {"distance": 0.0}

    def at(self, memory: Memory, step: int) -> float:
        """The distance."""
        return memory["distance"]

    def update(self, memory: Memory, metrics: Mapping[str, float], step: int) -> Memory:
        """Measure it."""
        return {"distance": min(abs(self.target - _metric(metrics, self.metric)), self.largest)}


@dataclass(frozen=True)
class TemperedGradient:
    """REINFORCE on correct responses, re-weighted from the policy to the policy at another temperature.

    Adds ``-x 1[correct] / q  sg[pi^T(y_t) / pi(y_t)] rho_t`` to the loss of each token, where ``q`` is the share of correct
    responses in the batch and ``pi^T`` the policy with its logits divided by ``T``. On average that is the gradient of the
    log-likelihood of correct tokens drawn at temperature ``T``: above 1 it flattens the policy, below 1 it sharpens it.
    ``T`` is relative to the temperature at which responses are sampled. Without a correct response it is 0.

    This is the importance-weighted form in the published code ("DCPO"), which needs no rollouts beyond the ordinary ones.
    There advantages become ``(1 - a) A + a 1[correct] pi^T / pi`` with ``a = x / (q + x)``; up to the factor ``1 - a`` of the
    whole step and to PPO's clip, which the term here does not have, that is the same.

    How far it reaches depends on ``x`` and on how far ``T`` is from 1. On one softmax over 20 arms (400 steps, GRPO ends at
    0.11 nats) the published bound ``x <= 0.1`` and ``T = 1.2 / 0.8`` changed nothing visible: 0.10 for targets of 0.8 and
    1.5. Without the bound: 0.37 and 1.01; with ``T = 2 / 0.5`` and ``x <= 0.5``: 0.70 and 1.33.

    Args:
        coefficient: ``x``, a number or a controller such as `Distance`.
        temperature: ``T``, a number or a controller such as `Switch`.
        correct_above: reward above which a response is correct.

    References:
        Wang et al., Arbitrary Entropy Policy Optimization, arXiv 2510.08141.

    Examples:
        >>> batch = TokenBatch(
        ...     mask=torch.ones(4, 1, dtype=torch.bool), rewards=torch.tensor([1.0, 0, 0, 1]),
        ...     group_ids=torch.zeros(4).long(), old_log_probs=torch.zeros(4, 1))
        >>> TemperedGradient(0.1, 1.2).prepare(batch, torch.Generator())
        tensor([2., 0., 0., 2.])
    """

    coefficient: Number
    temperature: Number
    correct_above: float = 0.5
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "token_ids"})

    def prepare(self, batch: TokenBatch, generator: torch.Generator) -> Float[Tensor, "batch"]:
        """The weight of each response: 1 over the share of correct ones, or 0."""
        present = batch.mask.any(-1)
        correct = ((batch.outcome_rewards > self.correct_above) & present).to(batch.rewards.dtype)
        return correct * present.sum() / correct.sum().clamp_min(1)

    def __call__(self, batch: TokenBatch, prepared: Float[Tensor, "batch"]) -> Float[Tensor, "batch time"]:
        """The term for each token."""
        assert batch.logits is not None
        assert batch.token_ids is not None
        assert batch.log_probs is not None
        with torch.no_grad():
            logits, tokens = batch.logits()[batch.mask], batch.token_ids[batch.mask]
            tempered = token_statistics_from_logits(
                logits, tokens, temperature=self.temperature, outputs=("log_probs",)
            ).log_probs
            assert tempered is not None
            difference = (tempered - batch.log_probs[batch.mask]).clamp(-20, 20)
            weight = torch.zeros_like(batch.log_probs)
            weight[batch.mask] = difference.exp().to(weight.dtype)
        return -self.coefficient * prepared[:, None] * weight * importance_ratio(batch)
