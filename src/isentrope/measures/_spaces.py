"""Variables as spaces in which neighbours are sought: continuous columns under a norm, discrete ones as separate sheets.

Samples whose symbols differ are infinitely far apart, so that one formula serves continuous and mixed data: with symbols
alone in one of two spaces the estimator of Kraskov, Stögbauer and Grassberger becomes that of Ross.
"""

from collections.abc import Sequence
from functools import cached_property
from math import frexp, isqrt, ldexp
from typing import Any, NamedTuple

import numpy as np

from isentrope.measures._frames import table_of, values_of
from isentrope.measures._parts import apart
from isentrope.measures._symbols import encode, join, relabel
from isentrope.measures.neighbours import NeighbourSearch

# With fewer samples on a sheet than this, on average, one search of all is faster than one a sheet.
_FEW_ON_A_SHEET = 100
# Integers with at most this many values are symbols; with more, measurements, where they outnumber the root of n too.
_FEW_SYMBOLS = 10


class Column(NamedTuple):
    """The n values of one column, and whether they are symbols, with the reason."""

    values: np.ndarray
    discrete: bool
    reason: str = ""

    @property
    def constant(self) -> bool:
        return bool((self.values == self.values[0]).all())


class Space:
    """n samples of one variable or of several joined: points with a norm for each variable, and codes of the symbols."""

    def __init__(
        self, points: np.ndarray, codes: np.ndarray | None, blocks: Sequence[int], euclidean: bool, recurring: bool
    ) -> None:
        self.points, self.codes, self.blocks, self.euclidean = points, codes, tuple(blocks), euclidean
        self.recurring = recurring

    def __len__(self) -> int:
        return len(self.points)

    @property
    def constant(self) -> bool:
        return self.points.shape[1] == 0 and self.codes is None

    @property
    def symbols_alone(self) -> bool:
        return self.points.shape[1] == 0 and self.codes is not None

    def __add__(self, other: "Space") -> "Space":
        if other.constant or self.constant:
            return self if other.constant else other
        coded = [space.codes for space in (self, other) if space.codes is not None]
        codes = join(coded)[0] if coded else None
        points = np.concatenate([self.points, other.points], axis=1)
        return Space(points, codes, self.blocks + other.blocks, self.euclidean, self.recurring or other.recurring)

    def __getitem__(self, rows: np.ndarray) -> "Space":
        codes = None if self.codes is None else relabel(self.codes[rows])[0]
        return Space(self.points[rows], codes, self.blocks, self.euclidean, self.recurring)

    def parted(self, part: np.ndarray) -> "Space":
        """The samples with those of different parts so far apart that they are no neighbours."""
        codes = None if self.codes is None else join([self.codes, part])[0]
        return Space(apart(self.points, part), codes, self.blocks, self.euclidean, self.recurring)

    @cached_property
    def rounding(self) -> float:
        """By how much two equal distances may differ after their coordinates were scaled."""
        return 8 * float(np.finfo(np.float64).eps) * float(np.abs(self.points).max(initial=0.0))

    @cached_property
    def sheets(self) -> list[tuple[np.ndarray, NeighbourSearch | None]]:
        """The rows of each symbol, and a search among them (None where there is no continuous column)."""
        if self.codes is None:
            return [(np.arange(len(self)), self._search(self.points))]
        order = np.argsort(self.codes, kind="stable")
        edges = np.flatnonzero(np.diff(self.codes[order])) + 1
        return [(rows, self._search(self.points[rows])) for rows in np.split(order, edges)]

    @cached_property
    def _stacked(self) -> NeighbourSearch | None:
        """One search of many small sheets, with a further coordinate in which they are too far apart to be neighbours."""
        if self.codes is None or self.symbols_alone or len(self) >= _FEW_ON_A_SHEET * (int(self.codes.max()) + 1):
            return None
        height = (1 + self.points.shape[1]) * (float(np.ptp(self.points)) or 1.0) * self.codes
        points = np.concatenate([self.points, height[:, None]], axis=1)
        return NeighbourSearch(points, blocks=[*(w for w in self.blocks if w), 1], euclidean=self.euclidean)

    def _search(self, points: np.ndarray) -> NeighbourSearch | None:
        if points.shape[1] == 0:
            return None
        return NeighbourSearch(points, blocks=[width for width in self.blocks if width], euclidean=self.euclidean)

    @property
    def sheet_sizes(self) -> np.ndarray:
        """How many samples share the symbols of each."""
        if self.codes is None:
            return np.full(len(self), len(self))
        return np.bincount(self.codes)[self.codes]

    def nearest(self, k: int, window: int, n_jobs: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distance to the k-th neighbour (to the last there is on a smaller sheet), that k, and the neighbours."""
        if self._stacked is not None:
            available = np.minimum(k, self.sheet_sizes - 1)
            distances, neighbours = self._stacked.nearest(min(k, len(self) - 1), n_jobs=n_jobs)
            radius = np.where(available > 0, distances[np.arange(len(self)), available - 1], 0.0)
            return radius, available, neighbours
        radius, available = np.zeros(len(self)), np.empty(len(self), np.int64)
        neighbours = np.zeros((len(self), k), np.int64)
        for rows, search in self.sheets:
            reachable = min(k, len(rows) - 1) if self.codes is not None else k
            available[rows] = reachable
            if search is not None:
                distances, found = search.nearest(reachable, window=window, n_jobs=n_jobs)
                radius[rows] = distances[:, -1]
                neighbours[rows, :reachable] = rows[found]
        return radius, available, neighbours

    def count(self, radii: np.ndarray, window: int, n_jobs: int | None) -> np.ndarray:
        """Other samples at a distance of at most the radius; none where it is negative."""
        if self.constant:
            return all_but_window(len(self), window)
        if self.codes is None:
            search = self.sheets[0][1]
            assert search is not None
            return search.count(radii, window=window, n_jobs=n_jobs)
        if self.symbols_alone:
            return np.where(radii >= 0, self.sheet_sizes - 1, 0)
        if self._stacked is not None:
            return self._stacked.count(radii, n_jobs=n_jobs)
        counts = np.empty(len(self), np.int64)
        for rows, search in self.sheets:
            assert search is not None
            counts[rows] = search.count(radii[rows], n_jobs=n_jobs)
        return counts


def all_but_window(n: int, window: int) -> np.ndarray:
    """How many samples are more than a window away from each."""
    rows = np.arange(n)
    return n - 1 - np.minimum(rows, window) - np.minimum(n - 1 - rows, window)


def columns_of(name: str, argument: str, data: Any) -> list[Column]:
    """The columns of a vector, a matrix or a data frame, without missing or infinite values."""
    table = table_of(name, argument, data)
    if table is None:
        array = values_of(data)
        if array.ndim not in (1, 2):
            raise ValueError(f"{name}: {argument} must have one or two dimensions (got shape {array.shape})")
        columns = [array] if array.ndim == 1 else list(array.T)
    else:
        columns = table.columns
    if not columns or len(columns[0]) == 0:
        raise ValueError(f"{name}: {argument} has no samples; its shape must be [n] or [n, d]")
    for column in columns:
        if column.dtype.kind == "c":
            raise TypeError(f"{name}: {argument} must be real or discrete (got dtype {column.dtype})")
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            wrong = int(np.count_nonzero(~np.isfinite(column)))
            raise ValueError(
                f"{name}: {wrong} of {len(column)} samples of {argument} are NaN or infinite; drop them first"
            )
    return [Column(column, *_reading(column)) for column in columns]


def _reading(column: np.ndarray) -> tuple[bool, str]:
    """Whether the values are symbols: strings, booleans and objects always, integers where few values recur."""
    if column.dtype.kind == "f":
        return False, ""
    if column.dtype.kind not in "iu":
        return True, "booleans" if column.dtype.kind == "b" else "labels"
    distinct = len(np.unique(column))
    few = distinct <= max(_FEW_SYMBOLS, isqrt(len(column)))
    return few, f"{distinct} integers" if few else f"{distinct} integers are many"


def described(variables: dict[str, list[Column]]) -> str:
    """How each variable is read, for the note of an estimate."""
    found: dict[str, list[str]] = {}
    for argument, columns in variables.items():
        kind = " and ".join(sorted({"discrete" if column.discrete else "continuous" for column in columns}))
        reasons = sorted({column.reason for column in columns if column.reason})
        found.setdefault(f"{kind} ({', '.join(reasons)})" if reasons else kind, []).append(argument)
    if len(found) == 1 and len(variables) > 3:
        return f"all {next(iter(found))}"
    return " and ".join(f"{', '.join(arguments)} {kind}" for kind, arguments in found.items())


def same_length(name: str, variables: dict[str, list[Column]]) -> int:
    """The common number of samples."""
    lengths = {argument: len(columns[0].values) for argument, columns in variables.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{argument} has {length}" for argument, length in lengths.items())
        raise ValueError(f"{name}: variables must have the same number of samples on axis 0 ({shown})")
    return next(iter(lengths.values()))


def as_numbers(name: str, argument: str, columns: list[Column], method: str = "") -> list[Column]:
    """The columns, read as continuous whatever they hold, as that method needs them."""
    for column in columns:
        if column.values.dtype.kind not in "fiub":
            needed = f" for method {method!r}" if method else ""
            raise TypeError(f"{name}: {argument} must be real numbers{needed} (got dtype {column.values.dtype})")
    return [Column(column.values, False) for column in columns]


def numbers_of(columns: list[Column]) -> np.ndarray:
    """The columns that vary, as numbers ``[n, d]``."""
    varying = [column.values.astype(np.float64) for column in columns if not column.constant]
    return np.stack(varying, axis=1) if varying else np.empty((len(columns[0].values), 0))


def space_of(name: str, argument: str, columns: list[Column], *, standardize: bool, euclidean: bool) -> Space:
    """Continuous columns centred and scaled, without those that are constant; discrete ones as one code."""
    continuous = [column for column in columns if not column.discrete]
    points = numbers_of(continuous) if continuous else np.empty((len(columns[0].values), 0))
    recurring = False
    for axis in range(points.shape[1]):
        ordered = np.sort(points[:, axis])
        recurring = recurring or not (ordered[1:] > ordered[:-1]).all()
        # Centred on a value of its own, which keeps differences of far-off values exact.
        with np.errstate(over="ignore"):
            centred = points[:, axis] - ordered[len(ordered) // 2]
        if not np.isfinite(centred).all():
            raise ValueError(f"{name}: {argument} spans more than floating-point numbers can tell apart; scale it down")
        points[:, axis] = centred / deviation(centred) if standardize else centred
    coded = [encode(column.values, f"{name}: {argument}") for column in columns if column.discrete]
    codes = join(coded)[0] if coded else None
    if codes is not None and codes.max() == 0:
        codes = None
    return Space(points, codes, (points.shape[1],), euclidean, recurring)


def power_of_two(largest: float) -> float:
    """What brings a size to about 1 without the loss of a digit: squares then neither overflow nor vanish."""
    return ldexp(1.0, -max(-1000, min(1000, frexp(largest)[1]))) if largest > 0 else 1.0


def deviation(column: np.ndarray) -> float:
    """The standard deviation of centred values."""
    # Scaled first: the square of 1e-200 is zero.
    largest = np.abs(column).max()
    return float(largest * np.std(column / largest))
