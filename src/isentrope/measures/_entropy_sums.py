r"""Sums of joint entropies of continuous and mixed variables, $\sum_S c_S H(X_S)$, with a value at each sample.

Mutual, conditional and total information are such sums in which volumes cancel. With the distance $\varepsilon_i$ of
sample i to its k-th neighbour in the space of all variables, and one more than the number of other samples closer than that
in the space of some, $m_{S,i}$, the value at i is $\sum_S c_S[\psi(N)-\psi(m_{S,i})]$ with $m=k$ for all variables: one
radius for every space, so that what each entropy leaves of the law within it is the same and cancels too.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from math import isqrt, nan, sqrt
from operator import add
from typing import Any, NamedTuple

import numpy as np
from scipy.special import digamma

from isentrope._threads import threads_of
from isentrope.measures._parts import part_size, parts, too_few
from isentrope.measures._spaces import (
    Column,
    Space,
    all_but_window,
    as_numbers,
    described,
    numbers_of,
    power_of_two,
    same_length,
    space_of,
)
from isentrope.measures.discrete_information import Terms
from isentrope.measures.estimate import Estimate, check_at_least, unit_of
from isentrope.measures.gaussian import gaussian_log_density, gaussian_scores

# From generator and data, the data without their dependence.
Shuffle = Callable[[np.random.Generator, list[Any]], list[Any]]

# The spread of fewer stretches of a series than this may itself be off by a quarter.
_FEW_STRETCHES = 10
# Beyond a median distance of so many standard deviations neighbours are no neighbours.
_FAR = 1.0


@dataclass(frozen=True)
class Settings:
    """What the public functions are asked for beside the data."""

    name: str
    method: str
    k: int
    metric: str
    standardize: bool
    window: int
    base: float | None
    local: bool
    stderr: bool
    n_jobs: int | None
    serial: bool = False

    def __post_init__(self) -> None:
        if self.metric not in ("max", "euclidean"):
            raise ValueError(f"{self.name}: metric must be 'max' or 'euclidean' (got {self.metric!r})")
        check_at_least(self.name, "k", self.k, 1)
        check_at_least(self.name, "window", self.window, 0)
        if self.n_jobs is not None:
            threads_of(self.name, self.n_jobs)


Neighbours = Callable[[list[Space], Terms, Settings, int | None], tuple[np.ndarray, np.ndarray]]


class _Found(NamedTuple):
    """The local values in nats (NaN for samples left out), their mean's variance, and how to estimate from shuffled data."""

    values: np.ndarray
    correction: float
    variance: float
    method: str
    notes: list[str]
    shuffled: Callable[[Shuffle, np.random.Generator], float]


def estimate_sum(
    variables: dict[str, list[Column]],
    terms: Terms,
    methods: dict[str, Neighbours | None],
    settings: Settings,
    shuffle: Shuffle | None,
    required: int,
) -> Estimate:
    """The sum by one of the methods, of which the first is taken where none is asked for.

    It is 0 where one of the first ``required`` variables is constant.
    """
    name, method = settings.name, next(iter(methods)) if settings.method == "auto" else settings.method
    nats, unit = unit_of(settings.base, name)
    n = same_length(name, variables)
    if n < 2:
        raise ValueError(f"{name}: at least 2 samples are needed (got {n})")
    if method not in methods:
        raise ValueError(f"{name}: method must be auto or one of {', '.join(methods)} (got {method!r})")
    if settings.method in ("ksg", "ksg2", "frenzel_pompe", "gaussian", "gaussian_copula"):
        variables = {argument: as_numbers(name, argument, columns, method) for argument, columns in variables.items()}
    for argument, columns in list(variables.items())[:required]:
        if all(column.constant for column in columns):
            local = np.zeros(n) if settings.local else None
            return Estimate(
                0.0, 0.0, unit, method, n, note=f"{argument} is constant", local=local, shuffled=lambda generator: 0.0
            )
    estimator = methods[method]
    if estimator is None:
        found = _by_gaussian_laws(variables, terms, method, settings)
    else:
        found = _by_neighbours(variables, terms, method, estimator, settings)

    def shuffled(generator: np.random.Generator) -> float:
        assert shuffle is not None
        return found.shuffled(shuffle, generator) / nats

    return Estimate(
        float(np.nanmean(found.values)) / nats,
        sqrt(found.variance) / nats,
        unit=unit,
        method=found.method,
        n=n,
        bias_correction=found.correction / nats,
        note="; ".join([described(variables), *found.notes]),
        local=found.values / nats if settings.local else None,
        shuffled=shuffled if shuffle is not None else None,
    )


