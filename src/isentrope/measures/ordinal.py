r"""Entropies of the ordinal patterns of a series: which value of each window is the smallest, the second smallest, ...

They ask for the order of values only, so they do not change under a growing function of the series, need no tolerance
and bear noise; what they miss is by how much values differ, which the weighted versions put back.
"""

from itertools import pairwise
from math import factorial, log
from typing import Any

from jaxtyping import Float

from isentrope.measures._series import (
    Reading,
    Series,
    check_count,
    check_scale,
    counted,
    frequencies,
    lagged,
    ordinal_codes,
    pattern_entropy,
    read_series,
)

# Ten values have 3.6 million orders: more bins than any series fills.
_LONGEST = 10


def permutation_entropy(
    series: Series,
    *,
    order: int = 3,
    delay: int = 1,
    normalize: bool = False,
    base: float | None = None,
    axis: int = -1,
    nan_policy: str = "raise",
) -> Float[Any, "..."]:
    r"""Permutation entropy: the Shannon entropy of the ordinal patterns of all windows of a series.

    $$H = -\sum_\pi p(\pi)\ln p(\pi),\qquad
    p(\pi)=\frac{\#\{t:(x_t,x_{t+\tau},\dots,x_{t+(m-1)\tau})\text{ has order }\pi\}}{n-(m-1)\tau}.$$

    Of equal values the earlier counts as the smaller, so a constant series has one pattern and entropy 0. The
    number of windows should be many times m!: for white noise the value is too low by (m! - 1)/(2 windows) for m from 5 on,
    and, as windows overlap, by a third, 0.7 and 0.9 of it for m = 2, 3 and 4.

    Args:
        series: real values, time along ``axis``; other axes are a batch. A NumPy array, a PyTorch tensor or a list.
        order: length m of a window, from 2 to 10.
        delay: steps τ between the values of a window.
        normalize: divide by ln m!, so that white noise has 1.
        base: base of the logarithm; None for nats, 2 for bits.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error), "propagate" (its series has NaN) or "omit"
            (windows that hold one do not count; a series without a whole window has NaN).

    Returns:
        One entropy a series: the shape of the batch, the kind, dtype and device of the input (float64 for integers).

    Raises:
        ValueError: if the series is shorter than a window or not finite, or a setting is out of range.
        TypeError: if the series is not an array of real numbers.

    References:
        Bandt and Pompe (2002), "Permutation entropy: a natural complexity measure for time series", Physical Review
        Letters 88, 174102.

    Examples:
        >>> round(float(permutation_entropy([4, 7, 9, 10, 6, 11, 3], order=3, base=2)), 6)
        1.521928
    """
    reading, nats = _read("permutation_entropy", series, order, delay, normalize, base, axis, nan_policy)
    return _entropy(reading, order, delay, None, log(factorial(order)) if normalize else nats)


def weighted_permutation_entropy(
    series: Series,
    *,
    order: int = 3,
    delay: int = 1,
    normalize: bool = False,
    base: float | None = None,
    axis: int = -1,
    nan_policy: str = "raise",
) -> Float[Any, "..."]:
    r"""Weighted permutation entropy: ordinal patterns counted with the variance of their windows.

    $$H=-\sum_\pi p_w(\pi)\ln p_w(\pi),\qquad p_w(\pi)=\frac{\sum_{t\in\pi} w_t}{\sum_t w_t},\qquad
    w_t=\frac1m\sum_{k<m}\bigl(x_{t+k\tau}-\bar x_t\bigr)^2.$$

    Patterns made by small noise around a level weigh little. A constant series has entropy 0.

    Args:
        series: real values, time along ``axis``; other axes are a batch.
        order: length m of a window, from 2 to 10.
        delay: steps τ between the values of a window.
        normalize: divide by ln m!.
        base: base of the logarithm; None for nats, 2 for bits.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error), "propagate" (its series has NaN) or "omit"
            (windows that hold one do not count; a series without a whole window has NaN).

    Returns:
        One entropy a series, as by `permutation_entropy`.

    Raises:
        ValueError: if the series is shorter than a window or not finite, or a setting is out of range.
        TypeError: if the series is not an array of real numbers.

    References:
        Fadlallah, Chen, Keil and Príncipe (2013), "Weighted-permutation entropy", Physical Review E 87, 022911.

    Examples:
        >>> round(float(weighted_permutation_entropy([4, 7, 9, 10, 6, 11, 3], order=3, base=2)), 6)
        1.413962
    """
    reading, nats = _read("weighted_permutation_entropy", series, order, delay, normalize, base, axis, nan_policy)
    coordinates = lagged(reading.scaled()[0], order, delay)
    mean = sum(coordinates) / order
    weights = sum((x - mean) ** 2 for x in coordinates) / order
    return _entropy(reading, order, delay, weights, log(factorial(order)) if normalize else nats)


