"""Divergences and distances between two distributions, from probabilities or logits.

``p`` is the distribution that averages are taken over, ``q`` the one it is compared with. Each may be given as
probabilities or as logits (``p_logits``, ``q_logits``), also one so and one so; their shapes broadcast. Arrays, precision,
gradients and zeros are treated as in `isentrope.measures.entropies`. Where ``p`` gives probability to what ``q`` excludes,
the divergences that contain ``log q`` are infinite, and are returned so.
"""

from collections.abc import Sequence
from math import inf, isclose
from typing import Any

from array_api_compat import device
from jaxtyping import Float

from isentrope.measures._array import (
    NEAR_ONE,
    ArrayLike,
    Distribution,
    Reading,
    check_order,
    log_sum_exp,
    on_support,
    read,
    stop_gradient,
    weighted_excess,
)
from isentrope.measures.estimate import unit_of


def cross_entropy(
    p: ArrayLike | None = None,
    q: ArrayLike | None = None,
    *,
    p_logits: ArrayLike | None = None,
    q_logits: ArrayLike | None = None,
    axis: int = -1,
    base: float | None = None,
    normalize: bool = False,
) -> Float[Any, "..."]:
    r"""Cross-entropy: the mean information of outcomes of ``p`` under the model ``q``.

    .. math:: H(p, q) = -\sum_i p_i \log q_i = H(p) + D_{\mathrm{KL}}(p \,\|\, q)

    Args:
        p: Probabilities to average over, which sum to 1 along ``axis``.
        q: Probabilities of the model.
        p_logits: Unnormalised log-probabilities, instead of ``p``.
        q_logits: Unnormalised log-probabilities, instead of ``q``.
        axis: Axis of the outcomes, in the broadcast shape.
        base: Base of the logarithm; None for nats, 2 for bits.
        normalize: Divide probabilities by their sums instead of requiring 1.

    Returns:
        Cross-entropies in the unit of ``base``; infinite where some ``p_i > 0`` has ``q_i = 0``.

    Raises:
        TypeError: If a distribution is given twice or not at all, or a dtype is not real floating.
        ValueError: If probabilities are negative, not finite or do not sum to 1, if logits are NaN, ``+inf`` or all
            ``-inf``, if ``axis`` is out of range or empty, or if shapes do not broadcast.

    Examples:
        >>> float(cross_entropy([0.0, 1.0], [0.5, 0.5], base=2))
        1.0
    """
    nats, _ = unit_of(base, "cross_entropy")
    reading = read("cross_entropy", axis=axis, normalize=normalize, p=(p, p_logits), q=(q, q_logits))
    left, right = reading.distributions
    value = -reading.xp.sum(left.p * right.log_p, axis=reading.axis)
    return reading.finish(_infinite_where_excluded(value, left, right, reading) / nats)


def kl_divergence(
    p: ArrayLike | None = None,
    q: ArrayLike | None = None,
    *,
    p_logits: ArrayLike | None = None,
    q_logits: ArrayLike | None = None,
    axis: int = -1,
    base: float | None = None,
    normalize: bool = False,
) -> Float[Any, "..."]:
    r"""Kullback-Leibler divergence (relative entropy) of ``p`` from ``q``.

    .. math:: D_{\mathrm{KL}}(p \,\|\, q) = \sum_i p_i \log \frac{p_i}{q_i}

    Zero only for equal distributions, and not symmetric: ``q`` must cover ``p``.

    Args:
        p: Probabilities to average over, which sum to 1 along ``axis``.
        q: Probabilities to compare with.
        p_logits: Unnormalised log-probabilities, instead of ``p``.
        q_logits: Unnormalised log-probabilities, instead of ``q``.
        axis: Axis of the outcomes, in the broadcast shape.
        base: Base of the logarithm; None for nats, 2 for bits.
        normalize: Divide probabilities by their sums instead of requiring 1.

    Returns:
        Divergences in the unit of ``base``; infinite where some ``p_i > 0`` has ``q_i = 0``.

    Raises:
        TypeError: As `cross_entropy` does.
        ValueError: As `cross_entropy` does.

    Examples:
        >>> float(kl_divergence([1.0, 0.0], [0.25, 0.75], base=2))
        2.0
        >>> float(kl_divergence([0.5, 0.5], [1.0, 0.0]))
        inf
    """
    nats, _ = unit_of(base, "kl_divergence")
    reading = read("kl_divergence", axis=axis, normalize=normalize, p=(p, p_logits), q=(q, q_logits))
    left, right = reading.distributions
    return reading.finish(_kl(left, right, reading) / nats)


