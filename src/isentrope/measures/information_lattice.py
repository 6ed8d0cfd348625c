r"""Shannon's lattice of random variables and its two metrics.

A variable stands here for the information in it: a partition of the outcomes, given as a label for each outcome. Y is
*below* X where Y is a function of X. Two variables have a least upper bound, the joint variable (X, Y), and a greatest lower
bound, their common variable: what can be known from X alone and as well from Y alone (Gács and Körner). The lattice has
complements but is not distributive.

It carries the metrics of Shannon and of Rajski,

$$D(X,Y)=H(X|Y)+H(Y|X),\qquad d(X,Y)=\frac{D(X,Y)}{H(X,Y)}=1-\frac{I(X;Y)}{H(X,Y)}\in[0,1],$$

by which `isentrope.measures.reconstruction` says when a variable cannot be put together from functions of it.

Probabilities are known here, nothing is estimated: with samples for outcomes the laws are the observed frequencies.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Int
from scipy.special import entr

from isentrope.measures._laws import law_of
from isentrope.measures._symbols import join, relabel
from isentrope.measures.discrete_information import _named
from isentrope.measures.estimate import unit_of

# Outcomes less probable than this are impossible, so that what rounding leaves of a zero connects nothing.
_IMPOSSIBLE = 1e-15


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
    return min(1.0, distance / joint) if joint > 0 else 0.0


def _read(where: str, p: npt.ArrayLike | None, **variables: Any) -> tuple[list[np.ndarray], np.ndarray]:
    """Labels of each variable, and the law of the outcomes with impossible ones at 0."""
    labels = _named(where, **variables)
    n = len(labels[0])
    if p is None:
        return labels, np.full(n, 1 / n)
    probabilities = law_of(where, "p", p)
    if len(probabilities) != n:
        raise ValueError(
            f"{where}: p must have one probability for each of the {n} outcomes (got {len(probabilities)})"
        )
    return labels, np.where(probabilities < _IMPOSSIBLE, 0.0, probabilities)


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