def amplitude_aware_permutation_entropy(
    series: Series,
    *,
    order: int = 3,
    delay: int = 1,
    level: float = 0.5,
    normalize: bool = False,
    base: float | None = None,
    axis: int = -1,
    nan_policy: str = "raise",
) -> Float[Any, "..."]:
    r"""Amplitude-aware permutation entropy: ordinal patterns counted with the size and the steps of their windows.

    $$w_t = \frac Am\sum_{k<m}|x_{t+k\tau}| + \frac{1-A}{m-1}\sum_{0<k<m}|x_{t+k\tau}-x_{t+(k-1)\tau}|,$$

    in place of the variance of `weighted_permutation_entropy`. With A above 0 it changes when a constant is added to the
    series. A series of zeros has entropy 0. Of equal values the earlier counts as the smaller; the article also proposes
    to share a window with ties among its patterns, which is not done here.

    Args:
        series: real values, time along ``axis``; other axes are a batch.
        order: length m of a window, from 2 to 10.
        delay: steps τ between the values of a window.
        level: share A of the values' size, between 0 and 1; the rest is their steps.
        normalize: divide by ln m!.
        base: base of the logarithm; None for nats, 2 for bits.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error), "propagate" (its series has NaN) or "omit"
            (windows that hold one do not count; a series without a whole window has NaN).

    Returns:
        One entropy a series, as by `permutation_entropy`.

    Raises:
        ValueError: if the series is shorter than a window or not finite, or a setting is out of range.
        TypeError: if the series is not an array of real numbers.

    References:
        Azami and Escudero (2016), "Amplitude-aware permutation entropy", Computer Methods and Programs in Biomedicine
        128, 40.

    Examples:
        >>> round(float(amplitude_aware_permutation_entropy([0, 1, 0, 3, 0, 5], order=2, level=0.0)), 6)
        0.617242
    """
    where = "amplitude_aware_permutation_entropy"
    if not 0 <= level <= 1:
        raise ValueError(f"{where}: level must lie between 0 and 1, got {level!r}")
    reading, nats = _read(where, series, order, delay, normalize, base, axis, nan_policy)
    xp, coordinates = reading.xp, lagged(reading.rows, order, delay)
    size = sum(xp.abs(x) for x in coordinates) / order
    steps = sum(xp.abs(x - before) for before, x in pairwise(coordinates)) / (order - 1)
    weights = level * size + (1 - level) * steps
    return _entropy(reading, order, delay, weights, log(factorial(order)) if normalize else nats)


