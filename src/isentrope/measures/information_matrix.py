"""Mutual information of all pairs of many variables: discrete ones counted several pairs at a time, Gaussian ones in one matrix."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from math import inf, isqrt, nan
from typing import Any

import numpy as np
from jaxtyping import Float

from isentrope._threads import threads_of
from isentrope.measures._columns import columns_of_variables, correlations, numbers_of_variables
from isentrope.measures._spaces import Column, columns_of
from isentrope.measures.counts import ADDITIVE, increment
from isentrope.measures.discrete import WELL_SAMPLED
from isentrope.measures.discrete_information import _several, _variable, discrete_mutual_information
from isentrope.measures.estimate import Estimate, unit_of
from isentrope.measures.gaussian import gaussian_scores, log_determinant_correction
from isentrope.measures.mutual_information import mutual_information

# Variables of more values than this are counted pair by pair, by sorting.
_MANY_VALUES = 256
# Joint tables of two blocks have at most this many cells, which the innermost cache holds.
_CELLS = 4096
# A share of variance left over below this is rounding: one variable is a function of the other.
_DEPENDENT = 1e-12


@dataclass(frozen=True, eq=False)
class InformationMatrix:
    """Mutual information of every pair of variables.

    The diagonal holds the information of a variable about itself: the entropy of a discrete one, infinity for a continuous
    one.

    Args:
        values: symmetric matrix ``[d, d]``, in ``unit``; `numpy.asarray` gives it.
        stderr: standard errors, likewise; NaN where they are not known.
        unit: "nat", "bit", "hartley" or "log <base>".
        method: name of the estimator; "auto" where the columns of each pair decided.
        n: number of samples.
        labels: names of the variables.
        kinds: how each variable is read, and why.
    """

    values: Float[np.ndarray, "d d"]
    stderr: Float[np.ndarray, "d d"]
    unit: str
    method: str
    n: int
    labels: tuple[str, ...]
    kinds: tuple[str, ...]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """The values."""
        return np.array(self.values, dtype=dtype, copy=bool(copy))


def mutual_information_matrix(
    variables: Any, *, method: str = "auto", k: int = 4, base: float | None = None, n_jobs: int = 1
) -> InformationMatrix:
    r"""Mutual information $I(X_i;X_j)$ of all pairs of variables, continuous, discrete or mixed.

    - ``"plugin"``, ``"miller_madow"``, ``"grassberger"``, ``"grassberger_1988"``, ``"zhang"``: all variables are discrete.
      Equal to `discrete_mutual_information` of each pair, with its standard error, but variables of few values are counted
      several pairs at a time. Those of more than 256 values are counted pair by pair, which is slower.
    - ``"gaussian"``: $-\frac12\ln(1-\rho_{ij}^2)$ freed of its bias, from one matrix of correlations, with the standard
      error $\sqrt{\rho^2/n+1/2n^2}$; ``"gaussian_copula"``: the same of the normal scores of ranks. They see no dependence
      but the linear one (of the scores).
    - ``"ksg"``: all variables are numbers, and pairs are estimated from nearest neighbours as by `mutual_information`.
    - "auto": columns decide as in `mutual_information`: nearest neighbours where one is continuous; for two discrete ones
      Miller-Madow, or Chao, Wang and Jost's estimator, pair by pair, where fewer than 99% of their values recur.

    Args:
        variables: array ``[n, d]``, data frame, or list or tuple of d variables of n values.
        method: estimator, as above.
        k: number of neighbours, where they are sought.
        base: base of the logarithm; None for nats, 2 for bits.
        n_jobs: number of threads; -1 for all cores.

    Returns:
        The matrix of values with the matrix of standard errors. A constant informs of exactly nothing.

    Raises:
        ValueError: if there are fewer than 2 variables, lengths differ, samples are missing, infinite or too few, n_jobs is
            neither positive nor -1, or the method or base is unknown.
        TypeError: if a sample is not hashable, or a method for numbers is asked for symbols.

    References:
        Miller (1955), "Note on the bias of information estimates"; Kraskov, Stögbauer and Grassberger, "Estimating mutual
        information" (arXiv cond-mat/0305641).

    Examples:
        >>> found = mutual_information_matrix(["abab" * 50, "cdcd" * 50, "aabb" * 50], method="plugin", base=2)
        >>> abs(found.values).round(6)  # bits
        array([[1., 1., 0.],
               [1., 1., 0.],
               [0., 0., 1.]])
        >>> x, noise = np.random.default_rng(0).normal(size=(2, 2000))
        >>> mutual_information_matrix([x, x + noise], method="gaussian").values.round(1)  # the truth is ln(2)/2
        array([[inf, 0.3],
               [0.3, inf]])
    """
    where = "mutual_information_matrix"
    nats, unit = unit_of(base, where)
    if method not in (methods := ("auto", *ADDITIVE, "gaussian", "gaussian_copula", "ksg")):
        raise ValueError(f"{where}: method must be one of {', '.join(methods)} (got {method!r})")
    threads = threads_of(where, n_jobs)
    if method in ADDITIVE:
        table = columns_of_variables(where, variables)
        columns, labels = _several(where, table.columns), table.labels
        values, variance = _discrete(columns, method, threads)
        n, kinds = len(columns[0]), ("discrete",) * len(columns)
    elif method == "auto":
        values, variance, n, labels, kinds, method = _by_kind(where, variables, k, threads)
    else:
        matrix, labels = numbers_of_variables(where, variables)
        n, kinds = len(matrix), ("continuous",) * len(labels)
        if method == "ksg":
            columns = [Column(column, False, "") for column in matrix.T]
            pairs = list(combinations(range(len(columns)), 2))
            values, variance = _pairs(where, columns, labels, pairs, "ksg", k, threads)
        else:
            values, variance = _gaussian(where, gaussian_scores(matrix) if method == "gaussian_copula" else matrix)
    return InformationMatrix(values / nats, np.sqrt(variance) / nats, unit, method, n, labels, kinds)


# Values and their variances, in nats.


def _discrete(columns: list[np.ndarray], method: str, n_jobs: int) -> tuple[np.ndarray, np.ndarray]:
    d, n = len(columns), len(columns[0])
    alphabet = np.array([int(column.max()) + 1 for column in columns])
    values, variance, once = np.zeros((d, d)), np.full((d, d), nan), np.zeros((d, d), np.int64)
    few = np.flatnonzero(alphabet <= _MANY_VALUES)
    blocks = _Blocks([columns[i] for i in few], alphabet[few])

    def fill(row: int) -> None:
        for i, information, spread, singletons in blocks.information(row, method):
            others = few[blocks.first[row] :]
            values[few[i], others] = values[others, few[i]] = information
            variance[few[i], others] = variance[others, few[i]] = spread
            once[few[i], others] = once[others, few[i]] = singletons

    def fill_pair(pair: list[int]) -> None:
        i, j = pair
        estimate = discrete_mutual_information(columns[i], columns[j], method=method)
        values[i, j] = values[j, i] = estimate.value
        variance[i, j] = variance[j, i] = estimate.stderr**2

    with ThreadPoolExecutor(n_jobs) as threads:
        list(threads.map(fill, range(len(blocks.sizes))))
        many = alphabet > _MANY_VALUES
        alone = many[:, None] | many
        if method == "auto":
            alone |= once > (1 - WELL_SAMPLED) * n
        list(threads.map(fill_pair, np.argwhere(np.triu(alone)).tolist()))
    return values, variance


def _gaussian(where: str, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = len(matrix)
    if n < 4:
        raise ValueError(f"{where}: correlations take at least 4 samples (got {n})")
    correlation, varying = correlations(matrix)
    informed = varying[:, None] & varying
    left = np.where(informed, 1 - correlation**2, 1.0)
    dependent = left < _DEPENDENT
    bias = log_determinant_correction(n, 1) - log_determinant_correction(n, 2) / 2
    values = np.where(informed, bias - np.log(np.where(dependent, 1.0, left)) / 2, 0.0)
    variance = np.where(informed, (1 - left) / n + 1 / (2 * n**2), 0.0)
    return np.where(dependent, inf, values), np.where(dependent, nan, variance)


def _pairs(
    where: str,
    columns: Sequence[Column],
    labels: Sequence[str],
    pairs: list[tuple[int, int]],
    method: str,
    k: int,
    n_jobs: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Some pairs by `mutual_information`; 0 elsewhere, infinity on the diagonal."""

    def measure(pair: tuple[int, int]) -> Estimate:
        x, y = (columns[i].values for i in pair)
        try:
            return mutual_information(x, y, method=method, k=k, n_jobs=1)
        except ValueError as error:
            raise ValueError(f"{where}: variables {labels[pair[0]]} and {labels[pair[1]]}: {error}") from None

    varying = [bool((column.values != column.values[0]).any()) for column in columns]
    values, variance = np.diag(np.where(varying, inf, 0.0)), np.diag(np.where(varying, nan, 0.0))
    with ThreadPoolExecutor(n_jobs) as threads:
        for (i, j), estimate in zip(pairs, threads.map(measure, pairs), strict=True):
            values[i, j] = values[j, i] = estimate.value
            variance[i, j] = variance[j, i] = estimate.stderr**2
    return values, variance


