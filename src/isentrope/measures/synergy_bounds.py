r"""Bounds on the synergy of two sources about a target, of which no sample shows all three together.

Redundancy and unique informations of the decomposition of Bertschinger and others depend on the laws of (T, X₁) and (T, X₂)
alone: labelled samples of each source are enough. The synergy needs the law of all three. The law of the sources (X₁, X₂),
from unlabelled pairs, bounds it on both sides.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from isentrope.measures._laws import law_of, shannon
from isentrope.measures.estimate import unit_of
from isentrope.measures.minimum_entropy_coupling import _meet
from isentrope.measures.partial_information import _information, _least_union


@dataclass(frozen=True)
class SynergyBounds:
    """What two sources tell of a target, as far as the laws of the three pairs say it.

    Args:
        redundancy: what both sources tell.
        unique_first: what only the first source tells.
        unique_second: what only the second source tells.
        lower: the synergy is at least this: the greatest of 0 and the two bounds below.
        upper: the synergy is at most this.
        from_agreement: lower bound by what the sources have in common; negative where it says nothing.
        from_disagreement: lower bound by how differently the sources predict the target; negative where it says nothing.
        disagreement: mean squared distance of the two predictions, between 0 and 2.
        unit: unit of all informations: "nat", "bit", "hartley" or "log <base>".
    """

    redundancy: float
    unique_first: float
    unique_second: float
    lower: float
    upper: float
    from_agreement: float
    from_disagreement: float
    disagreement: float
    unit: str


def synergy_bounds(
    target_first: Float[np.ndarray, "target first"] | npt.ArrayLike,
    target_second: Float[np.ndarray, "target second"] | npt.ArrayLike,
    sources: Float[np.ndarray, "first second"] | npt.ArrayLike,
    *,
    base: float | None = None,
) -> SynergyBounds:
    r"""Bounds on the synergy by the laws of the three pairs.

    With the decomposition "broja" of `partial_information`, $S=I(X_1;T|X_2)-U_1=I(X_2;T|X_1)-U_2$. Below,

    .. math:: S \ge \min_r I_r(X_1;X_2T) - I(X_1;X_2) - U_1
        = R - I(X_1;X_2) + \min_r I_r(X_1;X_2|T)

    over the laws r with the laws of (X₁, X₂) and (X₁, T), a convex program, and the same for X₂; and, in nats,

    .. math:: \sqrt{S+U_1} + \sqrt{S+U_2} \ge \sqrt\alpha, \qquad
        \alpha = E\sum_t\left(p(t|x_1)-p(t|x_2)\right)^2

    because a divergence is at least the squared distance, $D(p\|q)\ge\sum_t(p_t-q_t)^2$, and
    $S+U_1=E\,D(p(t|x_1,x_2)\|p(t|x_2))$. The paper has $\alpha c-\max(U_1,U_2)$ with a constant c that its code takes for 1,
    in bits: that is no bound. Above,

    .. math:: S \le H(X_1,X_2) + H(T) - H_\wedge - R - U_1 - U_2

    where $H_\wedge\le H(X_1,X_2,T)$ is the entropy of the most even law that majorises the laws of all three pairs; the
    paper takes it for a pair and the third variable, which is never closer.

    Args:
        target_first: probabilities with the axes target, first source.
        target_second: probabilities with the axes target, second source.
        sources: probabilities with the axes first source, second source.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The known parts and the bounds.

    Raises:
        ValueError: if a law has not two axes, has negative or not finite entries or does not sum to 1, if the laws of one
            variable differ between pairs, if no law of all three has these pairs, or if the base is unknown.
        TypeError: if values are not numbers.
        ArithmeticError: if the interior-point method does not converge.

    References:
        Liang, Ling, Cheng, Obolenskiy, Liu, Pandey, Wilf, Morency and Salakhutdinov, "Multimodal Learning Without Labeled
        Multimodal Data: Guarantees and Applications" (arXiv 2306.04539).

    Examples:
        >>> import numpy as np
        >>> parity = synergy_bounds(np.full((2, 2), 0.25), np.full((2, 2), 0.25), np.full((2, 2), 0.25), base=2)
        >>> round(parity.lower, 6), round(parity.upper, 6)  # independent pairs: parity of fair bits, or nothing
        (0.0, 1.0)
    """
    where = "synergy_bounds"
    nats, unit = unit_of(base, where)
    tx, ty, xy = (
        law_of(where, argument, p, axes=2)
        for argument, p in (("target_first", target_first), ("target_second", target_second), ("sources", sources))
    )
    _check_agreement(tx, ty, xy, where)
    first, second, shared = _information(tx), _information(ty), _information(xy)
    # Information that the pair of both others has of one variable, when it is as small as the pair laws allow.
    of_target, of_first, of_second = (
        _information(q.reshape(len(q), -1))
        for q in (_least_union(tx, ty), _least_union(xy, tx.T), _least_union(xy.T, ty.T))
    )
    redundancy = min(max(first + second - of_target, 0.0), first, second)
    unique = first - redundancy, second - redundancy
    agreement = max(of_first - shared - unique[0], of_second - shared - unique[1])
    alpha, disagreement = _disagreement(tx, ty, xy, unique)
    least = shannon(_meet(tx, ty, xy))
    upper = shannon(xy) + shannon(tx.sum(axis=1)) - least - redundancy - sum(unique)
    return SynergyBounds(
        redundancy=redundancy / nats,
        unique_first=unique[0] / nats,
        unique_second=unique[1] / nats,
        lower=max(agreement, disagreement, 0.0) / nats,
        upper=upper / nats,
        from_agreement=agreement / nats,
        from_disagreement=disagreement / nats,
        disagreement=alpha,
        unit=unit,
    )


def _disagreement(tx: np.ndarray, ty: np.ndarray, xy: np.ndarray, unique: tuple[float, float]) -> tuple[float, float]:
    """The mean squared distance of the predictions, and the root S of √(S+U₁) + √(S+U₂) = √α, or what is below it."""
    by_first, by_second = (pair / np.where(pair.any(axis=0), pair.sum(axis=0), 1) for pair in (tx, ty))
    squares = np.sum((by_first[:, :, None] - by_second[:, None, :]) ** 2, axis=0)
    alpha, difference = float(np.sum(xy * squares)), unique[0] - unique[1]
    if alpha <= abs(difference):
        return alpha, -min(unique)
    return alpha, ((sqrt(alpha) + difference / sqrt(alpha)) / 2) ** 2 - unique[0]


def _check_agreement(tx: np.ndarray, ty: np.ndarray, xy: np.ndarray, where: str) -> None:
    for variable, one, other in (
        ("target in target_first and target_second", tx.sum(axis=1), ty.sum(axis=1)),
        ("first source in target_first and sources", tx.sum(axis=0), xy.sum(axis=1)),
        ("second source in target_second and sources", ty.sum(axis=0), xy.sum(axis=0)),
    ):
        if one.shape != other.shape:
            raise ValueError(f"{where}: the {variable} must have as many values (got {len(one)} and {len(other)})")
        if np.abs(one - other).max() > 1e-6:
            raise ValueError(
                f"{where}: the {variable} must have the same law (probabilities differ by {np.abs(one - other).max():.3g})"
            )
    # Three pair laws that agree on each variable can still contradict each other.
    # Imported here because they take as long as all of the room.
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, eye_array, hstack, kron, vstack

    t, x, y = (csr_array(np.ones((1, n))) for n in (len(tx), *xy.shape))
    each_t, each_x, each_y = (eye_array(n) for n in (len(tx), *xy.shape))
    sums = vstack(
        [kron(kron(each_t, each_x), y), kron(kron(each_t, x), each_y), kron(kron(t, each_x), each_y)], format="csr"
    )
    known = np.concatenate([tx.ravel(), ty.ravel(), xy.ravel()])
    cells, slack = tx.size * len(xy[0]), eye_array(len(known))
    found = linprog(
        np.concatenate([np.zeros(cells), np.ones(2 * len(known))]),
        A_eq=hstack([sums, slack, -slack], format="csr"),
        b_eq=known,
    )
    if found.fun > 1e-5:
        raise ValueError(
            f"{where}: no law of all three variables has these laws of pairs (the closest misses {found.fun:.3g} of them)"
        )
