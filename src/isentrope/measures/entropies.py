"""Entropies of one distribution, from its probabilities or its logits.

All of them say how spread a distribution is, and they differ in which outcomes they listen to. The Rényi and Tsallis
families carry that choice as an order: at 0 every possible outcome counts the same, at 1 each counts by its probability
(Shannon's entropy), at infinity only the most probable one counts.

Each function takes probabilities ``p`` or ``logits``, of any Array-API library (NumPy, PyTorch, JAX, CuPy) or as a list of
numbers, along any axis, and keeps library, dtype, device and gradient. Half precision is computed in float32 and rounded at
the end. From logits nothing is lost to underflow, and ``-inf`` means probability 0. Outcomes of probability 0 contribute
nothing, to values and gradients alike. Values are checked, except while ``torch.compile`` or ``jax.jit`` traces a program.
"""

from math import inf
from typing import Any

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
    weighted_excess,
)
from isentrope.measures.estimate import unit_of


def entropy(
    p: ArrayLike | None = None,
    *,
    logits: ArrayLike | None = None,
    axis: int = -1,
    base: float | None = None,
    normalize: bool = False,
) -> Float[Any, "..."]:
    r"""Shannon entropy.

    .. math:: H = -\sum_i p_i \log p_i

    From 0 (one certain outcome) to the logarithm of the number of outcomes (uniform). By logits its derivative is
    ``∂H/∂z_i = -p_i (log p_i + H)``.

    Args:
        p: Probabilities, which sum to 1 along ``axis``.
        logits: Unnormalised log-probabilities, instead of ``p``.
        axis: Axis of the outcomes.
        base: Base of the logarithm; None for nats, 2 for bits.
        normalize: Divide ``p`` by its sum instead of requiring 1.

    Returns:
        Entropies, without ``axis``, in the unit of ``base``.

    Raises:
        TypeError: If neither or both of ``p`` and ``logits`` are given, or their dtype is not real floating.
        ValueError: If probabilities are negative, not finite or do not sum to 1, if logits are NaN, ``+inf`` or all
            ``-inf``, or if ``axis`` is out of range or empty.

    Examples:
        >>> import numpy as np
        >>> float(entropy([0.5, 0.25, 0.25], base=2))
        1.5
        >>> entropy(logits=np.zeros((2, 4))) / np.log(4)
        array([1., 1.])
    """
    nats, _ = unit_of(base, "entropy")
    reading = read("entropy", axis=axis, normalize=normalize, p=(p, logits))
    return reading.finish(_shannon(reading.distributions[0], reading) / nats)


def renyi_entropy(
    p: ArrayLike | None = None,
    *,
    alpha: float,
    logits: ArrayLike | None = None,
    axis: int = -1,
    base: float | None = None,
    normalize: bool = False,
) -> Float[Any, "..."]:
    r"""Rényi entropy of order α.

    .. math:: H_\alpha = \frac{1}{1-\alpha} \log \sum_{i: p_i > 0} p_i^\alpha

    It does not increase with α: the larger the order, the more the probable outcomes decide. Its limits are taken exactly:
    α = 0 is Hartley's entropy, α = 1 Shannon's, α = ∞ the min-entropy; α = 2 is minus the logarithm of the collision
    probability. It adds up over independent variables for every α.

    Args:
        p: Probabilities, which sum to 1 along ``axis``.
        alpha: Order, from 0 to ``math.inf``.
        logits: Unnormalised log-probabilities, instead of ``p``.
        axis: Axis of the outcomes.
        base: Base of the logarithm; None for nats, 2 for bits.
        normalize: Divide ``p`` by its sum instead of requiring 1.

    Returns:
        Entropies, without ``axis``, in the unit of ``base``.

    Raises:
        TypeError: As `entropy` does.
        ValueError: As `entropy` does, or if ``alpha`` is negative or NaN.

    References:
        A. Rényi, On measures of entropy and information, 1961; arXiv 1206.2459 (T. van Erven and P. Harremoës).

    Examples:
        >>> round(float(renyi_entropy([0.5, 0.25, 0.25], alpha=2, base=2)), 4)  # -log2 of 3/8
        1.415
    """
    nats, _ = unit_of(base, "renyi_entropy")
    check_order("renyi_entropy", "alpha", alpha)
    reading = read("renyi_entropy", axis=axis, normalize=normalize, p=(p, logits))
    return reading.finish(_renyi(reading.distributions[0], alpha, reading) / nats)


