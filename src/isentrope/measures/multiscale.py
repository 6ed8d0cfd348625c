r"""Entropies over many time scales: a series is averaged over windows of s samples and measured again for each s.

White noise loses its structure by averaging and 1/f noise keeps it, which a single scale does not tell.
"""

from collections.abc import Callable
from math import log
from typing import Any

import numpy as np
from jaxtyping import Float

from isentrope.measures._series import Reading, Series, check_count, check_scale, read_series, shannon
from isentrope.measures.estimate import unit_of
from isentrope.measures.regularity import matching_pairs, minus_log_ratio, radii_of
from isentrope.measures.symbolic import check_words, word_shares


def coarse_grain(
    series: Series, scale: int, *, offset: int = 0, axis: int = -1, nan_policy: str = "raise"
) -> Float[Any, "..."]:
    r"""Means of consecutive, disjoint windows, $y_j=\frac1s\sum_{i<s}x_{o+js+i}$; an incomplete last one is dropped.

    Args:
        series: real values, time along ``axis``; other axes are a batch. A NumPy array, a PyTorch tensor or a list.
        scale: length s of a window.
        offset: samples o left out at the start.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error), "propagate" (its whole series is NaN) or "omit"
            (the windows that hold one are NaN).

    Returns:
        The shorter series, time last, in the kind, dtype and device of the input (float64 for integers).

    Raises:
        ValueError: if no window fits, the series is not finite, or a setting is out of range.
        TypeError: if the series is not an array of real numbers.

    References:
        Costa, Goldberger and Peng (2002), "Multiscale entropy analysis of complex physiologic time series", Physical
        Review Letters 89, 068102.

    Examples:
        >>> coarse_grain([1, 3, 5, 7, 9], 2).tolist()
        [2.0, 6.0]
    """
    check_count("coarse_grain", "scale", scale, 1)
    check_count("coarse_grain", "offset", offset, 0)
    reading = read_series("coarse_grain", series, axis, least=scale + offset, nan_policy=nan_policy)
    averaged = _averaged(reading, scale, offset)
    return reading.finish(_with_gaps(averaged))


def multiscale_entropy(
    measure: Callable[..., Any],
    series: Series,
    *,
    scales: int = 20,
    composite: bool = False,
    axis: int = -1,
    nan_policy: str = "raise",
    **options: Any,
) -> Float[Any, "..."]:
    r"""An entropy of the series averaged over 1, 2, ..., ``scales`` samples.

    With ``composite`` the entropy at scale s is the mean over the s series that start at the samples 0, ..., s - 1, which
    varies less. Options go to the measure at every scale. For sample and dispersion entropy take
    `multiscale_sample_entropy` and `multiscale_dispersion_entropy`: radius and classes are to stay those of the original
    series, and here they would follow each scale's own deviation.

    Args:
        measure: a function of this room, such as `permutation_entropy` or `dispersion_entropy`, called as
            ``measure(series, axis=-1, **options)``.
        series: real values, time along ``axis``; other axes are a batch.
        scales: the largest scale.
        composite: whether to average over all offsets.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does, as by `coarse_grain` and by the measure.
        **options: settings of the measure.

    Returns:
        The entropies, scales along a new last axis.

    Raises:
        ValueError: if the series is too short for the measure at the largest scale.
        TypeError: if the series is not an array of real numbers.

    References:
        Costa, Goldberger and Peng (2002), as by `coarse_grain`; Wu et al. (2013), "Time series analysis using composite
        multiscale entropy", Entropy 15, 1069.

    Examples:
        >>> import numpy as np
        >>> from isentrope.measures import permutation_entropy
        >>> noise = np.random.default_rng(0).normal(size=3000)
        >>> multiscale_entropy(permutation_entropy, noise, scales=3, normalize=True).round(2).tolist()
        [1.0, 1.0, 1.0]
    """
    where = "multiscale_entropy"
    check_count(where, "scales", scales, 1)
    reading = read_series(where, series, axis, least=scales, nan_policy=nan_policy)
    xp, values = reading.xp, []
    if reading.missing is not None:
        options["nan_policy"] = nan_policy
    for scale in range(1, scales + 1):
        offsets = range(scale if composite else 1)
        found = [measure(_with_gaps(_averaged(reading, scale, offset)), axis=-1, **options) for offset in offsets]
        values.append(sum(found) / len(found))
    return reading.finish(xp.stack(values, axis=-1))