def _by_gaussian_laws(variables: dict[str, list[Column]], terms: Terms, method: str, settings: Settings) -> _Found:
    data = [numbers_of(columns) for columns in variables.values()]
    if method == "gaussian_copula":
        data = [gaussian_scores(values) for values in data]

    def evaluate(data: list[np.ndarray]) -> tuple[np.ndarray, float]:
        values, correction = np.zeros(len(data[0])), 0.0
        for subset, coefficient in terms.items():
            try:
                density, excess = gaussian_log_density(np.concatenate([data[i] for i in subset], axis=1))
            except ValueError as error:
                raise ValueError(f"{settings.name}: {error}") from None
            values -= float(coefficient) * density
            correction += float(coefficient) * excess
        return values + correction, correction

    values, correction = evaluate(data)
    dependence, notes = _dependence(values, settings)
    variance = float(np.var(values, ddof=1)) / len(values) * dependence
    return _Found(
        values,
        correction,
        variance,
        method,
        notes,
        lambda shuffle, generator: float(np.mean(evaluate(shuffle(generator, data))[0])),
    )


def _by_neighbours(
    variables: dict[str, list[Column]], terms: Terms, method: str, estimator: Neighbours, settings: Settings
) -> _Found:
    euclidean = settings.metric == "euclidean"
    spaces = [
        space_of(settings.name, argument, columns, standardize=settings.standardize, euclidean=euclidean)
        for argument, columns in variables.items()
    ]
    if not settings.standardize:
        # The same for all, so that distances keep their order.
        factor = power_of_two(max(float(np.abs(space.points).max(initial=0.0)) for space in spaces))
        for space in spaces:
            space.points *= factor
    n, kept, notes = len(spaces[0]), _with_company(spaces), []
    _check_neighbours(spaces, len(kept), settings)
    if settings.method == "auto" and len(spaces) == 2 and any(space.symbols_alone for space in spaces):
        method = "ross"

    def evaluate(spaces: list[Space], settings: Settings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        together = _with_company(spaces)
        if len(together) < len(spaces[0]):
            spaces = [space[together] for space in spaces]
        return *estimator(spaces, terms, settings, settings.n_jobs), together

    values = np.full(n, nan)
    values[kept], radius, _ = evaluate(spaces, settings)
    variance = nan
    if settings.stderr:
        dependence, told = _dependence(values[kept], settings)
        alone = _variance_by_parts(evaluate, spaces, settings)
        if alone is None:
            alone = float(np.var(values[kept], ddof=1)) / len(kept)
            told.append(too_few(settings.k))
        variance = alone * dependence
        notes += told
    # What n samples give at most: no other one is nearer in one variable than the neighbours are in both.
    if (
        len(spaces) == 2
        and len(terms) == 3
        and float(values[kept].mean()) > digamma(len(kept)) - digamma(settings.k) - 0.1
    ):
        notes.append("as much as so many samples can tell: the variables may determine each other")
    if np.median(radius) == 0:
        notes.append("the neighbours of most samples are equal to them: a discrete reading may be meant")
    if settings.standardize and np.median(radius) > _FAR:
        distance = f"{np.median(radius):.1f} standard deviations"
        notes.append(f"neighbours are {distance} away: too few samples for so many columns, the value is too low")
    if len(kept) < n:
        notes.append(f"{n - len(kept)} samples whose symbol occurs once are left out")

    def shuffled(shuffle: Shuffle, generator: np.random.Generator) -> float:
        found, _, together = evaluate(shuffle(generator, spaces), replace(settings, n_jobs=1))
        return float(found.mean()) if len(together) else 0.0

    return _Found(values, 0.0, variance, method, notes, shuffled)


def _with_company(spaces: list[Space]) -> np.ndarray:
    """The samples that share their symbols with another one."""
    return np.flatnonzero(reduce(add, spaces).sheet_sizes > 1)


def _check_neighbours(spaces: list[Space], kept: int, settings: Settings) -> None:
    name, k, window = settings.name, settings.k, settings.window
    if window > 0 and any(space.codes is not None for space in spaces):
        raise ValueError(f"{name}: window must be 0 where a variable is discrete (got {window})")
    if kept - 1 - 2 * window < k:
        alone = len(spaces[0]) - kept
        why = f", and {alone} whose symbols occur once are left out: as numbers they are read with astype(float)"
        raise ValueError(
            f"{name}: k={k} neighbours and window={window} need more than {kept} samples{why if alone else ''}"
        )
    if settings.method == "ross" and sorted((space.codes is None) - space.symbols_alone for space in spaces) != [-1, 1]:
        raise ValueError(f"{name}: method 'ross' is for one discrete and one continuous variable")


# Local values in nats, and the distance to the k-th neighbour.


def strict(spaces: list[Space], terms: Terms, settings: Settings, n_jobs: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Counts of the samples closer than the k-th neighbour: the first estimator of Kraskov and others, of any sum.

    Of points at that very distance one is expected, the k-th neighbour. Where values recur there are more, and all of
    them count; without that, values on a grid would give a tenth of a nat to one nat too much.
    """
    joint = reduce(add, spaces)
    radius, available, _ = joint.nearest(settings.k, settings.window, n_jobs)
    inside = radius - np.maximum(joint.rounding, np.spacing(radius))
    reach = radius + joint.rounding
    ties = joint.recurring or joint.symbols_alone
    values = float(sum(terms.values())) * digamma(all_but_window(len(joint), settings.window) + 1.0)
    for subset, coefficient in terms.items():
        if len(subset) == len(spaces):
            places = np.maximum(available, joint.count(reach, settings.window, n_jobs)) if ties else available
        else:
            space = reduce(add, [spaces[i] for i in subset])
            places = space.count(inside, settings.window, n_jobs) + 1
            if ties:
                places = np.maximum(places, space.count(reach, settings.window, n_jobs))
        values = values - float(coefficient) * digamma(places)
    return values, radius


def own_radii(
    spaces: list[Space], terms: Terms, settings: Settings, n_jobs: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """The second estimator of Kraskov and others, of a total correlation: a radius of its own in each space."""
    joint = reduce(add, spaces)
    radius, _, neighbours = joint.nearest(settings.k, settings.window, n_jobs)
    others, rows = len(spaces) - 1, np.arange(len(joint))[:, None]
    values = digamma(settings.k) - others / settings.k
    values = values + others * digamma(all_but_window(len(joint), settings.window) + 1.0)
    for space in spaces:
        search = space.sheets[0][1]
        assert search is not None
        extent = search.block_distance(rows, neighbours).max(axis=1)
        values = values - digamma(space.count(extent + joint.rounding, settings.window, n_jobs))
    return values, radius


def mixture(spaces: list[Space], terms: Terms, settings: Settings, n_jobs: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Gao and others, as their published program has it: a place of more than k samples is its own neighbourhood."""
    joint = reduce(add, spaces)
    radius, available, _ = joint.nearest(settings.k, settings.window, n_jobs)
    within = np.where(radius > 0, radius - np.maximum(joint.rounding, np.spacing(radius)), 0.0)
    in_place = joint.count(np.zeros(len(joint)), settings.window, n_jobs) + 1
    values = digamma(np.where(radius > 0, available, in_place))
    values += np.log(all_but_window(len(joint), settings.window) + 1)
    for space in spaces:
        values -= digamma(space.count(within, settings.window, n_jobs) + 1)
    return values, radius


def closed(spaces: list[Space], terms: Terms, settings: Settings, n_jobs: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Mesner and Shalizi: digammas of counts that hold the points at the radius."""
    joint = reduce(add, spaces)
    radius, _, _ = joint.nearest(settings.k, settings.window, n_jobs)
    reach = np.where(radius > 0, radius + joint.rounding, 0.0)
    values = np.zeros(len(joint))
    for subset, coefficient in terms.items():
        space = reduce(add, [spaces[i] for i in subset])
        values -= float(coefficient) * digamma(space.count(reach, settings.window, n_jobs))
    return values, radius


# Uncertainty.


def _variance_by_parts(evaluate: Callable, spaces: list[Space], settings: Settings) -> float | None:
    """Variance of the mean of samples as if independent; psi of their number is the same in all parts, and left as it is."""
    n, k = len(spaces[0]), settings.k
    smallest = part_size(n, k)
    chosen = parts(n, smallest, 3 * smallest // 2)
    if chosen is None:
        return None
    size = int(np.count_nonzero(chosen.part == 0))
    # Rows that were so far apart in time are fewer rows apart in a part.
    window = min(-(-settings.window * size // n), (size - 1 - k) // 2)
    moved = [space[chosen.rows].parted(chosen.part) for space in spaces]
    values, _, together = evaluate(moved, replace(settings, window=window))
    return chosen.variance_of_whole(values, together, n)


def _dependence(values: np.ndarray, settings: Settings) -> tuple[float, list[str]]:
    """How many times the variance of the mean of a series is that of as many independent values, by overlapping batches."""
    n = len(values)
    length = min(max(isqrt(n), 2 * settings.window), n // 2)
    variance = float(np.var(values))
    if not (settings.serial or settings.window > 0) or length < 2 or variance == 0:
        return 1.0, []
    sums = np.concatenate([[0.0], np.cumsum(values - values.mean())])
    means = (sums[length:] - sums[:-length]) / length
    factor = length * float(np.mean(means**2)) / (1 - length / n) / variance
    few = [f"the standard error rests on {n // length} stretches of the series"] if n // length < _FEW_STRETCHES else []
    return factor, few


# Null hypotheses.


def shuffle_first(generator: np.random.Generator, data: list[Any]) -> list[Any]:
    """The first variable in another order."""
    return [data[0][generator.permutation(len(data[0]))], *data[1:]]


def shuffle_each(generator: np.random.Generator, data: list[Any]) -> list[Any]:
    """Every variable in an order of its own."""
    return [variable[generator.permutation(len(variable))] for variable in data]


def shift_first(window: int, generator: np.random.Generator, data: list[Any]) -> list[Any]:
    """The first variable shifted round by more than the window."""
    return [_shifted(data[0], window, generator), *data[1:]]


def shift_each(window: int, generator: np.random.Generator, data: list[Any]) -> list[Any]:
    """Every variable shifted round by an amount of its own."""
    return [_shifted(variable, window, generator) for variable in data]


def _shifted(variable: Any, window: int, generator: np.random.Generator) -> Any:
    n = len(variable)
    least = min(max(1, window), n // 4)
    return variable[np.roll(np.arange(n), generator.integers(least, n - least + 1))]


def exchange_first(generator: np.random.Generator, data: list[Any], *, among: int = 5) -> list[Any]:
    """Each sample of the first variable replaced by that of one with nearly the same third (Runge's local permutation).

    Where the third is of symbols alone, the first is shuffled among the samples of each.
    """
    from isentrope.measures._neighbour_kernels import substitutes

    x, y, known = data
    if isinstance(known, np.ndarray):
        known = Space(known, None, (known.shape[1],), False, False)
    n = len(x)
    if known.constant:
        return shuffle_first(generator, data)
    if known.codes is not None and known.symbols_alone:
        from_rows = np.empty(n, np.int64)
        from_rows[np.argsort(known.codes, kind="stable")] = np.lexsort((generator.random(n), known.codes))
        return [x[from_rows], y, data[2]]
    _, available, neighbours = known.nearest(min(among, n - 1), 0, 1)
    keys = generator.random(neighbours.shape)
    return [x[substitutes(neighbours, available, keys, generator.permutation(n))], y, data[2]]
