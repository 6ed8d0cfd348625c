r"""When a variable can be put together from functions of it, by their distances alone and exactly.

If X can be reconstructed from functions $X_1,\dots,X_n$ of it, then they are not too far away all together: for Rajski's distance
$d(X,X_i)=1-H(X_i)/H(X)$,

$$\sum_i d(X,X_i)\le n-1,$$

because $H(X)=H(X_1,\dots,X_n)\le\sum_i H(X_i)$. Variables are those of `isentrope.measures.information_lattice`: a label for
each outcome.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from isentrope.measures._frames import table_of
from isentrope.measures._symbols import join, relabel
from isentrope.measures.estimate import unit_of
from isentrope.measures.information_lattice import _check_function, _entropy, _read

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


def reconstruction(
    x: Any,
    components: Sequence[Any] | Any,
    *,
    p: npt.ArrayLike | Sequence[float] | None = None,
    base: float | None = None,
) -> Reconstruction:
    r"""Whether a variable can be reconstructed from functions of it: the metric condition, and the exact answer.

    The condition $\sum_i d(X,X_i)\le n-1$ is necessary, and needs but the n entropies; it says $\sum_i H(X_i)\ge H(X)$.
    It holds with equality, where a reconstruction exists, exactly if the components are independent. It is not
    sufficient: components that repeat each other may keep to it and still leave x open, which ``exact`` and ``missing``,
    read from the joint law, show.

    Args:
        x: label of each outcome.
        components: labels of each of n functions of x, or a frame of them.
        p: probabilities of the outcomes; None where all are equally probable.
        base: base of the logarithm of ``missing``; None for nats, 2 for bits.

    Returns:
        Distances, their sum with its bound, and the exact answer.

    Raises:
        ValueError: if there are no components, one is not a function of x, lengths differ, there are no outcomes, labels
            are missing, p is no law on the outcomes, or the base is no base.
        TypeError: if components are no list, or labels are not hashable.

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
    table = table_of(where, "components", components)
    if table is None and not isinstance(components, Sequence | np.ndarray):
        raise TypeError(f"{where}: components must be a list of variables (got {type(components).__name__})")
    named = {f"component {i}": labels for i, labels in enumerate(table.columns if table else components)}
    if not named:
        raise ValueError(f"{where}: components are empty; at least one function of x is needed")
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
