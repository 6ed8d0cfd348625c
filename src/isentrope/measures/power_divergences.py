"""Divergences that are functions of a power sum ``Σ p^α q^(1-α)`` of two distributions.

Distributions are given, and arrays, precision, gradients and zeros treated, as in `isentrope.measures.divergences`, which
holds the Rényi divergence, the logarithm of the same sum. Values without a logarithm have no unit.
"""

from math import isfinite
from typing import Any

import numpy as np
from jaxtyping import Float

from isentrope.measures._array import (
    ArrayLike,
    Distribution,
    Reading,
    check_order,
    log_sum_exp,
    on_support,
    read,
)
from isentrope.measures.divergences import _common_support, _infinite_where_excluded, _kl, _power_excess
from isentrope.measures.estimate import unit_of


def tsallis_divergence(
    p: ArrayLike | None = None,
    q: ArrayLike | None = None,
    *,
    alpha: float,
    p_logits: ArrayLike | None = None,
    q_logits: ArrayLike | None = None,
    axis: int = -1,
    normalize: bool = False,
) -> Float[Any, "..."]:
    r"""Tsallis divergence (relative entropy) of order α.

    .. math:: T_\alpha(p \,\|\, q) = \frac{\sum_{i: p_i > 0} p_i^\alpha q_i^{1-\alpha} - 1}{\alpha - 1}

    At α = 1, taken exactly, it is the Kullback-Leibler divergence in nats; α = 2 is `chi_squared_divergence`, α = 1/2 twice
    the squared Hellinger distance. With the Rényi divergence in nats, ``T = (exp((α-1) D) - 1) / (α-1)``. Over
    independent pairs it adds up to ``T + T' + (α-1) T T'``.

    Args:
        p: Probabilities, which sum to 1 along ``axis``.
        q: Probabilities to compare with.
        alpha: Order, finite, at least 0.
        p_logits: Unnormalised log-probabilities, instead of ``p``.
        q_logits: Unnormalised log-probabilities, instead of ``q``.
        axis: Axis of the outcomes, in the broadcast shape.
        normalize: Divide probabilities by their sums instead of requiring 1.

    Returns:
        Divergences; infinite where ``α >= 1`` and some ``p_i > 0`` has ``q_i = 0``.

    Raises:
        TypeError: As `cross_entropy` does.
        ValueError: As `cross_entropy` does, or if ``alpha`` is negative, infinite or NaN.

    References:
        C. Tsallis, Generalized entropy-based criterion for consistent testing, 1998.

    Examples:
        >>> float(tsallis_divergence([0.5, 0.5], [0.25, 0.75], alpha=2))  # 1/4 / 1/4 + 1/4 / 3/4 - 1
        0.333...
    """
    name = "tsallis_divergence"
    check_order(name, "alpha", alpha)
    if not isfinite(alpha):
        raise ValueError(f"{name}: alpha must be finite, got {alpha!r}")
    reading = read(name, axis=axis, normalize=normalize, p=(p, p_logits), q=(q, q_logits))
    left, right = reading.distributions
    return reading.finish(_tsallis(left, right, alpha, reading))


def alpha_divergence(
    p: ArrayLike | None = None,
    q: ArrayLike | None = None,
    *,
    alpha: float,
    p_logits: ArrayLike | None = None,
    q_logits: ArrayLike | None = None,
    axis: int = -1,
    normalize: bool = False,
) -> Float[Any, "..."]:
    r"""α-divergence of Chernoff and Amari.

    .. math:: \frac{\sum_i p_i^\alpha q_i^{1-\alpha} - 1}{\alpha (\alpha - 1)}

    for any real α; Amari's own index is ``1 - 2α``. Its limits are taken exactly: α = 1 is the Kullback-Leibler divergence of
    ``p`` from ``q`` in nats, α = 0 that of ``q`` from ``p``. α = 1/2 is four times the squared Hellinger distance, α = 2 half
    the χ²-divergence. Exchanging ``p`` and ``q`` turns α into ``1 - α``.

    Args:
        p: Probabilities, which sum to 1 along ``axis``.
        q: Probabilities to compare with.
        alpha: Order, finite.
        p_logits: Unnormalised log-probabilities, instead of ``p``.
        q_logits: Unnormalised log-probabilities, instead of ``q``.
        axis: Axis of the outcomes, in the broadcast shape.
        normalize: Divide probabilities by their sums instead of requiring 1.

    Returns:
        Divergences; infinite where ``α >= 1`` and some ``p_i > 0`` has ``q_i = 0``, or ``α <= 0`` and the reverse.

    Raises:
        TypeError: As `cross_entropy` does.
        ValueError: As `cross_entropy` does, or if ``alpha`` is not finite.

    References:
        A. Cichocki and S. Amari, Families of alpha- beta- and gamma-divergences, 2010.

    Examples:
        >>> round(float(alpha_divergence([1.0, 0.0], [0.5, 0.5], alpha=0.5)), 4)  # 4 (1 - 1/√2)
        1.1716
    """
    name = "alpha_divergence"
    if not isfinite(alpha):
        raise ValueError(f"{name}: alpha must be finite, got {alpha!r}")
    reading = read(name, axis=axis, normalize=normalize, p=(p, p_logits), q=(q, q_logits))
    left, right = reading.distributions
    if alpha < 0.5:
        left, right, alpha = right, left, 1 - alpha
    return reading.finish(_tsallis(left, right, alpha, reading) / alpha)


