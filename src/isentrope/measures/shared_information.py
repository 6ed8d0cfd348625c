r"""Information shared among many variables, continuous, discrete or mixed: total and dual total correlation, O and S.

Each is a sum of joint entropies. With neighbours all entropies of a sample take the radius of the k-th neighbour in the
space of all variables: entropies estimated one by one and subtracted carry biases that differ with the dimension, and do
not cancel. Columns are read as `mutual_information` reads them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from isentrope.measures._entropy_sums import Settings, Terms, estimate_sum, own_radii, shift_each, shuffle_each, strict
from isentrope.measures._frames import table_of
from isentrope.measures._spaces import Column, columns_of
from isentrope.measures.discrete_information import (
    _dual,
    _sum,
    _total,
    discrete_dual_total_correlation,
    discrete_o_information,
    discrete_s_information,
    discrete_total_correlation,
)
from isentrope.measures.estimate import Estimate
from isentrope.measures.mutual_information import are_symbols, discrete_options, noted, symbols_of

_METHODS = {"ksg": strict, "gaussian": None, "gaussian_copula": None}


def total_correlation(
    variables: Any,
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
    r"""Total correlation (multi-information) of d variables, $\sum_i H(X_i)-H(X_1,\dots,X_d)$.

    - ``"ksg"``: $\psi(k)+(d-1)\psi(N)-\sum_i\langle\psi(n_i+1)\rangle$ with $n_i$ the number of other samples that are
      closer in variable i than the k-th neighbour is in all of them; ``"ksg2"`` with a radius for each variable. Values
      that recur count as in `mutual_information`.
    - ``"gaussian"`` and ``"gaussian_copula"``: from unbiased log-determinants, of the normal scores of ranks in the latter.

    "auto" takes ``"ksg"``, and `discrete_total_correlation` where all columns are discrete. Standard errors and the window are
    those of `mutual_information`. `Estimate.test` shuffles every variable on its own; with ``window`` > 0 it shifts each
    round.

    Args:
        variables: array ``[n, d]``, data frame, or list or tuple of d variables, each ``[n]`` or ``[n, columns]``.
        method: one of the names above, or "auto".
        k: number of neighbours.
        metric: distance within a variable of several columns, "max" or "euclidean".
        standardize: divide each continuous column by its standard deviation before the search.
        window: samples no more than so many rows apart are not neighbours.
        base: base of the logarithm; None for nats, 2 for bits.
        local: keep the pointwise values in ``Estimate.local``.
        stderr: also estimate the standard error of neighbour methods, which takes as long as the value of about 8000
            samples; NaN without.
        n_jobs: number of threads of a search; None for all cores where that pays.

    Returns:
        The total correlation with its standard error.

    Raises:
        ValueError: if there are fewer than 2 variables, and as `mutual_information`.
        TypeError: as `mutual_information`.

    References:
        Watanabe (1960), "Information theoretical analysis of multivariate correlation"; Kraskov, Stögbauer and
        Grassberger, "Estimating mutual information" (arXiv cond-mat/0305641), eqs. 23 and 30.

    Examples:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(2000, 4))
        >>> total_correlation(x[:, :3] + x[:, 3:])  # the truth is ln(2) * 3/2 - ln(4)/2 = 0.347
        Estimate(0.3... ± 0.0... nat, ksg, n=2000; 0, 1, 2 continuous)
    """
    settings = Settings("total_correlation", method, k, metric, standardize, window, base, local, stderr, n_jobs)
    methods = {**_METHODS, "ksg2": own_radii}
    return _shared(variables, _total, methods, discrete_total_correlation, settings, tested=True)


def dual_total_correlation(
    variables: Any,
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
    r"""Dual total correlation (binding information) of d variables, $\sum_i H(X_{-i})-(d-1)H(X_1,\dots,X_d)$.

    With ``"ksg"``, $\psi(N)+(d-1)\psi(k)-\sum_i\langle\psi(n_{-i}+1)\rangle$, where $n_{-i}$ counts in the space of all
    variables but i; for two variables it is their mutual information.

    Args:
        variables: as in `total_correlation`.
        method: "ksg", "gaussian", "gaussian_copula", the name of a method for symbols, or "auto", as in `total_correlation`.
        k: number of neighbours.
        metric: distance within a variable of several columns, "max" or "euclidean".
        standardize: divide each continuous column by its standard deviation before the search.
        window: samples no more than so many rows apart are not neighbours.
        base: base of the logarithm; None for nats, 2 for bits.
        local: keep the pointwise values in ``Estimate.local``.
        stderr: also estimate the standard error of neighbour methods, which takes as long as the value of about 8000
            samples; NaN without.
        n_jobs: number of threads of a search; None for all cores where that pays.

    Returns:
        The dual total correlation with its standard error.

    Raises:
        ValueError: as `total_correlation`.
        TypeError: as `mutual_information`.

    References:
        Han (1978), "Nonnegative entropy measures of multivariate symmetric correlations"; Kraskov, Stögbauer and
        Grassberger, "Estimating mutual information" (arXiv cond-mat/0305641), for the common radius.

    Examples:
        >>> import numpy as np
        >>> x, y = np.random.default_rng(0).normal(size=(2, 500))
        >>> round(dual_total_correlation([x, x + y]) - total_correlation([x, x + y]), 9)
        0.0
    """
    settings = Settings("dual_total_correlation", method, k, metric, standardize, window, base, local, stderr, n_jobs)
    return _shared(variables, _dual, _METHODS, discrete_dual_total_correlation, settings, tested=True)


def o_information(
    variables: Any,
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
    r"""O-information of d variables, $\Omega=(d-2)H(X)+\sum_i[H(X_i)-H(X_{-i})]$: total less dual total correlation.

    Positive where redundancy dominates, negative where synergy does; exactly 0 for two variables.

    Args:
        variables: as in `total_correlation`.
        method: "ksg", "gaussian", "gaussian_copula", the name of a method for symbols, or "auto", as in `total_correlation`.
        k: number of neighbours.
        metric: distance within a variable of several columns, "max" or "euclidean".
        standardize: divide each continuous column by its standard deviation before the search.
        window: samples no more than so many rows apart are not neighbours.
        base: base of the logarithm; None for nats, 2 for bits.
        local: keep the pointwise values in ``Estimate.local``.
        stderr: also estimate the standard error of neighbour methods, which takes as long as the value of about 8000
            samples; NaN without.
        n_jobs: number of threads of a search; None for all cores where that pays.

    Returns:
        The O-information with its standard error.

    Raises:
        ValueError: as `total_correlation`.
        TypeError: as `mutual_information`.

    References:
        Rosas, Mediano, Gastpar and Jensen, "Quantifying high-order interdependencies via multivariate extensions of the
        mutual information" (arXiv 1902.11239).

    Examples:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(2000, 3))
        >>> synergy = [x[:, 0], x[:, 1], x[:, 0] + x[:, 1] + 0.5 * x[:, 2]]
        >>> o_information(synergy, method="gaussian") < -0.5
        True
    """
    settings = Settings("o_information", method, k, metric, standardize, window, base, local, stderr, n_jobs)
    return _shared(
        variables, lambda d: _sum(_total(d), _dual(d), -1), _METHODS, discrete_o_information, settings, tested=False
    )


def s_information(
    variables: Any,
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
    r"""S-information of d variables, $\sum_i I(X_i;X_{-i})$: total plus dual total correlation.

    Args:
        variables: as in `total_correlation`.
        method: "ksg", "gaussian", "gaussian_copula", the name of a method for symbols, or "auto", as in `total_correlation`.
        k: number of neighbours.
        metric: distance within a variable of several columns, "max" or "euclidean".
        standardize: divide each continuous column by its standard deviation before the search.
        window: samples no more than so many rows apart are not neighbours.
        base: base of the logarithm; None for nats, 2 for bits.
        local: keep the pointwise values in ``Estimate.local``.
        stderr: also estimate the standard error of neighbour methods, which takes as long as the value of about 8000
            samples; NaN without.
        n_jobs: number of threads of a search; None for all cores where that pays.

    Returns:
        The S-information with its standard error.

    Raises:
        ValueError: as `total_correlation`.
        TypeError: as `mutual_information`.

    References:
        Rosas, Mediano, Gastpar and Jensen, "Quantifying high-order interdependencies via multivariate extensions of the
        mutual information" (arXiv 1902.11239).

    Examples:
        >>> import numpy as np
        >>> x, y = np.random.default_rng(0).normal(size=(2, 500))
        >>> round(s_information([x, x + y]) / total_correlation([x, x + y]), 9)
        2.0
    """
    settings = Settings("s_information", method, k, metric, standardize, window, base, local, stderr, n_jobs)
    return _shared(
        variables, lambda d: _sum(_total(d), _dual(d), 1), _METHODS, discrete_s_information, settings, tested=True
    )


def _shared(
    variables: Any,
    terms_of: Callable[[int], Terms],
    methods: dict,
    of_symbols: Callable[..., Estimate],
    settings: Settings,
    *,
    tested: bool,
) -> Estimate:
    columns = _variables(settings.name, variables)
    if len(columns) < 2:
        raise ValueError(f"{settings.name}: at least 2 variables are needed (got {len(columns)})")
    if are_symbols(columns, settings.method, methods):
        return noted(of_symbols(symbols_of(settings.name, columns), **discrete_options(settings)), columns)
    # What a constant shares is nothing: the measure of the others is the same without it.
    varying = {name: parts for name, parts in columns.items() if not all(part.constant for part in parts)}
    if 2 <= len(varying) < len(columns):
        columns = varying
    shuffle = (partial(shift_each, settings.window) if settings.window > 0 else shuffle_each) if tested else None
    # With one of two left, nothing is shared.
    required = len(columns) if len(varying) < 2 else 0
    return estimate_sum(columns, terms_of(len(columns)), methods, settings, shuffle, required)


def _variables(name: str, data: Any) -> dict[str, list[Column]]:
    table = table_of(name, "variables", data)
    if table is not None:
        return {
            label: columns_of(name, label, column) for label, column in zip(table.labels, table.columns, strict=True)
        }
    if isinstance(data, list | tuple):
        return {str(i): columns_of(name, f"variable {i}", part) for i, part in enumerate(data)}
    if getattr(data, "ndim", 0) != 2:
        raise ValueError(f"{name}: variables must be an array [n, d], a data frame or a list of variables")
    return {str(i): [column] for i, column in enumerate(columns_of(name, "variables", data))}
