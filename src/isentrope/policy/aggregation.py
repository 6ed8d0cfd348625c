"""Aggregations: from a token loss ``[B, T]`` to the number that is differentiated.

The denominators are those of the whole optimisation window, never of the micro-batch at hand: each call returns its
rows' *contribution*, and contributions add up to the window's loss however it is split.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Denominators:
    """Counts over the window under the mask that is aggregated: tokens, rows with any token, padded width."""

    tokens: Tensor
    rows: Tensor
    width: Tensor


def _masked(matrix: Tensor, mask: Tensor) -> Tensor:
    # Multiplying would turn an infinity in the padding into NaN.
    return torch.where(mask, matrix, 0)


def row_means(matrix: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch"]:
    """The mean of each row over its valid values; 0 for a row without any.

    Examples:
        >>> import torch
        >>> row_means(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, False]]))
        tensor([2.])
    """
    return _masked(matrix, mask).sum(-1) / mask.sum(-1).clamp_min(1)


def token_mean(
    matrix: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], window: Denominators
) -> Float[Tensor, ""]:
    """Every token weighs the same: ``sum_it L_it / sum_i |o_i|`` (DAPO, arXiv 2503.14476, eq. 12)."""
    return _masked(matrix, mask).sum() / window.tokens.clamp_min(1)


def sequence_mean(
    matrix: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], window: Denominators
) -> Float[Tensor, ""]:
    """Every response weighs the same: ``1/B sum_i 1/|o_i| sum_t L_it`` (GRPO, arXiv 2402.03300)."""
    return row_means(matrix, mask).sum() / window.rows.clamp_min(1)


def sequence_sum(
    matrix: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], window: Denominators
) -> Float[Tensor, ""]:
    """The mean over responses of the sum over tokens: ``1/B sum_i sum_t L_it`` (RLOO, arXiv 2402.14740)."""
    return _masked(matrix, mask).sum() / window.rows.clamp_min(1)


@dataclass(frozen=True)
class SequenceSumOver:
    """The mean over responses of the sum over tokens divided by a constant: ``1/(B C) sum_i sum_t L_it``.

    As in TRL, and in verl's ``seq-mean-token-sum-norm`` (0.9.1; earlier versions divided by ``C`` alone).

    Args:
        length: ``C``; if not given, the window's ``width``, which hosts set to the longest response allowed.

    References:
        Liu et al., Dr. GRPO, arXiv 2503.20783.
    """

    length: int | None = None

    def __call__(
        self, matrix: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], window: Denominators
    ) -> Float[Tensor, ""]:
        """The rows' contribution to the window's loss."""
        length = window.width if self.length is None else self.length
        return sequence_sum(matrix, mask, window) / length
