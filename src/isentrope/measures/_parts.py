"""The variance of an estimate from estimates of parts of the samples, where no formula is known.

All parts go through one search: each is moved so far along every coordinate that no sample of another part is near.
"""

import numpy as np

# Parts have at least so many samples; more than the other number are not used.
SMALLEST_PART, LARGEST_PART = 50, 250
_PARTS = 16


def parts(n: int, smallest: int, largest: int, *, serial: bool = False) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows of up to 16 parts of one size without a common row, and the part of each; None with fewer than two parts.

    The parts of a series are stretches; others are drawn, always by the same seed.
    """
    number = min(_PARTS, n // smallest)
    if number < 2:
        return None
    order = np.arange(n) if serial else np.random.default_rng(0).permutation(n)
    rows = order[: number * (n // number)].reshape(number, -1)[:, :largest]
    return rows.ravel(), np.repeat(np.arange(number), rows.shape[1])


def apart(points: np.ndarray, part: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """The points of each part at a distance from those of the others; further points in the same space are given too."""
    span = max(float(np.ptp(values)) for values in (points, *others)) if points.shape[1] else 0.0
    return points + (3 * span + 1) * part[:, None]


def variance_of_whole(values: np.ndarray, part: np.ndarray, n: int) -> float:
    """Variance of the mean of n values from the means of the parts, by its decay as 1/n."""
    sizes = np.bincount(part)
    means = np.bincount(part, weights=values)[sizes > 0] / sizes[sizes > 0]
    return float(np.var(means, ddof=1)) * len(part) / len(means) / n if len(means) > 1 else 0.0
