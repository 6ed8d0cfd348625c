r"""Sample, approximate and fuzzy entropy: how often windows of a series that are close stay close one step later.

Distances are the largest difference of a coordinate (Chebyshev), windows match at a distance *up to and including* the
radius r, and r is ``tolerance`` standard deviations (divisor n) of the series unless it is given. Peers differ in these
three choices, and antropy changes from "less than r" to "up to r" at 5000 samples; for values that recur this matters.
"""

from collections.abc import Iterator
from math import inf, log, nan
from typing import Any

import numpy as np
from array_api_compat import is_torch_array
from jaxtyping import Float

from isentrope.measures._series import Reading, Series, check_count, lagged, read_series
from isentrope.measures.estimate import unit_of

# Comparisons of one block of the path for PyTorch: 16 million booleans at a time.
_BLOCK = 1 << 24


def sample_entropy(
    series: Series,
    *,
    order: int = 2,
    delay: int = 1,
    tolerance: float = 0.2,
    radius: float | None = None,
    base: float | None = None,
    axis: int = -1,
    nan_policy: str = "raise",
) -> Float[Any, "..."]:
    r"""Sample entropy: minus the logarithm of the chance that windows which match in m values match in the next one.

    $$\mathrm{SampEn}(m,r) = -\ln\frac AB,$$

    where B and A count the pairs of windows of m and of m + 1 values within r, *both over the same first
    $n-m\tau$ windows*, and no window is paired with itself. White Gaussian noise with $r=0.2\sigma$ has
    $-\ln\operatorname{erf}(0.1)=2.185$ for every m. Where no pair matches in m + 1 values (A = 0, B > 0) the estimate is
    infinite: all that the series says is that it exceeds $\ln B$, so take a larger tolerance or more samples. Where none
    matches in m values either it is NaN. A constant series has entropy 0.

    On the processor a sorted sweep in compiled code does it: memory grows with n, time with the number of pairs that match
    in two values. On an accelerator tensors are compared block by block, and time grows with $n^2$.

    Args:
        series: real values, time along ``axis``; other axes are a batch. A NumPy array, a PyTorch tensor or a list.
        order: length m of a window.
        delay: steps τ between the values of a window.
        tolerance: radius in standard deviations of each series (divisor n).
        radius: radius in the unit of the series, for all of them, instead of the tolerance.
        base: base of the logarithm; None for nats, 2 for bits.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error), "propagate" (its series has NaN) or "omit"
            (windows that hold one do not count; a series without a whole window has NaN).

    Returns:
        One entropy a series: the shape of the batch, the kind, dtype and device of the input (float64 for integers).

    Raises:
        ValueError: if the series has fewer than mτ + 2 samples or is not finite, or a setting is out of range.
        TypeError: if the series is not an array of real numbers.

    References:
        Richman and Moorman (2000), "Physiological time-series analysis using approximate entropy and sample entropy",
        American Journal of Physiology 278, H2039.

    Examples:
        >>> import numpy as np
        >>> round(float(sample_entropy(np.sin(0.1 * np.arange(2000)))), 6)
        0.234496
    """
    where = "sample_entropy"
    nats = unit_of(base, where)[0]
    reading, radii = _read(where, series, order, delay, tolerance, radius, axis, nan_policy)
    pairs = matching_pairs(reading, order, delay, radii)
    return reading.finish([minus_log_ratio(long, short) / nats for short, long in pairs])