def renyi_divergence(
    p: ArrayLike | None = None,
    q: ArrayLike | None = None,
    *,
    alpha: float,
    p_logits: ArrayLike | None = None,
    q_logits: ArrayLike | None = None,
    axis: int = -1,
    base: float | None = None,
    normalize: bool = False,
) -> Float[Any, "..."]:
    r"""Rényi divergence of order α.

    .. math:: D_\alpha(p \,\|\, q) = \frac{1}{\alpha-1} \log \sum_{i: p_i > 0} p_i^\alpha q_i^{1-\alpha}

    It does not decrease with α. Its limits are taken exactly: α = 0 is ``-log q(p > 0)``, α = 1 the Kullback-Leibler
    divergence, α = ∞ the logarithm of the largest ratio ``p_i / q_i``; α = 1/2 is ``-2 log(1 - Hellinger²)``.

    Args:
        p: Probabilities, which sum to 1 along ``axis``.
        q: Probabilities to compare with.
        alpha: Order, from 0 to ``math.inf``.
        p_logits: Unnormalised log-probabilities, instead of ``p``.
        q_logits: Unnormalised log-probabilities, instead of ``q``.
        axis: Axis of the outcomes, in the broadcast shape.
        base: Base of the logarithm; None for nats, 2 for bits.
        normalize: Divide probabilities by their sums instead of requiring 1.

    Returns:
        Divergences in the unit of ``base``; infinite where ``α >= 1`` and some ``p_i > 0`` has ``q_i = 0``, and where
        ``p`` and ``q`` share no outcome.

    Raises:
        TypeError: As `cross_entropy` does.
        ValueError: As `cross_entropy` does, or if ``alpha`` is negative or NaN.

    References:
        arXiv 1206.2459 (T. van Erven and P. Harremoës).

    Examples:
        >>> round(float(renyi_divergence([0.5, 0.5], [0.125, 0.875], alpha=float("inf"), base=2)), 6)
        2.0
    """
    nats, _ = unit_of(base, "renyi_divergence")
    check_order("renyi_divergence", "alpha", alpha)
    reading = read("renyi_divergence", axis=axis, normalize=normalize, p=(p, p_logits), q=(q, q_logits))
    left, right = reading.distributions
    xp = reading.xp
    if alpha == 1:
        return reading.finish(_kl(left, right, reading) / nats)
    common = _common_support(left, right)
    log_ratio = on_support(common, left.log_p - right.log_p, 0.0, xp)
    if alpha == inf:
        value = xp.max(on_support(common, log_ratio, -inf, xp), axis=reading.axis)
    else:
        log_sum = log_sum_exp(alpha * left.log_p + (1 - alpha) * right.log_p, common, reading.axis, xp)
        if abs(alpha - 1) < NEAR_ONE:
            # Where the sum is close to 1, its excess over 1 keeps the digits that the division by α - 1 brings up.
            close = xp.abs(stop_gradient(log_sum)) < 0.4
            change = (alpha - 1) * xp.where(xp.expand_dims(close, axis=reading.axis), log_ratio, 0.0)
            excess = _power_excess(left, change, common, reading)
            log_sum = xp.where(close, xp.log1p(xp.where(close, excess, 0.0)), log_sum)
        value = log_sum / (alpha - 1)
    if alpha > 1:
        value = _infinite_where_excluded(value, left, right, reading)
    return reading.finish(value / nats)


