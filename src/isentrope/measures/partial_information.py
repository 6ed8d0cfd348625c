r"""Partial information decomposition: what two sources tell of a target together, alike, each alone, and only jointly.

$$I(T;X_1)=R+U_1,\qquad I(T;X_2)=R+U_2,\qquad I(T;X_1X_2)=R+U_1+U_2+S$$

for the redundancy R, the unique informations U and the synergy S: three equations for four numbers. A method is a
definition of the fourth, and they differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from isentrope.measures.discrete_information import _named
from isentrope.measures.estimate import Estimate, check_at_least, generator_of, unit_of

# The duality gap, in nats, at which the solver stops, and what it may be at the end.
_GAP = 1e-11
_STEPS = 500


@dataclass(frozen=True)
class PartialInformation:
    """Redundancy, unique informations and synergy of two sources about a target.

    Args:
        redundancy: what both sources tell.
        unique_first: what only the first source tells.
        unique_second: what only the second source tells.
        synergy: what they tell together and neither tells alone.
        unit: "nat", "bit", "hartley" or "log <base>".
        method: the definition used.
    """

    redundancy: float
    unique_first: float
    unique_second: float
    synergy: float
    unit: str
    method: str


def partial_information(
    p: Float[np.ndarray, "target first second"] | npt.ArrayLike, *, method: str = "broja", base: float | None = None
) -> PartialInformation:
    r"""Partial information decomposition of a joint law of a target and two sources.

    - ``"broja"``: the unique information of $X_1$ is the least $I_q(T;X_1|X_2)$ of all laws q with the pair laws
      $q(t,x_1)=p(t,x_1)$ and $q(t,x_2)=p(t,x_2)$, found by an interior-point method to $10^{-9}$ nat. Not negative; it
      depends on the pair laws alone, so that synergy is what only the whole law has.
    - ``"i_min"``: $R=\sum_t p(t)\min_i\sum_x p(x_i|t)\ln\frac{p(t|x_i)}{p(t)}$, of Williams and Beer. It takes two
      sources that tell different things of the same amount as redundant.
    - ``"mmi"``: $R=\min_i I(T;X_i)$, which for Gaussian variables agrees with all definitions of pair laws.

    Args:
        p: probabilities with the axes target, first source, second source; they sum to 1.
        method: "broja", "i_min" or "mmi".
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The four informations.

    Raises:
        ValueError: if p has not three axes, has negative or not finite entries or does not sum to 1, or if the method or
            base is unknown.
        ArithmeticError: if the interior-point method does not converge.

    References:
        Williams and Beer, "Nonnegative decomposition of multivariate information" (arXiv 1004.2515); Bertschinger, Rauh,
        Olbrich, Jost and Ay, "Quantifying unique information" (arXiv 1311.2852); Barrett, "An exploration of synergistic
        and redundant information sharing in static and dynamical Gaussian systems" (arXiv 1411.2832).

    Examples:
        >>> import numpy as np
        >>> both = np.zeros((2, 2, 2))
        >>> for x1, x2 in np.ndindex(2, 2):
        ...     both[x1 & x2, x1, x2] = 1 / 4
        >>> found = partial_information(both, base=2)
        >>> [round(x, 4) for x in (found.redundancy, found.unique_first, found.unique_second, found.synergy)]
        [0.3113, 0.0, 0.0, 0.5]
    """
    where = "partial_information"
    law, (nats, unit) = _checked(p, where), unit_of(base, where)
    return PartialInformation(*(atom / nats for atom in _atoms(law, method, where)), unit=unit, method=method)


def discrete_partial_information(
    target: Any,
    first: Any,
    second: Any,
    *,
    method: str = "broja",
    base: float | None = None,
    n_resamples: int = 100,
    rng: int | np.random.Generator | None = None,
) -> PartialInformation:
    r"""Partial information decomposition of discrete samples: that of their observed frequencies.

    Each part is an `Estimate` whose standard error is the spread over samples drawn anew from the observed frequencies
    (bootstrap). The parts are not corrected for bias: with few samples for the number of combinations of values, it is
    mostly the synergy that is too high.

    Args:
        target: n values of the target, or several columns.
        first: n values of one source, likewise.
        second: n values of the other, likewise.
        method: "broja", "i_min" or "mmi", as in `partial_information`.
        base: base of the logarithm; None for nats, 2 for bits.
        n_resamples: number of bootstrap samples, at least 2; 0 for no standard errors.
        rng: seed or generator.

    Returns:
        The four informations, as estimates.

    Raises:
        ValueError: if lengths differ, there are no samples or some are missing, n_resamples is 1 or negative, or the
            method or base is unknown.
        TypeError: if a sample is not hashable.

    References:
        Bertschinger, Rauh, Olbrich, Jost and Ay, "Quantifying unique information" (arXiv 1311.2852).

    Examples:
        >>> x, y = [0, 0, 1, 1] * 50, [0, 1, 0, 1] * 50
        >>> parity = [a ^ b for a, b in zip(x, y)]
        >>> round(discrete_partial_information(parity, x, y, base=2, rng=0).synergy, 6)
        1.0
    """
    where = "discrete_partial_information"
    nats, unit = unit_of(base, where)
    check_at_least(where, "n_resamples", n_resamples, 0)
    if n_resamples == 1:
        raise ValueError(f"{where}: n_resamples must be 0 or at least 2 (got {n_resamples})")
    variables = _named(where, target=target, first=first, second=second)
    n, shape = len(variables[0]), tuple(int(labels.max()) + 1 for labels in variables)
    counts = np.bincount(np.ravel_multi_index(tuple(variables), shape), minlength=int(np.prod(shape)))
    atoms = _atoms(counts.reshape(shape) / n, method, where)
    generator = generator_of(where, rng)
    resampled = (generator.multinomial(n, counts / n).reshape(shape) / n for _ in range(n_resamples))
    # Far below the spread of the samples, of the order of 1/sqrt(n), an optimum need not be known.
    drawn = [_atoms(law, method, where, max(_GAP, 0.1 / n)) for law in resampled]
    errors = np.std(drawn, axis=0, ddof=1) if n_resamples else np.full(4, np.nan)
    estimates = [
        Estimate(atom / nats, float(error) / nats, unit=unit, method=method, n=n)
        for atom, error in zip(atoms, errors, strict=True)
    ]
    return PartialInformation(*estimates, unit=unit, method=method)


def _checked(p: npt.ArrayLike, where: str) -> np.ndarray:
    law = np.asarray(p, dtype=np.float64)
    if law.ndim != 3:
        raise ValueError(f"{where}: p must have the axes target, first, second (got shape {law.shape})")
    if not (np.isfinite(law) & (law >= 0)).all():
        raise ValueError(f"{where}: probabilities in p must be finite and not negative (the least is {law.min():.6g})")
    if abs(law.sum() - 1) > 1e-6:
        raise ValueError(f"{where}: probabilities in p must sum to 1 (got {law.sum():.6g})")
    return law / law.sum()


def _atoms(p: np.ndarray, method: str, where: str, gap: float = _GAP) -> tuple[float, float, float, float]:
    """Redundancy, unique informations and synergy, in nats; an optimum is found to within ``gap``."""
    if method not in _METHODS:
        raise ValueError(f"{where}: method must be one of {', '.join(_METHODS)} (got {method!r})")
    first, second = _information(p.sum(axis=2)), _information(p.sum(axis=1))
    whole = _information(p.reshape(len(p), -1))
    redundancy = _METHODS[method](p, first, second, gap)
    return redundancy, first - redundancy, second - redundancy, whole - first - second + redundancy


def _information(p: np.ndarray) -> float:
    """Mutual information of rows and columns of a joint law."""
    product = p.sum(axis=1, keepdims=True) * p.sum(axis=0)
    some = p > 0
    return float(p[some] @ np.log(p[some] / product[some]))


def _least_specific(p: np.ndarray, first: float, second: float, gap: float) -> float:
    def specific(pair: np.ndarray) -> np.ndarray:
        """For each t, the sum over x of p(x|t) ln p(t|x)/p(t), times p(t)."""
        product = pair.sum(axis=1, keepdims=True) * pair.sum(axis=0)
        return np.sum(pair * np.log(np.where(pair > 0, pair, 1) / np.where(pair > 0, product, 1)), axis=1)

    return float(np.minimum(specific(p.sum(axis=2)), specific(p.sum(axis=1))).sum())


def _least_information(p: np.ndarray, first: float, second: float, gap: float) -> float:
    return min(first, second)


def _broja(p: np.ndarray, first: float, second: float, gap: float) -> float:
    q = _least_union(p.sum(axis=2), p.sum(axis=1), gap)
    # The co-information of q, whose synergy is zero. Rounded into what the equations allow.
    return min(max(first + second - _information(q.reshape(len(q), -1)), 0.0), first, second)


_METHODS: dict[str, Callable[[np.ndarray, float, float, float], float]] = {
    "broja": _broja,
    "i_min": _least_specific,
    "mmi": _least_information,
}


def _least_union(first: np.ndarray, second: np.ndarray, gap: float = _GAP) -> np.ndarray:
    r"""The law q(t, x, y) of least $I_q(T;XY)$ with the pair laws q(t, x) = first and q(t, y) = second.

    Equivalently, of least $f(q)=\sum q\ln\frac{q(t,x,y)}{q(x,y)}$, which is convex. Newton steps minimise
    $f-\mu\sum\ln q$ for falling $\mu$, inside the constraints. Within the cells (x, y) the Hessian is
    $\mathrm{diag}(1/q+\mu/q^2)-\mathbf{1}\mathbf{1}^T/s$ with $s=\sum_t q$, so its inverse is
    $\mathrm{diag}(e)+ee^T/(s-\sum e)$ with $e=q^2/(q+\mu)$. On the central path f is within $\mu$ times the number of
    cells of its least value.
    """
    # Values of the target that never occur have no constraints.
    occurring = first.sum(axis=1) > 0
    first, second = first[occurring], second[occurring]
    target = first.sum(axis=1)
    inside = (first[:, :, None] > 0) & (second[:, None, :] > 0)
    start = first[:, :, None] * second[:, None, :]
    q = np.divide(start, target[:, None, None], out=np.zeros_like(start), where=inside)
    # Of the constraints of each t one follows from the others: that of its last y of probability above zero.
    free = second > 0
    free[np.arange(len(free)), free.shape[1] - 1 - np.argmax(free[:, ::-1], axis=1)] = False
    t, x, y = (np.eye(size) for size in q.shape)
    of_first = np.broadcast_to(t[:, None, None, :, None] * x[None, :, None, None, :], (*q.shape, *first.shape))[
        ..., first > 0
    ]
    of_second = np.broadcast_to(t[:, None, None, :, None] * y[None, None, :, None, :], (*q.shape, *second.shape))[
        ..., free
    ]
    constraints = np.concatenate([of_first, of_second], axis=-1)

    def excess(q: np.ndarray, mu: float) -> float:
        s = np.broadcast_to(q.sum(axis=0), q.shape)
        return float(np.sum(q[inside] * np.log(q[inside] / s[inside])) - mu * np.sum(np.log(q[inside])))

    cells, mu = int(inside.sum()), 0.1 / int(inside.sum())
    for _ in range(_STEPS):
        step, decrement = _newton_step(q, mu, inside, constraints)
        falling = step < 0
        length = min(1.0, 0.99 * float(np.min(-q[falling] / step[falling]))) if falling.any() else 1.0
        now = excess(q, mu)
        while length > 1e-12 and excess(q + length * step, mu) > now - 1e-4 * length * decrement + 1e-15:
            length /= 2
        q = q + length * step
        if decrement < 0.05 * mu or length <= 1e-12:
            if mu * cells < gap:
                return q
            mu *= 0.2
    raise ArithmeticError(f"partial_information: the duality gap is {mu * cells:.1g} after {_STEPS} steps")


def _newton_step(q: np.ndarray, mu: float, inside: np.ndarray, constraints: np.ndarray) -> tuple[np.ndarray, float]:
    """A step that keeps both pair laws, and the square of its length in the metric of the Hessian.

    With the inverse Hessian $LL^T$ the step is $-L$ times the part of $L^T$ gradient that is orthogonal to the constraints
    $L^TA^T$. By orthogonal factors it stays exact at vertices, where $AHA^T$ loses its rank.
    """
    s = np.broadcast_to(q.sum(axis=0), q.shape)
    gradient = np.zeros_like(q)
    gradient[inside] = np.log(q[inside] / s[inside]) - mu / q[inside]
    e = q**2 / (q + mu)
    # s - sum(e), as a sum of terms that do not cancel; cells that no t reaches have none.
    room = np.sum(q * mu / (q + mu), axis=0)
    u = np.sqrt(e / np.where(room > 0, room, 1.0))
    squares = np.sum(u**2, axis=0)
    # I + uu^T is the square of I + c uu^T.
    c = 1 / (1 + np.sqrt(1 + squares))

    def root(v: np.ndarray) -> np.ndarray:
        return v + c[..., None] * u[..., None] * np.sum(u[..., None] * v, axis=0)

    width = np.sqrt(e)
    along, _ = np.linalg.qr(root(width[..., None] * constraints)[inside])
    downhill = root((width * gradient)[..., None])[inside][:, 0]
    for _ in range(2):  # the second time for what the first leaves by rounding
        downhill = downhill - along @ (along.T @ downhill)
    step = np.zeros_like(q)
    step[inside] = downhill
    return -width * root(step[..., None])[..., 0], float(downhill @ downhill)