def approximate_entropy(
    series: Series,
    *,
    order: int = 2,
    delay: int = 1,
    tolerance: float = 0.2,
    radius: float | None = None,
    base: float | None = None,
    axis: int = -1,
    nan_policy: str = "raise",
) -> Float[Any, "..."]:
    r"""Approximate entropy: the mean logarithm of the chance that windows stay close, each window matching itself too.

    $$\mathrm{ApEn}(m,r)=\Phi^m-\Phi^{m+1},\qquad \Phi^m=\frac1{N_m}\sum_i\ln\frac{\#\{j:d(w_i,w_j)\le r\}}{N_m},
    \qquad N_m=n-(m-1)\tau.$$

    Counting the window itself keeps it finite and biases it towards 0 in short series; `sample_entropy` does not.
    It is computed on the processor in compiled code.

    Args:
        series: real values, time along ``axis``; other axes are a batch. A NumPy array, a PyTorch tensor or a list.
        order: length m of a window.
        delay: steps τ between the values of a window.
        tolerance: radius in standard deviations of each series (divisor n).
        radius: radius in the unit of the series, for all of them, instead of the tolerance.
        base: base of the logarithm; None for nats, 2 for bits.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error), "propagate" (its series has NaN) or "omit"
            (windows that hold one do not count; a series without a whole window has NaN).

    Returns:
        One entropy a series, as by `sample_entropy`.

    Raises:
        ValueError: if the series has fewer than mτ + 2 samples or is not finite, or a setting is out of range.
        TypeError: if the series is not an array of real numbers.

    References:
        Pincus (1991), "Approximate entropy as a measure of system complexity", Proceedings of the National Academy of
        Sciences 88, 2297.

    Examples:
        >>> import numpy as np
        >>> round(float(approximate_entropy(np.sin(0.1 * np.arange(2000)))), 6)
        0.2778
    """
    from isentrope.measures._templates import neighbours

    where = "approximate_entropy"
    nats = unit_of(base, where)[0]
    reading, radii = _read(where, series, order, delay, tolerance, radius, axis, nan_policy)
    phi = []
    for length in (order, order + 1):
        found = [neighbours(windows, r) for windows, r in zip(_windows(reading, length, delay), radii, strict=True)]
        phi.append([float(np.log(number / len(number)).mean()) if len(number) else nan for number in found])
    return reading.finish([(short - long) / nats for short, long in zip(*phi, strict=True)])


def fuzzy_entropy(
    series: Series,
    *,
    order: int = 2,
    delay: int = 1,
    tolerance: float = 0.2,
    radius: float | None = None,
    exponent: float = 2.0,
    base: float | None = None,
    axis: int = -1,
    nan_policy: str = "raise",
) -> Float[Any, "..."]:
    r"""Fuzzy entropy: sample entropy with a smooth membership in place of a match, and local means removed.

    $$\mathrm{FuzzyEn} = -\ln\frac{\sum_{i<j}\mu(d^{(m+1)}_{ij})}{\sum_{i<j}\mu(d^{(m)}_{ij})},\qquad
    \mu(d)=e^{-(d/r)^p},$$

    d the Chebyshev distance of two windows after each has lost its own mean, over the same $n-m\tau$ windows. Other
    packages write $e^{-d^p/r}$ or leave r unscaled by the standard deviation, so their numbers differ. All pairs are
    summed in compiled code: time grows with $n^2$ (seconds at ten thousand samples), memory with n.

    Args:
        series: real values, time along ``axis``; other axes are a batch. A NumPy array, a PyTorch tensor or a list.
        order: length m of a window, at least 2 (a window of one value has no shape once its mean is removed).
        delay: steps τ between the values of a window.
        tolerance: r in standard deviations of each series (divisor n).
        radius: r in the unit of the series, for all of them, instead of the tolerance.
        exponent: p of the membership function.
        base: base of the logarithm; None for nats, 2 for bits.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error), "propagate" (its series has NaN) or "omit"
            (windows that hold one do not count; a series without a whole window has NaN).

    Returns:
        One entropy a series, as by `sample_entropy`; 0 for a constant series.

    Raises:
        ValueError: if the series has fewer than mτ + 2 samples or is not finite, a setting is out of range, or the
            radius is 0.
        TypeError: if the series is not an array of real numbers.

    References:
        Chen, Wang, Xie and Yu (2007), "Characterization of surface EMG signal based on fuzzy entropy", IEEE
        Transactions on Neural Systems and Rehabilitation Engineering 15, 266.

    Examples:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> bool(fuzzy_entropy(rng.normal(size=500)) > fuzzy_entropy(np.sin(0.1 * np.arange(500))))
        True
    """
    where = "fuzzy_entropy"
    nats = unit_of(base, where)[0]
    check_membership(where, order, exponent, tolerance, radius)
    reading, radii = _read(where, series, order, delay, tolerance, radius, axis, nan_policy)
    sums = membership_sums(reading, order, delay, radii, exponent)
    return reading.finish([minus_log_ratio(long, short) / nats for short, long in sums])


def _read(
    where: str,
    series: Any,
    order: int,
    delay: int,
    tolerance: float,
    radius: float | None,
    axis: int,
    nan_policy: str,
) -> tuple[Reading, list[float]]:
    check_count(where, "order", order, 1)
    check_count(where, "delay", delay, 1)
    reading = read_series(where, series, axis, least=order * delay + 2, nan_policy=nan_policy)
    return reading, radii_of(where, reading, tolerance, radius)


