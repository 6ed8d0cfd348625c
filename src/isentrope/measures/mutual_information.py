"""Mutual information and conditional mutual information of samples: continuous, discrete or mixed.

Columns of floating-point numbers are continuous; strings, booleans and objects are symbols, and so are integers of which
at most ten, or at most the root of n, values occur. ``astype(float)`` (of times, ``astype("int64").astype(float)``) or ``astype(str)`` decides
otherwise, and the note of the estimate says what was decided.
"""

from dataclasses import replace
from typing import Any

from isentrope.measures._entropy_sums import (
    Settings,
    Terms,
    closed,
    estimate_sum,
    exchange_first,
    mixture,
    own_radii,
    shift_first,
    shuffle_first,
    strict,
)
from isentrope.measures._spaces import Column, columns_of, described, same_length
from isentrope.measures.discrete_information import (
    discrete_conditional_mutual_information,
    discrete_mutual_information,
)
from isentrope.measures.estimate import Estimate

# None needs no neighbours. The first is taken where none is asked for.
MUTUAL = {
    "ksg": strict,
    "ksg2": own_radii,
    "ross": strict,
    "mixture": mixture,
    "gaussian": None,
    "gaussian_copula": None,
}
CONDITIONAL = {"frenzel_pompe": strict, "mesner_shalizi": closed, "gaussian": None, "gaussian_copula": None}
_MUTUAL_TERMS: Terms = {(0,): 1, (1,): 1, (0, 1): -1}
CONDITIONAL_TERMS: Terms = {(0, 2): 1, (1, 2): 1, (2,): -1, (0, 1, 2): -1}


