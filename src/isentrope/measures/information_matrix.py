"""Mutual information of all pairs of many discrete variables, counted in one compiled pass for several pairs."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
from jaxtyping import Float

from isentrope.measures.counts import ADDITIVE, increment
from isentrope.measures.discrete_information import _several, discrete_mutual_information
from isentrope.measures.estimate import unit_of

# Variables of more values than this are counted pair by pair, by sorting.
_MANY_VALUES = 256
# Joint tables of two blocks have at most this many cells, which the innermost cache holds.
_CELLS = 4096


@dataclass(frozen=True, eq=False)
class InformationMatrix:
    """Mutual information of every pair of variables; the diagonal holds their entropies.

    Args:
        values: symmetric matrix ``[d, d]``, in ``unit``; `numpy.asarray` gives it.
        stderr: standard errors, likewise.
        unit: "nat", "bit", "hartley" or "log <base>".
        method: name of the estimator.
        n: number of samples.
        labels: names of the variables.
    """

    values: Float[np.ndarray, "d d"]
    stderr: Float[np.ndarray, "d d"]
    unit: str
    method: str
    n: int
    labels: tuple[str, ...]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """The values."""
        return np.array(self.values, dtype=dtype, copy=bool(copy))


def mutual_information_matrix(
    variables: Any, *, method: str = "miller_madow", base: float | None = None, n_jobs: int = 1
) -> InformationMatrix:
    r"""Mutual information $I(X_i;X_j)$ of all pairs of discrete variables.

    Equal to `discrete_mutual_information` of each pair, with its standard error, but variables of few values are counted
    several pairs at a time. Those of more than 256 values are counted pair by pair, which is slower.

    Args:
        variables: array ``[n, d]``, data frame, or list or tuple of d variables of n values.
        method: "plugin", "miller_madow", "grassberger", "grassberger_1988" or "zhang", as in `discrete_entropy`.
        base: base of the logarithm; None for nats, 2 for bits.
        n_jobs: number of threads; -1 for all cores.

    Returns:
        The matrix of values with the matrix of standard errors.

    Raises:
        ValueError: if there are fewer than 2 variables, lengths differ, samples are missing, n_jobs is neither positive
            nor -1, or the method or base is unknown.
        TypeError: if a sample is not hashable.

    References:
        Miller (1955), "Note on the bias of information estimates".

    Examples:
        >>> found = mutual_information_matrix(["abab" * 50, "cdcd" * 50, "aabb" * 50], method="plugin", base=2)
        >>> abs(found.values).round(6)  # bits
        array([[1., 1., 0.],
               [1., 1., 0.],
               [0., 0., 1.]])
    """
    where = "mutual_information_matrix"
    nats, unit = unit_of(base, where)
    if method not in ADDITIVE:
        raise ValueError(f"{where}: method must be one of {', '.join(ADDITIVE)} (got {method!r})")
    if n_jobs != -1 and n_jobs < 1:
        raise ValueError(f"{where}: n_jobs must be positive, or -1 for all cores (got {n_jobs})")
    columns = _several(where, variables)
    d, n = len(columns), len(columns[0])
    alphabet = np.array([int(column.max()) + 1 for column in columns])
    values, variance = np.zeros((d, d)), np.full((d, d), np.nan)
    few = np.flatnonzero(alphabet <= _MANY_VALUES)
    blocks = _Blocks([columns[i] for i in few], alphabet[few])

    def fill(row: int) -> None:
        for i, information, spread in blocks.information(row, method):
            others = few[blocks.first[row] :]
            values[few[i], others] = values[others, few[i]] = information
            variance[few[i], others] = variance[others, few[i]] = spread

    with ThreadPoolExecutor(n_jobs if n_jobs > 0 else os.cpu_count()) as threads:
        list(threads.map(fill, range(len(blocks.sizes))))
    for i in np.flatnonzero(alphabet > _MANY_VALUES):
        for j in range(d):
            estimate = discrete_mutual_information(columns[i], columns[j], method=method)
            values[i, j] = values[j, i] = estimate.value
            variance[i, j] = variance[j, i] = estimate.stderr**2
    return InformationMatrix(values / nats, np.sqrt(variance) / nats, unit, method, n, _labels(variables, d))


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
        """For each variable of a block: information about those of this block and after it, and its variance."""
        from isentrope.measures._joint_counts import count_row

        start, stop = self.first[row], self.first[row + 1]
        ends = np.cumsum(self.alphabet[start:])
        starts = np.zeros(len(self.alphabet), np.int64)
        starts[start:] = ends - self.alphabet[start:]
        tables = np.zeros((int(self.alphabet[start:stop].sum()), int(ends[-1])), np.int64)
        count_row(self.codes, self.sizes, self.first, self.strides, self.alphabet, row, starts, tables)
        term, n = ADDITIVE[method].term, self.n
        constant = ADDITIVE[method].constant(n)
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
            if n < 2:
                yield i, information, np.full(len(known), np.nan)
                continue
            changes = (
                increment(method, self.counts[i])[:, None] + increment(method, marginals) - increment(method, table)
            )
            mean = np.add.reduceat(table * changes, edges, axis=1).sum(axis=0) / n
            changes -= np.repeat(mean, self.alphabet[start:])
            spread = np.add.reduceat(table * changes**2, edges, axis=1).sum(axis=0) / n / (n - 1)
            yield i, information, np.where(known, 0.0, spread)


def _labels(variables: Any, d: int) -> tuple[str, ...]:
    return tuple(map(str, variables.columns)) if hasattr(variables, "columns") else tuple(map(str, range(d)))
