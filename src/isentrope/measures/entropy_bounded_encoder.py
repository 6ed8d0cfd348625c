r"""Encoders of bounded entropy: what of a variable X is best kept in a T whose entropy is at most R."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from scipy.special import entr

from isentrope.measures._laws import law_of, number, shannon
from isentrope.measures.estimate import unit_of

# From how many maps, the nearest by their entropy, an encoder that draws T is sought.
_MAPS = 8


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
    return _encoder(law_of(where, "p", p), _bound(max_entropy, where) * nats, deterministic)


def _bound(max_entropy: float, where: str) -> float:
    bound = number(where, "max_entropy", max_entropy, infinite=True)
    if bound < 0:
        raise ValueError(f"{where}: max_entropy must not be negative (got {max_entropy})")
    return bound


def _encoder(p: np.ndarray, bound: float, deterministic: bool) -> np.ndarray:
    bound = min(bound, shannon(p))
    falling = np.argsort(-p, kind="stable")[: int(np.count_nonzero(p))]
    greedy = _greedy_rates(p[falling])
    below = int(np.argmax(np.where(greedy <= bound + 1e-12, greedy, -np.inf)))
    above = int(np.max(np.flatnonzero((greedy > bound) & (greedy < np.inf)), initial=0))
    nearest = np.argsort(np.abs(greedy - bound), kind="stable")[: min(_MAPS, int(np.isfinite(greedy).sum()))]
    maps = [_greedy_map(p, falling, k) for k in (below, *nearest.tolist())]
    for k in (0, above):
        maps += _merged_pairs(p, _greedy_map(p, falling, k), bound)
    rates = [shannon(np.bincount(columns, p)) for columns in maps]
    best = max((k for k in range(len(maps)) if rates[k] <= bound + 1e-12), key=lambda k: rates[k])
    if deterministic or rates[best] >= bound - 1e-12:
        return _joint(p, maps[best])
    nearest = sorted(range(1, len(maps)), key=lambda k: abs(rates[k] - bound))[:_MAPS]
    lost, x, to, moved, columns = min((_best_move(p, maps[k], bound) for k in nearest), key=lambda found: found[0])
    return _joint(p, maps[best]) if bound - lost <= rates[best] + 1e-12 else _joint(p, columns, x, to, moved)


def _greedy_rates(falling: np.ndarray) -> np.ndarray:
    """Entropies of the maps of the algorithm, by twos: the k largest masses merged, and the two smallest besides."""
    apart = np.append(np.cumsum(entr(falling)[::-1])[::-1], 0)[1:]
    rates = entr(np.cumsum(falling)) + apart
    last = falling[-2:]
    besides = rates - entr(last).sum() + entr(last.sum())
    # The two smallest are left only where at least three values are.
    besides[-2:] = np.inf
    return np.column_stack([rates, besides]).ravel()


def _greedy_map(p: np.ndarray, falling: np.ndarray, k: int) -> np.ndarray:
    """The column of each outcome in the map k of `_greedy_rates`."""
    columns = np.zeros(len(p), dtype=np.int64)
    columns[falling] = np.maximum(np.arange(len(falling)) - k // 2, 0)
    return np.minimum(columns, columns.max() - 1) if k % 2 else columns


def _merged_pairs(p: np.ndarray, columns: np.ndarray, bound: float) -> list[np.ndarray]:
    """The map with two columns merged, for the pairs that bring its entropy closest to the bound from either side."""
    masses = np.bincount(columns, p)
    order = np.argsort(masses, kind="stable")
    rising, needed = masses[order], shannon(masses) - bound - 1e-12
    one = np.arange(len(rising) - 1)

    def lost(other: np.ndarray) -> np.ndarray:
        return entr(rising[one]) + entr(rising[other]) - entr(rising[one] + rising[other])

    # Merging loses the more entropy, the larger either mass: of the larger masses the first with which it is enough.
    first = _first_where(lambda other: lost(other) >= needed, one + 1, len(rising))
    found = []
    for other, inside in ((first, first < len(rising)), (first - 1, first - 1 > one)):
        if inside.any():
            distance = np.where(inside, np.abs(lost(np.where(inside, other, 0)) - needed), np.inf)
            pair = int(np.argmin(distance))
            kept, gone = sorted((int(order[one[pair]]), int(order[other[pair]])))
            merged = np.where(columns == gone, kept, columns)
            found.append(np.unique(merged, return_inverse=True)[1])
    return found


def _first_where(holds: Callable[[np.ndarray], np.ndarray], start: np.ndarray, end: int) -> np.ndarray:
    """For each place the first index from ``start`` on for which a condition holds that stays true; ``end`` if none."""
    low, high = start, np.full_like(start, end)
    while (low < high).any():
        middle = np.minimum((low + high) // 2, high - 1)
        found = holds(middle)
        low, high = np.where((low < high) & ~found, middle + 1, low), np.where((low < high) & found, middle, high)
    return low


def _best_move(p: np.ndarray, columns: np.ndarray, bound: float) -> tuple[float, int, int, float, np.ndarray]:
    """Of all moves of a part of one outcome to another column that make H(T) the bound, the one of least H(T|X).

    Returned are H(T|X), the outcome, its new column, the part that is moved, and the columns.

    H(T) grows by a move the less, the larger the target: towards a bound above it the least target needs the smallest part,
    and a target that is out of reach leaves larger ones so; towards a bound below it is the other way round. As H(T|X) is
    concave in the part, the best target of an outcome is the one of the smallest part or that of the largest one.
    """
    masses = np.append(np.bincount(columns, p), 0)
    order = np.argsort(masses, kind="stable")
    outcomes = np.flatnonzero(p)
    entropy = shannon(masses)
    rising = entropy <= bound

    def excess(source: np.ndarray, target: np.ndarray, moved: np.ndarray) -> np.ndarray:
        change = entr(np.maximum(source - moved, 0)) + entr(target + moved) - entr(source) - entr(target)
        return entropy + change - bound

    def reach(x: np.ndarray, to: np.ndarray) -> tuple[np.ndarray, ...]:
        """Source, target and largest part of each move, and whether it makes H(T) the bound."""
        source, target = masses[columns[x]], masses[to]
        # The entropy is concave along a move: it has its top where both columns are even.
        whole = np.minimum(p[x], np.maximum(source - target, 0) / 2) if rising else p[x]
        end = excess(source, target, whole)
        return source, target, whole, end >= 0 if rising else end <= 0

    # Of the targets by their masses those before the edge are in reach, or those from the edge on.
    edge = _first_where(lambda k: reach(outcomes, order[k])[3] != rising, np.zeros_like(outcomes), len(masses))
    first, last = (np.zeros_like(edge), edge - 1) if rising else (edge, np.full_like(edge, len(masses) - 1))
    own = np.argsort(order)[columns[outcomes]]
    first, last = first + (first == own), last - (last == own)
    some = first <= last
    x, to = np.tile(outcomes[some], 2), order[np.append(first[some], last[some])]
    source, target, high, reached = reach(x, to)
    low = np.zeros(len(x))
    for _ in range(60):
        middle = (low + high) / 2
        before = (excess(source, target, middle) < 0) == rising
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    moved = low if rising else high  # the end at which the bound holds
    lost = np.where(reached, entr(moved) + entr(np.maximum(p[x] - moved, 0)) - entr(p[x]), np.inf)
    if not len(lost):
        return np.inf, 0, 0, 0.0, columns
    best = int(np.argmin(lost))
    return float(lost[best]), int(x[best]), int(to[best]), float(moved[best]), columns


def _joint(p: np.ndarray, columns: np.ndarray, x: int = 0, to: int = 0, moved: float = 0.0) -> np.ndarray:
    joint = np.zeros((len(p), max(int(columns.max()), to) + 1))
    joint[np.arange(len(p)), columns] = p
    joint[x, columns[x]] -= moved
    joint[x, to] += moved
    return joint[:, joint.any(axis=0)]
