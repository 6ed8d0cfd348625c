r"""Differential entropy of samples that have a density.

The entropy of a density, $h=-\int f\ln f$, has the unit of a logarithm but depends on the unit of the data: scaling by
a adds $\ln|a|$, and it may be negative. It suits measurements; values that recur are better read as discrete.
"""

from math import lgamma, log, nan, pi, sqrt
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Real
from scipy.special import digamma, polygamma

from isentrope._threads import threads_of
from isentrope.measures._frames import table_of, values_of
from isentrope.measures._parts import apart, part_size, parts, too_few
from isentrope.measures._spaces import deviation, power_of_two
from isentrope.measures.estimate import Estimate, check_at_least, unit_of
from isentrope.measures.gaussian import gaussian_log_density, gaussian_scores
from isentrope.measures.neighbours import NeighbourSearch

# With fewer distinct values than this share of the samples, the note asks whether a discrete reading is meant.
_DISTINCT_SHARE = 0.5
_SPACINGS = ("ebrahimi", "vasicek", "van_es", "correa")
_METHODS = (*_SPACINGS, "knn", "kde", "gaussian", "gaussian_copula")
# Pairs held in memory at once by the kernel estimator.
_PAIRS = 1 << 21


class _Density(NamedTuple):
    """Estimates of -ln f at the samples, whose mean is the entropy, and the variance of that mean."""

    local: np.ndarray
    variance: float
    note: str = ""