def chi_squared_divergence(
    p: ArrayLike | None = None,
    q: ArrayLike | None = None,
    *,
    p_logits: ArrayLike | None = None,
    q_logits: ArrayLike | None = None,
    axis: int = -1,
    normalize: bool = False,
) -> Float[Any, "..."]:
    r"""Pearson's χ²-divergence.

    .. math:: \chi^2(p \,\|\, q) = \sum_i \frac{(p_i - q_i)^2}{q_i}

    The Tsallis divergence of order 2, and ``exp(D_2) - 1`` with the Rényi divergence. Neyman's is the one with ``p`` and ``q``
    exchanged. n times it, with the frequencies of n samples for ``p``, is Pearson's test statistic.

    Args:
        p: Probabilities, which sum to 1 along ``axis``.
        q: Probabilities to compare with.
        p_logits: Unnormalised log-probabilities, instead of ``p``.
        q_logits: Unnormalised log-probabilities, instead of ``q``.
        axis: Axis of the outcomes, in the broadcast shape.
        normalize: Divide probabilities by their sums instead of requiring 1.

    Returns:
        Divergences; infinite where some ``p_i > 0`` has ``q_i = 0``.

    Raises:
        TypeError: As `cross_entropy` does.
        ValueError: As `cross_entropy` does.

    Examples:
        >>> round(float(chi_squared_divergence([1.0, 0.0], [0.5, 0.5])), 12)
        1.0
    """
    reading = read("chi_squared_divergence", axis=axis, normalize=normalize, p=(p, p_logits), q=(q, q_logits))
    left, right = reading.distributions
    xp = reading.xp
    common = _common_support(left, right)
    change = on_support(common, left.log_p - right.log_p, 0.0, xp)
    more = change > 0
    # q (p/q - 1)², by logarithms where p/q may overflow although the product does not, or q has underflowed.
    with np.errstate(over="ignore"):
        above = xp.exp(right.log_p + 2 * xp.where(more, change, 0.0)) * xp.expm1(-xp.where(more, change, 0.0)) ** 2
    below = right.p * xp.expm1(xp.where(more, 0.0, change)) ** 2
    terms = on_support(common, xp.where(more, above, below), 0.0, xp)
    if left.support is not None:
        terms = xp.where(left.support, terms, right.p)
    return reading.finish(_infinite_where_excluded(xp.sum(terms, axis=reading.axis), left, right, reading))


def bhattacharyya_distance(
    p: ArrayLike | None = None,
    q: ArrayLike | None = None,
    *,
    p_logits: ArrayLike | None = None,
    q_logits: ArrayLike | None = None,
    axis: int = -1,
    base: float | None = None,
    normalize: bool = False,
) -> Float[Any, "..."]:
    r"""Bhattacharyya distance.

    .. math:: -\log \sum_i \sqrt{p_i q_i}

    Half the Rényi divergence of order 1/2, and ``-log(1 - Hellinger²)``. Symmetric, but no metric.

    Args:
        p: Probabilities, which sum to 1 along ``axis``.
        q: Probabilities to compare with.
        p_logits: Unnormalised log-probabilities, instead of ``p``.
        q_logits: Unnormalised log-probabilities, instead of ``q``.
        axis: Axis of the outcomes, in the broadcast shape.
        base: Base of the logarithm; None for nats, 2 for bits.
        normalize: Divide probabilities by their sums instead of requiring 1.

    Returns:
        Distances in the unit of ``base``; infinite where the distributions share no outcome.

    Raises:
        TypeError: As `cross_entropy` does.
        ValueError: As `cross_entropy` does.

    Examples:
        >>> round(float(bhattacharyya_distance([1.0, 0.0], [0.5, 0.5], base=2)), 12)
        0.5
    """
    name = "bhattacharyya_distance"
    nats, _ = unit_of(base, name)
    reading = read(name, axis=axis, normalize=normalize, p=(p, p_logits), q=(q, q_logits))
    left, right = reading.distributions
    halves = (left.log_p + right.log_p) / 2
    return reading.finish(-log_sum_exp(halves, _common_support(left, right), reading.axis, reading.xp) / nats)


def _tsallis(left: Distribution, right: Distribution, alpha: float, reading: Reading) -> Any:
    if alpha == 1:
        return _kl(left, right, reading)
    common = _common_support(left, right)
    change = (alpha - 1) * on_support(common, left.log_p - right.log_p, 0.0, reading.xp)
    with np.errstate(over="ignore"):  # the divergence itself may exceed the largest number
        value = _power_excess(left, change, common, reading) / (alpha - 1)
    return _infinite_where_excluded(value, left, right, reading) if alpha > 1 else value
