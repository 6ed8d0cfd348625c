r"""The distribution of maximal entropy with known means: Jaynes' inference, which gives the ensembles of Gibbs.

$$\max_p\;-\sum_i p_i\ln\frac{p_i}{q_i}\quad\text{with}\quad\sum_i p_i=1,\quad\sum_i p_if_{ik}=F_k$$

has the solution $p_i=q_ie^{-\lambda\cdot f_i}/Z$ of `isentrope.measures.gibbs`, whose multipliers minimise the convex dual
$\ln Z(\lambda)+\lambda\cdot F$. Means that are only known to be between bounds are those of
`isentrope.measures.maximum_entropy_bounds`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from isentrope.measures._duals import contradiction, minimise, whitened
from isentrope.measures._laws import numbers
from isentrope.measures.estimate import unit_of
from isentrope.measures.gibbs import MaximumEntropy, _gibbs, _log_sum, _read, _row

# Outcomes less probable than the most probable one by this factor may be such that cannot occur at all.
_MAY_BE_ZERO = 1e-6


def maximum_entropy(
    features: Float[np.ndarray, "outcomes features"] | npt.ArrayLike,
    means: Float[np.ndarray, " features"] | npt.ArrayLike,
    *,
    stderr: Float[np.ndarray, " features"] | npt.ArrayLike | None = None,
    prior: Float[np.ndarray, " outcomes"] | npt.ArrayLike | None = None,
    base: float | None = None,
) -> MaximumEntropy:
    r"""Distribution of maximal entropy (of least divergence from a prior) that has the given means.

    .. math:: p_i = q_i e^{-\lambda\cdot f_i}/Z, \qquad \lambda = \arg\min\, \ln Z(\lambda) + \lambda\cdot F
        + \tfrac12\textstyle\sum_k\sigma_k^2\lambda_k^2

    The convex dual is minimised by Newton steps with a line search. Constraints may be redundant. Means that are as extreme
    as they can be, such as a mean of 6 for a die, leave some outcomes without probability: a linear program finds them. For a
    continuous variable give the points of a quadrature with its weights as prior: the entropy is then the differential one.

    Means known with standard errors σ need not be met: the distribution maximises
    $S-\frac12\sum_k(\langle f_k\rangle-F_k)^2/\sigma_k^2$ and has the means $F_k+\sigma_k^2\lambda_k$. They may contradict each
    other, or what is possible at all.

    Args:
        features: value $f_{ik}$ of each feature at each outcome, or one value an outcome.
        means: mean $F_k$ that each feature is to have, in the unit of the feature.
        stderr: standard error $\sigma_k$ of each mean, in the unit of the feature, 0 where the mean is exact; None for 0 each.
        prior: weight $q_i$ of each outcome: probabilities, multiplicities or quadrature weights; None for 1 each.
        base: base of the logarithm of the entropy; None for nats, 2 for bits.

    Returns:
        The distribution with its multipliers.

    Raises:
        ValueError: if no distribution has these means (the message says which of them contradict each other), if shapes do
            not fit, if a value is not finite, a weight or standard error negative, or if the base is unknown.
        TypeError: if values are not numbers.
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
        >>> maximum_entropy(range(1, 7), 4.5, stderr=0.5).means.round(4)  # 4.5 ± 0.5 is not believed in full
        array([4.4162])
        >>> maximum_entropy(range(1, 7), 7)
        Traceback (most recent call last):
            ...
        ValueError: maximum_entropy: no distribution has these means: means[0] is 7, but its feature has values from 1 to 6
    """
    where = "maximum_entropy"
    f, q = _read(features, prior, where)
    target = _row(means, f, "means", where)
    errors = np.zeros(f.shape[1]) if stderr is None else _row(stderr, f, "stderr", where)
    if errors.min(initial=0) < 0:
        raise ValueError(f"{where}: stderr must not be negative (got {errors})")
    unit_of(base, where)
    return _solve(where, f, target, errors, q, base)


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
        ValueError: as `maximum_entropy` does, or if levels are not whole and positive or do not add up to the number of
            features.
        TypeError: as `maximum_entropy` does.
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
    sizes = [1] * f.shape[1] if levels is None else numbers(where, "levels", levels).ravel().tolist()
    if any(size < 1 or size % 1 for size in sizes) or sum(sizes) != f.shape[1]:
        raise ValueError(
            f"{where}: levels must be whole, positive and add up to the {f.shape[1]} features (got {levels})"
        )
    ends = np.cumsum([0, *sizes]).astype(int)
    entropies = [_solve(where, f[:, :end], target[:end], np.zeros(end), q).entropy for end in ends]
    return np.maximum(-np.diff(entropies), 0) / nats


def _solve(
    where: str, f: np.ndarray, target: np.ndarray, errors: np.ndarray, q: np.ndarray, base: float | None = None
) -> MaximumEntropy:
    support = q > 0
    found = _multipliers(f, target, errors, q, support)
    # A feature whose mean is uncertain makes nothing impossible, as one that has its mean everywhere.
    exact = np.where(errors > 0, target, f)
    if found is None:
        told = contradiction(exact[support], target)
        if told:
            raise ValueError(f"{where}: no distribution has these means: {told}")
        raise ArithmeticError(f"{where}: the Newton method has not found the multipliers")
    p = _gibbs(f, found, q, support).probabilities
    face = p > _MAY_BE_ZERO * p.max()
    # Other outcomes could take probability from these, unless these lie in a plane of fewer dimensions, a face.
    if _dimensions(exact, target, face) < _dimensions(exact, target, support):
        on_face = _multipliers(f, target, errors, q, face)
        found, support = (found, support) if on_face is None else (on_face, face)
    return _gibbs(f, found, q, support, base)


def _multipliers(
    f: np.ndarray, target: np.ndarray, errors: np.ndarray, q: np.ndarray, support: np.ndarray
) -> np.ndarray | None:
    """The multipliers of the distribution on the support with the means, or None."""
    deviations, n = f[support] - target, int(np.count_nonzero(support))
    # The rows of the errors stand beside those of the outcomes: what is uncertain is not redundant.
    rows = np.vstack([deviations, np.diag(errors)]) if errors.any() else deviations
    whole, combine = whitened(rows, _scale(f, target))
    h, noise = whole[:n], whole[n:]
    log_q = np.log(q[support])

    def dual(point: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        exponents = log_q - h @ point
        log_z = _log_sum(exponents)
        p = np.exp(exponents - log_z)
        mean = p @ h
        centred = h - mean
        missed = noise @ point
        hessian = (p[:, None] * centred).T @ centred + noise.T @ noise
        return log_z + 0.5 * float(missed @ missed), noise.T @ missed - mean, hessian

    # The dual is above S - ½ Σ ((⟨f⟩ - F)/σ)² of any distribution, and its entropy relative to q at least the least of log q.
    some = errors > 0
    penalty = 0.5 * float(np.sum((np.abs(deviations[:, some]).max(axis=0) / errors[some]) ** 2))
    found = minimise(dual, h.shape[1], floor=float(log_q.min()) - penalty - 1e-9)
    return None if found is None else combine @ found


def _dimensions(f: np.ndarray, target: np.ndarray, support: np.ndarray) -> int:
    return whitened(f[support] - target, _scale(f, target))[0].shape[1]


def _scale(f: np.ndarray, target: np.ndarray) -> np.ndarray:
    scale = np.abs(f - target).max(axis=0)
    return np.where(scale > 0, scale, 1)
