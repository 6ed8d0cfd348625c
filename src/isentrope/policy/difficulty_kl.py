"""A KL penalty with one adaptive coefficient for each difficulty of prompt."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from isentrope.policy.aggregation import row_means
from isentrope.policy.batch import Tally, TokenBatch
from isentrope.policy.controllers import Memory, Number, Stateful
from isentrope.policy.difficulty_reward import DIFFICULTIES, difficulty
from isentrope.policy.regularizers import KLPenalty
from isentrope.policy.window_entropy import UncertainWindows, WindowsAbove


@dataclass(frozen=True)
class DifficultyKL(Stateful):
    """Keeps the policy near a frozen reference: adds ``coefficient beta_d k3``, ``beta_d`` by the prompt's difficulty.

    ``beta_d`` holds the KL divergence of its bucket at ``target``, in steps of its logarithm. With ``K`` the mean over
    responses of their mean ``k3`` (`KLPenalty`) at the optimiser step before, and ``e = K / target - 1``:

        K_d <- decay K_d + (1 - decay) K,    log beta_d <- log beta_d + rate clip(e_d, -largest_step, largest_step),

    unless ``|K_d / target - 1| < dead_zone``; ``beta_d`` stays in ``[1e-4, 100]``. Wrong answers to easy prompts that were
    uncertain for long, with a soft count of at least ``relax_from``, are held less: their term counts ``relax`` times.

    The published code smooths ``e`` once more, with the same ``decay`` from 0, and moves ``beta_d`` at every hundredth
    call only: a divergence of twice its target doubles ``beta_d`` after 7300 calls. ``smooth_error=True, interval=100``
    does the same (an optimiser step here is a call; there it is a micro-batch, and each rank has a ``beta_d`` of its own).

    Args:
        coefficient: loss per nat at ``beta_d = 1``, a number or a controller.
        counter: what counts the uncertain passages of a response.
        target: wanted divergence in nats a token.
        decay: weight of the past in ``K_d``.
        rate: step of ``log beta_d`` per unit of the relative error.
        largest_step: bound on the relative error.
        dead_zone: relative error that is let be.
        relax: factor of responses that are held less; 1 for none.
        relax_from: soft count, in nats, from which they are.
        smooth_error: smooth the relative error too.
        interval: optimiser steps between moves of ``beta_d``.
        correct_above: reward above which a response is right.

    Raises:
        ValueError: if ``target`` is not positive, ``decay`` lies outside [0, 1) or ``interval`` is less than 1.

    References:
        Chen et al., ARES: Multimodal Adaptive Reasoning via Difficulty-Aware Token-Level Entropy Shaping,
        arXiv 2510.08457.

    Examples:
        >>> part = DifficultyKL(target=0.01, rate=0.5, decay=0.0)
        >>> memory = part.update(part.start(), {"kl_easy": 0.011, "kl_hard": 0.0101}, 1)
        >>> [round(math.log(beta), 3) for beta in memory["betas"]]  # the hard ones are in the dead zone
        [0.05, 0.0, 0.0]
    """

    coefficient: Number = 0.01
    counter: Number = field(default_factory=UncertainWindows)
    target: float = 0.01
    decay: float = 0.97
    rate: float = 0.05
    largest_step: float = 0.2
    dead_zone: float = 0.02
    relax: float = 0.67
    relax_from: float = 0.5
    smooth_error: bool = False
    interval: int = 1
    correct_above: float = 0.5
    needs: ClassVar[frozenset[str]] = frozenset({"reference", "old_entropy"})

    def __post_init__(self):
        if not self.target > 0:
            raise ValueError(f"DifficultyKL: target must be positive, got {self.target}")
        if not 0 <= self.decay < 1:
            raise ValueError(f"DifficultyKL: decay must lie in [0, 1), got {self.decay}")
        if self.interval < 1:
            raise ValueError(f"DifficultyKL: interval must be at least 1, got {self.interval}")

    def start(self) -> Memory:
        """Coefficients of 1, nothing seen."""
        return {"betas": [1.0] * 3, "divergences": [None] * 3, "errors": [0.0] * 3, "calls": 0}

    def at(self, memory: Memory, step: int) -> "DifficultyKLTerm":
        """The term of this step."""
        return DifficultyKLTerm(
            self.coefficient, self.counter, tuple(memory["betas"]), self.relax, self.relax_from, self.correct_above
        )

    def update(self, memory: Memory, metrics: Mapping[str, float], step: int) -> Memory:
        """Move the coefficients of the buckets that the last loss had; the first step has no loss before it."""
        betas, divergences, errors = (list(memory[name]) for name in ("betas", "divergences", "errors"))
        calls = memory["calls"] + 1
        for index, name in enumerate(DIFFICULTIES):
            divergence = metrics.get(f"kl_{name}")
            if divergence is None:
                continue
            past = divergence if divergences[index] is None else divergences[index]
            divergences[index] = self.decay * past + (1 - self.decay) * divergence
            error = divergences[index] / self.target - 1
            if abs(error) < self.dead_zone or calls % self.interval:
                continue
            if self.smooth_error:
                error = errors[index] = (1 - self.decay) * error + self.decay * errors[index]
            moved = math.log(betas[index]) + self.rate * min(max(error, -self.largest_step), self.largest_step)
            betas[index] = math.exp(min(max(moved, math.log(1e-4)), math.log(1e2)))
        return {"betas": betas, "divergences": divergences, "errors": errors, "calls": calls}


@dataclass(frozen=True)
class DifficultyKLTerm:
    """The term of `DifficultyKL` (arXiv 2510.08457) in one step, with given coefficients for easy, medium and hard prompts.

    Beside the term it gives the divergence in each bucket, as the metrics ``kl_easy``, ``kl_medium`` and ``kl_hard``.
    """

    coefficient: float
    counter: WindowsAbove
    betas: tuple[float, ...] = (1.0, 1.0, 1.0)
    relax: float = 0.67
    relax_from: float = 0.5
    correct_above: float = 0.5
    needs: ClassVar[frozenset[str]] = frozenset({"reference", "old_entropy"})

    def prepare(self, batch: TokenBatch, generator: torch.Generator) -> Float[Tensor, "batch 2"]:
        """The bucket of each response, and its factor."""
        correct = batch.outcome_rewards > self.correct_above
        bucket = difficulty(correct, batch.group_ids)
        relaxed = (bucket == 0) & ~correct & (self.counter(batch).excess >= self.relax_from)
        factor = torch.ones_like(batch.rewards).masked_fill(relaxed, self.relax)
        return torch.stack((bucket.to(factor.dtype), factor), -1)

    def __call__(
        self, batch: TokenBatch, prepared: Float[Tensor, "batch 2"]
    ) -> tuple[Float[Tensor, "batch time"], Tally]:
        """The term for each token, and the tally of the divergences."""
        divergence = KLPenalty(1.0)(batch)
        bucket = prepared[:, 0].long()
        factor = torch.tensor(self.betas, dtype=divergence.dtype, device=divergence.device)[bucket] * prepared[:, 1]
        per_row, tally = row_means(divergence, batch.mask), Tally()
        for index, name in enumerate(DIFFICULTIES):
            tally = tally.add(f"kl_{name}", per_row, batch.mask.any(-1) & (bucket == index))
        return self.coefficient * factor[:, None].to(divergence.dtype) * divergence, tally
