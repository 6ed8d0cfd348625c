r"""Entropies of series turned into words of a few symbols: dispersion, fluctuation dispersion and slope entropy.

Unlike ordinal patterns these keep how large values or steps are, and unlike sample entropy they cost time in proportion to
the length.
"""

import sys
from itertools import pairwise
from math import log, pi, tan
from typing import Any

from array_api_compat import is_torch_array
from jaxtyping import Float
from scipy.special import ndtr

from isentrope.measures._series import (
    Reading,
    Series,
    check_count,
    check_scale,
    counted,
    frequencies,
    lagged,
    pattern_entropy,
    read_series,
)

# More words than this are more than any series fills.
_WORDS = 1 << 22


def dispersion_entropy(
    series: Series,
    *,
    order: int = 2,
    classes: int = 3,
    delay: int = 1,
    normalize: bool = False,
    base: float | None = None,
    axis: int = -1,
    nan_policy: str = "raise",
) -> Float[Any, "..."]:
    r"""Dispersion entropy: the Shannon entropy of words of m symbols, each one of c classes of a value.

    $$s_t=\operatorname{clip}\bigl(\lceil c\,\Phi\bigl((x_t-\mu)/\sigma\bigr)\rceil,1,c\bigr),$$

    with the mean and standard deviation (divisor n) of the series and the normal distribution function Φ, so that
    Gaussian values fill all classes alike. Windows are counted as in `permutation_entropy`. A constant series has
    entropy 0.

    Args:
        series: real values, time along ``axis``; other axes are a batch. A NumPy array, a PyTorch tensor or a list.
        order: length m of a word.
        classes: number c of symbols; $c^m$ should be well below the length of the series.
        delay: steps between the symbols of a word.
        normalize: divide by $\ln c^m$, so that Gaussian white noise has 1.
        base: base of the logarithm; None for nats, 2 for bits.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error), "propagate" (its series has NaN) or "omit"
            (windows that hold one do not count; a series without a whole window has NaN).

    Returns:
        One entropy a series: the shape of the batch, the kind, dtype and device of the input (float64 for integers).

    Raises:
        ValueError: if the series is shorter than a word or not finite, or a setting is out of range.
        TypeError: if the series is not an array of real numbers.

    References:
        Rostaghi and Azami (2016), "Dispersion entropy: a measure for time-series analysis", IEEE Signal Processing
        Letters 23, 610.

    Examples:
        >>> import numpy as np
        >>> round(float(dispersion_entropy(np.sin(0.1 * np.arange(2000)))), 6)
        1.294594
    """
    where = "dispersion_entropy"
    reading, nats = _read(where, series, order, classes, classes**order, delay, normalize, base, axis, nan_policy)
    words = _words(lagged(_classes(reading, reading.moments(), classes), order, delay), classes)
    return _entropy(reading, words, classes**order, order, delay, log(classes**order) if normalize else nats)


def fluctuation_dispersion_entropy(
    series: Series,
    *,
    order: int = 2,
    classes: int = 3,
    delay: int = 1,
    normalize: bool = False,
    base: float | None = None,
    axis: int = -1,
    nan_policy: str = "raise",
) -> Float[Any, "..."]:
    r"""Fluctuation-based dispersion entropy: words of the m - 1 steps between the symbols of a dispersion pattern.

    The differences of adjacent symbols of `dispersion_entropy` take 2c - 1 values, so slow trends within a class's width
    do not count. Even for white noise the words are not equally likely, so the normalised value, divided by
    $\ln(2c-1)^{m-1}$, stays below 1.

    Args:
        series: real values, time along ``axis``; other axes are a batch.
        order: length m of a pattern, at least 2.
        classes: number c of symbols, at least 2.
        delay: steps between the symbols of a pattern.
        normalize: divide by $\ln(2c-1)^{m-1}$.
        base: base of the logarithm; None for nats, 2 for bits.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error), "propagate" (its series has NaN) or "omit"
            (windows that hold one do not count; a series without a whole window has NaN).

    Returns:
        One entropy a series, as by `dispersion_entropy`.

    Raises:
        ValueError: if the series is shorter than a pattern or not finite, or a setting is out of range.
        TypeError: if the series is not an array of real numbers.

    References:
        Azami and Escudero (2018), "Amplitude- and fluctuation-based dispersion entropy", Entropy 20, 210.

    Examples:
        >>> import numpy as np
        >>> steps = fluctuation_dispersion_entropy(np.tile([0.0, 1.0], 50))
        >>> round(float(steps), 3)  # up and down, in turn
        0.693
    """
    where = "fluctuation_dispersion_entropy"
    check_count(where, "order", order, 2)
    check_count(where, "classes", classes, 2)
    number = (2 * classes - 1) ** (order - 1)
    reading, nats = _read(where, series, order, classes, number, delay, normalize, base, axis, nan_policy)
    symbols = lagged(_classes(reading, reading.moments(), classes), order, delay)
    steps = [later - earlier + (classes - 1) for earlier, later in pairwise(symbols)]
    words = _words(steps, 2 * classes - 1)
    return _entropy(reading, words, number, order, delay, log(number) if normalize else nats)


