"""A Gaussian policy whose entropy has a lower bound by construction, in the place of an entropy term in the loss.

A network's raw scales say only how the entropy is shared out between the dimensions, not how much of it there is.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

_UNIT_ENTROPY = 0.5 * math.log(2 * math.pi * math.e)
"""Differential entropy of the standard normal distribution, in nats."""


def bounded_log_scales(
    raw: Float[Tensor, "*batch dimensions"],
    entropy_per_dimension: float | Float[Tensor, ""],
    low: float = -8.0,
    high: float = 0.0,
) -> Float[Tensor, "*batch dimensions"]:
    """Log standard deviations of a diagonal Gaussian of entropy at least ``D h``.

    ``log sigma_i = clip(high + K softmax(raw)_i, low, high)`` with ``K = D (h - log(2 pi e)/2 - high) <= 0``. Without the
    clip at ``low`` their sum is ``D high + K`` and the entropy ``D log(2 pi e)/2 + sum_i log sigma_i`` is ``D h`` exactly,
    whatever ``raw`` is; the clip can only raise it. A single dimension has no freedom left.

    At a maximum of the expected reward over ``raw`` the entropy is where it buys most: for a reward
    ``-sum_i c_i (a_i - a*_i)^2`` with ``sigma_i^2`` in proportion to ``1/c_i``, which is also the policy of soft
    actor-critic at the temperature that gives it this entropy.

    Args:
        raw: outputs of the network, the last axis being the ``D`` dimensions; adding a constant changes nothing.
        entropy_per_dimension: ``h`` in nats (differential entropy, so it may be negative); a tensor for one that is learnt.
        low: least log standard deviation.
        high: largest log standard deviation.

    Raises:
        ValueError: if ``low`` is not below ``high`` or no scales between them have the entropy ``h``.

    References:
        Kang et al., ERA: Entropy Regularizing Activation, arXiv 2510.08549, the form for continuous control.

    Examples:
        >>> import math, torch
        >>> log_scales = bounded_log_scales(torch.tensor([1.0, 0.0, -2.0]), entropy_per_dimension=-0.5)
        >>> log_scales, (log_scales + 0.5 * math.log(2 * math.pi * math.e)).mean()
        (tensor([-4.0608, -1.4939, -0.2022]), tensor(-0.5000))
    """
    if not low < high:
        raise ValueError(f"bounded_log_scales: low must be below high, got {low} and {high}")
    h, least, most = float(entropy_per_dimension), _UNIT_ENTROPY + low, _UNIT_ENTROPY + high
    # Rounded to the type of a tensor, a value at an end of the range may lie just outside.
    rounding = torch.finfo(entropy_per_dimension.dtype).eps * abs(h) if isinstance(entropy_per_dimension, Tensor) else 0
    if not least - rounding <= h <= most + rounding:
        raise ValueError(
            f"bounded_log_scales: entropy_per_dimension must lie between {least:.4f} and {most:.4f} nats for log scales "
            f"between {low} and {high}, got {h}"
        )
    total = raw.shape[-1] * (entropy_per_dimension - _UNIT_ENTROPY - high)
    return (high + total * raw.softmax(-1)).clamp(low, high)


class BoundedLogScales(nn.Module):
    """`bounded_log_scales` as the head of a policy, with room for what bounding the actions takes away.

    Squashing actions, as by ``tanh``, lowers their entropy. The head can give the Gaussian as much more, ``h + delta`` in
    each dimension (no more than ``high`` allows). ``delta >= 0`` is learnt, by its logarithm, from the entropy ``H`` of the
    squashed actions: descending `compensation_loss`, ``log(delta) (H / D - h)``, raises it while ``H`` is too low. The
    policy itself is trained without any entropy term, and does not move ``delta``.

    Args:
        entropy_per_dimension: ``h`` in nats.
        low: least log standard deviation.
        high: largest log standard deviation.
        compensation: first ``delta`` in nats; 0 to have none, and nothing to learn.

    Raises:
        ValueError: if ``compensation`` is negative, or as `bounded_log_scales`.

    References:
        Kang et al., ERA: Entropy Regularizing Activation, arXiv 2510.08549.

    Examples:
        >>> import torch
        >>> head = BoundedLogScales(entropy_per_dimension=-0.5, compensation=0.1)
        >>> (head(torch.randn(2, 3)).mean(-1) + 1.4189).detach()  # -0.5 + 0.1, plus the entropy of a unit Gaussian
        tensor([-0.4000, -0.4000])
    """

    def __init__(
        self, entropy_per_dimension: float, low: float = -8.0, high: float = 0.0, compensation: float = 0.0
    ) -> None:
        super().__init__()
        if not compensation >= 0:
            raise ValueError(f"BoundedLogScales: compensation must not be negative, got {compensation}")
        bounded_log_scales(torch.zeros(1), entropy_per_dimension, low, high)
        self.entropy_per_dimension, self.low, self.high = entropy_per_dimension, low, high
        self.log_compensation = nn.Parameter(torch.tensor(compensation).log()) if compensation else None

    def forward(self, raw: Float[Tensor, "*batch dimensions"]) -> Float[Tensor, "*batch dimensions"]:
        """Log standard deviations, before actions are squashed."""
        wanted: float | Tensor = self.entropy_per_dimension
        if self.log_compensation is not None:
            most = self.high + _UNIT_ENTROPY
            wanted = (self.entropy_per_dimension + self.log_compensation.detach().exp()).clamp_max(most)
        return bounded_log_scales(raw, wanted, self.low, self.high)

    def compensation_loss(self, entropy: Float[Tensor, ""], dimensions: int) -> Float[Tensor, ""]:
        """``log(delta) (H / D - h)``, to be descended by ``log_compensation`` alone.

        Args:
            entropy: ``H`` of the squashed actions, in nats, such as the mean of ``-log pi``.
            dimensions: ``D``.

        Raises:
            ValueError: if the head has no compensation.
        """
        if self.log_compensation is None:
            raise ValueError("BoundedLogScales: there is no compensation to learn; give a positive one")
        return self.log_compensation * (entropy.detach() / dimensions - self.entropy_per_dimension)

    def extra_repr(self) -> str:
        """The settings, for the module's repr."""
        return f"entropy_per_dimension={self.entropy_per_dimension}, low={self.low}, high={self.high}"
