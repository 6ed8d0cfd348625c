r"""Gibbs distributions: those of the form $p_i=q_ie^{-\lambda\cdot f_i}/Z$, which have the most entropy of all with their means.

$S=\ln Z+\lambda\cdot F$, $dS=\lambda\cdot dF$, $\partial\ln Z/\partial\lambda=-F$ and
$\partial F_k/\partial\lambda_l=-\mathrm{Cov}(f_k,f_l)$. An ensemble is a choice of the features f: none for the microcanonical
one; the energy for the canonical one, with λ = β; energy and number of particles for the grand canonical one, with
λ = (β, -βμ); energy and volume for the isobaric one, with λ = (β, βP).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float

from isentrope.measures._laws import numbers, weights
from isentrope.measures.estimate import unit_of


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
        TypeError: if values are not numbers.

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


def _read(features: npt.ArrayLike, prior: npt.ArrayLike | None, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Features with the axes outcomes, features, and the weights of the outcomes."""
    f = numbers(where, "features", features)
    f = f[:, None] if f.ndim == 1 else f
    if f.ndim != 2 or len(f) == 0:
        raise ValueError(f"{where}: features must have the axes outcomes, features (got shape {f.shape})")
    q = np.ones(len(f)) if prior is None else weights(where, "prior", prior)
    if q.shape != (len(f),):
        raise ValueError(f"{where}: prior must have one weight for each of the {len(f)} outcomes (got shape {q.shape})")
    if not q.any():
        raise ValueError(f"{where}: weights in prior must not all be 0")
    return f, q


def _row(values: npt.ArrayLike, f: np.ndarray, argument: str, where: str, *, infinite: bool = False) -> np.ndarray:
    """One number for each feature."""
    row = np.atleast_1d(numbers(where, argument, values, infinite=infinite))
    if row.shape != f.shape[1:]:
        raise ValueError(f"{where}: {argument} must have one value for each of {f.shape[1]} features (got {row.shape})")
    return row


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