def multiscale_sample_entropy(
    series: Series,
    *,
    scales: int = 20,
    composition: str = "refined",
    order: int = 2,
    delay: int = 1,
    tolerance: float = 0.2,
    radius: float | None = None,
    base: float | None = None,
    axis: int = -1,
    nan_policy: str = "raise",
) -> Float[Any, "..."]:
    r"""Sample entropy of the series averaged over 1, 2, ..., ``scales`` samples, with the radius of the original.

    - ``"plain"``: of the one series of means that starts at the first sample.
    - ``"composite"``: mean of the entropies of the s series that start at samples 0, ..., s - 1.
    - ``"refined"``: their pairs are counted together, $-\ln\bigl(\sum_o A_o/\sum_o B_o\bigr)$, so that a series
      without a match does not make the whole infinite.

    White Gaussian noise of deviation σ has $-\ln\operatorname{erf}(r\sqrt s/2\sigma)$ at scale s.

    Args:
        series: real values, time along ``axis``; other axes are a batch.
        scales: the largest scale.
        composition: one of the names above.
        order: length m of a window.
        delay: steps τ between the values of a window, after averaging.
        tolerance: radius in standard deviations of each original series (divisor n).
        radius: radius in the unit of the series, for all of them, instead of the tolerance.
        base: base of the logarithm; None for nats, 2 for bits.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does, as by `coarse_grain` and `sample_entropy`.

    Returns:
        The entropies, scales along a new last axis; infinite or NaN as by `sample_entropy`.

    Raises:
        ValueError: if the series is too short for a window at the largest scale, or not finite, or a setting is out of
            range.
        TypeError: if the series is not an array of real numbers.

    References:
        Costa, Goldberger and Peng (2002), as by `coarse_grain`; Wu et al. (2013), Entropy 15, 1069; Wu et al. (2014),
        "Analysis of complex time series using refined composite multiscale entropy", Physics Letters A 378, 1369.

    Examples:
        >>> import numpy as np
        >>> noise = np.random.default_rng(0).normal(size=5000)
        >>> multiscale_sample_entropy(noise, scales=3).round(1).tolist()
        [2.2, 1.8, 1.7]
    """
    where = "multiscale_sample_entropy"
    nats = unit_of(base, where)[0]
    _check(where, scales, composition)
    check_count(where, "order", order, 1)
    check_count(where, "delay", delay, 1)
    # The last offset leaves one window less.
    reading = read_series(where, series, axis, least=scales * (order * delay + 3) - 1, nan_policy=nan_policy)
    values = np.empty((reading.rows.shape[0], scales))
    radii = radii_of(where, reading, tolerance, radius)
    for scale in range(1, scales + 1):
        offsets = range(1 if composition == "plain" else scale)
        # Pairs for each offset, series and length.
        pairs = np.array([matching_pairs(_averaged(reading, scale, o), order, delay, radii) for o in offsets])
        groups = pairs.sum(axis=0, keepdims=True) if composition == "refined" else pairs
        for row in range(len(radii)):
            values[row, scale - 1] = np.mean([minus_log_ratio(long, short) for short, long in groups[:, row].tolist()])
    return reading.finish(values / nats)