def jensen_shannon_divergence(
    p: ArrayLike | None = None,
    q: ArrayLike | None = None,
    *,
    weights: Sequence[float] = (0.5, 0.5),
    p_logits: ArrayLike | None = None,
    q_logits: ArrayLike | None = None,
    axis: int = -1,
    base: float | None = None,
    normalize: bool = False,
) -> Float[Any, "..."]:
    r"""Jensen-Shannon divergence: the information that an outcome gives about which distribution it came from.

    .. math:: H(m) - w_p H(p) - w_q H(q), \qquad m = w_p p + w_q q

    Always finite: at most the entropy of the weights, ``log 2`` for equal ones. With equal weights it is symmetric, and its
    square root is a metric.

    Args:
        p: Probabilities, which sum to 1 along ``axis``.
        q: Probabilities to compare with.
        weights: Prior probabilities ``(w_p, w_q)`` of the two distributions, positive, with sum 1.
        p_logits: Unnormalised log-probabilities, instead of ``p``.
        q_logits: Unnormalised log-probabilities, instead of ``q``.
        axis: Axis of the outcomes, in the broadcast shape.
        base: Base of the logarithm; None for nats, 2 for bits.
        normalize: Divide probabilities by their sums instead of requiring 1.

    Returns:
        Divergences in the unit of ``base``.

    Raises:
        TypeError: As `cross_entropy` does.
        ValueError: As `cross_entropy` does, or if ``weights`` are not two positive numbers with sum 1.

    References:
        J. Lin, Divergence measures based on the Shannon entropy, 1991.

    Examples:
        >>> float(jensen_shannon_divergence([1.0, 0.0], [0.0, 1.0], base=2))
        1.0
    """
    nats, _ = unit_of(base, "jensen_shannon_divergence")
    if len(weights) != 2 or not min(weights) > 0 or not isclose(sum(weights), 1, abs_tol=1e-9):
        raise ValueError(
            f"jensen_shannon_divergence: weights must be two positive numbers with sum 1, got {tuple(weights)}"
        )
    reading = read("jensen_shannon_divergence", axis=axis, normalize=normalize, p=(p, p_logits), q=(q, q_logits))
    left, right = reading.distributions
    xp = reading.xp
    mixture = weights[0] * left.p + weights[1] * right.p
    log_mixture = xp.log(xp.where(mixture > 0, mixture, 1.0))
    terms = weights[0] * left.p * (left.log_p - log_mixture) + weights[1] * right.p * (right.log_p - log_mixture)
    return reading.finish(xp.sum(terms, axis=reading.axis) / nats)


def generalized_jensen_shannon_divergence(
    p: ArrayLike | None = None,
    *,
    weights: Sequence[float] | None = None,
    logits: ArrayLike | None = None,
    among: int = 0,
    axis: int = -1,
    base: float | None = None,
    normalize: bool = False,
) -> Float[Any, "..."]:
    r"""Jensen-Shannon divergence of many distributions: how far they are from one another.

    .. math:: H\Bigl(\sum_j w_j p_j\Bigr) - \sum_j w_j H(p_j) = \sum_j w_j D_{\mathrm{KL}}(p_j \,\|\, m), \qquad
        m = \textstyle\sum_j w_j p_j

    The information that an outcome gives about which distribution it came from, at most the entropy of the weights.

    Args:
        p: Probabilities of the distributions, which sum to 1 along ``axis``.
        weights: Prior probabilities of the distributions, not negative, with sum 1; None for equal ones.
        logits: Unnormalised log-probabilities, instead of ``p``.
        among: Axis of the distributions.
        axis: Axis of the outcomes.
        base: Base of the logarithm; None for nats, 2 for bits.
        normalize: Divide probabilities by their sums instead of requiring 1.

    Returns:
        Divergences, without ``among`` and ``axis``, in the unit of ``base``.

    Raises:
        TypeError: As `entropy` does.
        ValueError: As `entropy` does, or if ``among`` is out of range or the axis of the outcomes, or ``weights`` are not as
            many numbers as distributions, not negative and with sum 1.

    References:
        J. Lin, Divergence measures based on the Shannon entropy, 1991.

    Examples:
        >>> import numpy as np
        >>> float(generalized_jensen_shannon_divergence(np.eye(4), base=2))  # four disjoint distributions
        2.0
    """
    name = "generalized_jensen_shannon_divergence"
    nats, _ = unit_of(base, name)
    reading = read(name, axis=axis, normalize=normalize, p=(p, logits))
    (given,) = reading.distributions
    xp, dimensions = reading.xp, given.p.ndim
    if isinstance(among, bool) or not isinstance(among, int) or not -dimensions <= among < dimensions:
        raise ValueError(f"{name}: among must be an axis of the {dimensions} of p, got {among!r}")
    among = among % dimensions - dimensions
    if among == reading.axis:
        raise ValueError(f"{name}: among and axis must differ, both are axis {among}")
    count = given.p.shape[among]
    if count == 0:
        raise ValueError(f"{name}: there are no distributions along axis {among} (shape {tuple(given.p.shape)})")
    shares = [1 / count] * count if weights is None else [float(weight) for weight in weights]
    if len(shares) != count or not min(shares) >= 0 or not isclose(sum(shares), 1, abs_tol=1e-9):
        raise ValueError(f"{name}: weights must be {count} numbers, not negative, with sum 1, got {tuple(shares)}")
    shape = [count if position == among else 1 for position in range(-dimensions, 0)]
    prior = xp.reshape(xp.asarray(shares, dtype=given.p.dtype, device=device(given.p)), tuple(shape))
    mixture = xp.sum(prior * given.p, axis=among, keepdims=True)
    log_mixture = xp.log(xp.where(mixture > 0, mixture, 1.0))
    # Where a weight is 0, the mixture may lack what the distribution has.
    terms = xp.where(prior > 0, prior * given.p * (given.log_p - log_mixture), 0.0)
    return reading.finish(xp.sum(terms, axis=(among, reading.axis)) / nats)