def mutual_information(
    x: Any,
    y: Any,
    *,
    method: str = "auto",
    k: int = 4,
    metric: str = "max",
    standardize: bool = True,
    window: int = 0,
    base: float | None = None,
    local: bool = False,
    stderr: bool = True,
    n_jobs: int | None = None,
) -> Estimate:
    r"""Mutual information $I(X;Y)$ of paired samples, of vectors of any dimension, continuous, discrete or mixed.

    With $\varepsilon_i$ the distance of sample i to its k-th neighbour in the joint space, and $n_{x,i}$ the number of
    other samples closer than $\varepsilon_i$ in x alone:

    - ``"ksg"``: $\psi(k)+\psi(N)-\langle\psi(n_x+1)+\psi(n_y+1)\rangle$, the first estimator of Kraskov, Stögbauer and
      Grassberger. Where values recur, so that several samples lie at $\varepsilon_i$ itself, all of these count, in
      k too: data rounded to a tenth of their deviation would otherwise be estimated a whole nat too high. That rule
      leaves -0.03 to 0.00 nat for 1000 independent samples rounded to 0.01 to 2 deviations (lowest at 0.5), and -0.01 to
      0.02 for dependent ones of 0.4 nat; the note says where so many are equal that a discrete reading is better.
    - ``"ksg2"``: $\psi(k)-\frac1k+\psi(N)-\langle\psi(n_x)+\psi(n_y)\rangle$, their second: each space has its own
      radius, the largest distance in it among the k neighbours, and points at the radius count.
    - ``"ross"``: one variable discrete. Neighbours are sought among samples of the same symbol (at most $N_y-1$ of
      them); samples whose symbol occurs once are left out. It is the first estimator with symbols infinitely far apart.
    - ``"mixture"``: $\langle\psi(\tilde k)+\ln N-\psi(n_x+1)-\psi(n_y+1)\rangle$, where $\tilde k$ and the counts are
      those of samples in the same place if more than k are there (Gao and others). This is their published program;
      with logarithms of counts that hold the radius, as in their eq. 4, it would be 0.05 to 0.24 nat lower. It does
      nothing for values that recur less than k times, such as rounded ones; ``"ksg"`` does.
    - ``"gaussian"``: $\frac12\ln\frac{\det\Sigma_x\det\Sigma_y}{\det\Sigma}$ with unbiased log-determinants;
      ``"gaussian_copula"`` the same of the normal scores of ranks. Both see no dependence but the linear one (of the
      scores): for other laws the copula gives a lower bound.

    "auto" takes ``"ksg"``, which is ``"ross"`` where one variable is discrete, and `discrete_mutual_information`, whose
    methods may be named here too, where all columns are discrete. Values are not clipped: near independence half of
    them are negative.

    The standard error of neighbour methods comes from the estimates of parts of the samples (halves, or of 500 to 750 for
    k up to 10), whose variance falls as 1/N. In simulations it was 0.85 to 1.05 times the spread, lowest for conditional
    informations. The spread of the local values would make it too small, by 1.2 to 1.6 times, because neighbours share what
    is random in them; it serves only below 200 samples (8 k), as the note says, and the Gaussian methods, where local values
    are independent (where the variables are too, the error becomes 1.3 times too wide). Resampling with replacement would
    not do: copies are neighbours at distance 0. The bias is not in the standard error.

    That of a series (``window`` > 0) is wider by as much as the mean of its local values is less certain than that of
    independent values, by overlapping batches of $\max(\sqrt N,2\,\mathrm{window})$. Of two autoregressive series with
    coefficients of 0.5 or 0.8 it was 0.9 to 1.1 times the spread, and intervals of 95% held the information in 84 to 92 of
    100 cases for N = 500, in 88 to 94 for 1000 and in 93 to 95 for 4000; with 0.95, where 500 samples are worth 25 and the
    value is too low by a third of the error, in 80, 82 and 88.

    `Estimate.test` shuffles the rows of x; with ``window`` > 0 it shifts x round instead, by more than the window, which
    leaves the series what it is.

    Args:
        x: samples, ``[n]`` or ``[n, d]``; an array, a list or a data frame.
        y: samples of the same length.
        method: one of the names above, or "auto".
        k: number of neighbours.
        metric: distance within x and within y, "max" or "euclidean". Euclidean is often better for vectors of several
            columns.
        standardize: divide each continuous column by its standard deviation before the search. Without it the unit in
            which a variable is measured changes the answer.
        window: samples no more than so many rows apart are not neighbours (Theiler's window for series).
        base: base of the logarithm; None for nats, 2 for bits.
        local: keep the pointwise values in ``Estimate.local`` (NaN for samples left out).
        stderr: also estimate the standard error of neighbour methods, which takes as long as the value of about 8000
            samples; NaN without.
        n_jobs: number of threads of a search; None for all cores where that pays.

    Returns:
        The information with its standard error. A constant variable gives exactly 0. The note says how columns were
        read, and where neighbours are so far away that the value is too low.

    Raises:
        ValueError: if there are too few samples, lengths differ, values are missing or infinite, or a setting is
            unknown.
        TypeError: if a method for numbers is asked for symbols.

    References:
        Kraskov, Stögbauer and Grassberger, "Estimating mutual information" (arXiv cond-mat/0305641); Ross, "Mutual
        information between discrete and continuous data sets" (PLoS ONE 9, 2014); Gao, Kannan, Oh and Viswanath,
        "Estimating mutual information for discrete-continuous mixtures" (arXiv 1709.06212); Holmes and Nemenman,
        "Estimation of mutual information for real-valued data with error bars and controlled bias" (arXiv 1903.09280),
        for the standard error.

    Examples:
        >>> import numpy as np
        >>> x, noise = np.random.default_rng(0).normal(size=(2, 2000))
        >>> mutual_information(x, x + noise)  # the truth is ln(2)/2 = 0.347
        Estimate(0.3... ± 0.0... nat, ksg, n=2000; x, y continuous)
        >>> mutual_information(x, x > 0, base=2).note
        'x continuous and y discrete (booleans)'
    """
    name = "mutual_information"
    settings = Settings(name, method, k, metric, standardize, window, base, local, stderr, n_jobs)
    columns = {"x": columns_of(name, "x", x), "y": columns_of(name, "y", y)}
    if are_symbols(columns, method, MUTUAL):
        found = discrete_mutual_information(*symbols_of(name, columns), **discrete_options(settings))
        return noted(found, columns)
    return estimate_sum(columns, _MUTUAL_TERMS, MUTUAL, settings, _series_or(shuffle_first, window), 2)


