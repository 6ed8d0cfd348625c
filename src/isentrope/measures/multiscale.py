r"""Entropies over many time scales: a series is averaged over windows of s samples and measured again for each s.

White noise loses its structure by averaging and 1/f noise keeps it, which a single scale does not tell.
"""

from collections.abc import Callable
from inspect import signature
from math import factorial, log
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from isentrope.measures._series import Reading, Series, check_count, check_scale, read_series, shannon
from isentrope.measures.estimate import unit_of
from isentrope.measures.ordinal import check_patterns, pattern_shares, permutation_entropy
from isentrope.measures.regularity import (
    check_membership,
    fuzzy_entropy,
    matching_pairs,
    membership_sums,
    minus_log_ratio,
    radii_of,
    sample_entropy,
)
from isentrope.measures.symbolic import check_words, dispersion_entropy, word_shares


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
    composition: str = "refined",
    axis: int = -1,
    nan_policy: str = "raise",
    **options: Any,
) -> Float[Any, "..."]:
    r"""An entropy of the series averaged over 1, 2, ..., ``scales`` samples.

    - ``"plain"``: of the one series of means that starts at the first sample.
    - ``"composite"``: mean of the entropies of the s series that start at samples 0, ..., s - 1, which varies less.
    - ``"refined"``: one entropy of what is counted in these s series together. For sample and fuzzy entropy that is the
      pairs, $-\ln\bigl(\sum_o A_o/\sum_o B_o\bigr)$, so that a series without a match does not make the whole infinite; for
      permutation and dispersion entropy the mean of their laws, $-\sum_w\bar p(w)\ln\bar p(w)$, which is less low where
      windows are few. Other measures have no refined one.

    For these four, what is relative to the series stays that of the original at every scale: the radius that ``tolerance``
    makes, and the classes of the dispersion entropy. Any other measure sees each averaged series by itself.

    White Gaussian noise of deviation σ has sample entropy $-\ln\operatorname{erf}(r\sqrt s/2\sigma)$ at scale s, and
    permutation entropy $\ln m!$ at all of them. Its dispersion entropy falls, as the middle classes fill.

    Args:
        measure: `sample_entropy`, `fuzzy_entropy`, `permutation_entropy`, `dispersion_entropy` or another function of this
            room that is called as ``measure(series, axis=-1, **options)``.
        series: real values, time along ``axis``; other axes are a batch.
        scales: the largest scale.
        composition: one of the names above.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does, as by `coarse_grain` and by the measure.
        **options: settings of the measure; steps (``delay``) are counted after averaging.

    Returns:
        The entropies, scales along a new last axis; infinite or NaN as by the measure.

    Raises:
        ValueError: if the series is too short for a window at the largest scale, or not finite, the measure has no refined
            composition, or a setting is out of range.
        TypeError: if the series is not an array of real numbers, or the measure has no such setting.

    References:
        Costa, Goldberger and Peng (2002), as by `coarse_grain`; Wu et al. (2013), "Time series analysis using composite
        multiscale entropy", Entropy 15, 1069; Wu et al. (2014), "Analysis of complex time series using refined composite
        multiscale entropy", Physics Letters A 378, 1369; Humeau-Heurtier, Wu and Wu (2015), "Refined composite multiscale
        permutation entropy", IEEE Signal Processing Letters 22, 2364; Azami, Rostaghi, Abásolo and Escudero, "Refined
        composite multiscale dispersion entropy" (arXiv 1606.01379); Azami, Fernández and Escudero, "Refined multiscale
        fuzzy entropy" (arXiv 1602.02847).

    Examples:
        >>> import numpy as np
        >>> from isentrope.measures import permutation_entropy, sample_entropy
        >>> noise = np.random.default_rng(0).normal(size=5000)
        >>> multiscale_entropy(sample_entropy, noise, scales=3).round(1).tolist()
        [2.2, 1.8, 1.7]
        >>> multiscale_entropy(permutation_entropy, noise, scales=3, normalize=True).round(2).tolist()
        [1.0, 1.0, 1.0]
    """
    where = "multiscale_entropy"
    check_count(where, "scales", scales, 1)
    if not callable(measure):
        raise TypeError(f"{where}: measure must be a function of a series, as sample_entropy is (got {measure!r})")
    if composition not in ("plain", "composite", "refined"):
        raise ValueError(f"{where}: composition must be one of plain, composite, refined (got {composition!r})")
    reading = read_series(where, series, axis, least=scales, nan_policy=nan_policy)
    counted = _COUNTED.get(measure)
    if counted is not None:
        counting = counted(where, reading, **_settings(where, measure, options))
        needed = scales * counting.least + (scales - 1) * (composition != "plain")
        if (n := reading.rows.shape[-1]) < needed:
            raise ValueError(f"{where}: series must have at least {needed} samples for these settings, got {n}")
    elif composition == "refined":
        known = ", ".join(function.__name__ for function in _COUNTED)
        raise ValueError(
            f"{where}: composition 'refined' is known for {known}; for another measure take 'composite' or 'plain'"
        )
    else:
        gaps = {} if reading.missing is None else {"nan_policy": nan_policy}

        def by_itself(averaged: Reading) -> Any:
            return measure(_with_gaps(averaged), axis=-1, **options, **gaps)

        counting = _Counting(1, by_itself, lambda values: values)
    values = []
    for scale in range(1, scales + 1):
        offsets = range(1 if composition == "plain" else scale)
        found = [counting.count(_averaged(reading, scale, offset)) for offset in offsets]
        if composition == "refined":
            found = [sum(found)]
        values.append(sum(map(counting.entropy, found)) / len(found))
    return reading.finish(reading.xp.stack(values, axis=-1))