def hellinger_distance(
    p: ArrayLike | None = None,
    q: ArrayLike | None = None,
    *,
    p_logits: ArrayLike | None = None,
    q_logits: ArrayLike | None = None,
    axis: int = -1,
    normalize: bool = False,
) -> Float[Any, "..."]:
    r"""Hellinger distance.

    .. math:: \sqrt{\tfrac{1}{2} \sum_i (\sqrt{p_i} - \sqrt{q_i})^2}

    A metric between 0 (equal) and 1 (disjoint). Where the distributions are equal, its gradient is taken to be 0.

    Args:
        p: Probabilities, which sum to 1 along ``axis``.
        q: Probabilities to compare with.
        p_logits: Unnormalised log-probabilities, instead of ``p``.
        q_logits: Unnormalised log-probabilities, instead of ``q``.
        axis: Axis of the outcomes, in the broadcast shape.
        normalize: Divide probabilities by their sums instead of requiring 1.

    Returns:
        Distances, without ``axis``.

    Raises:
        TypeError: As `cross_entropy` does.
        ValueError: As `cross_entropy` does.

    Examples:
        >>> float(hellinger_distance([1.0, 0.0], [0.0, 1.0]))
        1.0
    """
    reading = read("hellinger_distance", axis=axis, normalize=normalize, p=(p, p_logits), q=(q, q_logits))
    xp = reading.xp
    roots = [on_support(d.support, xp.exp(d.log_p / 2), 0.0, xp) for d in reading.distributions]
    square = xp.sum((roots[0] - roots[1]) ** 2, axis=reading.axis) / 2
    apart = square > 0
    return reading.finish(xp.where(apart, xp.sqrt(xp.where(apart, square, 1.0)), 0.0))


def total_variation_distance(
    p: ArrayLike | None = None,
    q: ArrayLike | None = None,
    *,
    p_logits: ArrayLike | None = None,
    q_logits: ArrayLike | None = None,
    axis: int = -1,
    normalize: bool = False,
) -> Float[Any, "..."]:
    r"""Total variation distance: the largest difference in the probability of any event.

    .. math:: \tfrac{1}{2} \sum_i |p_i - q_i|

    Args:
        p: Probabilities, which sum to 1 along ``axis``.
        q: Probabilities to compare with.
        p_logits: Unnormalised log-probabilities, instead of ``p``.
        q_logits: Unnormalised log-probabilities, instead of ``q``.
        axis: Axis of the outcomes, in the broadcast shape.
        normalize: Divide probabilities by their sums instead of requiring 1.

    Returns:
        Distances, without ``axis``, from 0 to 1.

    Raises:
        TypeError: As `cross_entropy` does.
        ValueError: As `cross_entropy` does.

    Examples:
        >>> float(total_variation_distance([0.5, 0.5], [0.25, 0.75]))
        0.25
    """
    reading = read("total_variation_distance", axis=axis, normalize=normalize, p=(p, p_logits), q=(q, q_logits))
    left, right = reading.distributions
    return reading.finish(reading.xp.sum(reading.xp.abs(left.p - right.p), axis=reading.axis) / 2)


def _common_support(left: Distribution, right: Distribution) -> Any:
    if left.support is None or right.support is None:
        return left.support if right.support is None else right.support
    return left.support & right.support


def _power_excess(left: Distribution, change: Any, common: Any, reading: Reading) -> Any:
    """``Σ p^a q^(1-a) - 1`` for ``change = (a - 1) log(p / q)``, without loss of digits where the sum is close to 1."""
    terms = weighted_excess(left.p, left.log_p, change, reading.xp)
    return reading.xp.sum(terms if common is None else reading.xp.where(common, terms, -left.p), axis=reading.axis)


def _kl(left: Distribution, right: Distribution, reading: Reading) -> Any:
    value = reading.xp.sum(left.p * (left.log_p - right.log_p), axis=reading.axis)
    return _infinite_where_excluded(value, left, right, reading)


def _infinite_where_excluded(value: Any, left: Distribution, right: Distribution, reading: Reading) -> Any:
    """The value, or infinity where an outcome of the left distribution has no probability in the right one."""
    if right.support is None:
        return value
    excluded = ~right.support if left.support is None else left.support & ~right.support
    return reading.xp.where(reading.xp.any(excluded, axis=reading.axis), inf, value)
