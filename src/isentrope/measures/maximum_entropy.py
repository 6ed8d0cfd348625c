r"""The distribution of maximal entropy with known means: Jaynes' inference, which gives the ensembles of Gibbs.

$$\max_p\;-\sum_i p_i\ln\frac{p_i}{q_i}\quad\text{with}\quad\sum_i p_i=1,\quad\sum_i p_if_{ik}=F_k$$

has the solution $p_i=q_ie^{-\lambda\cdot f_i}/Z$ with $S=\ln Z+\lambda\cdot F$, $dS=\lambda\cdot dF$,
$\partial\ln Z/\partial\lambda=-F$ and $\partial F_k/\partial\lambda_l=-\mathrm{Cov}(f_k,f_l)$. An ensemble is a choice of the
features f: none for the microcanonical one; the energy for the canonical one, with λ = β; energy and number of particles for
the grand canonical one, with λ = (β, -βμ); energy and volume for the isobaric one, with λ = (β, βP).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float

from isentrope.measures._duals import contradiction, minimise, whitened
from isentrope.measures.estimate import unit_of

# Outcomes less probable than the most probable one by this factor may be such that cannot occur at all.
_MAY_BE_ZERO = 1e-6


@dataclass(frozen=True, eq=False)
class MaximumEntropy:
    r"""A distribution of the form $q_ie^{-\lambda\cdot f_i}/Z$.

    Args:
        probabilities: p, one for each outcome.
        multipliers: λ, one for each feature, of the natural exponential whatever the unit of the entropy.
        log_partition: ln Z, in nats.
        entropy: $-\sum p\ln(p/q)$, in ``unit``: Shannon's where all weights q are 1, and minus the divergence from q where
            they sum to 1.
        means: F, the mean of each feature.
        covariance: the covariance of the features, $-\partial F_k/\partial\lambda_l$.
        support: the outcomes that may occur. Where the means are extreme, some cannot; λ is then that of the others.
        unit: "nat", "bit", "hartley" or "log <base>".
    """

    probabilities: Float[np.ndarray, " outcomes"]
    multipliers: Float[np.ndarray, " features"]
    log_partition: float
    entropy: float
    means: Float[np.ndarray, " features"]
    covariance: Float[np.ndarray, "features features"]
    support: Bool[np.ndarray, " outcomes"]
    unit: str


def maximum_entropy(
    features: Float[np.ndarray, "outcomes features"] | npt.ArrayLike,
    means: Float[np.ndarray, " features"] | npt.ArrayLike,
    *,
    prior: Float[np.ndarray, " outcomes"] | npt.ArrayLike | None = None,
    base: float | None = None,
) -> MaximumEntropy:
    r"""Distribution of maximal entropy (of least divergence from a prior) that has the given means.

    .. math:: p_i = q_i e^{-\lambda\cdot f_i}/Z, \qquad \lambda = \arg\min\, \ln Z(\lambda) + \lambda\cdot F

    The convex dual is minimised by Newton steps with a line search. Constraints may be redundant. Means that are as extreme
    as they can be, such as a mean of 6 for a die, leave some outcomes without probability: a linear program finds them. For a
    continuous variable give the points of a quadrature with its weights as prior: the entropy is then the differential one.

    Args:
        features: value $f_{ik}$ of each feature at each outcome, or one value an outcome.
        means: mean $F_k$ that each feature is to have, in the unit of the feature.
        prior: weight $q_i$ of each outcome: probabilities, multiplicities or quadrature weights; None for 1 each.
        base: base of the logarithm of the entropy; None for nats, 2 for bits.

    Returns:
        The distribution with its multipliers.

    Raises:
        ValueError: if no distribution has these means (the message says which of them contradict each other), if shapes do
            not fit, if a value is not finite or a weight negative, or if the base is unknown.
        ArithmeticError: if the Newton method does not converge.

    References:
        Rogers, Beck and Rempe, "Information Theory and Statistical Mechanics Revisited" (arXiv 1105.5662); Jaynes (1957),
        "Information theory and statistical mechanics".

    Examples:
        >>> die = maximum_entropy(range(1, 7), 4.5)
        >>> die.probabilities.round(4)
        array([0.0544, 0.0788, 0.1142, 0.1654, 0.2398, 0.3475])
        >>> round(float(die.multipliers[0]), 4)
        -0.371
        >>> maximum_entropy(range(1, 7), 7)
        Traceback (most recent call last):
            ...
        ValueError: maximum_entropy: no distribution has these means: means[0] is 7, but its feature has values from 1 to 6
    """
    where = "maximum_entropy"
    f, q = _read(features, prior, where)
    target = _row(means, f, "means", where)
    unit_of(base, where)
    support = q > 0
    found = _multipliers(f, target, q, support)
    if found is None:
        told = contradiction(f[support], target)
        if told:
            raise ValueError(f"{where}: no distribution has these means: {told}")
        raise ArithmeticError(f"{where}: the Newton method has not found the multipliers")
    p = _gibbs(f, found, q, support).probabilities
    face = p > _MAY_BE_ZERO * p.max()
    # Other outcomes could take probability from these, unless these lie in a plane of fewer dimensions, a face.
    if _dimensions(f, target, face) < _dimensions(f, target, support):
        on_face = _multipliers(f, target, q, face)
        found, support = (found, support) if on_face is None else (on_face, face)
    return _gibbs(f, found, q, support, base)


def gibbs_distribution(
    features: Float[np.ndarray, "outcomes features"] | npt.ArrayLike,
    multipliers: Float[np.ndarray, " features"] | npt.ArrayLike,
    *,
    prior: Float[np.ndarray, " outcomes"] | npt.ArrayLike | None = None,
    base: float | None = None,
) -> MaximumEntropy:
    r"""Distribution of maximal entropy by its multipliers, such as an inverse temperature.

    .. math:: p_i = q_i e^{-\lambda\cdot f_i}/Z

    Args:
        features: value $f_{ik}$ of each feature at each outcome, or one value an outcome.
        multipliers: λ, one for each feature, in the inverse unit of the feature.
        prior: weight $q_i$ of each outcome; None for 1 each.
        base: base of the logarithm of the entropy; None for nats, 2 for bits.

    Returns:
        The distribution with the means that it has.

    Raises:
        ValueError: if shapes do not fit, a value is not finite or a weight negative, or the base is unknown.

    References:
        Rogers, Beck and Rempe, "Information Theory and Statistical Mechanics Revisited" (arXiv 1105.5662).

    Examples:
        >>> two_levels = gibbs_distribution([0.0, 1.0], 2.0)
        >>> round(float(two_levels.means[0]), 6)  # 1 / (1 + exp(2))
        0.119203
    """
    where = "gibbs_distribution"
    f, q = _read(features, prior, where)
    unit_of(base, where)
    return _gibbs(f, _row(multipliers, f, "multipliers", where), q, q > 0, base)


def nested_information(
    features: Float[np.ndarray, "outcomes features"] | npt.ArrayLike,
    means: Float[np.ndarray, " features"] | npt.ArrayLike,
    *,
    levels: Sequence[int] | None = None,
    prior: Float[np.ndarray, " outcomes"] | npt.ArrayLike | None = None,
    base: float | None = None,
) -> Float[np.ndarray, " levels"]:
    r"""Information that each further level of constraints adds to those before.

    .. math:: I_j = S_{j-1} - S_j = D(p_j \,\|\, p_{j-1}) \ge 0

    where $p_j$ has the maximal entropy $S_j$ with the features of the levels 1 to j, and $p_0$ is the prior. The divergences
    add up to that of the last distribution from the prior.

    Args:
        features: value $f_{ik}$ of each feature at each outcome.
        means: mean $F_k$ of each feature.
        levels: how many features each level adds; None for one each.
        prior: weight $q_i$ of each outcome; None for 1 each.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The information of each level, in the unit of ``base``.

    Raises:
        ValueError: as `maximum_entropy` does, or if levels are not positive or do not add up to the number of features.
        ArithmeticError: as `maximum_entropy` does.

    References:
        Rogers, Beck and Rempe, "Information Theory and Statistical Mechanics Revisited" (arXiv 1105.5662).

    Examples:
        >>> import numpy as np
        >>> spins = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
        >>> pair = spins.prod(axis=1, keepdims=True)
        >>> nested_information(np.hstack([spins, pair]), [0.0, 0.0, 1.0], levels=[2, 1], base=2)
        array([0., 1.])
    """
    where = "nested_information"
    f, q = _read(features, prior, where)
    target = _row(means, f, "means", where)
    nats, _ = unit_of(base, where)
    sizes = [1] * f.shape[1] if levels is None else list(levels)
    if min(sizes, default=1) < 1 or sum(sizes) != f.shape[1]:
        raise ValueError(f"{where}: levels must be positive and add up to the {f.shape[1]} features (got {sizes})")
    ends = np.cumsum([0, *sizes])
    entropies = [maximum_entropy(f[:, :end], target[:end], prior=q).entropy for end in ends]
    return np.maximum(-np.diff(entropies), 0) / nats


def _read(features: npt.ArrayLike, prior: npt.ArrayLike | None, where: str) -> tuple[np.ndarray, np.ndarray]:
    f = np.asarray(features, dtype=np.float64)
    f = f[:, None] if f.ndim == 1 else f
    if f.ndim != 2 or len(f) == 0:
        raise ValueError(f"{where}: features must have the axes outcomes, features (got shape {f.shape})")
    if not np.isfinite(f).all():
        raise ValueError(f"{where}: features must be finite")
    q = np.ones(len(f)) if prior is None else np.asarray(prior, dtype=np.float64)
    if q.shape != (len(f),):
        raise ValueError(f"{where}: prior must have one weight for each of the {len(f)} outcomes (got shape {q.shape})")
    if not (np.isfinite(q) & (q >= 0)).all() or not q.any():
        raise ValueError(f"{where}: weights in prior must be finite, not negative and not all 0")
    return f, q


def _row(values: npt.ArrayLike, f: np.ndarray, argument: str, where: str) -> np.ndarray:
    row = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if row.shape != f.shape[1:]:
        raise ValueError(f"{where}: {argument} must have one value for each of {f.shape[1]} features (got {row.shape})")
    if not np.isfinite(row).all():
        raise ValueError(f"{where}: {argument} must be finite (got {row})")
    return row


def _multipliers(f: np.ndarray, target: np.ndarray, q: np.ndarray, support: np.ndarray) -> np.ndarray | None:
    """The multipliers of the distribution on the support with the means, or None."""
    h, combine = whitened(f[support] - target, _scale(f, target))
    log_q = np.log(q[support])

    def dual(point: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        exponents = log_q - h @ point
        log_z = _log_sum(exponents)
        p = np.exp(exponents - log_z)
        mean = p @ h
        centred = h - mean
        return log_z, -mean, (p[:, None] * centred).T @ centred

    # The entropy relative to q of any distribution is at least the least of log q, and the dual is above it.
    found = minimise(dual, h.shape[1], floor=float(log_q.min()) - 1e-9)
    return None if found is None else combine @ found


def _dimensions(f: np.ndarray, target: np.ndarray, support: np.ndarray) -> int:
    return whitened(f[support] - target, _scale(f, target))[0].shape[1]


def _scale(f: np.ndarray, target: np.ndarray) -> np.ndarray:
    scale = np.abs(f - target).max(axis=0)
    return np.where(scale > 0, scale, 1)


def _log_sum(exponents: np.ndarray) -> float:
    largest = exponents.max()
    return float(largest + np.log(np.sum(np.exp(exponents - largest))))


def _gibbs(
    f: np.ndarray, multipliers: np.ndarray, q: np.ndarray, support: np.ndarray, base: float | None = None
) -> MaximumEntropy:
    nats, unit = unit_of(base, "")
    log_q = np.log(np.where(support, q, 1))
    # Relative to the most probable outcome: large features with small differences keep their digits.
    origin = f[int(np.argmax(np.where(support, log_q - f @ multipliers, -np.inf)))]
    exponents = np.where(support, log_q - (f - origin) @ multipliers, -np.inf)
    shifted = _log_sum(exponents)
    p = np.exp(exponents - shifted)
    offsets = p @ (f - origin)
    centred = f - origin - offsets
    return MaximumEntropy(
        probabilities=p,
        multipliers=multipliers,
        log_partition=shifted - float(origin @ multipliers),
        entropy=(shifted + float(multipliers @ offsets)) / nats,
        means=origin + offsets,
        covariance=(p[:, None] * centred).T @ centred,
        support=support,
        unit=unit,
    )