def conditional_mutual_information(
    x: Any,
    y: Any,
    z: Any,
    *,
    method: str = "auto",
    k: int = 4,
    metric: str = "max",
    standardize: bool = True,
    window: int = 0,
    base: float | None = None,
    local: bool = False,
    stderr: bool = True,
    n_jobs: int | None = None,
) -> Estimate:
    r"""Conditional mutual information $I(X;Y\mid Z)$ of paired samples, continuous, discrete or mixed.

    With counts in subspaces as in `mutual_information`:

    - ``"frenzel_pompe"``: $\psi(k)-\langle\psi(n_{xz}+1)+\psi(n_{yz}+1)-\psi(n_z+1)\rangle$, with the same rule for
      values that recur.
    - ``"mesner_shalizi"``: $\langle\psi(\tilde k)-\psi(n_{xz})-\psi(n_{yz})+\psi(n_z)\rangle$ with points at the radius
      counted and $\tilde k$ their number in the joint space, which is more than k where values recur. (The paper clips
      at 0; here a negative value stays, so that averages are not biased.)
    - ``"gaussian"`` and ``"gaussian_copula"``: from unbiased log-determinants.

    "auto" takes ``"frenzel_pompe"``, and `discrete_conditional_mutual_information` where all columns are discrete. Symbols
    are infinitely far apart.

    The estimate is biased towards 0 where k neighbours reach further than the scale on which the law of x and y changes
    with z: 0.02 of 0.25 nat in three Gaussian variables with 10,000 samples.

    Standard error and window are those of `mutual_information`. `Estimate.test` exchanges each x for that of one of the
    five samples with the nearest z, so that the dependence of x on z stays (the local permutation of Runge); with
    ``window`` > 0 it shifts x round.

    Args:
        x: samples, ``[n]`` or ``[n, d]``.
        y: samples of the same length.
        z: samples of what is known, of the same length.
        method: one of the names above, or "auto".
        k: number of neighbours.
        metric: distance within each variable, "max" or "euclidean".
        standardize: divide each continuous column by its standard deviation before the search.
        window: samples no more than so many rows apart are not neighbours.
        base: base of the logarithm; None for nats, 2 for bits.
        local: keep the pointwise values in ``Estimate.local``.
        stderr: also estimate the standard error of neighbour methods, which takes as long as the value of about 8000
            samples; NaN without.
        n_jobs: number of threads of a search; None for all cores where that pays.

    Returns:
        The information with its standard error. A constant x or y gives exactly 0, a constant z the mutual information.

    Raises:
        ValueError: as `mutual_information`.
        TypeError: as `mutual_information`.

    References:
        Frenzel and Pompe, "Partial mutual information for coupling analysis of multivariate time series" (Physical Review
        Letters 99, 2007); Mesner and Shalizi, "Conditional mutual information estimation for mixed discrete and
        continuous variables with nearest neighbors" (arXiv 1912.03387); Runge, "Conditional independence testing based on
        a nearest-neighbor estimator of conditional mutual information" (arXiv 1709.01447).

    Examples:
        >>> import numpy as np
        >>> z, a, b = np.random.default_rng(0).normal(size=(3, 1000))
        >>> abs(conditional_mutual_information(z + a, z + b, z)) < 0.05 < mutual_information(z + a, z + b)
        True
    """
    name = "conditional_mutual_information"
    settings = Settings(name, method, k, metric, standardize, window, base, local, stderr, n_jobs)
    columns = {argument: columns_of(name, argument, data) for argument, data in (("x", x), ("y", y), ("z", z))}
    if are_symbols(columns, method, CONDITIONAL):
        found = discrete_conditional_mutual_information(*symbols_of(name, columns), **discrete_options(settings))
        return noted(found, columns)
    return estimate_sum(columns, CONDITIONAL_TERMS, CONDITIONAL, settings, _series_or(exchange_first, window), 2)


def are_symbols(columns: dict[str, list[Column]], method: str, methods: dict) -> bool:
    """Whether a discrete estimator serves: all columns are symbols, and no method that seeks neighbours is asked for."""
    return method not in methods and all(column.discrete for values in columns.values() for column in values)


def symbols_of(name: str, columns: dict[str, list[Column]]) -> list[tuple]:
    """Each variable as the discrete estimators take it."""
    same_length(name, columns)
    return [tuple(column.values for column in values) for values in columns.values()]


def discrete_options(settings: Settings) -> dict[str, Any]:
    """The settings that a discrete estimator shares."""
    if settings.window > 0:
        raise ValueError(f"{settings.name}: window must be 0 where all variables are discrete (got {settings.window})")
    return {"method": settings.method, "base": settings.base, "local": settings.local}


def noted(estimate: Estimate, columns: dict[str, list[Column]]) -> Estimate:
    """The estimate, saying how its columns were read."""
    return replace(estimate, note="; ".join(part for part in (described(columns), estimate.note) if part))


def _series_or(shuffle: Any, window: int) -> Any:
    """The null hypothesis of a series is a shift in time, that of independent samples the shuffle."""
    return (lambda generator, data: shift_first(window, generator, data)) if window > 0 else shuffle
