r"""Fractal dimensions and scaling of a series, the usual companions of its entropies: Petrosian, Katz, Higuchi, DFA, Hjorth.

Every function takes time along ``axis`` and a batch along the others, and returns one number a series in float64 or the
input's dtype.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from isentrope.measures._series import Series, check_count, read_series


class Hjorth(NamedTuple):
    """Hjorth's parameters of each series."""

    activity: Any
    mobility: Any
    complexity: Any


def petrosian_dimension(series: Series, *, axis: int = -1, nan_policy: str = "raise") -> Float[Any, "..."]:
    r"""Petrosian fractal dimension, $\ln n/\bigl(\ln n+\ln\frac{n}{n+0.4N_\delta}\bigr)$.

    $N_\delta$ counts how often the series turns: sign changes of its differences, where those that vanish are passed over.

    Args:
        series: real values, time along ``axis``; other axes are a batch. A NumPy array, a PyTorch tensor or a list.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error) or "propagate" (its series has NaN).

    Returns:
        One dimension a series, at least 1: exactly 1 where it never turns.

    Raises:
        ValueError: if the series has fewer than 3 samples or is not finite.
        TypeError: if the series is not an array of real numbers.

    References:
        Petrosian (1995), "Kolmogorov complexity of finite sequences and recognition of different preictal EEG patterns".

    Examples:
        >>> float(petrosian_dimension([1, 2, 3, 4, 5]))
        1.0
    """
    reading = read_series("petrosian_dimension", series, axis, least=3, nan_policy=nan_policy, windows=False)
    rows = reading.on_host()
    # Compared, because a difference may be too small or too large for a number.
    signs = (rows[:, 1:] > rows[:, :-1]).astype(np.int8) - (rows[:, 1:] < rows[:, :-1])
    last = np.maximum.accumulate(np.where(signs != 0, np.arange(signs.shape[1]), 0), axis=1)
    signs = np.take_along_axis(signs, last, axis=1)
    n, turns = rows.shape[1], np.count_nonzero(signs[:, 1:] * signs[:, :-1] < 0, axis=1)
    return reading.finish(np.log(n) / (np.log(n) + np.log(n / (n + 0.4 * turns))))


def katz_dimension(series: Series, *, axis: int = -1, nan_policy: str = "raise") -> Float[Any, "..."]:
    r"""Katz fractal dimension, $\ln N/\bigl(\ln N+\ln(d/L)\bigr)$ with N = n - 1 steps.

    L is the sum of the steps' sizes $|x_{t+1}-x_t|$ and d the largest distance $|x_t-x_0|$ from the start. Distances are
    along the values alone, without time, so that the unit of neither matters. A line has dimension 1. A series that swings
    to and fro without getting further from its start than d = L/N, the mean step, has none: the formula has a pole there
    and is negative beyond.

    Args:
        series: real values, time along ``axis``; other axes are a batch.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error) or "propagate" (its series has NaN).

    Returns:
        One dimension a series.

    Raises:
        ValueError: if the series has fewer than 3 samples, is not finite, is constant or never gets further from its start
            than its mean step.
        TypeError: if the series is not an array of real numbers.

    References:
        Katz (1988), "Fractals and the analysis of waveforms", Computers in Biology and Medicine 18, 145.

    Examples:
        >>> round(float(katz_dimension([0, 1, 2, 3])), 12)
        1.0
    """
    where = "katz_dimension"
    reading = read_series(where, series, axis, least=3, nan_policy=nan_policy, windows=False)
    rows = reading.on_host()
    length = np.abs(np.diff(rows)).sum(axis=-1)
    if not length.all():
        raise ValueError(f"{where}: a constant series has no length, and so no dimension")
    reach = np.abs(rows - rows[:, :1]).max(axis=-1)
    mean_step = length / (rows.shape[-1] - 1)
    if not (reach > mean_step).all():
        raise ValueError(
            f"{where}: a series that never gets further from its start than its mean step has no dimension; it is too short "
            "or swings to and fro"
        )
    return reading.finish(np.log(rows.shape[-1] - 1) / np.log(reach / mean_step))