def _by_kind(where: str, variables: Any, k: int, n_jobs: int):
    """Each pair as its columns ask for; also the number of samples, labels, kinds and the name of the method."""
    table = columns_of_variables(where, variables)
    columns = [_column(where, label, data) for label, data in zip(table.labels, table.columns, strict=True)]
    d, n = len(columns), len(columns[0].values) if columns else 0
    if d < 2 or any(len(column.values) != n for column in columns):
        lengths = ", ".join(str(len(column.values)) for column in columns)
        raise ValueError(f"{where}: at least 2 variables of the same length are needed (got lengths {lengths})")
    kinds = tuple(
        ("discrete" if column.discrete else "continuous") + (f" ({column.reason})" if column.reason else "")
        for column in columns
    )
    discrete = [i for i, column in enumerate(columns) if column.discrete]
    pairs = [(i, j) for i, j in combinations(range(d), 2) if not (columns[i].discrete and columns[j].discrete)]
    symbols = [_variable(where, f"variable {table.labels[i]}", columns[i].values) for i in discrete]
    values, variance = _pairs(where, columns, table.labels, pairs, "auto", k, n_jobs)
    if discrete:
        block = np.ix_(discrete, discrete)
        values[block], variance[block] = _discrete(symbols, "auto", n_jobs)
    return values, variance, n, table.labels, kinds, "auto"