def radii_of(where: str, reading: Reading, tolerance: float, radius: float | None) -> list[float]:
    """The radius for each series."""
    for argument, value in (("tolerance", tolerance), ("radius", radius)):
        if value is not None and not 0 <= value < inf:
            raise ValueError(f"{where}: {argument} must be a finite number of at least 0, got {value!r}")
    if radius is not None:
        return [float(radius)] * reading.rows.shape[0]
    _, deviations = reading.moments()
    return [tolerance * deviation for deviation in deviations[:, 0].tolist()]


def matching_pairs(reading: Reading, order: int, delay: int, radii: list[float]) -> list[tuple[int, int]]:
    """For each series the pairs of windows that match in ``order`` values and in one more."""
    if is_torch_array(reading.rows) and reading.rows.device.type != "cpu":
        return _pairs_by_blocks(reading, order, delay, radii)
    from isentrope.measures._templates import matches

    return [matches(windows, r) for windows, r in zip(_windows(reading, order + 1, delay), radii, strict=True)]


def check_membership(where: str, order: int, exponent: float, tolerance: float, radius: float | None) -> None:
    """Refuse windows without a shape, and a membership function without a width."""
    check_count(where, "order", order, 2)
    if not 0 < exponent < inf:
        raise ValueError(f"{where}: exponent must be a positive finite number, got {exponent!r}")
    if radius == 0 or tolerance == 0:
        raise ValueError(f"{where}: tolerance and radius must be positive, as memberships divide by the radius")


def membership_sums(
    reading: Reading, order: int, delay: int, radii: list[float], exponent: float
) -> list[tuple[float, float]]:
    """For each series the memberships of all pairs of windows of ``order`` values and of one more, added up."""
    from isentrope.measures._templates import memberships

    sums = []
    for windows, r in zip(_windows(reading, order + 1, delay), radii, strict=True):
        number = windows.shape[1]
        # The windows of a constant series, whose radius is 0, are all alike.
        alike = number * (number - 1) / 2
        short, long = (memberships(some, r, float(exponent)) if r > 0 else alike for some in (windows[:-1], windows))
        sums.append((short, long))
    return sums


def minus_log_ratio(long: float, short: float) -> float:
    """``-ln(long/short)``: infinite if only ``long`` is 0, NaN if both are."""
    if short == 0:
        return nan
    return inf if long == 0 else log(short) - log(long)


def _windows(reading: Reading, length: int, delay: int) -> Iterator[np.ndarray]:
    """For each series its whole windows on the host, ``[length, windows]``."""
    whole = reading.whole(length, delay)
    for index, row in enumerate(reading.on_host()):
        windows = np.concatenate(lagged(row[None], length, delay))
        yield windows if whole is None else windows[:, np.asarray(whole[index])]


def _pairs_by_blocks(reading: Reading, order: int, delay: int, radii: list[float]) -> list[tuple[int, int]]:
    """Several short series at once, or a block of the windows of a long one, on the device of the series."""
    xp, rows = reading.xp, reading.rows
    columns = lagged(rows, order + 1, delay)
    whole = reading.whole(order + 1, delay)
    windows = columns[0].shape[-1]
    within = xp.asarray(radii, dtype=rows.dtype, device=rows.device)[:, None, None]
    size = min(windows, max(1, _BLOCK // windows))
    at_once = max(1, _BLOCK // (windows * size))
    pairs = xp.zeros((2, rows.shape[0]), dtype=xp.int64, device=rows.device)
    for start in range(0, rows.shape[0], at_once):
        few = slice(start, start + at_once)
        for first in range(0, windows, size):
            last = min(first + size, windows)
            # The windows of the block with themselves and with what follows.
            close = xp.arange(first, last, device=rows.device)[:, None] < xp.arange(first, windows, device=rows.device)
            if whole is not None:
                close = close & whole[few, first:last, None] & whole[few, None, first:]
            for k, column in enumerate(columns):
                apart = xp.abs(column[few, first:last, None] - column[few, None, first:])
                close = close & (apart <= within[few])
                if k >= order - 1:
                    pairs[k - order + 1, few] += xp.sum(close, axis=(1, 2), dtype=xp.int64)
    return [(short, long) for short, long in pairs.T.tolist()]