class _Counting(NamedTuple):
    """How an entropy is made of what is counted in a series, so that several series can be counted together."""

    least: int
    """Samples that a series needs for a window, or two to compare."""
    count: Callable[[Reading], Any]
    """Of each row, numbers that add up over series."""
    entropy: Callable[[Any], Any]
    """Of such numbers, the entropy of each row."""


def _sample(
    where: str, reading: Reading, *, order: int, delay: int, tolerance: float, radius: float | None, base: float | None
) -> _Counting:
    check_count(where, "order", order, 1)
    check_count(where, "delay", delay, 1)
    radii = radii_of(where, reading, tolerance, radius)

    def count(averaged: Reading) -> np.ndarray:
        return np.array(matching_pairs(averaged, order, delay, radii), dtype=np.float64)

    return _Counting(order * delay + 2, count, _logarithm_of_ratio(where, reading, base))


def _fuzzy(
    where: str,
    reading: Reading,
    *,
    order: int,
    delay: int,
    tolerance: float,
    radius: float | None,
    exponent: float,
    base: float | None,
) -> _Counting:
    check_membership(where, order, exponent, tolerance, radius)
    check_count(where, "delay", delay, 1)
    radii = radii_of(where, reading, tolerance, radius)

    def count(averaged: Reading) -> np.ndarray:
        return np.array(membership_sums(averaged, order, delay, radii, exponent))

    return _Counting(order * delay + 2, count, _logarithm_of_ratio(where, reading, base))


def _permutation(
    where: str, reading: Reading, *, order: int, delay: int, normalize: bool, base: float | None
) -> _Counting:
    check_patterns(where, order, delay)
    scale = log(factorial(order)) if normalize else 1.0
    return _Counting(
        (order - 1) * delay + 1,
        lambda averaged: pattern_shares(averaged, order, delay),
        _shannon_entropy(reading, check_scale(where, base, normalize) * scale),
    )


def _dispersion(
    where: str, reading: Reading, *, order: int, classes: int, delay: int, normalize: bool, base: float | None
) -> _Counting:
    check_words(where, order, classes, delay, classes**order)
    scale, moments = log(classes**order) if normalize else 1.0, reading.moments()
    return _Counting(
        (order - 1) * delay + 1,
        lambda averaged: word_shares(averaged, moments, order, classes, delay),
        _shannon_entropy(reading, check_scale(where, base, normalize) * scale),
    )


_COUNTED: dict[Callable[..., Any], Callable[..., _Counting]] = {
    sample_entropy: _sample,
    fuzzy_entropy: _fuzzy,
    permutation_entropy: _permutation,
    dispersion_entropy: _dispersion,
}


def _settings(where: str, measure: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """The measure's settings, where they are not given by their defaults."""
    accepted = {
        name: parameter.default
        for name, parameter in signature(measure).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in ("axis", "nan_policy")
    }
    if unknown := [name for name in options if name not in accepted]:
        raise TypeError(f"{where}: {measure.__name__} has no setting {unknown[0]!r}; it has {', '.join(accepted)}")
    return accepted | options


def _logarithm_of_ratio(where: str, reading: Reading, base: float | None) -> Callable[[np.ndarray], Any]:
    nats, _ = unit_of(base, where)

    def entropy(pairs: np.ndarray) -> Any:
        values = np.array([minus_log_ratio(long, short) for short, long in pairs.tolist()]) / nats
        return reading.xp.asarray(values, device=reading.rows.device, dtype=reading.rows.dtype)

    return entropy


def _shannon_entropy(reading: Reading, scale: float) -> Callable[[Any], Any]:
    xp = reading.xp

    def entropy(shares: Any) -> Any:
        # Several laws were added up, and a series without a whole window has shares of 0.
        total = xp.sum(shares, axis=-1, keepdims=True)
        values = shannon(shares / xp.where(total > 0, total, xp.ones_like(total)), xp) / scale
        return xp.where(total[:, 0] > 0, values, xp.full_like(values, np.nan))

    return entropy


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