def differential_entropy(
    samples: Real[np.ndarray, "n *d"] | npt.ArrayLike | Any,
    *,
    method: str = "auto",
    k: int = 4,
    metric: str = "max",
    standardize: bool = True,
    base: float | None = None,
    local: bool = False,
    stderr: bool = True,
    n_jobs: int | None = None,
) -> Estimate:
    r"""Differential entropy of independent samples of a real variable or vector.

    - ``"ebrahimi"``, ``"vasicek"``, ``"van_es"``, ``"correa"``: one variable, from the spacings of the sorted values,
      $$\hat h = \frac1n\sum_i \ln\frac{n\,(x_{(i+m)}-x_{(i-m)})}{c_i m},\qquad m=\lfloor\sqrt n+\tfrac12\rfloor,$$
      with Ebrahimi's weights $c_i$ at the ends (2 in the middle). SciPy computes all four.
    - ``"knn"`` (Kozachenko and Leonenko): $\psi(n)-\psi(k)+\ln c_d+\frac dn\sum_i\ln\varepsilon_i$ with $\varepsilon_i$
      the distance to the k-th neighbour and $c_d$ the volume of the unit ball. Too high in many dimensions: by 0.15 nat
      for a Gaussian of 10 with 10,000 samples.
    - ``"kde"``: $-\frac1n\sum_i\ln\hat f_{-i}(x_i)$ with a Gaussian kernel of the samples' covariance and Scott's width,
      each sample left out of its own density. It takes n² steps.
    - ``"gaussian"``: $\frac12\ln((2\pi e)^d\det\Sigma)$ without bias for Gaussian samples; ``"gaussian_copula"``: the
      margins by Ebrahimi's spacings, their dependence as between normal scores.

    "auto" takes ``"ebrahimi"`` for one variable (``"van_es"`` for 10 samples or fewer) and ``"knn"`` for several.
    Ebrahimi's is also taken for large n, where SciPy by itself turns to Vasicek's, whose bias at the ends of a bounded
    support is three times larger.

    The standard error is $\sqrt{\mathrm{Var}[\ln \hat f(x_i)]/n}$, for ``"knn"`` that of parts of the samples (see
    `mutual_information`), for ``"gaussian"`` the exact $\frac12\sqrt{\sum_i\psi_1(\frac{n-i}2)}$ times what the squared
    distances from the mean scatter beyond those of Gaussian samples. It does not hold the bias, which on a bounded support
    is the larger of the two (-0.008 nat with ± 0.004 for a uniform law, spacings, and n = 1000).

    Args:
        samples: n real values, or n rows of d values; an array, a list or a data frame.
        method: one of the names above, or "auto".
        k: number of neighbours of "knn".
        metric: norm of "knn", "max" or "euclidean".
        standardize: for "knn", seek neighbours after each column was divided by its standard deviation, whose
            logarithm is added again: the unit of one column then does not change which samples are near.
        base: base of the logarithm; None for nats, 2 for bits.
        local: keep the pointwise values $-\ln\hat f(x_i)$ in ``Estimate.local``; not for "van_es" and "correa".
        stderr: also estimate the standard error of "knn", which searches parts of the samples again; NaN without.
        n_jobs: number of threads of the neighbour search.

    Returns:
        The entropy with its standard error. A note says when values recur so often that `discrete_entropy` may be
        meant.

    Raises:
        ValueError: if there are too few samples (4, or 5 for "van_es" and "correa", or the number of neighbours or columns
            and 2), some are NaN or infinite, or they have more than two dimensions; if a setting is unknown; if values recur so often that
            spacings or distances vanish (a constant has differential entropy minus infinity), or columns depend
            linearly on each other.
        TypeError: if the samples are not real numbers.

    References:
        Vasicek (1976), "A test for normality based on sample entropy"; Ebrahimi, Pflughoeft and Soofi (1994), "Two
        measures of sample entropy"; van Es (1992), "Estimating functionals related to a density"; Correa (1995), "A new
        estimator of entropy"; Kozachenko and Leonenko (1987), "Sample estimate of the entropy of a random vector";
        Kraskov, Stögbauer and Grassberger, "Estimating mutual information" (arXiv cond-mat/0305641), eq. 20.

    Examples:
        >>> import numpy as np
        >>> differential_entropy(np.random.default_rng(0).uniform(0, 8, size=10_000), base=2)
        Estimate(2.9961 ± 0.0011 bit, ebrahimi, n=10000)
        >>> differential_entropy(np.random.default_rng(0).normal(size=(500, 2)), method="gaussian")  # ln(2 pi e) = 2.838
        Estimate(2.794 ± 0.047 nat, gaussian, n=500)
    """
    nats, unit = unit_of(base, "differential_entropy")
    if n_jobs is not None:
        threads_of("differential_entropy", n_jobs)
    points = _points(samples)
    n, dimensions = points.shape
    if method == "auto":
        method = "knn" if dimensions > 1 else "ebrahimi" if n > 10 else "van_es"
    _check(method, metric, k, n, dimensions, local)
    distinct = [1 + int(np.count_nonzero(np.diff(np.sort(column)))) for column in points.T]
    if min(distinct) == 1:
        value = points[0, distinct.index(1)]
        raise ValueError(
            f"differential_entropy: all {n} samples are {value:g}{'' if dimensions == 1 else ' in a column'}, so the "
            "differential entropy is minus infinity; discrete_entropy reads them as symbols"
        )
    recurring = min(distinct) < _DISTINCT_SHARE * n
    note = f"only {min(distinct)} distinct values: a discrete reading may be meant" if recurring else ""
    if method in _SPACINGS:
        found = _by_spacings(points[:, 0], method)
    elif method == "knn":
        found = _by_neighbours(points, k, metric == "euclidean", standardize, stderr, n_jobs)
    elif method == "kde":
        found = _by_kernels(points)
    elif method == "gaussian":
        found = _by_gaussian_law(points)
    else:
        found = _by_gaussian_copula(points)
    return Estimate(
        float(found.local.mean()) / nats,
        sqrt(found.variance) / nats,
        unit=unit,
        method=method,
        n=n,
        note="; ".join(part for part in (note, found.note) if part),
        local=found.local / nats if local else None,
    )


