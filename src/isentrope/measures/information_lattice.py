r"""Shannon's lattice of random variables, its two metrics, and when a variable can be put together from functions of it.

A variable stands here for the information in it: a partition of the outcomes, given as a label for each outcome. Y is
*below* X where Y is a function of X. Two variables have a least upper bound, the joint variable (X, Y), and a greatest lower
bound, their common variable: what can be known from X alone and as well from Y alone (Gács and Körner). The lattice has
complements but is not distributive.

It carries the metrics of Shannon and of Rajski,

$$D(X,Y)=H(X|Y)+H(Y|X),\qquad d(X,Y)=\frac{D(X,Y)}{H(X,Y)}=1-\frac{I(X;Y)}{H(X,Y)}\in[0,1],$$

and if X can be reconstructed from functions $X_1,\dots,X_n$ of it, then they are not too far away all together:
$\sum_i d(X,X_i)\le n-1$. It follows from $H(X)=H(X_1,\dots,X_n)\le\sum_i H(X_i)$ and $d(X,X_i)=1-H(X_i)/H(X)$.

Probabilities are known here, nothing is estimated: with samples for outcomes the laws are the observed frequencies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int
from scipy.special import entr

from isentrope.measures._symbols import encode, join, relabel
from isentrope.measures.estimate import unit_of

# Outcomes less probable than this are impossible, so that what rounding leaves of a zero connects nothing.
_IMPOSSIBLE = 1e-15
# By how much a sum of rounded entropies may pass its bound, relatively.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Whether a variable can be reconstructed from functions of it, by the metric condition and exactly.

    Args:
        distances: Rajski's distance of each component to the variable.
        total: their sum.
        bound: what the sum may be at most, one less than the number of components.
        possible: whether the sum keeps to its bound. Where it does not, no reconstruction exists; where it does, one may.
        exact: whether the components together determine the variable.
        missing: entropy of the variable where the components are known, in ``unit``; 0 where ``exact``.
        unit: "nat", "bit", "hartley" or "log <base>".
    """

    distances: Float[np.ndarray, " n"]
    total: float
    bound: int
    possible: bool
    exact: bool
    missing: float
    unit: str


def common_variable(
    x: Any, y: Any, *, p: npt.ArrayLike | Sequence[float] | None = None
) -> Int[np.ndarray, " outcomes"]:
    """The common variable of two, the greatest that is a function of each: the meet of the lattice.

    Its values are the connected components of the graph in which possible outcomes are joined that agree in x or in y. Its
    entropy, the common information of Gács and Körner, is at most the mutual information.

    Args:
        x: label of each outcome: numbers, strings, any hashable values.
        y: labels of another variable on the same outcomes.
        p: probabilities of the outcomes; None where all are equally probable.

    Returns:
        The label of each outcome, from 0; -1 for impossible outcomes.

    Raises:
        ValueError: if lengths differ, there are no outcomes, labels are missing, or p is no law on the outcomes.

    References:
        Delsol, Rioul, Béguinot, Rabiet and Souloumiac, "An information theoretic condition for perfect reconstruction"
        (arXiv 2306.15540); Gács and Körner (1973), "Common information is far less than mutual information".

    Examples:
        >>> common_variable([1, 1, 2, 3], [5, 6, 6, 7])
        array([0, 0, 0, 1])
    """
    (x_labels, y_labels), law = _read("common_variable", p, x=x, y=y)
    possible = law > 0
    return _spread(_components(x_labels[possible], y_labels[possible]), possible)


def complementary_variable(
    x: Any, y: Any, *, p: npt.ArrayLike | Sequence[float] | None = None
) -> Int[np.ndarray, " outcomes"]:
    r"""What a function y of x leaves to be told: a complement z, with which y is x again, and nothing in common.

    Where y is known, the values of x are numbered from 0, the most probable first, and z is the number. Complements are
    not unique; each has $H(Z)\ge H(X|Y)$, with equality exactly where it is independent of y.

    Args:
        x: label of each outcome.
        y: labels of a function of x.
        p: probabilities of the outcomes; None where all are equally probable.

    Returns:
        The label of each outcome, from 0; -1 for impossible outcomes.

    Raises:
        ValueError: if y is not a function of x, lengths differ, there are no outcomes, labels are missing, or p is no law
            on the outcomes.

    References:
        Delsol, Rioul, Béguinot, Rabiet and Souloumiac, "An information theoretic condition for perfect reconstruction"
        (arXiv 2306.15540).

    Examples:
        >>> complementary_variable([-2, -1, 1, 2], ["minus", "minus", "plus", "plus"])
        array([0, 1, 0, 1])
    """
    where = "complementary_variable"
    (x_labels, y_labels), law = _read(where, p, x=x, y=y)
    possible = law > 0
    values, blocks = relabel(x_labels[possible])[0], relabel(y_labels[possible])[0]
    _check_function(where, "y", blocks, values)
    weight = np.bincount(values, weights=law[possible])
    block_of = np.empty(len(weight), np.int64)
    block_of[values] = blocks
    order = np.lexsort((np.arange(len(weight)), -weight, block_of))
    starts = np.flatnonzero(np.diff(block_of[order], prepend=-1))
    rank = np.empty(len(weight), np.int64)
    rank[order] = np.arange(len(weight)) - np.repeat(starts, np.diff(starts, append=len(weight)))
    return _spread(rank[values], possible)


