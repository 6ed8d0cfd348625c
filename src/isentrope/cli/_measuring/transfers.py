"""Transfer entropy between all columns as series: what the past of one tells of another's next value beyond its own past.

Of numbers it is by default that of the Gaussian law of their normal scores, whose test costs nothing, so that thousands of
pairs are measured at once. Nearest neighbours find any dependence, a pair at a time; with symbols among the columns it is
always a pair at a time. What is missing cuts a series in two, so the longest stretch without a gap is measured.
"""

from dataclasses import replace
from itertools import permutations
from math import nan
from typing import Any

import numpy as np
import pyarrow as pa

from isentrope.cli._measuring.columns import Column
from isentrope.cli._measuring.exchange import Asked, Found
from isentrope.cli._measuring.pairs import SETTLED, Variable, variables_of
from isentrope.cli._measuring.rendering import progress
from isentrope.measures import Estimate, TransferEntropyMatrix, transfer_entropy, transfer_entropy_matrix

# Fewer successive rows hold no history to speak of.
_FEWEST = 20

_METHODS = {
    "gaussian_copula": "from correlations of the ranks' normal scores ({}), tested by F; --neighbours finds any dependence",
    "frenzel_pompe": "pairs with numbers: from neighbours ({})",
}
_FROM_ENTROPIES = "pairs of symbols: from entropies ({})"


def measure_transfers(holds: str, columns: dict[str, Column], rows: int, asked: Asked) -> Found:
    """A row for each ordered pair of columns, the largest transfer first, and the matrix of all of them."""
    # A count that rises tells of the next value as any number does, however few values it takes.
    integers = [name for name, column in columns.items() if pa.types.is_integer(column.values.type)]
    variables, notes = variables_of(columns, rows, replace(asked, numeric=[*asked.numeric, *integers]))
    if len(variables) < 2:
        raise ValueError(f"--transfer takes at least 2 columns (got {len(variables)})")
    stretch, remark = _stretch(variables, rows)
    by_pairs = asked.neighbours or any(variable.is_discrete for variable in variables)
    if by_pairs and stretch.stop - stretch.start > asked.most_rows:
        start = (stretch.start + stretch.stop - asked.most_rows) // 2
        stretch = slice(start, start + asked.most_rows)
        remark = f"{asked.most_rows:,} successive rows of {rows:,}, from row {start + 1:,} on (--rows for more)"
    series = {variable.name: variable.values[stretch] for variable in variables}
    remarks: dict[tuple[int, int], str] = {}
    matrix = _pair_by_pair(series, asked, remarks) if by_pairs else _together(series, asked)
    tested = not np.isnan(matrix.pvalues[~np.eye(len(variables), dtype=bool)]).any()
    found = _rows(matrix, tested, remarks)
    methods: dict[str, list[str]] = {}
    for method in matrix.method.split(" and "):
        methods.setdefault(_METHODS.get(method, _FROM_ENTROPIES), []).append(method)
    notes += [how.format(", ".join(names)) for how, names in methods.items()]
    lag, history = asked.lag or 1, asked.history
    steps = f"{lag} to {lag + history - 1} steps" if history > 1 else f"{lag} step{'s' * (lag > 1)}"
    known = f"last {history} values" if history > 1 else "last value"
    notes.append(f"what the source {steps} before (--lag) tells beyond the target's {known} (--history)")
    notes.append(
        "each pair by itself: what passes through a third column, or comes from it, counts like a direct transfer"
    )
    if remark:
        notes.append(remark)
    if tested:
        notes.append("q: the share of false discoveries among all pairs with a p as small (Benjamini and Hochberg)")
    return Found(holds, found, notes, keys=2, matrix=matrix)


def _stretch(variables: list[Variable], rows: int) -> tuple[slice, str]:
    """The longest stretch of rows in which no column misses a value, and a remark if that is not all."""
    masks = [variable.present for variable in variables if variable.present is not None]
    if not masks:
        stretch = slice(0, rows)
    else:
        whole = np.concatenate([[False], np.logical_and.reduce(masks), [False]])
        edges = np.flatnonzero(whole[1:] != whole[:-1]).reshape(-1, 2)
        longest = edges[np.argmax(edges[:, 1] - edges[:, 0])] if len(edges) else (0, 0)
        stretch = slice(int(longest[0]), int(longest[1]))
    length = stretch.stop - stretch.start
    if length < _FEWEST:
        raise ValueError(
            f"--transfer takes at least {_FEWEST} successive rows without a missing value (got {length}); choose columns "
            "with --column"
        )
    if not masks:
        return stretch, ""
    return (
        stretch,
        f"the longest stretch without a missing value: {length:,} of {rows:,} rows, from {stretch.start + 1:,} on",
    )


def _together(series: dict[str, np.ndarray], asked: Asked) -> TransferEntropyMatrix:
    return transfer_entropy_matrix(
        pa.table(series),
        lag=asked.lag or 1,
        source_history=asked.history,
        target_history=asked.history,
        method="gaussian_copula",
        base=asked.base,
    )


def _pair_by_pair(
    series: dict[str, np.ndarray], asked: Asked, remarks: dict[tuple[int, int], str]
) -> TransferEntropyMatrix:
    """The matrix of all pairs; what is to be said of one goes into the remarks."""
    d, names = len(series), tuple(series)
    # Codes as objects are symbols for the estimator however many there are.
    taken = [values.astype(object) if values.dtype.kind == "i" else values for values in series.values()]
    values, stderr, pvalues = np.zeros((d, d)), np.zeros((d, d)), np.full((d, d), np.nan)
    methods = np.full((d, d), "", dtype=object)
    n = 0
    with progress(True) as bar:
        for i, j in bar.track(list(permutations(range(d), 2)), description="transfers"):
            found = transfer_entropy(
                taken[i],
                taken[j],
                lag=asked.lag or 1,
                source_history=asked.history,
                target_history=asked.history,
                base=asked.base,
            )
            values[i, j], stderr[i, j], methods[i, j], n = found.value, found.stderr, found.method, found.n
            # Before the first semicolon it says how it read the variables.
            remarks[i, j] = found.note.partition("; ")[2]
            if asked.shuffles:
                test = found.test(asked.shuffles, rng=0, n_jobs=-1, stop_after=SETTLED)
                pvalues[i, j] = test.pvalue
    method = " and ".join(sorted({methods[i, j] for i, j in permutations(range(d), 2)}))
    return TransferEntropyMatrix(values, stderr, pvalues, asked.unit, method, n, names)


def _rows(matrix: TransferEntropyMatrix, tested: bool, remarks: dict[tuple[int, int], str]) -> list[dict[str, Any]]:
    """The largest transfer first."""
    adjusted = matrix.adjusted_pvalues() if tested else matrix.pvalues
    rows = []
    for i, j in permutations(range(len(matrix.labels)), 2):
        value, error = float(matrix.values[i, j]), float(matrix.stderr[i, j])
        # The matrix does not tell what the method corrected.
        estimate = Estimate(value, error, matrix.unit, matrix.method, matrix.n, bias_correction=nan)
        row: dict[str, Any] = {"source": matrix.labels[i], "target": matrix.labels[j], "transfer*": estimate}
        if tested:
            # The F test gives values of any size, of which two digits say all.
            row |= {"p": float(f"{matrix.pvalues[i, j]:.2g}"), "q": float(f"{adjusted[i, j]:.2g}")}
        rows.append(row | {"n": matrix.n, "note": remarks.get((i, j)) or None})
    return sorted(rows, key=lambda row: -row["transfer*"])