def _points(samples: Any) -> np.ndarray:
    table = table_of("differential_entropy", "samples", samples)
    values = values_of(samples) if table is None else np.stack(table.columns, axis=1)
    if values.ndim not in (1, 2) or (values.ndim == 2 and values.shape[1] == 0):
        raise ValueError(
            f"differential_entropy: samples must have one or two dimensions, [n] or [n, d] (got shape {values.shape})"
        )
    if values.dtype.kind not in "fiub":
        raise TypeError(f"differential_entropy: samples must be real numbers (got dtype {values.dtype})")
    points = values.astype(np.float64)
    points = points[:, None] if points.ndim == 1 else points
    wrong = int(np.count_nonzero(~np.isfinite(points).all(axis=1)))
    if wrong:
        raise ValueError(f"differential_entropy: {wrong} of {len(points)} samples are NaN or infinite; drop them first")
    return points


def _check(method: str, metric: str, k: int, n: int, dimensions: int, local: bool) -> None:
    name = "differential_entropy"
    if method not in _METHODS:
        raise ValueError(f"{name}: method must be auto or one of {', '.join(_METHODS)} (got {method!r})")
    if metric not in ("max", "euclidean"):
        raise ValueError(f"{name}: metric must be 'max' or 'euclidean' (got {metric!r})")
    check_at_least(name, "k", k, 1)
    if method in _SPACINGS and dimensions > 1:
        raise ValueError(
            f"{name}: method {method!r} is for one variable (got {dimensions} columns); 'knn' takes several"
        )
    if local and method in ("van_es", "correa"):
        raise ValueError(f"{name}: method {method!r} has no local values; 'ebrahimi' and 'vasicek' have")
    least = k + 1 if method == "knn" else dimensions + 2
    # With fewer than 5 samples their windows reach over all of them.
    least = max(5 if method in ("van_es", "correa") else 4, least)
    if n < least:
        raise ValueError(f"{name}: at least {least} samples are needed (got {n})")


def _by_spacings(values: np.ndarray, method: str) -> _Density:
    # scipy.stats takes most of a second to import; those who measure something else do not wait for it.
    from scipy.stats import differential_entropy as spacing_entropy

    n, order = len(values), np.argsort(values)
    ordered = values[order]
    window = int(sqrt(n) + 0.5)
    padded = np.pad(ordered, window, mode="edge")
    spacing = padded[2 * window :] - padded[: -2 * window]
    if not spacing.all() or (method == "van_es" and not (ordered[window:] - ordered[:-window]).all()):
        distinct = 1 + int(np.count_nonzero(np.diff(ordered)))
        raise ValueError(
            f"differential_entropy: the {n} samples take only {distinct} values and recur more often than the spacing "
            f"of {window} samples, so the differential entropy is minus infinity; discrete_entropy reads them as symbols"
        )
    # At the ends the spacing covers fewer steps, for which Ebrahimi's weights allow.
    steps = np.minimum(np.arange(n) + window, n - 1) - np.maximum(np.arange(n) - window, 0)
    variance = float(np.var(np.log(spacing / steps))) / n
    if method in ("ebrahimi", "vasicek"):
        place = np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1))
        weights = np.minimum(1 + (place - 1) / window, 2.0) if method == "ebrahimi" else np.full(n, 2.0)
        local = np.empty(n)
        local[order] = np.log(n * spacing / (weights * window))
    else:
        local = np.full(n, float(spacing_entropy(ordered, window_length=window, method=method.replace("_", " "))))
    return _Density(local, variance)