def _column(where: str, label: str, data: Any) -> Column:
    values = np.array(list(data)) if isinstance(data, str | bytes) else np.asarray(data)
    if values.ndim != 1:
        raise ValueError(f"{where}: variable {label} must be a vector (got shape {values.shape})")
    return columns_of(where, f"variable {label}", values)[0]


class _Blocks:
    """Variables of few values, packed into numbers for each combination of neighbouring ones."""

    def __init__(self, columns: Sequence[np.ndarray], alphabet: np.ndarray) -> None:
        self.n = len(columns[0]) if columns else 0
        self.alphabet = alphabet
        self.counts = [np.bincount(column) for column in columns]
        largest = isqrt(min(_CELLS, self.n // 4))
        first, sizes, packed = [], [], []
        self.strides = np.ones(len(columns), np.int64)
        for i, column in enumerate(columns):
            if sizes and sizes[-1] * alphabet[i] <= largest:
                self.strides[first[-1] : i] *= alphabet[i]
                packed[-1] = packed[-1] * alphabet[i] + column
                sizes[-1] *= int(alphabet[i])
            else:
                first.append(i)
                packed.append(column)
                sizes.append(int(alphabet[i]))
        self.first = np.array([*first, len(columns)])
        self.sizes = np.array(sizes, dtype=np.int64)
        self.codes = np.array(packed, dtype=np.uint16)

    def information(self, row: int, method: str):
        """For each variable of a block: information about those of this block and after it, and its variance.

        By "auto" it is Miller and Madow's, and how many joint values were seen once is counted too, else 0.
        """
        from isentrope.measures._joint_counts import count_row

        start, stop = self.first[row], self.first[row + 1]
        ends = np.cumsum(self.alphabet[start:])
        starts = np.zeros(len(self.alphabet), np.int64)
        starts[start:] = ends - self.alphabet[start:]
        tables = np.zeros((int(self.alphabet[start:stop].sum()), int(ends[-1])), np.int64)
        count_row(self.codes, self.sizes, self.first, self.strides, self.alphabet, row, starts, tables)
        name, n = "miller_madow" if method == "auto" else method, self.n
        term, constant = ADDITIVE[name].term, ADDITIVE[name].constant(n)
        edges, above = starts[start:], 0
        marginals = np.concatenate(self.counts[start:])
        entropies = constant - np.add.reduceat(term(marginals), edges) / n
        for i in range(start, stop):
            table = tables[above : above + self.alphabet[i]]
            above += self.alphabet[i]
            joint = constant - np.add.reduceat(term(table), edges, axis=1).sum(axis=0) / n
            # One value has no entropy: the same terms, in another order of summation, would leave a rounding.
            known = (self.alphabet[start:] == 1) | (self.alphabet[i] == 1)
            information = np.where(known, 0.0, entropies[i - start] + entropies - joint)
            once = np.add.reduceat(table == 1, edges, axis=1, dtype=np.int64).sum(axis=0) if method == "auto" else 0
            if n < 2:
                yield i, information, np.full(len(known), np.nan), once
                continue
            changes = increment(name, self.counts[i])[:, None] + increment(name, marginals) - increment(name, table)
            mean = np.add.reduceat(table * changes, edges, axis=1).sum(axis=0) / n
            changes -= np.repeat(mean, self.alphabet[start:])
            spread = np.add.reduceat(table * changes**2, edges, axis=1).sum(axis=0) / n / (n - 1)
            # What chance leaves where there is no dependence, as for a single pair.
            occupied = np.add.reduceat(table > 0, edges, axis=1, dtype=np.int64).sum(axis=0)
            freedom = np.abs(occupied + 1 - self.alphabet[start:] - self.alphabet[i])
            yield i, information, np.where(known, 0.0, np.maximum(spread, freedom / (2 * n * n))), once
