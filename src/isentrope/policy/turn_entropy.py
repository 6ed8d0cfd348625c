"""Entropy of agents, turn by turn: a bonus, and a penalty for tokens that leave the band of their turn's history."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from isentrope.policy.batch import Tally, TokenBatch
from isentrope.policy.controllers import Memory, Number, Stateful


@dataclass(frozen=True)
class PhaseWeight(Stateful):
    """A weight that falls slowly in the first half of training, then jumps down and fades: EPO's schedule.

    With ``x = step / steps``: ``1 - 0.2 (1 - exp(-4 x))`` up to ``x = 1/2``, ``0.8 exp(-6 (x - 1/2))`` after it. (The
    constants and the small jump at half time are those of the published code.)

    Args:
        steps: optimiser steps of the whole training.

    References:
        Xu et al., EPO, arXiv 2509.22576.

    Examples:
        >>> [round(PhaseWeight(150).at({}, step), 4) for step in (0, 75, 76, 150)]
        [1.0, 0.8271, 0.7686, 0.0398]
    """

    steps: int

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"PhaseWeight: steps must be at least 1, got {self.steps}")

    def at(self, memory: Memory, step: int) -> float:
        """The weight at ``step``, that of the last step from there on."""
        progress = min(step / self.steps, 1.0)
        if progress <= 0.5:
            return 1 - 0.2 * (1 - math.exp(-4 * progress))
        return 0.8 * math.exp(-6 * (progress - 0.5))


@dataclass(frozen=True)
class TurnEntropySmoothing(Stateful):
    """An entropy bonus less a penalty on tokens outside the band of their turn: adds ``-lambda (H_t - c P_t)``.

    The history of turn ``j`` is the mean over batches (the present one included) of the mean entropy of its tokens,
    ``H_j``; a token is inside the band if ``low H_j < H_t < high H_j``. Outside it, ``P_t`` is, by ``shape``,

    - ``"hinge"``: ``penalty (relu(low H_j - H_t) + relu(H_t - high H_j)) / H_j``, which pulls the token back;
    - ``"indicator"``: ``penalty``, as published. That is constant in the parameters: it has **no gradient** and changes
      only the loss that is logged, so that the published method trains like its entropy bonus alone.

    Batches that did not reach a turn are left out of its history, where the published code counts them as zeros. The
    published code also switches the penalty off in micro-batches in which no response has reached half of the turns
    allowed; here it always acts. Needs ``extras["turn"]``, ``[B, T]`` integers from 0, -1 outside responses.

    Args:
        coefficient: ``lambda``, in loss per nat.
        low: ``kappa_l``; 0 switches the lower side off.
        high: ``kappa_r``.
        penalty: ``delta``.
        smoothing: ``c beta``, weight of the penalty; a number or a controller such as `PhaseWeight`.
        turns: largest number of turns.
        shape: see above.

    Raises:
        ValueError: if a setting is out of range, or a turn of the batch is.

    References:
        Xu et al., EPO: Entropy-regularized Policy Optimization for LLM Agents, arXiv 2509.22576.

    Examples:
        >>> part = TurnEntropySmoothing(turns=2)
        >>> memory = part.update(part.start(), {"turn_0": 1.0}, 0)
        >>> memory = part.update(memory, {"turn_0": 2.0, "turn_1": 0.5}, 1)
        >>> part.at(memory, 1).means
        (1.5, 0.5)
    """

    coefficient: Number = 0.001
    low: float = 0.0
    high: float = 2.0
    penalty: float = 0.1
    smoothing: Number = 1.0
    turns: int = 50
    shape: Literal["hinge", "indicator"] = "hinge"
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy", "entropy_grad"})

    def __post_init__(self):
        if self.shape not in ("hinge", "indicator"):
            raise ValueError(f"TurnEntropySmoothing: shape must be 'hinge' or 'indicator', got {self.shape!r}")
        if not 0 <= self.low <= self.high:
            raise ValueError(f"TurnEntropySmoothing: 0 <= low <= high must hold, got {self.low} and {self.high}")
        if self.turns < 1:
            raise ValueError(f"TurnEntropySmoothing: turns must be at least 1, got {self.turns}")

    def start(self) -> Memory:
        """An empty history."""
        return {"sums": [0.0] * self.turns, "counts": [0] * self.turns}

    def at(self, memory: Memory, step: int) -> "TurnEntropyBand":
        """The term of this step, with the means of the history; NaN for turns that were never reached."""
        means = tuple(s / n if n else math.nan for s, n in zip(memory["sums"], memory["counts"], strict=True))
        return TurnEntropyBand(self.coefficient, self.low, self.high, self.penalty, self.smoothing, self.shape, means)

    def observe(self, batch: TokenBatch) -> Tally:
        """The mean entropy of each turn in the whole batch."""
        assert batch.entropy is not None
        turn = batch.extra("turn")
        seen = turn[batch.mask]
        if len(seen) and not (int(seen.min()) >= 0 and int(seen.max()) < self.turns):
            raise ValueError(
                f"TurnEntropySmoothing: turns of valid tokens must lie between 0 and turns - 1 = {self.turns - 1}, "
                f"got {int(seen.min())} to {int(seen.max())}"
            )
        tally = Tally()
        for index in range(self.turns):
            tally = tally.add(f"turn_{index}", batch.entropy, batch.mask & (turn == index))
        return tally

    def update(self, memory: Memory, metrics: Mapping[str, float], step: int) -> Memory:
        """Add the batch to the history."""
        values = [metrics.get(f"turn_{index}") for index in range(self.turns)]
        return {
            "sums": [total + (value or 0.0) for total, value in zip(memory["sums"], values, strict=True)],
            "counts": [count + (value is not None) for count, value in zip(memory["counts"], values, strict=True)],
        }


@dataclass(frozen=True)
class TurnEntropyBand:
    """The term of `TurnEntropySmoothing` (arXiv 2509.22576) in one step, with the means of each turn's history."""

    coefficient: float
    low: float
    high: float
    penalty: float
    smoothing: float
    shape: Literal["hinge", "indicator"]
    means: tuple[float, ...]
    needs: ClassVar[frozenset[str]] = frozenset({"entropy_grad"})

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """The term for each token."""
        assert batch.entropy is not None
        entropy = torch.where(batch.mask, batch.entropy, 0)
        turn = batch.extra("turn").clamp(0, len(self.means) - 1)
        mean = torch.tensor(self.means, dtype=entropy.dtype, device=entropy.device)[turn]
        if self.shape == "hinge":
            outside = (self.low * mean - entropy).relu() + (entropy - self.high * mean).relu()
            # A turn whose entropy has always been 0, or that is new, has no band.
            size = torch.where(mean > 0, outside / torch.where(mean > 0, mean, 1), 0)
        else:
            inside = (entropy > self.low * mean) & (entropy < self.high * mean)
            size = (~inside & (mean >= 0)).to(entropy.dtype)
        return -self.coefficient * (entropy - self.smoothing * self.penalty * size)