def _by_neighbours(
    points: np.ndarray, k: int, euclidean: bool, standardize: bool, stderr: bool, n_jobs: int | None
) -> _Density:
    dimensions = points.shape[1]
    centred = points - np.median(points, axis=0)
    deviations = _deviations(centred)
    if len(points) > dimensions + 1:
        _covariance(centred / deviations)
    scale = deviations if standardize else np.full(dimensions, 1 / power_of_two(float(np.abs(centred).max())))
    scaled = centred / scale
    volume = dimensions / 2 * log(pi) - lgamma(1 + dimensions / 2) if euclidean else dimensions * log(2)

    def values(points: np.ndarray, n_jobs: int | None) -> np.ndarray:
        radius = NeighbourSearch(points, euclidean=euclidean).nearest(k, n_jobs=n_jobs)[0][:, -1]
        if not radius.all():
            raise ValueError(
                f"differential_entropy: {int(np.count_nonzero(radius == 0))} of {len(points)} samples share their place "
                f"with k={k} others, so the differential entropy is minus infinity; discrete_entropy reads them as "
                "symbols, a larger k takes wider neighbourhoods"
            )
        constant = digamma(len(points)) - digamma(k) + volume + np.log(scale).sum()
        return constant + dimensions * np.log(radius)

    local = values(scaled, n_jobs)
    if not stderr:
        return _Density(local, nan)
    chosen = parts(len(points), size := part_size(len(points), k), 3 * size // 2)
    if chosen is not None:
        found = values(apart(scaled[chosen.rows], chosen.part), n_jobs)
        return _Density(local, chosen.variance_of_whole(found, slice(None), len(points)))
    return _Density(local, float(np.var(local, ddof=1)) / len(local), too_few(k))


def _by_kernels(points: np.ndarray) -> _Density:
    n, dimensions = points.shape
    centred = points - points.mean(axis=0)
    unit = _deviations(centred)
    scaled = centred / unit
    scale = np.linalg.cholesky(_covariance(scaled))
    width = n ** (-1 / (dimensions + 4))
    white = np.linalg.solve(scale, scaled.T).T / width
    squares = np.sum(white**2, axis=1)
    log_density = np.empty(n)
    rows = max(1, _PAIRS // n)
    for start in range(0, n, rows):
        block = slice(start, min(n, start + rows))
        exponents = white[block] @ white.T
        exponents -= 0.5 * squares
        exponents -= 0.5 * squares[block, None]
        exponents[np.arange(block.stop - start), np.arange(start, block.stop)] = -np.inf
        largest = exponents.max(axis=1)
        exponents -= largest[:, None]
        log_density[block] = largest + np.log(np.exp(exponents, out=exponents).sum(axis=1))
    volume = dimensions * (log(width) + 0.5 * log(2 * pi)) + float(np.log(np.diag(scale) * unit).sum())
    local = log(n - 1) + volume - log_density
    return _Density(local, float(np.var(local, ddof=1)) / n)


def _deviations(centred: np.ndarray) -> np.ndarray:
    return np.array([deviation(column) for column in centred.T])


def _covariance(points: np.ndarray) -> np.ndarray:
    covariance = np.atleast_2d(np.cov(points.T))
    deviations = np.sqrt(np.diag(covariance))
    if np.linalg.matrix_rank(covariance / np.outer(deviations, deviations), hermitian=True) < len(covariance):
        raise ValueError("differential_entropy: the columns are linearly dependent; their joint law has no density")
    return covariance


def _by_gaussian_law(points: np.ndarray) -> _Density:
    n, dimensions = points.shape
    density, excess = _log_density(points)
    of_gaussian = float(np.sum(polygamma(1, (n - np.arange(1, dimensions + 1)) / 2))) / 4
    # The squared distances from the mean have a beta law where samples are Gaussian; heavier tails scatter more.
    first, second = dimensions / 2, (n - dimensions - 1) / 2
    share = first * second / ((first + second) ** 2 * (first + second + 1))
    return _Density(excess - density, of_gaussian * float(np.var(density)) / (share * ((n - 1) ** 2 / n / 2) ** 2))


def _by_gaussian_copula(points: np.ndarray) -> _Density:
    scores = gaussian_scores(points)
    density, excess = _log_density(scores)
    local = excess - density
    for axis in range(points.shape[1]):
        density, excess = _log_density(scores[:, axis : axis + 1])
        local += density - excess + _by_spacings(points[:, axis], "ebrahimi").local
    return _Density(local, float(np.var(local, ddof=1)) / len(local))


def _log_density(points: np.ndarray) -> tuple[np.ndarray, float]:
    try:
        return gaussian_log_density(points)
    except ValueError as error:
        raise ValueError(f"differential_entropy: {error}") from None
