"""A regularizer that does nothing while the batch's mean entropy lies in a band, and pulls it back from outside."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number


@dataclass(frozen=True)
class MeanEntropyBand:
    """Adds ``coefficient (max(0, H - high) + max(0, low - H))``, with ``H`` the mean entropy over response tokens.

    Whether the band is left, and on which side, is decided on the whole batch; tokens then share the term's gradient. For
    another band in each task, add one part a task.

    The paper writes ``H`` as the mean of ``-log pi`` over the sampled tokens. Its value is right on average, but as a loss
    its gradient has mean zero on-policy: it cannot hold a band. So ``H`` here is the full entropy unless
    ``estimator="nll"``.

    Args:
        low: lower end in nats.
        high: upper end in nats.
        coefficient: weight in loss per nat; a number or a controller. The paper gives none.
        task: apply only to rows with this number in ``extras["task"]`` (``[B]`` integers); all rows by default.
        estimator: ``"full"`` or ``"nll"``.

    References:
        Hu et al., OpenVLThinkerV2 (G2RPO), arXiv 2604.08539, eq. 10.

    Examples:
        >>> from isentrope.policy import recipes
        >>> sorted(recipes.grpo().adding(regularizers=MeanEntropyBand(0.2, 0.6, 0.1)).needs)
        ['entropy_grad', 'old_entropy']
    """

    low: Number
    high: Number = math.inf
    coefficient: Number = 0.01
    task: int | None = None
    estimator: Literal["full", "nll"] = "full"

    def __post_init__(self):
        ends = (self.low, self.high)
        if all(isinstance(end, (int, float)) for end in ends) and self.low > self.high:
            raise ValueError(f"MeanEntropyBand: low must not exceed high, got {self.low} and {self.high}")
        if self.estimator not in ("full", "nll"):
            raise ValueError(f"MeanEntropyBand: estimator must be 'full' or 'nll', got {self.estimator!r}")

    @property
    def needs(self) -> frozenset[str]:
        """The entropy of the batch and its gradient, unless log-probabilities stand for it."""
        return frozenset({"old_entropy", "entropy_grad"} if self.estimator == "full" else ())

    def _surprise(self, batch: TokenBatch) -> Tensor:
        value = batch.entropy if self.estimator == "full" else batch.log_probs
        assert value is not None
        return value if self.estimator == "full" else -value

    def prepare(self, batch: TokenBatch, generator: torch.Generator) -> Bool[Tensor, "batch time 2"]:
        """The tokens whose entropy is to fall, and those whose entropy is to rise: all of them or none."""
        mask = batch.mask if self.task is None else batch.mask & (batch.extra("task") == self.task)[:, None]
        mean = torch.where(mask, self._surprise(batch), 0).double().sum() / mask.sum().clamp_min(1)
        return torch.stack((mask & (mean > self.high), mask & (mean < self.low)), -1)

    def __call__(self, batch: TokenBatch, prepared: Bool[Tensor, "batch time 2"]) -> Float[Tensor, ""]:
        """The rows' contribution."""
        above, below = prepared.unbind(-1)
        surprise = self._surprise(batch)
        excess = torch.where(above, surprise - self.high, 0) + torch.where(below, self.low - surprise, 0)
        return self.coefficient * excess.sum() / batch.totals["selected"].clamp_min(1)