def shannon_distance(
    x: Any, y: Any, *, p: npt.ArrayLike | Sequence[float] | None = None, base: float | None = None
) -> float:
    r"""Shannon's distance of two variables, $D(X,Y)=H(X|Y)+H(Y|X)=2H(X,Y)-H(X)-H(Y)$.

    A metric on variables that are taken for the same where each is a function of the other; also called variation of
    information. The joint variable lies between the two: $D(X,(X,Y))+D((X,Y),Y)=D(X,Y)$.

    Args:
        x: label of each outcome.
        y: labels of another variable on the same outcomes.
        p: probabilities of the outcomes; None where all are equally probable.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The distance.

    Raises:
        ValueError: if lengths differ, there are no outcomes, labels are missing, p is no law on the outcomes, or the base
            is no base.

    References:
        Shannon (1953), "The lattice theory of information"; Delsol, Rioul, Béguinot, Rabiet and Souloumiac, "An information
        theoretic condition for perfect reconstruction" (arXiv 2306.15540).

    Examples:
        >>> shannon_distance([0, 0, 1, 1], [0, 1, 0, 1], base=2)
        2.0
    """
    where = "shannon_distance"
    nats, _ = unit_of(base, where)
    (x_labels, y_labels), law = _read(where, p, x=x, y=y)
    return _distance(x_labels, y_labels, law)[0] / nats


def rajski_distance(x: Any, y: Any, *, p: npt.ArrayLike | Sequence[float] | None = None) -> float:
    r"""Rajski's distance of two variables, $d(X,Y)=D(X,Y)/H(X,Y)=1-I(X;Y)/H(X,Y)$, without unit.

    A metric with values from 0, where each variable is a function of the other, to 1, where they are independent; 0 of two
    constants.

    Args:
        x: label of each outcome.
        y: labels of another variable on the same outcomes.
        p: probabilities of the outcomes; None where all are equally probable.

    Returns:
        The distance, from 0 to 1.

    Raises:
        ValueError: if lengths differ, there are no outcomes, labels are missing, or p is no law on the outcomes.

    References:
        Rajski (1961), "A metric space of discrete probability distributions"; Delsol, Rioul, Béguinot, Rabiet and
        Souloumiac, "An information theoretic condition for perfect reconstruction" (arXiv 2306.15540).

    Examples:
        >>> rajski_distance([0, 0, 1, 1], [0, 1, 0, 1]), rajski_distance("aabb", [0, 0, 1, 1])
        (1.0, 0.0)
    """
    (x_labels, y_labels), law = _read("rajski_distance", p, x=x, y=y)
    distance, joint = _distance(x_labels, y_labels, law)
    return distance / joint if joint > 0 else 0.0


