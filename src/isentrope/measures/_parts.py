"""The variance of an estimate from estimates of parts of the samples, where no formula is known.

All parts go through one search: each is moved so far along every coordinate that no sample of another part is near.
"""

from typing import NamedTuple

import numpy as np

# Parts have at least so many samples, and where there are enough so many: the means of smaller ones scatter less than 1/n
# says, most of all those of conditional informations.
_SMALLEST_PART = 100
_LARGE_PART = 500
_PARTS = 16
_LEAST_PER_NEIGHBOUR, _SAMPLES_PER_NEIGHBOUR = 4, 50


class Parts(NamedTuple):
    """Rows, the part of each, and how many consecutive parts have no common row."""

    rows: np.ndarray
    part: np.ndarray
    number: int

    def variance_of_whole(self, values: np.ndarray, kept: np.ndarray | slice, n: int) -> float:
        """Variance of the mean of n values from that of the means of parts, by its decay as 1/n."""
        part, total = self.part[kept], int(self.part[-1]) + 1
        means = np.bincount(part, weights=values, minlength=total) / np.maximum(1, np.bincount(part, minlength=total))
        return float(np.var(means.reshape(-1, self.number), axis=1, ddof=1).mean()) * len(part) / total / n


def part_size(n: int, k: int) -> int:
    """How many of n samples a part is to have at least where k neighbours are sought."""
    least = max(_SMALLEST_PART, _LEAST_PER_NEIGHBOUR * k)
    return max(least, min(max(_LARGE_PART, _SAMPLES_PER_NEIGHBOUR * k), n // 2))


def too_few(k: int) -> str:
    """The note where there are no two parts."""
    return f"the standard error is a lower bound: fewer than {2 * part_size(0, k)} samples"


def parts(n: int, smallest: int, largest: int) -> Parts | None:
    """At least 16 parts of one size, drawn by the same seed; None where there are not two without a common row.

    Where all samples make fewer, they are dealt out several times. Within a part the rows rise.
    """
    number = min(_PARTS, n // smallest)
    if number < 2:
        return None
    generator = np.random.default_rng(0)
    deals = [generator.permutation(n) for _ in range(-(-_PARTS // number))]
    rows = np.concatenate([rows[: number * (n // number)].reshape(number, -1)[:, :largest] for rows in deals])
    rows.sort(axis=1)
    return Parts(rows.ravel(), np.repeat(np.arange(len(rows)), rows.shape[1]), number)


def apart(points: np.ndarray, part: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """The points of each part at a distance from those of the others; further points in the same space are given too."""
    span = max(float(np.ptp(values)) for values in (points, *others)) if points.shape[1] else 0.0
    return points + 3 * (span or 1.0) * part[:, None]
