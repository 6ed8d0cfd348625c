r"""Entropies of how a series spreads over frequencies or over the directions of its windows: spectral and SVD entropy."""

from math import log
from typing import Any

from jaxtyping import Float

from isentrope.measures._series import (
    Reading,
    Series,
    check_count,
    check_scale,
    lagged,
    read_series,
    shannon,
)


def spectral_entropy(
    series: Series,
    *,
    segment: int | None = None,
    normalize: bool = False,
    base: float | None = None,
    axis: int = -1,
    nan_policy: str = "raise",
) -> Float[Any, "..."]:
    r"""Spectral entropy: the Shannon entropy of the power spectrum read as a law over frequencies.

    $$H=-\sum_{f>0}p_f\ln p_f,\qquad p_f=\frac{S_f}{\sum_{g>0}S_g}.$$

    S is the one-sided periodogram of the series without its mean, or with ``segment`` Welch's average over Hann-windowed
    segments of that length that overlap by half, each without its mean. Frequency 0 is left out. The periodogram of
    white noise is as rough however long the series is (about 0.42 nat below the ln of the number of frequencies);
    Welch's average tends to that maximum (for segments of even length to just below it, as their highest frequency has
    half the power of the others).

    A tensor's gradient is kept.

    Args:
        series: real values, time along ``axis``; other axes are a batch. A NumPy array, a PyTorch tensor or a list.
        segment: length of Welch's segments; None for the periodogram of the whole.
        normalize: divide by the ln of the number of frequencies above 0.
        base: base of the logarithm; None for nats, 2 for bits.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error), "propagate" (its series has NaN) or "omit"
            (Welch's segments that hold one do not count; there must be a ``segment``).

    Returns:
        One entropy a series: the shape of the batch, the kind, dtype and device of the input (float64 for integers).

    Raises:
        ValueError: if the series has fewer than 4 samples or than a segment, is not finite, or is constant and so has no
            power at all.
        TypeError: if the series is not an array of real numbers.

    References:
        Inouye et al. (1991), "Quantification of EEG irregularity by use of the entropy of the power spectrum",
        Electroencephalography and Clinical Neurophysiology 79, 204; Welch (1967), IEEE Transactions on Audio and
        Electroacoustics 15, 70.

    Examples:
        >>> import numpy as np
        >>> t = np.arange(1000)
        >>> tones = np.sin(2 * np.pi * 0.05 * t) + np.sin(2 * np.pi * 0.1 * t)
        >>> round(float(spectral_entropy(tones, base=2)), 6)
        1.0
    """
    where = "spectral_entropy"
    nats = check_scale(where, base, normalize)
    if segment is not None:
        check_count(where, "segment", segment, 4)
    windows = segment is not None
    reading = read_series(
        where, series, axis, least=segment or 4, nan_policy=nan_policy, windows=windows, gradient=True
    )
    _refuse_constants(where, reading)
    power, whole = _periodogram(reading) if segment is None else _welch(reading, segment)
    scale = log(power.shape[-1]) if normalize else nats
    return reading.finish(_entropy_of_shares(power, reading.xp) / scale, whole)


