"""The dual of maximal entropy under linear constraints: its Newton method, and what to say where no solution exists."""

from collections.abc import Callable

import numpy as np

_STEPS = 200
# The squared Newton decrement: by how many standard deviations of the features their means are off, squared.
_CONVERGED = 1e-22
_STALLED = 1e-16
_ROUNDING = 1e-14


def whitened(deviations: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Independent combinations of columns, of mean square 1, and the matrix A with ``deviations @ A`` equal to them.

    Columns that follow from the others are dropped: of the multipliers that give the same distribution, A times those of
    the combinations have no part along what is redundant. What is small beside ``scale``, one value a column, is rounding.
    """
    n, k = deviations.shape
    _, singular, rows = np.linalg.svd(deviations / scale, full_matrices=False)
    kept = singular > 4 * np.finfo(float).eps * max(n, k) * np.sqrt(n)
    combine = rows[kept].T / singular[kept] * np.sqrt(n) / scale[:, None]
    return deviations @ combine, combine


def minimise(evaluate: Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray]], size: int, floor: float):
    """The minimum of a convex function by damped Newton steps; None where there is none.

    ``evaluate`` gives value, gradient and Hessian. A value below ``floor`` proves that the function has no minimum.
    """
    point = np.zeros(size)
    value, gradient, hessian = evaluate(point)
    for _ in range(_STEPS):
        step = -np.linalg.lstsq(hessian, gradient, rcond=1e-14)[0]
        decrement = float(-gradient @ step)
        if decrement <= _CONVERGED or np.abs(gradient).max(initial=0) <= _ROUNDING:
            return point if np.abs(gradient).max(initial=0) < 1e-8 else None
        length, slack = 1.0, 1e-14 * max(1.0, abs(value))
        while True:
            ahead = evaluate(point + length * step)
            if ahead[0] <= value - 1e-4 * length * decrement + slack:
                break
            length /= 2
            # A step is long where the function is nearly flat, such as under weights that differ by many orders.
            if length * max(1.0, np.abs(step).max()) < 1e-10:
                return point if decrement <= _STALLED else None
        point = point + length * step
        value, gradient, hessian = ahead
        if value < floor or not np.isfinite(hessian).all():
            return None
    return point if decrement <= _STALLED else None


def possible(deviations: np.ndarray) -> bool:
    """Whether some distribution over the rows has mean deviations 0."""
    n, k = deviations.shape
    scale = np.abs(deviations).max(axis=0, initial=0)
    # Imported here because it takes as long as all of the room.
    from scipy.optimize import linprog

    constraints = np.vstack([(deviations / np.where(scale > 0, scale, 1)).T, np.ones(n)])
    found = linprog(np.zeros(n), A_eq=constraints, b_eq=[*np.zeros(k), 1], bounds=(0, None))
    return found.success


def contradiction(features: np.ndarray, means: np.ndarray, others: np.ndarray | None = None) -> str:
    """Which means contradict each other, in words, or ""; the columns of ``others`` have mean 0 in any case."""
    low, high = features.min(axis=0), features.max(axis=0)
    for k in np.flatnonzero((means < low) | (means > high)):
        return f"means[{k}] is {means[k]:.16g}, but its feature has values from {low[k]:g} to {high[k]:g}"
    deviations = features - means
    others = np.zeros((len(features), 0)) if others is None else others
    if possible(np.hstack([deviations, others])):
        return ""
    clashing = list(range(len(means)))
    for k in range(len(means)):
        without = [other for other in clashing if other != k]
        if not possible(np.hstack([deviations[:, without], others])):
            clashing = without
    named = ", ".join(f"means[{k}] = {means[k]:.16g}" for k in clashing)
    if len(clashing) == 1:
        return f"{named} lies outside what is possible"
    return f"{named} contradict each other; without any one of them the others would be possible"