def higuchi_dimension(
    series: Series, *, longest: int = 10, axis: int = -1, nan_policy: str = "raise"
) -> Float[Any, "..."]:
    r"""Higuchi fractal dimension: how the length of the curve grows when it is measured with shorter steps.

    $$L(k)=\frac1k\sum_{m<k}\frac{n-1}{\lfloor(n-1-m)/k\rfloor k^2}\sum_{i}|x_{m+ik}-x_{m+(i-1)k}|,$$

    and the dimension is the slope of $\ln L(k)$ against $\ln(1/k)$ by least squares, k = 1..``longest``. It is 1 for a
    smooth curve, 3/2 for Brownian motion, 2 for white noise.

    Args:
        series: real values, time along ``axis``; other axes are a batch.
        longest: the longest step, from 2, at most half the series.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error) or "propagate" (its series has NaN).

    Returns:
        One dimension a series.

    Raises:
        ValueError: if the series is shorter than twice ``longest``, is not finite, or returns to its values after some
            number of steps, so that a length is 0 (a constant, or a short period).
        TypeError: if the series is not an array of real numbers.

    References:
        Higuchi (1988), "Approach to an irregular time series on the basis of the fractal theory", Physica D 31, 277.

    Examples:
        >>> import numpy as np
        >>> round(float(higuchi_dimension(np.arange(1000.0))), 6)
        1.0
    """
    where = "higuchi_dimension"
    check_count(where, "longest", longest, 2)
    reading = read_series(where, series, axis, least=2 * longest, nan_policy=nan_policy, windows=False)
    rows = reading.on_host()
    n = rows.shape[-1]
    steps = np.arange(1, longest + 1)
    lengths = np.empty((len(rows), longest))
    for k in steps:
        moves = np.abs(rows[:, k:] - rows[:, :-k])
        parts = [moves[:, m::k].sum(axis=-1) * (n - 1) / ((n - 1 - m) // k * k * k) for m in range(k)]
        lengths[:, k - 1] = np.mean(parts, axis=0)
    if not lengths.all():
        raise ValueError(f"{where}: a series that is constant, or periodic within {longest} steps, has a length of 0")
    return reading.finish(_slopes(-np.log(steps), np.log(lengths)))


def detrended_fluctuation(
    series: Series, *, sizes: Any = None, axis: int = -1, nan_policy: str = "raise"
) -> Float[Any, "..."]:
    r"""Scaling exponent of detrended fluctuation analysis (DFA), of first order.

    The profile $y_t=\sum_{s\le t}(x_s-\bar x)$ is cut into windows of s values from the start, a line is fitted to each, and

    $$F(s)=\sqrt{\tfrac{1}{s\lfloor n/s\rfloor}\textstyle\sum(y-\mathrm{line})^2}\sim s^\alpha.$$

    The exponent is the slope of $\ln F$ against $\ln s$: 1/2 for white noise, 1 for 1/f noise, 3/2 for Brownian motion.
    Short windows bend the line. With the sizes of None the exponent of white noise is 0.522 for n = 300, 0.513 for 1000 and
    0.507 for 10,000 on average (with a spread of 0.05, 0.03 and 0.016), with sizes of 4 to 64 it is 0.54 for every n, and
    with sizes from 16 on 0.493.

    Args:
        series: real values, time along ``axis``; other axes are a batch.
        sizes: window lengths s, at least two different ones, from 4 to n; None for about 20 from 4 to n/4, evenly
            spaced in the logarithm.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error) or "propagate" (its series has NaN).

    Returns:
        One exponent a series.

    Raises:
        ValueError: if the series has fewer than 32 samples without ``sizes``, is not finite or is constant, or the sizes
            are out of range.
        TypeError: if the series is not an array of real numbers.

    References:
        Peng et al. (1994), "Mosaic organization of DNA nucleotides", Physical Review E 49, 1685.

    Examples:
        >>> import numpy as np
        >>> walk = np.cumsum(np.random.default_rng(0).normal(size=5000))
        >>> bool(abs(detrended_fluctuation(walk) - 1.5) < 0.1)
        True
    """
    where = "detrended_fluctuation"
    least = 32 if sizes is None else 4
    reading = read_series(where, series, axis, least=least, nan_policy=nan_policy, windows=False)
    rows = reading._replace(rows=reading.scaled()[0]).on_host()
    n = rows.shape[-1]
    lengths = np.unique(np.geomspace(4, n // 4, 20).astype(int) if sizes is None else np.asarray(sizes))
    if lengths.dtype.kind not in "iu" or len(lengths) < 2 or lengths[0] < 4 or lengths[-1] > n:
        raise ValueError(f"{where}: sizes must be at least two different integers from 4 to {n}, got {sizes!r}")
    if not (rows.max(axis=-1) > rows.min(axis=-1)).all():
        raise ValueError(f"{where}: a constant series does not fluctuate")
    profile = np.cumsum(rows - rows.mean(axis=-1, keepdims=True), axis=-1)
    fluctuations = [np.sqrt(_residual(profile, int(size))) for size in lengths]
    return reading.finish(_slopes(np.log(lengths), np.log(np.stack(fluctuations, axis=-1))))


def hjorth_parameters(series: Series, *, axis: int = -1, nan_policy: str = "raise") -> Hjorth:
    r"""Hjorth's activity $\mathrm{Var}\,x$, mobility $\sqrt{\mathrm{Var}\,\Delta x/\mathrm{Var}\,x}$ and complexity.

    The complexity is the mobility of $\Delta x_t=x_{t+1}-x_t$ over that of x; 1 for a sine. Variances have the divisor n.
    The mobility is in radians a sample. The activity of values beyond the root of the largest number is infinite.

    Args:
        series: real values, time along ``axis``; other axes are a batch.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error) or "propagate" (its series has NaN).

    Returns:
        The three parameters, each with one value a series.

    Raises:
        ValueError: if the series has fewer than 4 samples, is not finite, or is constant or a line, for which a ratio is
            not defined.
        TypeError: if the series is not an array of real numbers.

    References:
        Hjorth (1970), "EEG analysis based on time domain properties", Electroencephalography and Clinical
        Neurophysiology 29, 306.

    Examples:
        >>> import numpy as np
        >>> round(float(hjorth_parameters(np.sin(0.01 * np.pi * np.arange(4000))).complexity), 2)
        1.0
    """
    where = "hjorth_parameters"
    reading = read_series(where, series, axis, least=4, nan_policy=nan_policy, windows=False)
    scaled, factors = reading.scaled()
    rows = reading._replace(rows=scaled).on_host()
    steps = np.diff(rows)
    for values, kind in ((rows, "constant series"), (steps, "straight line")):
        if not (values.max(axis=-1) > values.min(axis=-1)).all():
            raise ValueError(f"{where}: for a {kind} a ratio of variances is not defined")
    activity, first, second = (values.var(axis=-1) for values in (rows, steps, np.diff(steps)))
    mobility = np.sqrt(first / activity)
    unit = reading._replace(rows=factors).on_host()[:, 0]
    with np.errstate(over="ignore"):
        activity = activity / unit / unit
    return Hjorth(*(reading.finish(value) for value in (activity, mobility, np.sqrt(second / first) / mobility)))


def _slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least-squares slope of each row of y against x."""
    centred = x - x.mean()
    return y @ centred / (centred @ centred)


def _residual(profile: np.ndarray, size: int) -> np.ndarray:
    """Mean square distance of a profile from the lines fitted to its windows."""
    windows = profile[:, : profile.shape[-1] // size * size].reshape(len(profile), -1, size)
    windows = windows - windows.mean(axis=-1, keepdims=True)
    time = np.arange(size) - (size - 1) / 2
    slope = windows @ time / (time @ time)
    return ((windows - slope[..., None] * time) ** 2).mean(axis=(1, 2))
