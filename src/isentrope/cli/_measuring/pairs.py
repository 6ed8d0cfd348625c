"""Mutual information of all pairs of columns, the largest first.

Columns are read as `columns` reads them, but for one thing: numbers of which one recurs have no density, yet they inform
of others as numbers, and so they stay numbers here. Between symbols information is a sum of entropies; with numbers it
comes from nearest neighbours. Where most of what is seen is seen once, nothing is reported: it would look like
information, and most of it would come from the number of rows.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from isentrope.cli._measuring.columns import Column, is_symbolic
from isentrope.cli._measuring.exchange import Asked, Found
from isentrope.cli._measuring.rendering import progress
from isentrope.measures import Estimate, InformationMatrix, discrete_mutual_information, mutual_information

# Share of the samples whose value recurs below which even Chao, Wang and Jost's estimator is off by more than 0.2 nat, where
# variables of 30 values are independent.
_SAMPLED = 0.5
# Up to so many codes counting takes no sort.
_MANY_CODES = 1 << 22
# With fewer rows there are hardly neighbours.
_FEWEST = 10
# So many shuffles that reach the value settle that it is not unusual.
SETTLED = 10

_METHODS = {
    "discrete, discrete": "from entropies",
    "discrete, numeric": "from neighbours with the same symbol",
    "numeric, numeric": "from neighbours",
}


@dataclass(frozen=True)
class Variable:
    """A column as estimators take it: a code of its symbol or a number for each row, and which rows have one."""

    name: str
    values: np.ndarray
    present: np.ndarray | None

    @property
    def is_discrete(self) -> bool:
        """Whether the values are codes of symbols."""
        return self.values.dtype.kind == "i"

    @property
    def kind(self) -> str:
        """How the values are read."""
        return "discrete" if self.is_discrete else "numeric"

    @cached_property
    def unique(self) -> str:
        """That most symbols are seen once, so that any estimate would come from the number of rows; or ""."""
        values = self.values if self.present is None else self.values[self.present]
        once = int(np.count_nonzero(np.bincount(values) == 1)) if self.is_discrete else 0
        if 1 - once / len(values) >= _SAMPLED:
            return ""
        return f"too few rows for {self.name}: {once:,} of its {len(values):,} values are seen once"


def measure_pairs(holds: str, columns: dict[str, Column], rows: int, asked: Asked) -> Found:
    """A row for each pair of columns, and the matrix of all of them."""
    variables, notes = variables_of(columns, rows, asked)
    if len(variables) < 2:
        raise ValueError(f"--pairs takes at least 2 columns (got {len(variables)})")
    drawn = np.sort(np.random.default_rng(0).permutation(rows)[: asked.most_rows]) if rows > asked.most_rows else None
    pairs = list(combinations(variables, 2))
    with progress(True) as bar:
        found = [_measure_pair(x, y, drawn, asked) for x, y in bar.track(pairs, description="pairs")]
    if asked.shuffles:
        _add_false_discovery_rates(found)
    matrix = _matrix(found, variables, rows, asked)
    # Those without a value come last.
    found.sort(key=lambda row: -row["information*"] if row["information*"] is not None else np.inf)
    return Found(holds, found, _remarks(found, drawn, rows, asked) + notes, keys=2, matrix=matrix)


def variables_of(columns: dict[str, Column], rows: int, asked: Asked) -> tuple[list[Variable], list[str]]:
    """The columns that estimators can take, and a remark on each that they cannot."""
    variables, notes = [], []
    for name, column in columns.items():
        if not len(column.values) or pa.types.is_nested(column.values.type):
            notes.append(f"{name}: left out, {'all values are missing' if column.missing else 'values are nested'}")
        else:
            variables.append(_variable(name, column, rows, asked))
    return variables, notes


def _variable(name: str, column: Column, rows: int, asked: Asked) -> Variable:
    values = column.values
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    encoded = values.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    if is_symbolic(name, column.values, len(encoded.dictionary), asked):
        known = encoded.indices.to_numpy().astype(np.int64)
    else:
        known = values.to_numpy().astype(np.float64)
        if wrong := int(np.count_nonzero(~np.isfinite(known))):
            raise ValueError(f"column {name!r}: {wrong:,} of {len(known):,} values are infinite; leave them out first")
    if column.present is None:
        return Variable(name, known, None)
    everywhere = np.zeros(rows, known.dtype)
    everywhere[column.present] = known
    return Variable(name, everywhere, column.present)


def _measure_pair(x: Variable, y: Variable, drawn: np.ndarray | None, asked: Asked) -> dict[str, Any]:
    """One row of the table: how both columns are read, what one tells of the other, and what that rests on."""
    by_neighbours = not (x.is_discrete and y.is_discrete)
    rows: Any = drawn if by_neighbours and drawn is not None else slice(None)
    masks = [variable.present[rows] for variable in (x, y) if variable.present is not None]
    a, b = x.values[rows], y.values[rows]
    if masks:
        both = np.logical_and.reduce(masks)
        a, b = a[both], b[both]
    row: dict[str, Any] = {"x": x.name, "y": y.name, "read as": f"{x.kind}, {y.kind}", "information*": None}
    if asked.shuffles:
        row |= {"p": None, "q": None}
    row |= {"n": len(a), "note": None}
    if unique := x.unique or y.unique:
        return row | {"note": unique}
    if len(a) < _FEWEST:
        return row | {"note": f"only {len(a)} rows hold both; {_FEWEST} are needed"}
    estimate, remark = _information(x.is_discrete, a, y.is_discrete, b, asked)
    if estimate is None:
        return row | {"note": remark}
    if asked.shuffles:
        row["p"] = round(_pvalue(estimate, asked.shuffles), 4)
    return row | {"information*": estimate, "note": remark or None}


def _information(
    a_discrete: bool, a: np.ndarray, b_discrete: bool, b: np.ndarray, asked: Asked
) -> tuple[Estimate | None, str]:
    """The estimate with a remark on it; None where there are too few samples for so many symbols."""
    n = len(a)
    if a.min() == a.max() or b.min() == b.max():
        return Estimate(0.0, 0.0, asked.unit, "exact", n), "a constant tells nothing"
    symbols = [codes for codes, discrete in ((a, a_discrete), (b, b_discrete)) if discrete]
    if symbols:
        joint = symbols[0] if len(symbols) == 1 else a * (1 + int(b.max())) + b
        counts = np.bincount(joint) if joint.max() < _MANY_CODES else np.unique(joint, return_counts=True)[1]
        once = int(np.count_nonzero(counts == 1))
        if 1 - once / n < _SAMPLED:
            what = "pairs of values" if len(symbols) == 2 else "symbols"
            return None, f"too few rows: {once:,} of {n:,} {what} are seen once"
        if len(symbols) == 2:
            found = discrete_mutual_information(a, b, base=asked.base)
            return found, found.note
    # Codes as objects are symbols for the estimator however many there are.
    found = mutual_information(
        a.astype(object) if a_discrete else a, b.astype(object) if b_discrete else b, base=asked.base
    )
    # Before the first semicolon it says how it read the variables, which stands in a column of its own.
    return found, found.note.partition("; ")[2]


def _pvalue(estimate: Estimate, shuffles: int) -> float:
    if estimate.shuffled is None:
        return 1.0
    return estimate.test(shuffles, rng=0, n_jobs=-1, stop_after=SETTLED).pvalue


def _add_false_discovery_rates(found: list[dict[str, Any]]) -> None:
    from scipy.stats import false_discovery_control

    tested = [row for row in found if row["p"] is not None]
    if tested:
        for row, rate in zip(tested, false_discovery_control([row["p"] for row in tested]), strict=True):
            row["q"] = round(float(rate), 4)


def _matrix(found: list[dict[str, Any]], variables: list[Variable], rows: int, asked: Asked) -> InformationMatrix:
    d = len(variables)
    values, stderr = np.full((2, d, d), np.nan)
    for (i, j), row in zip(combinations(range(d), 2), found, strict=True):
        if row["information*"] is not None:
            values[i, j] = values[j, i] = row["information*"]
            stderr[i, j] = stderr[j, i] = row["information*"].stderr
    names = tuple(variable.name for variable in variables)
    kinds = tuple(variable.kind for variable in variables)
    return InformationMatrix(values, stderr, asked.unit, "auto", rows, names, kinds)


def _remarks(found: list[dict[str, Any]], drawn: np.ndarray | None, rows: int, asked: Asked) -> list[str]:
    notes = []
    for kinds, how in _METHODS.items():
        alike = [row for row in found if ", ".join(sorted(row["read as"].split(", "))) == kinds]
        estimates = [row["information*"] for row in alike]
        methods = {estimate.method for estimate in estimates if estimate is not None}
        if methods := sorted(methods - {"exact"}):
            notes.append(f"{kinds}: {how} ({', '.join(methods)})")
    if drawn is not None and any("numeric" in row["read as"] for row in found):
        notes.append(f"pairs with numbers: {len(drawn):,} of {rows:,} rows, drawn at random (--rows for more)")
    if asked.shuffles:
        notes.append(
            f"p: how many of {asked.shuffles:,} shuffles reach the value; q: the share of false discoveries among all "
            "pairs with a p as small (Benjamini and Hochberg)"
        )
    return notes
