r"""The distribution of maximal entropy whose means keep to bounds, such as an energy that is at most so much.

$$\max_p\;-\sum_i p_i\ln\frac{p_i}{q_i}\quad\text{with}\quad\sum_i p_i=1,\quad a_k\le\sum_i p_if_{ik}\le b_k$$

has the solution $p_i=q_ie^{-\lambda\cdot f_i}/Z$ with λ above 0 only where the mean is at its upper bound and below 0 only where
it is at its lower one: a bound that the others already keep tells nothing.
"""

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from isentrope.measures.estimate import unit_of
from isentrope.measures.gibbs import MaximumEntropy, _gibbs, _read, _row
from isentrope.measures.maximum_entropy import maximum_entropy

_STEPS = 300
# By how much of its spread a mean may be beyond a bound for rounding.
_ROUNDING = 1e-9


def maximum_entropy_between(
    features: Float[np.ndarray, "outcomes features"] | npt.ArrayLike,
    low: Float[np.ndarray, " features"] | npt.ArrayLike,
    high: Float[np.ndarray, " features"] | npt.ArrayLike,
    *,
    prior: Float[np.ndarray, " outcomes"] | npt.ArrayLike | None = None,
    base: float | None = None,
) -> MaximumEntropy:
    r"""Distribution of maximal entropy (of least divergence from a prior) whose means are between bounds.

    .. math:: p_i = q_i e^{-\lambda\cdot f_i}/Z, \qquad \lambda = \arg\min\, \ln Z(\lambda)
        + \sum_k\max(\lambda_k b_k,\, \lambda_k a_k)

    Newton steps on the multipliers, none of which may pass 0 in one step, find the bounds that are reached; with these for
    known means it is `maximum_entropy`.

    Args:
        features: value $f_{ik}$ of each feature at each outcome, or one value an outcome.
        low: least mean $a_k$ of each feature, or minus infinity.
        high: greatest mean $b_k$ of each feature, or infinity; equal to ``low`` where the mean is known.
        prior: weight $q_i$ of each outcome; None for 1 each.
        base: base of the logarithm of the entropy; None for nats, 2 for bits.

    Returns:
        The distribution with its multipliers, which are exactly 0 for bounds that are not reached.

    Raises:
        ValueError: if no distribution keeps the bounds (the message says which of them contradict each other), if a lower
            bound is above an upper one, if shapes do not fit, if a value is NaN or a weight negative, or if the base is
            unknown.
        TypeError: if values are not numbers.
        ArithmeticError: if the Newton method does not converge.

    References:
        Rogers, Beck and Rempe, "Information Theory and Statistical Mechanics Revisited" (arXiv 1105.5662).

    Examples:
        >>> import numpy as np
        >>> maximum_entropy_between(range(1, 7), 4.5, np.inf).means.round(6)
        array([4.5])
        >>> round(maximum_entropy_between(range(1, 7), 2.5, 4.5, base=2).entropy, 6)  # log 6: a fair die keeps both bounds
        2.584963
    """
    where = "maximum_entropy_between"
    f, q = _read(features, prior, where)
    a, b = _row(low, f, "low", where, infinite=True), _row(high, f, "high", where, infinite=True)
    for k in np.flatnonzero((a > b) | (a == np.inf) | (b == -np.inf)):
        raise ValueError(f"{where}: low[{k}] = {a[k]:g} and high[{k}] = {b[k]:g} have no mean between them")
    unit_of(base, where)
    centre, spread = f[q > 0].mean(axis=0), np.ptp(f[q > 0], axis=0)
    scale = np.where(spread > 0, spread, 1)
    signs = _reached((f - centre) / scale, q, (a - centre) / scale, (b - centre) / scale)
    reached = signs != 0
    bounds = np.where(signs > 0, b, a)
    try:
        solution = maximum_entropy(f[:, reached], bounds[reached], prior=q)
    except ValueError:
        solution = None
    multipliers = np.zeros(f.shape[1])
    if solution is not None:
        multipliers[reached] = solution.multipliers
        found = _gibbs(f, multipliers, q, solution.support, base)
        beyond = np.maximum(a - found.means, found.means - b) / scale
        # The sign of what hardly acts is rounding.
        pulls = multipliers * scale * signs
        if beyond.max(initial=0) <= _ROUNDING and (pulls[reached & (a < b)] >= -_ROUNDING).all():
            return found
    told = _contradiction(f[q > 0], a, b, scale)
    if told:
        raise ValueError(f"{where}: no distribution keeps these bounds: {told}")
    raise ArithmeticError(f"{where}: the Newton method has not found the multipliers")


def _reached(f: np.ndarray, q: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """1 for each feature whose mean is at the upper bound, -1 at the lower, 0 between them: projected Newton steps."""
    multipliers = np.zeros(f.shape[1])
    known = low == high

    def dual(point: np.ndarray) -> float:
        pulled = np.where(point > 0, high, low)
        return _gibbs(f, point, q, q > 0).log_partition + float(np.sum(point[point != 0] * pulled[point != 0]))

    value, signs = dual(multipliers), np.zeros(f.shape[1])
    for _ in range(_STEPS):
        law = _gibbs(f, multipliers, q, q > 0)
        pushed = np.where(law.means > high, 1.0, np.where(law.means < low, -1.0, 0.0))
        signs = np.where(multipliers != 0, np.sign(multipliers), pushed)
        free = np.flatnonzero(signs)
        gradient = np.where(signs > 0, high, low)[free] - law.means[free]
        step = np.zeros_like(multipliers)
        step[free] = -np.linalg.lstsq(law.covariance[np.ix_(free, free)], gradient, rcond=1e-13)[0]
        slope = float(gradient @ step[free])
        if not slope < -1e-20 or not np.isfinite(step).all():
            break
        length = 1.0
        while True:
            ahead = multipliers + length * step
            ahead = np.where(known | (ahead * signs > 0), ahead, 0.0)
            promised = float(gradient @ (ahead - multipliers)[free])
            if (reduced := dual(ahead)) <= value + 1e-4 * promised + 1e-14 * max(1.0, abs(value)):
                break
            length /= 2
            if length < 1e-10:
                return signs
        multipliers, value = ahead, reduced
    return signs


def _contradiction(f: np.ndarray, low: np.ndarray, high: np.ndarray, scale: np.ndarray) -> str:
    """Which bounds contradict each other, in words, or ""."""
    bounds = [(k, -1, low[k]) for k in range(len(low)) if np.isfinite(low[k])]
    bounds += [(k, 1, high[k]) for k in range(len(low)) if np.isfinite(high[k])]
    if _can_keep(f, bounds, scale):
        return ""
    for bound in list(bounds):
        fewer = [other for other in bounds if other != bound]
        if not _can_keep(f, fewer, scale):
            bounds = fewer
    named = ", ".join(f"{'high' if sign > 0 else 'low'}[{k}] = {bound:.16g}" for k, sign, bound in bounds)
    return f"{named} {'lies outside what is possible' if len(bounds) == 1 else 'contradict each other'}"


def _can_keep(f: np.ndarray, bounds: list[tuple[int, int, float]], scale: np.ndarray) -> bool:
    """Whether some distribution over the rows has its means within the bounds."""
    if not bounds:
        return True
    # Imported here because it takes as long as all of the room.
    from scipy.optimize import linprog

    rows = np.array([sign * (f[:, k] - bound) / scale[k] for k, sign, bound in bounds])
    return linprog(np.zeros(len(f)), A_ub=rows, b_ub=np.zeros(len(rows)), A_eq=np.ones((1, len(f))), b_eq=1).success