def tsallis_entropy(
    p: ArrayLike | None = None,
    *,
    q: float,
    logits: ArrayLike | None = None,
    axis: int = -1,
    normalize: bool = False,
) -> Float[Any, "..."]:
    r"""Tsallis entropy of order q.

    .. math:: S_q = \frac{1 - \sum_{i: p_i > 0} p_i^q}{q - 1}

    A number without unit (at q = 1, taken exactly, it is Shannon's entropy in nats); q = 2 is the Gini index, the
    probability that two draws differ. With the Rényi entropy in nats, ``S_q = (exp((1-q) H_q) - 1) / (1-q)``. Over
    independent variables it adds up to ``S(A) + S(B) + (1-q) S(A) S(B)``.

    Args:
        p: Probabilities, which sum to 1 along ``axis``.
        q: Order, finite, at least 0.
        logits: Unnormalised log-probabilities, instead of ``p``.
        axis: Axis of the outcomes.
        normalize: Divide ``p`` by its sum instead of requiring 1.

    Returns:
        Entropies, without ``axis``.

    Raises:
        TypeError: As `entropy` does.
        ValueError: As `entropy` does, or if ``q`` is negative, infinite or NaN.

    References:
        C. Tsallis, Possible generalization of Boltzmann-Gibbs statistics, 1988.

    Examples:
        >>> float(tsallis_entropy([0.5, 0.25, 0.25], q=2))
        0.625
    """
    check_order("tsallis_entropy", "q", q)
    if q == inf:
        raise ValueError("tsallis_entropy: q must be finite, got inf")
    reading = read("tsallis_entropy", axis=axis, normalize=normalize, p=(p, logits))
    (distribution,) = reading.distributions
    if q == 1:
        value = _shannon(distribution, reading)
    elif abs(q - 1) < NEAR_ONE:
        value = _power_excess(distribution, q, reading) / (1 - q)
    else:
        powers = q * distribution.log_p
        value = (1 - reading.xp.exp(log_sum_exp(powers, distribution.support, reading.axis, reading.xp))) / (q - 1)
    return reading.finish(value)


def min_entropy(
    p: ArrayLike | None = None,
    *,
    logits: ArrayLike | None = None,
    axis: int = -1,
    base: float | None = None,
    normalize: bool = False,
) -> Float[Any, "..."]:
    r"""Min-entropy: how hard the outcome is to guess at the first attempt.

    .. math:: H_\infty = -\log \max_i p_i

    The smallest Rényi entropy.

    Args:
        p: Probabilities, which sum to 1 along ``axis``.
        logits: Unnormalised log-probabilities, instead of ``p``.
        axis: Axis of the outcomes.
        base: Base of the logarithm; None for nats, 2 for bits.
        normalize: Divide ``p`` by its sum instead of requiring 1.

    Returns:
        Entropies, without ``axis``, in the unit of ``base``.

    Raises:
        TypeError: As `entropy` does.
        ValueError: As `entropy` does.

    Examples:
        >>> float(min_entropy([0.5, 0.25, 0.25], base=2))
        1.0
    """
    nats, _ = unit_of(base, "min_entropy")
    reading = read("min_entropy", axis=axis, normalize=normalize, p=(p, logits))
    return reading.finish(_minimum(reading.distributions[0], reading) / nats)


def hartley_entropy(
    p: ArrayLike | None = None,
    *,
    logits: ArrayLike | None = None,
    axis: int = -1,
    base: float | None = None,
    normalize: bool = False,
) -> Float[Any, "..."]:
    r"""Hartley (max-)entropy: the logarithm of the number of possible outcomes.

    .. math:: H_0 = \log |\{i : p_i > 0\}|

    The largest Rényi entropy. Piecewise constant: it carries no gradient.

    Args:
        p: Probabilities, which sum to 1 along ``axis``.
        logits: Unnormalised log-probabilities, instead of ``p``; those above ``-inf`` count.
        axis: Axis of the outcomes.
        base: Base of the logarithm; None for nats, 2 for bits.
        normalize: Divide ``p`` by its sum instead of requiring 1.

    Returns:
        Entropies, without ``axis``, in the unit of ``base``.

    Raises:
        TypeError: As `entropy` does.
        ValueError: As `entropy` does.

    Examples:
        >>> float(hartley_entropy([0.9, 0.1, 0.0, 0.0], base=2))
        1.0
    """
    nats, _ = unit_of(base, "hartley_entropy")
    reading = read("hartley_entropy", axis=axis, normalize=normalize, p=(p, logits))
    return reading.finish(_hartley(reading.distributions[0], reading) / nats)


def perplexity(
    p: ArrayLike | None = None,
    *,
    alpha: float = 1.0,
    logits: ArrayLike | None = None,
    axis: int = -1,
    normalize: bool = False,
) -> Float[Any, "..."]:
    r"""Perplexity of a distribution: the number of equally likely outcomes that would be as uncertain.

    .. math:: \exp H_\alpha(p) = \Bigl(\sum_{i: p_i > 0} p_i^\alpha\Bigr)^{1/(1-\alpha)}

    Of order 1, where H is Shannon's entropy, it is the perplexity of language models. Over all orders it is the Hill number
    of ecology, the effective number of species: at α = 0 that of possible outcomes, at 2 the inverse collision
    probability, at ∞ the inverse of the largest probability.

    Args:
        p: Probabilities, which sum to 1 along ``axis``.
        alpha: Order, from 0 to ``math.inf``.
        logits: Unnormalised log-probabilities, instead of ``p``.
        axis: Axis of the outcomes.
        normalize: Divide ``p`` by its sum instead of requiring 1.

    Returns:
        Perplexities, without ``axis``, from 1 to the number of outcomes.

    Raises:
        TypeError: As `entropy` does.
        ValueError: As `entropy` does, or if ``alpha`` is negative or NaN.

    References:
        M. O. Hill, Diversity and evenness: a unifying notation and its consequences, 1973.

    Examples:
        >>> round(float(perplexity([0.25, 0.25, 0.25, 0.25])), 6)
        4.0
        >>> round(float(perplexity([0.5, 0.25, 0.25], alpha=2)), 6)  # 1 / (3/8)
        2.666667
    """
    check_order("perplexity", "alpha", alpha)
    reading = read("perplexity", axis=axis, normalize=normalize, p=(p, logits))
    return reading.finish(reading.xp.exp(_renyi(reading.distributions[0], alpha, reading)))