def svd_entropy(
    series: Series,
    *,
    order: int = 3,
    delay: int = 1,
    normalize: bool = False,
    base: float | None = None,
    axis: int = -1,
    nan_policy: str = "raise",
) -> Float[Any, "..."]:
    r"""SVD entropy: the Shannon entropy of the singular values of the matrix whose rows are the windows of a series.

    $$H=-\sum_{i\le m}\bar\sigma_i\ln\bar\sigma_i,\qquad\bar\sigma_i=\sigma_i/\textstyle\sum_j\sigma_j.$$

    It tells how many directions the windows need. The series keeps its mean, as is usual; a large mean is one direction
    that outweighs the others, and a constant series has entropy 0. A tensor's gradient is kept.

    Args:
        series: real values, time along ``axis``; other axes are a batch.
        order: length m of a window, at least 2.
        delay: steps between the values of a window.
        normalize: divide by ln m.
        base: base of the logarithm; None for nats, 2 for bits.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error), "propagate" (its series has NaN) or "omit"
            (windows that hold one do not count; a series without a whole window has NaN).

    Returns:
        One entropy a series, as by `spectral_entropy`.

    Raises:
        ValueError: if the series has fewer than m windows, is not finite, or is 0 throughout.
        TypeError: if the series is not an array of real numbers.

    References:
        Roberts, Penny and Rezek (1999), "Temporal and spatial complexity measures for electroencephalogram based
        brain-computer interfacing", Medical and Biological Engineering and Computing 37, 93.

    Examples:
        >>> import numpy as np
        >>> float(svd_entropy(np.ones(100))) < 1e-12
        True
    """
    where = "svd_entropy"
    check_count(where, "order", order, 2)
    check_count(where, "delay", delay, 1)
    nats = check_scale(where, base, normalize)
    least = (order - 1) * delay + order
    reading = read_series(where, series, axis, least=least, nan_policy=nan_policy, gradient=True)
    xp, whole = reading.xp, reading.whole(order, delay)
    if not bool(xp.all(xp.any(reading.rows != 0, axis=-1))):
        raise ValueError(f"{where}: series that are 0 throughout have no singular value to share")
    windows = xp.stack(lagged(reading.scaled()[0], order, delay), axis=1)
    if whole is not None:  # a window of zeros has no part in the singular values
        windows = windows * xp.astype(whole, windows.dtype)[:, None, :]
    values = xp.linalg.svdvals(windows)
    return reading.finish(_entropy_of_shares(values, xp) / (log(order) if normalize else nats), whole)


def _refuse_constants(where: str, reading: Reading) -> None:
    xp = reading.xp
    if not bool(xp.all(xp.max(reading.rows, axis=-1) > xp.min(reading.rows, axis=-1))):
        raise ValueError(f"{where}: a constant series has no power above frequency 0 to share")


def _periodogram(reading: Reading) -> tuple[Any, None]:
    xp, rows = reading.xp, reading.scaled()[0]
    power = _squares(rows - xp.mean(rows, axis=-1, keepdims=True), xp)
    return _above_zero(power, rows.shape[-1], xp), None


def _welch(reading: Reading, segment: int) -> tuple[Any, Any]:
    """The sum over segments, and which of them count."""
    xp, rows = reading.xp, reading.scaled()[0]
    angles = 2 * xp.pi / segment * xp.arange(segment, dtype=rows.dtype, device=rows.device)
    window = 0.5 - 0.5 * xp.cos(angles)
    power = xp.zeros((rows.shape[0], segment // 2 + 1), dtype=rows.dtype, device=rows.device)
    whole = []
    # One segment at a time, as in all they are twice the series.
    for start in range(0, rows.shape[-1] - segment + 1, segment - segment // 2):
        piece = rows[:, start : start + segment]
        squares = _squares(window * (piece - xp.mean(piece, axis=-1, keepdims=True)), xp)
        if reading.missing is not None:
            whole.append(~xp.any(reading.missing[:, start : start + segment], axis=-1))
            squares = squares * xp.astype(whole[-1], rows.dtype)[:, None]
        power = power + squares
    return _above_zero(power, segment, xp), xp.stack(whole, axis=-1) if whole else None


def _above_zero(power: Any, length: int, xp: Any) -> Any:
    """Power at the frequencies above 0, up to a factor."""
    power = power[:, 1:]
    if length % 2 == 0:
        # The highest frequency is its own mirror image, all others stand for two.
        power = xp.concat([2 * power[:, :-1], power[:, -1:]], axis=-1)
    return power


def _squares(rows: Any, xp: Any) -> Any:
    return xp.abs(xp.fft.rfft(rows, axis=-1)) ** 2


def _entropy_of_shares(weights: Any, xp: Any) -> Any:
    """NaN where there is nothing to share."""
    total = xp.sum(weights, axis=-1)
    value = shannon(weights / xp.where(total > 0, total, xp.ones_like(total))[:, None], xp)
    return xp.where(total > 0, value, xp.full_like(value, xp.nan))