def multiscale_dispersion_entropy(
    series: Series,
    *,
    scales: int = 20,
    composition: str = "refined",
    order: int = 2,
    classes: int = 3,
    delay: int = 1,
    normalize: bool = False,
    base: float | None = None,
    axis: int = -1,
    nan_policy: str = "raise",
) -> Float[Any, "..."]:
    r"""Dispersion entropy of the series averaged over 1, 2, ..., ``scales`` samples, with the classes of the original.

    - ``"plain"``: of the one series of means that starts at the first sample.
    - ``"composite"``: mean of the entropies of the s series that start at samples 0, ..., s - 1.
    - ``"refined"``: entropy of the mean of their laws of words, $-\sum_w\bar p(w)\ln\bar p(w)$.

    White Gaussian noise fills the classes alike at scale 1 and the middle ones ever more at larger scales.

    Args:
        series: real values, time along ``axis``; other axes are a batch.
        scales: the largest scale.
        composition: one of the names above.
        order: length m of a word.
        classes: number c of symbols.
        delay: steps between the symbols of a word, after averaging.
        normalize: divide by $\ln c^m$.
        base: base of the logarithm; None for nats, 2 for bits.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does, as by `coarse_grain` and `dispersion_entropy`.

    Returns:
        The entropies, scales along a new last axis.

    Raises:
        ValueError: if the series is too short for a word at the largest scale, or not finite, or a setting is out of range.
        TypeError: if the series is not an array of real numbers.

    References:
        Azami, Rostaghi, Abásolo and Escudero (2017), "Refined composite multiscale dispersion entropy and its application
        to biomedical signals" (arXiv 1606.01379).

    Examples:
        >>> import numpy as np
        >>> noise = np.random.default_rng(0).normal(size=5000)
        >>> multiscale_dispersion_entropy(noise, scales=3).round(1).tolist()
        [2.2, 2.1, 2.0]
    """
    where = "multiscale_dispersion_entropy"
    _check(where, scales, composition)
    check_words(where, order, classes, delay, classes**order)
    nats = check_scale(where, base, normalize)
    reading = read_series(where, series, axis, least=scales * ((order - 1) * delay + 2) - 1, nan_policy=nan_policy)
    xp, moments, values = reading.xp, reading.moments(), []
    for scale in range(1, scales + 1):
        offsets = range(1 if composition == "plain" else scale)
        laws = [word_shares(_averaged(reading, scale, offset), moments, order, classes, delay) for offset in offsets]
        if composition == "refined":
            # A series without a whole window has shares of 0.
            total = xp.sum(sum(laws), axis=-1, keepdims=True)
            laws = [sum(laws) / xp.where(total > 0, total, xp.ones_like(total))]
        values.append(sum(_entropy_of(law, xp) for law in laws) / len(laws))
    return reading.finish(xp.stack(values, axis=-1) / (log(classes**order) if normalize else nats))


def _check(where: str, scales: int, composition: str) -> None:
    check_count(where, "scales", scales, 1)
    if composition not in ("plain", "composite", "refined"):
        raise ValueError(f"{where}: composition must be one of plain, composite, refined (got {composition!r})")


def _entropy_of(law: Any, xp: Any) -> Any:
    values = shannon(law, xp)
    return xp.where(xp.any(law > 0, axis=-1), values, xp.full_like(values, np.nan))


def _averaged(reading: Reading, scale: int, offset: int) -> Reading:
    xp, rows = reading.xp, reading.rows
    number = (rows.shape[-1] - offset) // scale

    def windows(values: Any) -> Any:
        return xp.reshape(values[:, offset : offset + number * scale], (rows.shape[0], number, scale))

    missing = None if reading.missing is None else xp.any(windows(reading.missing), axis=-1)
    return reading._replace(rows=xp.mean(windows(rows), axis=-1), missing=missing)


def _with_gaps(reading: Reading) -> Any:
    """The series, NaN where a sample is missing."""
    rows = reading.rows
    return (
        rows if reading.missing is None else reading.xp.where(reading.missing, reading.xp.full_like(rows, np.nan), rows)
    )