def varentropy(
    p: ArrayLike | None = None,
    *,
    logits: ArrayLike | None = None,
    axis: int = -1,
    base: float | None = None,
    normalize: bool = False,
) -> Float[Any, "..."]:
    r"""Varentropy: the variance of the information of an outcome.

    .. math:: V = \sum_i p_i (\log p_i + H)^2

    Zero for uniform distributions over any number of outcomes, certain ones included. Its derivative by logits is
    ``∂V/∂z_i = p_i (u_i² + 2 u_i - V)`` with ``u_i = log p_i + H``.

    Args:
        p: Probabilities, which sum to 1 along ``axis``.
        logits: Unnormalised log-probabilities, instead of ``p``.
        axis: Axis of the outcomes.
        base: Base of the logarithm; None for nats, 2 for bits.
        normalize: Divide ``p`` by its sum instead of requiring 1.

    Returns:
        Varentropies, without ``axis``, in the square of the unit of ``base``.

    Raises:
        TypeError: As `entropy` does.
        ValueError: As `entropy` does.

    Examples:
        >>> float(varentropy([0.5, 0.25, 0.25], base=2))  # one or two bits, with equal chance
        0.25
    """
    nats, _ = unit_of(base, "varentropy")
    reading = read("varentropy", axis=axis, normalize=normalize, p=(p, logits))
    (distribution,) = reading.distributions
    mean = -reading.xp.sum(distribution.p * distribution.log_p, axis=reading.axis, keepdims=True)
    deviation = distribution.log_p + mean
    return reading.finish(reading.xp.sum(distribution.p * deviation**2, axis=reading.axis) / nats**2)


def collision_probability(
    p: ArrayLike | None = None, *, logits: ArrayLike | None = None, axis: int = -1, normalize: bool = False
) -> Float[Any, "..."]:
    r"""Collision probability: the chance that two independent draws agree.

    .. math:: \sum_i p_i^2 = \exp(-H_2)

    Its inverse is the participation ratio (inverse Simpson index), an effective number of outcomes.

    Args:
        p: Probabilities, which sum to 1 along ``axis``.
        logits: Unnormalised log-probabilities, instead of ``p``.
        axis: Axis of the outcomes.
        normalize: Divide ``p`` by its sum instead of requiring 1.

    Returns:
        Probabilities, without ``axis``.

    Raises:
        TypeError: As `entropy` does.
        ValueError: As `entropy` does.

    Examples:
        >>> float(collision_probability([0.5, 0.25, 0.25]))
        0.375
    """
    reading = read("collision_probability", axis=axis, normalize=normalize, p=(p, logits))
    (distribution,) = reading.distributions
    return reading.finish(reading.xp.sum(distribution.p**2, axis=reading.axis))


def _shannon(distribution: Distribution, reading: Reading) -> Any:
    return -reading.xp.sum(distribution.p * distribution.log_p, axis=reading.axis)


def _renyi(distribution: Distribution, alpha: float, reading: Reading) -> Any:
    if alpha == 0:
        return _hartley(distribution, reading)
    if alpha == 1:
        return _shannon(distribution, reading)
    if alpha == inf:
        return _minimum(distribution, reading)
    if abs(alpha - 1) < NEAR_ONE:
        return reading.xp.log1p(_power_excess(distribution, alpha, reading)) / (1 - alpha)
    powers = alpha * distribution.log_p
    return log_sum_exp(powers, distribution.support, reading.axis, reading.xp) / (1 - alpha)


def _minimum(distribution: Distribution, reading: Reading) -> Any:
    xp = reading.xp
    return -xp.max(on_support(distribution.support, distribution.log_p, -inf, xp), axis=reading.axis)


def _hartley(distribution: Distribution, reading: Reading) -> Any:
    xp = reading.xp
    possible = on_support(distribution.support, xp.ones_like(distribution.p), 0.0, xp)
    return xp.log(xp.sum(possible, axis=reading.axis))


def _power_excess(distribution: Distribution, order: float, reading: Reading) -> Any:
    """``Σ p^order - 1``; near order 1, where the sum itself is 1 up to few digits, none are lost."""
    p, log_p, _ = distribution
    return reading.xp.sum(weighted_excess(p, log_p, (order - 1) * log_p, reading.xp), axis=reading.axis)