def slope_entropy(
    series: Series,
    *,
    order: int = 2,
    delay: int = 1,
    angles: tuple[float, float] = (5.0, 45.0),
    normalize: bool = False,
    base: float | None = None,
    axis: int = -1,
    nan_policy: str = "raise",
) -> Float[Any, "..."]:
    r"""Slope entropy: the Shannon entropy of words of m - 1 symbols, each how steeply the series rises or falls.

    The step $x_{t+\tau}-x_t$ has symbol 0 if it is at most tan(first angle) in size, ±1 up to tan(second angle), ±2
    beyond. The angles are of the series as given: standardise it, if its unit is arbitrary.

    Args:
        series: real values, time along ``axis``; other axes are a batch.
        order: length m of a window, at least 2.
        delay: steps τ between the values of a window.
        angles: the two thresholds, in degrees, growing, between 0 and 90.
        normalize: divide by $\ln 5^{m-1}$. (EntropyHub's ``Norm=False`` is no entropy of a law: it divides the counts by
            the number of different words.)
        base: base of the logarithm; None for nats, 2 for bits.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error), "propagate" (its series has NaN) or "omit"
            (windows that hold one do not count; a series without a whole window has NaN).

    Returns:
        One entropy a series, as by `dispersion_entropy`.

    Raises:
        ValueError: if the series is shorter than a window or not finite, or a setting is out of range.
        TypeError: if the series is not an array of real numbers.

    References:
        Cuesta-Frau (2019), "Slope entropy: a new time series complexity estimator based on both symbolic patterns and
        amplitude information", Entropy 21, 1167.

    Examples:
        >>> float(slope_entropy([0, 0, 1, 3, 3, 4, 6], order=2, base=2))
        1.584962500721156
    """
    where = "slope_entropy"
    check_count(where, "order", order, 2)
    low, high = angles
    if not 0 <= low < high < 90:
        raise ValueError(f"{where}: angles must be two growing numbers from 0 to below 90 degrees, got {angles!r}")
    number = 5 ** (order - 1)
    reading, nats = _read(where, series, order, 5, number, delay, normalize, base, axis, nan_policy)
    xp, values = reading.xp, lagged(reading.rows, order, delay)
    symbols = []
    for earlier, later in pairwise(values):
        step = later - earlier
        symbol = xp.full_like(step, 2, dtype=xp.int64)
        # At 45 degrees the tangent is 1 less a digit.
        for threshold in (tan(low * pi / 180), 1.0 if high == 45 else tan(high * pi / 180)):
            symbol += xp.astype(step > threshold, xp.int64) - xp.astype(step < -threshold, xp.int64)
        symbols.append(symbol)
    return _entropy(reading, _words(symbols, 5), number, order, delay, log(number) if normalize else nats)


def _read(
    where: str,
    series: Any,
    order: int,
    classes: int,
    words: int,
    delay: int,
    normalize: bool,
    base: float | None,
    axis: int,
    nan_policy: str,
) -> tuple[Reading, float]:
    check_words(where, order, classes, delay, words)
    nats = check_scale(where, base, normalize)
    return read_series(where, series, axis, least=(order - 1) * delay + 1, nan_policy=nan_policy), nats


def check_words(where: str, order: int, classes: int, delay: int, words: int) -> None:
    """Refuse settings out of range, and more words than any series fills."""
    check_count(where, "order", order, 1)
    check_count(where, "classes", classes, 2)
    check_count(where, "delay", delay, 1)
    if words > _WORDS:
        raise ValueError(f"{where}: these settings make {words} words; choose a smaller order or fewer classes")


def word_shares(reading: Reading, moments: tuple[Any, Any], order: int, classes: int, delay: int) -> Any:
    """Shares of the dispersion patterns, ``[rows, classes**order]``, by given means and deviations; 0 without windows."""
    words = _words(lagged(_classes(reading, moments, classes), order, delay), classes)
    weights = counted(None, reading.whole(order, delay), reading.xp)
    return reading.xp.concat(frequencies(words, classes**order, weights, reading.xp))


def _entropy(reading: Reading, words: Any, number: int, order: int, delay: int, scale: float) -> Any:
    xp, whole = reading.xp, reading.whole(order, delay)
    return reading.finish(pattern_entropy(words, number, counted(None, whole, xp), xp) / scale, whole)


def _classes(reading: Reading, moments: tuple[Any, Any], classes: int) -> Any:
    """Symbols 0..c-1 of values that a normal law with this mean and deviation would fill alike."""
    xp, (mean, deviation) = reading.xp, moments
    scaled = (reading.rows - mean) / xp.where(deviation > 0, deviation, xp.ones_like(deviation))
    share = _normal_distribution(xp.where(deviation > 0, scaled, xp.zeros_like(scaled)))
    return xp.astype(xp.clip(xp.ceil(classes * share), 1, classes), xp.int64) - 1


def _normal_distribution(x: Any) -> Any:
    return sys.modules["torch"].special.ndtr(x) if is_torch_array(x) else ndtr(x)


def _words(symbols: list[Any], distinct: int) -> Any:
    words = symbols[0]
    for symbol in symbols[1:]:
        words = words * distinct + symbol
    return words
