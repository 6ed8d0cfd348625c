"""Walks over all n-plets of variables in batches, whatever the estimator: what the public functions share."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import combinations, islice
from math import comb, prod
from typing import Any, NamedTuple

import numpy as np
from scipy.special import digamma

from isentrope._threads import threads_of
from isentrope.measures._columns import columns_of_variables, correlations, numbers_of_variables, standardized
from isentrope.measures.counts import ADDITIVE
from isentrope.measures.discrete_information import _several
from isentrope.measures.gaussian import gaussian_scores, log_determinant_correction

METHODS = ("gaussian_copula", "gaussian", "ksg", *ADDITIVE)

# Entropies of all n-plets but those of the largest order are kept: two gigabytes of them.
_MOST_KEPT = 1 << 28
# Tables of joint counts have at most this many cells, half a gigabyte.
_MOST_CELLS = 1 << 27
_BATCH = 1 << 20
# Sets of variables in which samples are far from each other are floats with a bit for each variable.
_MOST_NEIGHBOURLY = 50

Entropies = Callable[[int, int, np.ndarray], None]


class Batch(NamedTuple):
    """Consecutive n-plets of one order, with their total and dual total correlation in nats."""

    order: int
    members: np.ndarray
    total: np.ndarray
    dual: np.ndarray
    stderr: np.ndarray | None = None
    """Standard errors ``[4, count]`` of total and dual total correlation, O- and S-information, where neighbours tell them."""


class Walk(NamedTuple):
    """All n-plets of some variables, ready to be walked over."""

    n: int
    labels: tuple[str, ...]
    orders: range
    data: np.ndarray
    """The samples as they are read."""
    correlation: np.ndarray | None
    """Correlations of the variables, or of their scores, for the Gaussian methods."""
    batches: Callable[[Sequence[int]], Iterator[Batch]]
    """The batches of the orders asked for, in rising order."""


def _read_orders(where: str, orders: int | tuple[int, int] | None, variables: int) -> range:
    """The sizes asked for."""
    if orders is None:
        if variables < 3:
            raise ValueError(f"{where}: at least 3 variables are needed (got {variables})")
        return range(3, min(5, variables) + 1)
    pair = (orders, orders) if isinstance(orders, int | np.integer) else tuple(orders)
    if len(pair) != 2 or not all(isinstance(n, int | np.integer) and n >= 2 for n in pair) or pair[0] > pair[1]:
        raise ValueError(
            f"{where}: orders must be a size of at least 2, or a smallest and a largest one (got {orders!r})"
        )
    if pair[1] > variables:
        raise ValueError(f"{where}: orders must be at most the number of variables, {variables} (got {pair[1]})")
    return range(pair[0], pair[1] + 1)


def prepare(where: str, variables: Any, orders: int | tuple[int, int] | None, method: str, k: int, n_jobs: int) -> Walk:
    """Read the variables and choose how their n-plets are computed."""
    if method not in METHODS:
        raise ValueError(f"{where}: method must be one of {', '.join(METHODS)} (got {method!r})")
    threads = threads_of(where, n_jobs)
    if method in ADDITIVE:
        symbols, labels = columns_of_variables(where, variables)
        columns = _several(where, symbols)
        n, d = len(columns[0]), len(columns)
    else:
        matrix, labels = numbers_of_variables(where, variables)
        n, d = matrix.shape
    sizes = _read_orders(where, orders, d)
    widest = sizes[-1]
    if method == "ksg":
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k < n:
            raise ValueError(f"{where}: k must be an integer from 1 to {n - 1} for {n} samples (got {k!r})")
        if widest > _MOST_NEIGHBOURLY:
            raise ValueError(f"{where}: orders must be at most {_MOST_NEIGHBOURLY} for method 'ksg' (got {widest})")
        compute = _by_neighbours(matrix, int(k))
        return Walk(n, labels, sizes, matrix, None, lambda wanted: _walk_neighbours(compute, d, wanted, threads))
    if (kept := max(comb(d, order) for order in range(1, widest))) > _MOST_KEPT:
        raise ValueError(
            f"{where}: {kept} subsets of fewer than {widest} variables are too many to be kept; lower orders"
        )
    if method in ADDITIVE:
        data, correlation = np.array(columns), None
        entropies = _counted(where, columns, labels, method, widest)
    else:
        if n < widest + 2:
            raise ValueError(f"{where}: n-plets of {widest} variables take at least {widest + 2} samples (got {n})")
        data = matrix
        correlation, varying = correlations(gaussian_scores(matrix) if method == "gaussian_copula" else matrix)
        entropies = _gaussian(correlation, varying, n, widest)
    return Walk(
        n, labels, sizes, data, correlation, lambda wanted: _walk_entropies(where, entropies, labels, wanted, threads)
    )


def numbers_of_subsets(d: int, order: int) -> np.ndarray:
    """``[a, b]``: how many subsets of b there are of a variables."""
    return np.array([[comb(a, b) for b in range(order + 1)] for a in range(d + 1)], np.int64)


def _gaussian(correlation: np.ndarray, varying: np.ndarray, n: int, widest: int) -> Entropies:
    """Entropies of Gaussian variables, up to a constant for each variable."""
    from isentrope.measures._n_plet_entropies import gaussian_entropies

    d, correction = len(correlation), np.array([log_determinant_correction(n, order) for order in range(widest + 1)])

    def entropies(order: int, first: int, into: np.ndarray) -> None:
        gaussian_entropies(correlation, varying, correction, order, first, numbers_of_subsets(d, order), into)

    return entropies


def _counted(where: str, columns: list[np.ndarray], labels: tuple[str, ...], method: str, widest: int) -> Entropies:
    """Entropies of discrete variables from their joint counts."""
    from isentrope.measures._n_plet_entropies import discrete_entropies

    codes = np.array(columns, np.int32)
    alphabet = codes.max(axis=1).astype(np.int64) + 1
    n = codes.shape[1]
    # All variables of an n-plet but the last show at most as many combinations as there are samples.
    cells = min(n, prod(np.sort(alphabet)[1 - widest :].tolist())) * int(alphabet.max())
    if cells > _MOST_CELLS:
        raise ValueError(
            f"{where}: variable {labels[alphabet.argmax()]} has {alphabet.max()} values in {n} samples, too many to be "
            "counted together with others; is it discrete?"
        )
    term, constant = ADDITIVE[method].term(np.arange(n + 1)), ADDITIVE[method].constant(n)

    def entropies(order: int, first: int, into: np.ndarray) -> None:
        binomial = numbers_of_subsets(len(codes), order)
        discrete_entropies(codes, alphabet, cells, term, constant, order, first, binomial, into)

    return entropies


def _walk_entropies(
    where: str, entropies: Entropies, labels: tuple[str, ...], wanted: Sequence[int], n_jobs: int
) -> Iterator[Batch]:
    from isentrope.measures._n_plet_numbers import combine, list_members

    d, widest = len(labels), max(wanted)
    single = smaller = np.empty(0)
    with ThreadPoolExecutor(n_jobs) as threads:
        for order in range(1, widest + 1):
            count, binomial = comb(d, order), numbers_of_subsets(d, order)
            kept = np.empty(count if order < widest else 0)
            for first in range(0, count, _BATCH):
                whole = np.empty(min(_BATCH, count - first))
                _share(threads, n_jobs, whole, lambda start, part, n=order, f=first: entropies(n, f + start, part))
                if np.isnan(whole).any():
                    members = np.empty((1, order), np.int16)
                    list_members(first + int(np.argmax(np.isnan(whole))), binomial, members)
                    names = ", ".join(labels[i] for i in members[0])
                    raise ValueError(f"{where}: variables {names} are linearly dependent; leave one of them out")
                if order < widest:
                    kept[first : first + len(whole)] = whole
                if order in wanted:
                    total, dual = np.empty(len(whole)), np.empty(len(whole))
                    combine(single, smaller, whole, order, first, binomial, total, dual)
                    members = np.empty((len(whole), order), np.int16)
                    list_members(first, binomial, members)
                    yield Batch(order, members, total, dual)
            smaller = kept
            if order == 1:
                single = kept


def _share(threads: Executor, n_jobs: int, whole: np.ndarray, fill: Callable[[int, np.ndarray], None]) -> None:
    """Let each thread fill parts of an array; more parts than threads, because not all take equally long."""
    parts = 1 if n_jobs == 1 else min(len(whole), 4 * n_jobs)
    edges = np.linspace(0, len(whole), parts + 1).astype(int)
    list(threads.map(lambda start, stop: fill(int(start), whole[start:stop]), edges[:-1], edges[1:]))


def _by_neighbours(matrix: np.ndarray, k: int) -> Callable[[np.ndarray], np.ndarray]:
    """Total and dual total correlation of n-plets by neighbours within one distance in all subspaces, and four errors."""
    from isentrope.measures._n_plet_neighbours import neighbour_means

    columns, varying = standardized(matrix)
    points = np.ascontiguousarray(columns.T)
    n, ordered = len(matrix), np.argsort(points, axis=1)
    recurring = (np.diff(np.take_along_axis(points, ordered, axis=1), axis=1) == 0).any(axis=1)
    psi = digamma(np.arange(1, n + 1))
    # Equal distances may differ by so much after the coordinates were scaled.
    rounding = 8 * float(np.finfo(np.float64).eps) * float(np.abs(points).max())

    def compute(members: np.ndarray) -> np.ndarray:
        several = varying[members].sum(axis=1) - 1.0
        # What makes all 0, for n-plets that the kernel leaves alone.
        means = psi[-1] * np.stack([np.ones(len(members)), several + 1, several + 1], axis=1)
        covariances = np.zeros((len(members), 3, 3))
        neighbour_means(points, ordered, varying, recurring, psi, k, rounding, members, means, covariances)
        joint, alone, others = means.T
        # Total and dual total correlation, O- and S-information are such sums of the three, and of constants.
        one, none = np.ones_like(several), np.zeros_like(several)
        total, dual = np.array([one, -one, none]), np.array([several, none, -one])
        factors = np.array([total, dual, total - dual, total + dual])
        variances = np.einsum("qic,cij,qjc->qc", factors, covariances, factors) / n
        values = np.array([joint + several * psi[-1] - alone, several * joint + psi[-1] - others])
        return np.concatenate([values, np.sqrt(np.maximum(variances, 0.0))])

    return compute


def _walk_neighbours(
    compute: Callable[[np.ndarray], np.ndarray], d: int, wanted: Sequence[int], n_jobs: int
) -> Iterator[Batch]:
    with ThreadPoolExecutor(n_jobs) as threads:
        for order in sorted(wanted):
            every = combinations(range(d), order)
            while batch := list(islice(every, 64 * n_jobs)):
                members = np.array(batch, np.int16)
                found = threads.map(compute, np.array_split(members, min(len(members), n_jobs)))
                total, dual, *stderr = np.concatenate(list(found), axis=1)
                yield Batch(order, members, total, dual, np.array(stderr))