def reconstruction(
    x: Any, components: Sequence[Any], *, p: npt.ArrayLike | Sequence[float] | None = None, base: float | None = None
) -> Reconstruction:
    r"""Whether a variable can be reconstructed from functions of it: the metric condition, and the exact answer.

    The condition $\sum_i d(X,X_i)\le n-1$ is necessary, and needs but the n entropies; it says $\sum_i H(X_i)\ge H(X)$.
    It holds with equality, where a reconstruction exists, exactly if the components are independent. It is not
    sufficient: components that repeat each other may keep to it and still leave x open, which ``exact`` and ``missing``,
    read from the joint law, show.

    Args:
        x: label of each outcome.
        components: labels of each of n functions of x.
        p: probabilities of the outcomes; None where all are equally probable.
        base: base of the logarithm of ``missing``; None for nats, 2 for bits.

    Returns:
        Distances, their sum with its bound, and the exact answer.

    Raises:
        ValueError: if there are no components, one is not a function of x, lengths differ, there are no outcomes, labels
            are missing, p is no law on the outcomes, or the base is no base.

    References:
        Delsol, Rioul, Béguinot, Rabiet and Souloumiac, "An information theoretic condition for perfect reconstruction"
        (arXiv 2306.15540).

    Examples:
        >>> x = range(15)  # the Chinese remainder theorem: 3 and 5 have no factor in common
        >>> found = reconstruction(list(x), [[i % 3 for i in x], [i % 5 for i in x]], base=2)
        >>> round(found.total, 9), found.possible, found.exact
        (1.0, True, True)
    """
    where = "reconstruction"
    nats, unit = unit_of(base, where)
    if len(components) == 0:
        raise ValueError(f"{where}: components are empty; at least one function of x is needed")
    named = {f"component {i}": component for i, component in enumerate(components)}
    (x_labels, *labels), law = _read(where, p, x=x, **named)
    possible = law > 0
    law, values = law[possible], relabel(x_labels[possible])[0]
    whole = _entropy(values, law)
    distances, together = np.zeros(len(labels)), np.zeros(len(values), np.int64)
    for i, component in enumerate(labels):
        part = relabel(component[possible])[0]
        _check_function(where, f"component {i}", part, values)
        distances[i] = 1 - _entropy(part, law) / whole if whole > 0 else 0.0
        together, _ = join([together, part])
    exact = len(np.unique(together)) == len(np.unique(values))
    total, bound = float(distances.sum()), len(labels) - 1
    return Reconstruction(
        distances=distances,
        total=total,
        bound=bound,
        possible=total <= bound + _ROUNDING * len(labels),
        exact=exact,
        missing=0.0 if exact else (whole - _entropy(together, law)) / nats,
        unit=unit,
    )


def _read(where: str, p: npt.ArrayLike | None, **variables: Any) -> tuple[list[np.ndarray], np.ndarray]:
    """Labels of each variable, and the law of the outcomes with impossible ones at 0."""
    labels = [encode(values, f"{where}: {argument}") for argument, values in variables.items()]
    n = len(labels[0])
    for argument, found in zip(variables, labels, strict=True):
        if len(found) != n:
            raise ValueError(f"{where}: {argument} labels {len(found)} outcomes, x {n}; they must be the same outcomes")
    if p is None:
        return labels, np.full(n, 1 / n)
    law = np.asarray(p, dtype=np.float64)
    if law.shape != (n,):
        raise ValueError(f"{where}: p must have one probability for each of the {n} outcomes (got shape {law.shape})")
    if not np.isfinite(law).all() or law.min() < 0:
        raise ValueError(f"{where}: p must be finite and not negative (its least is {law.min():.6g})")
    if abs(law.sum() - 1) > 1e-6:
        raise ValueError(f"{where}: p must sum to 1 (got {law.sum():.6g})")
    return labels, np.where(law < _IMPOSSIBLE, 0.0, law)


def _components(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Connected components of the graph between the values of x and those of y, numbered as they appear."""
    # Imported here because it takes as long as the rest of the room.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = relabel(x)[0], relabel(y)[0]
    left, right = int(first.max()) + 1, int(second.max()) + 1
    edges = coo_array((np.ones(len(first)), (first, left + second)), shape=(left + right, left + right))
    component = connected_components(edges, directed=False)[1][first]
    appearance = np.unique(component, return_index=True)[1]
    return np.argsort(np.argsort(appearance))[component]


def _spread(labels: np.ndarray, possible: np.ndarray) -> np.ndarray:
    everywhere = np.full(len(possible), -1, np.int64)
    everywhere[possible] = labels
    return everywhere


def _check_function(where: str, argument: str, part: np.ndarray, values: np.ndarray) -> None:
    if len(join([part, values])[1]) > len(np.unique(values)):
        raise ValueError(f"{where}: {argument} is not a function of x: it differs between outcomes where x is the same")


def _entropy(labels: np.ndarray, law: np.ndarray) -> float:
    return float(entr(np.bincount(labels, weights=law)).sum())


def _distance(x: np.ndarray, y: np.ndarray, law: np.ndarray) -> tuple[float, float]:
    """Shannon's distance and the joint entropy, in nats; both exactly 0 where they are."""
    possible = law > 0
    x, y, law = relabel(x[possible])[0], relabel(y[possible])[0], law[possible]
    both, counts = join([x, y])
    cells, joint = len(counts), _entropy(both, law)
    # A variable that determines the other has the joint entropy, in the same digits.
    first = joint if cells == int(x.max()) + 1 else _entropy(x, law)
    second = joint if cells == int(y.max()) + 1 else _entropy(y, law)
    return max(0.0, 2 * joint - (first + second)), joint