def bubble_entropy(
    series: Series,
    *,
    order: int = 10,
    delay: int = 1,
    base: float | None = None,
    axis: int = -1,
    nan_policy: str = "raise",
) -> Float[Any, "..."]:
    r"""Bubble entropy: how much the swaps that sort a window vary, and how this grows with the window.

    With $p^{(m)}_s$ the share of windows of length m that take s swaps to sort by bubble sort,

    $$b = \frac{H_2^{(m+1)}-H_2^{(m)}}{\ln\frac{m+1}{m-1}},\qquad H_2^{(m)}=-\ln\sum_s \bigl(p_s^{(m)}\bigr)^2.$$

    It needs no tolerance and is nearly free of the choice of m. Equal values take no swap.

    Args:
        series: real values, time along ``axis``; other axes are a batch.
        order: length m of the shorter window, from 2.
        delay: steps τ between the values of a window.
        base: base of the logarithm of the Rényi entropies; the ratio above is multiplied by 1/ln(base). None for nats.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error), "propagate" (its series has NaN) or "omit"
            (windows that hold one do not count; a series without a whole window has NaN).

    Returns:
        One entropy a series, as by `permutation_entropy`.

    Raises:
        ValueError: if the series is shorter than a window of m + 1 or not finite, or a setting is out of range.
        TypeError: if the series is not an array of real numbers.

    References:
        Manis, Aktaruzzaman and Sassi (2017), "Bubble entropy: an entropy almost free of parameters", IEEE Transactions
        on Biomedical Engineering 64, 2711.

    Examples:
        >>> import numpy as np
        >>> float(bubble_entropy(np.arange(100.0)))
        0.0
    """
    where = "bubble_entropy"
    order = check_count(where, "order", order, 2, 200)
    delay = check_count(where, "delay", delay, 1)
    nats = check_scale(where, base, False)
    reading = read_series(where, series, axis, least=order * delay + 1, nan_policy=nan_policy)
    short = _collision_entropy(reading, order, delay)
    long = _collision_entropy(reading, order + 1, delay)
    whole = reading.whole(order + 1, delay)
    return reading.finish((long - short) / (log((order + 1) / (order - 1)) * nats), whole)


def _read(
    where: str,
    series: Any,
    order: int,
    delay: int,
    normalize: bool,
    base: float | None,
    axis: int,
    nan_policy: str,
) -> tuple[Reading, float]:
    check_patterns(where, order, delay)
    nats = check_scale(where, base, normalize)
    return read_series(where, series, axis, least=(order - 1) * delay + 1, nan_policy=nan_policy), nats


def check_patterns(where: str, order: int, delay: int) -> None:
    """Refuse settings out of range."""
    check_count(where, "order", order, 2, _LONGEST)
    check_count(where, "delay", delay, 1)


def pattern_shares(reading: Reading, order: int, delay: int) -> Any:
    """Shares of the ordinal patterns, ``[rows, order!]``; 0 without windows."""
    codes = ordinal_codes(lagged(reading.rows, order, delay), reading.xp)
    weights = counted(None, reading.whole(order, delay), reading.xp)
    return reading.xp.concat(frequencies(codes, factorial(order), weights, reading.xp))


def _entropy(reading: Reading, order: int, delay: int, weights: Any, scale: float) -> Any:
    xp, whole = reading.xp, reading.whole(order, delay)
    codes = ordinal_codes(lagged(reading.rows, order, delay), xp)
    values = pattern_entropy(codes, factorial(order), counted(weights, whole, xp), xp)
    return reading.finish(values / scale, whole)


def _collision_entropy(reading: Reading, order: int, delay: int) -> Any:
    """Rényi entropy of order 2 of the number of swaps that sort each window, which is its number of inversions."""
    xp, coordinates = reading.xp, lagged(reading.rows, order, delay)
    swaps = xp.zeros_like(coordinates[0], dtype=xp.int32)
    for position, earlier in enumerate(coordinates):
        for later in coordinates[position + 1 :]:
            swaps += xp.astype(later < earlier, xp.int32)
    bins, weights = order * (order - 1) // 2 + 1, counted(None, reading.whole(order, delay), xp)
    squares = xp.concat([xp.sum(shares**2, axis=-1) for shares in frequencies(swaps, bins, weights, xp)])
    return -xp.log(xp.where(squares > 0, squares, xp.ones_like(squares)))
