r"""Couplings through a bottleneck: lossy compression whose output has a law of its own.

In X - T - Y the laws of X and Y are given and H(T) is at most R. As $I(X;Y)\ge I(X;T)+I(T;Y)-H(T)$, the encoder and the
decoder are found one after the other: the first tells the most of X within the bound, the second is a coupling of small
entropy of T and Y.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from scipy.special import entr

from isentrope.measures.estimate import unit_of
from isentrope.measures.minimum_entropy_coupling import _entropy, _law, minimum_entropy_coupling

# From how many maps, the nearest by their entropy, an encoder that draws T is sought.
_MAPS = 8


@dataclass(frozen=True, eq=False)
class BottleneckCoupling:
    """A coupling through a variable of bounded entropy.

    Args:
        joint: law of X and Y, with the given marginals.
        encoder: law of X and T.
        decoder: law of T and Y.
        rate: H(T), in ``unit``.
        information: I(X; Y), in ``unit``.
        encoder_information: I(X; T), in ``unit``.
        decoder_information: I(T; Y), in ``unit``.
        unit: "nat", "bit", "hartley" or "log <base>".
    """

    joint: Float[np.ndarray, "x y"]
    encoder: Float[np.ndarray, "x t"]
    decoder: Float[np.ndarray, "t y"]
    rate: float
    information: float
    encoder_information: float
    decoder_information: float
    unit: str


def entropy_bounded_encoder(
    p: Float[np.ndarray, " x"] | npt.ArrayLike,
    max_entropy: float,
    *,
    deterministic: bool = False,
    base: float | None = None,
) -> Float[np.ndarray, "x t"]:
    r"""Encoder X → T that tells the most of X among those with a bounded entropy of T, nearly.

    .. math:: \max I(X;T) \quad\text{with}\quad H(T)\le R

    Greedy maps merge the two largest values of T until merging the two smallest, or the two largest, satisfies the bound: then
    R - I(X; T) is at most the binary entropy of the second largest probability. The best map of those and of other pairs merged
    is returned if T is to be a function of X. Otherwise T is drawn for one x: a part of its probability moves to another value
    of T, just so much that H(T) is R, and of all such moves from the maps nearest to R that of least H(T|X) is taken. The
    optimum is not always among them.

    Args:
        p: probabilities of X.
        max_entropy: the bound R, in the unit of ``base``.
        deterministic: whether T must be a function of X, as the greedy algorithm leaves it.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The joint law of X and T, without values of T that do not occur.

    Raises:
        TypeError: if probabilities are not numeric.
        ValueError: if probabilities are negative, not finite or do not sum to 1, the bound is negative or NaN, or the base
            is unknown.

    References:
        Ebrahimi, Chen and Khisti, "Minimum Entropy Coupling with Bottleneck" (arXiv 2410.21666).

    Examples:
        >>> entropy_bounded_encoder([0.7, 0.2, 0.1], 0.9, deterministic=True, base=2)  # H(T) = 0.881 bit
        array([[0.7, 0. ],
               [0. , 0.2],
               [0. , 0.1]])
    """
    where = "entropy_bounded_encoder"
    nats, _ = unit_of(base, where)
    return _encoder(_law(p, "p", where), _bound(max_entropy, where) * nats, deterministic)


def coupling_with_bottleneck(
    p: Float[np.ndarray, " x"] | npt.ArrayLike,
    q: Float[np.ndarray, " y"] | npt.ArrayLike,
    max_entropy: float,
    *,
    deterministic: bool = False,
    base: float | None = None,
) -> BottleneckCoupling:
    r"""Coupling X - T - Y of small entropy, whose middle has a bounded entropy H(T).

    .. math:: \max I(X;T)+I(T;Y)-H(T)\le I(X;Y) \quad\text{with}\quad H(T)\le R

    The encoder is that of `entropy_bounded_encoder`, the decoder the coupling of T and Y by `minimum_entropy_coupling`. With
    R = H(X) it is the coupling of X and Y; with R = 0, X and Y are independent.

    Args:
        p: probabilities of X.
        q: probabilities of Y.
        max_entropy: the bound R, in the unit of ``base``.
        deterministic: whether T must be a function of X.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The laws of all pairs and their informations.

    Raises:
        TypeError: if probabilities are not numeric.
        ValueError: if probabilities are negative, not finite or do not sum to 1, the bound is negative or NaN, or the base
            is unknown.

    References:
        Ebrahimi, Chen and Khisti, "Minimum Entropy Coupling with Bottleneck" (arXiv 2410.21666).

    Examples:
        >>> found = coupling_with_bottleneck([0.25] * 4, [0.5, 0.5], 1.0, base=2)
        >>> round(found.rate, 9), round(found.information, 9)
        (1.0, 1.0)
    """
    where = "coupling_with_bottleneck"
    nats, unit = unit_of(base, where)
    first, second = _law(p, "p", where), _law(q, "q", where)
    encoder = _encoder(first, _bound(max_entropy, where) * nats, deterministic)
    middle = encoder.sum(axis=0)
    decoder = minimum_entropy_coupling(middle, second).toarray()
    joint = encoder @ (decoder / middle[:, None])
    rate = _entropy(middle)
    return BottleneckCoupling(
        joint=joint,
        encoder=encoder,
        decoder=decoder,
        rate=rate / nats,
        information=max(_entropy(first) + _entropy(second) - _entropy(joint), 0.0) / nats,
        encoder_information=max(_entropy(first) + rate - _entropy(encoder), 0.0) / nats,
        decoder_information=max(_entropy(second) + rate - _entropy(decoder), 0.0) / nats,
        unit=unit,
    )


def _bound(max_entropy: float, where: str) -> float:
    if not max_entropy >= 0:
        raise ValueError(f"{where}: max_entropy must not be negative (got {max_entropy})")
    return max_entropy


def _encoder(p: np.ndarray, bound: float, deterministic: bool) -> np.ndarray:
    bound = min(bound, _entropy(p))
    maps = list(_greedy_maps(p))
    rates = [_entropy(np.bincount(columns, p)) for columns in maps]
    above = max((k for k in range(len(maps)) if rates[k] > bound), default=0)
    maps += [merged for k in (0, above) for merged in _merged_pairs(p, maps[k], bound)]
    rates += [_entropy(np.bincount(columns, p)) for columns in maps[len(rates) :]]
    below = [k for k, rate in enumerate(rates) if rate <= bound + 1e-12]
    best = max(below, key=lambda k: rates[k])
    if deterministic or rates[best] >= bound - 1e-12:
        return _joint(p, maps[best])
    nearest = sorted(range(len(maps)), key=lambda k: abs(rates[k] - bound))[:_MAPS]
    lost, x, to, moved, columns = min((_best_move(p, maps[k], bound) for k in nearest), key=lambda found: found[0])
    return _joint(p, maps[best]) if bound - lost <= rates[best] + 1e-12 else _joint(p, columns, x, to, moved)


def _greedy_maps(p: np.ndarray) -> Iterator[np.ndarray]:
    """Columns of each outcome, in the order of the algorithm: all apart, then the two smallest or the k largest merged."""
    falling = np.argsort(-p, kind="stable")[: int(np.count_nonzero(p))]
    for merged in range(1, len(falling) + 1):
        columns = np.zeros(len(p), dtype=np.int64)
        columns[falling] = np.maximum(np.arange(len(falling)) - merged + 1, 0)
        yield columns
        if columns.max() > 1:
            yield np.minimum(columns, columns.max() - 1)


def _merged_pairs(p: np.ndarray, columns: np.ndarray, bound: float) -> Iterator[np.ndarray]:
    """The map with two columns merged, for the pairs that bring its entropy closest to the bound from either side."""
    masses = np.bincount(columns, p)
    one, other = np.triu_indices(len(masses), 1)
    excess = _entropy(masses) - bound + entr(masses[one] + masses[other]) - entr(masses[one]) - entr(masses[other])
    for side in (np.where(excess <= 1e-12, -excess, np.inf), np.where(excess > 1e-12, excess, np.inf)):
        if side.min(initial=np.inf) < np.inf:
            pair = int(np.argmin(side))
            merged = np.where(columns == other[pair], one[pair], columns)
            yield np.unique(merged, return_inverse=True)[1]


def _best_move(p: np.ndarray, columns: np.ndarray, bound: float) -> tuple[float, int, int, float, np.ndarray]:
    """Of all moves of a part of one outcome to another column that make H(T) the bound, the one of least H(T|X).

    Returned are H(T|X), the outcome, its new column, the part that is moved, and the columns.
    """
    masses = np.append(np.bincount(columns, p), 0)
    x, to = np.nonzero((p > 0)[:, None] & (np.arange(len(masses)) != columns[:, None]))
    source, target, whole = masses[columns[x]], masses[to], p[x]

    def excess(moved: np.ndarray) -> np.ndarray:
        change = entr(source - moved) + entr(target + moved) - entr(source) - entr(target)
        return _entropy(masses) + change - bound

    # The entropy is concave along a move: it has its top where both columns are even.
    rising = _entropy(masses) <= bound
    low, high = np.zeros(len(x)), np.minimum(whole, np.maximum(source - target, 0) / 2) if rising else whole
    reached = excess(high) >= 0 if rising else excess(high) <= 0
    for _ in range(60):
        middle = (low + high) / 2
        before = (excess(middle) < 0) == rising
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    moved = low if rising else high  # the end at which the bound holds
    lost = np.where(reached, entr(moved) + entr(np.maximum(whole - moved, 0)) - entr(whole), np.inf)
    best = int(np.argmin(lost))
    return float(lost[best]), int(x[best]), int(to[best]), float(moved[best]), columns


def _joint(p: np.ndarray, columns: np.ndarray, x: int = 0, to: int = 0, moved: float = 0.0) -> np.ndarray:
    joint = np.zeros((len(p), max(int(columns.max()), to) + 1))
    joint[np.arange(len(p)), columns] = p
    joint[x, columns[x]] -= moved
    joint[x, to] += moved
    return joint[:, joint.any(axis=0)]
