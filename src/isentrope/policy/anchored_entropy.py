"""Entropy at the peaks of a response, over plausible tokens, held where training found it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from isentrope.policy.aggregation import row_means
from isentrope.policy.batch import Tally, TokenBatch
from isentrope.policy.controllers import Memory, Number, Stateful
from isentrope.policy.plausible_entropy import at_valid_tokens, nucleus_entropy
from isentrope.policy.selection import row_quantile

_METRIC = "peak_entropy"


@dataclass(frozen=True)
class AnchoredPeakEntropy(Stateful):
    """Pulls the entropy at uncertain positions back to its first value: adds ``beta (H_agg - H_0)^2`` to the loss.

    ``H~_t`` is the entropy over the nucleus of the policy at ``t`` (`nucleus_entropy`); the *peaks* of a response are its
    positions above the ``quantile`` of its ``H~``; ``H_agg`` is the mean over responses of the mean over peaks, and
    ``H_0`` its value in the first optimisation window, remembered from then on. A response without a peak (one token, or
    all equal) counts as 0. ``H_agg`` is the metric ``peak_entropy``.

    The square of a mean over the window is no sum over micro-batches (the published code squares each micro-batch's own
    mean, which adds their variance to the penalty). Nor do hosts give logits before the loss. So the square is
    linearised at the value of the step before, ``H'``:

        beta (d^2 + 2 d (H_agg - H')),    d = H' - H_0,

    which adds up exactly however a window is split and has the gradient ``2 beta d grad H_agg``. The one thing that is
    approximated is ``d``: it lags by a step. In the first two steps the term is zero.

    Args:
        coefficient: ``beta``, a number or a controller.
        mass: ``p`` of the nucleus. 1 is the whole vocabulary.
        quantile: ``tau``, per response; 0 keeps every position.
        include_crossing: as in `nucleus_entropy`; False for the published code.

    Raises:
        ValueError: if ``mass`` or ``quantile`` lies outside its range.

    References:
        Jiang et al., Rethinking Entropy Regularization in Large Reasoning Models (SIREN), arXiv 2509.25133.

    Examples:
        >>> part = AnchoredPeakEntropy()
        >>> memory = part.start()
        >>> for step, metrics in enumerate([{}, {"peak_entropy": 1.2}, {"peak_entropy": 0.9}]):
        ...     memory = part.update(memory, metrics, step)
        >>> memory
        {'anchor': 1.2, 'last': 0.9}
    """

    coefficient: Number = 0.005
    mass: float = 0.8
    quantile: float = 0.8
    include_crossing: bool = True
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __post_init__(self):
        if not 0 < self.mass <= 1:
            raise ValueError(f"AnchoredPeakEntropy: mass must lie in (0, 1], got {self.mass}")
        if not 0 <= self.quantile < 1:
            raise ValueError(f"AnchoredPeakEntropy: quantile must lie in [0, 1), got {self.quantile}")

    def start(self) -> Memory:
        """No value seen yet."""
        return {"anchor": None, "last": None}

    def at(self, memory: Memory, step: int) -> "LinearisedAnchor":
        """The term of this step."""
        anchor, last = memory["anchor"] or 0.0, memory["last"] or 0.0
        return LinearisedAnchor(self.coefficient, anchor, last, self.mass, self.quantile, self.include_crossing)

    def update(self, memory: Memory, metrics: Mapping[str, float], step: int) -> Memory:
        """Remember the first and the last value; a window without any token has none."""
        if _METRIC not in metrics:
            return memory
        value = metrics[_METRIC]
        return {"anchor": value if memory["anchor"] is None else memory["anchor"], "last": value}


@dataclass(frozen=True)
class LinearisedAnchor:
    """The term of `AnchoredPeakEntropy` (arXiv 2509.25133) in one step: a square, linearised at the last value."""

    coefficient: float
    anchor: float
    last: float
    mass: float
    quantile: float
    include_crossing: bool
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __call__(self, batch: TokenBatch) -> tuple[Float[Tensor, ""], Tally]:
        """The rows' contribution, and the tally of the entropy at peaks."""
        entropy = at_valid_tokens(batch, lambda logits: nucleus_entropy(logits, self.mass, self.include_crossing))
        peaks = batch.mask
        if self.quantile:
            peaks = peaks & (entropy > row_quantile(entropy.detach(), batch.mask, self.quantile)[:, None])
        per_row, valid = row_means(entropy, peaks), batch.mask.any(-1)
        deviation = self.last - self.anchor
        square = deviation**2 + 2 * deviation * (per_row - self.last)
        term = self.coefficient * torch.where(valid, square, 0).sum() / batch.totals["rows"].clamp_min(1)
        return term, Tally().add(_METRIC, per_row, valid)
