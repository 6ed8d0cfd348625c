"""The variance of an estimate from estimates of parts of the samples, where no formula is known."""

from collections.abc import Callable, Sequence

import numpy as np

SMALLEST_PART = 50
_PARTS = 16


def variance_by_parts(
    value_of: Callable[..., float],
    sizes: Sequence[int],
    *,
    smallest: int = SMALLEST_PART,
    largest: int | None = None,
    serial: bool = False,
) -> float | None:
    """Variance of the whole from up to 16 parts without a common sample, by its decay as 1/n.

    Args:
        value_of: the estimate from the given rows, of each sample where there are several.
        sizes: number of rows of each sample.
        smallest: least number of rows of a part.
        largest: rows beyond so many in a part are not used; for one sample only.
        serial: whether rows are times, and parts stretches; otherwise parts are drawn, always by the same seed.

    Returns:
        The variance, None with fewer than two parts.
    """
    number = min(_PARTS, min(sizes) // smallest)
    if number < 2:
        return None
    generator = np.random.default_rng(0)
    orders = [np.arange(size) if serial else generator.permutation(size) for size in sizes]
    parts = [[part[:largest] for part in np.array_split(order, number)] for order in orders]
    values = [value_of(*rows) for rows in zip(*parts, strict=True)]
    used = sum(map(len, parts[0])) / number / sizes[0]
    return float(np.var(values, ddof=1)) * used
