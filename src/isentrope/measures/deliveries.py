r"""Structural entropy of deliveries: the logarithm of the number of ways in which a day's parcels may be distributed.

$$S=\ln\frac{N!}{\prod_k n_k!}$$

for N delivery events of which $n_k$ fall to stop k, which is Boltzmann's entropy of a partition. All at one stop have 0, each
at a stop of its own $\ln N!$, the most there is; by Stirling's formula S is N times Shannon's entropy of the shares $n_k/N$
up to terms of the order of ln N for each stop.

The sources known to us of arXiv 2605.00008 state its definitions in words. Carrier, conservation and normalisation follow from
them; what movements of customers add to the whole is our reading (see `consolidated_entropy`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from scipy.special import betaln, gammaln

from isentrope.measures._laws import number, numbers
from isentrope.measures.estimate import unit_of

# Beyond it float64 does not know all whole numbers.
_LARGEST = 2.0**53


@dataclass(frozen=True)
class ConsolidatedEntropy:
    """Structural entropy of deliveries of which some go to pick-up points.

    Args:
        carrier: of the carrier's deliveries, a pick-up point being one stop.
        handed_over: what the carrier no longer has to tell apart, the sum of $\\ln n_k!$ over pick-up points; together
            with ``carrier`` always $\\ln N!$.
        system: of the movements of carrier and customers together.
        unit: "nat", "bit", "hartley" or "log <base>".
    """

    carrier: float
    handed_over: float
    system: float
    unit: str


def structural_entropy(
    counts: npt.ArrayLike | Sequence, *, axis: int = -1, normalize: bool = False, base: float | None = None
) -> Float[np.ndarray, "..."]:
    r"""Logarithm of the number of ways to distribute N delivery events so that $n_k$ fall to stop k, $\ln\frac{N!}{\prod_k n_k!}$.

    At a fixed number of stops it is largest for equal counts. Parcels that are brought to the same customer at the same time
    are one event: consolidation in time lowers N.

    Args:
        counts: numbers $n_k$ of events at each stop, whole and not negative.
        axis: the axis of the stops; others are separate routes.
        normalize: divide by $\ln N!$, the value where every stop has a single event. Routes of no or one event, of which
            there is but one configuration, are 0.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The entropy of each route.

    Raises:
        ValueError: if counts are negative, not whole or not finite, there are no stops, or the base is no base.
        TypeError: if counts are not numbers.

    References:
        Gerrits and van Heeswijk, "On the Entropy in Last-Mile Logistics" (arXiv 2605.00008).

    Examples:
        >>> structural_entropy([[3, 3, 4], [10, 0, 0]]).round(4)
        array([8.3428, 0.    ])
        >>> float(structural_entropy([3, 3, 4], normalize=True).round(4))
        0.5523
    """
    where = "structural_entropy"
    nats, _ = unit_of(base, where)
    events = _counts(where, "counts", counts)
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise TypeError(f"{where}: axis must be an integer (got {axis!r})")
    if not -events.ndim <= axis < events.ndim or events.shape[axis] == 0:
        raise ValueError(f"{where}: counts must have at least one stop along axis {axis} (got shape {events.shape})")
    n = events.sum(axis=axis)
    most = gammaln(n + 1)
    # Stop after stop, as the logarithm of a binomial coefficient: differences of factorials would lose the digits.
    so_far = np.cumsum(events, axis=axis)
    ways = -np.log1p(so_far) - betaln(so_far - events + 1, events + 1)
    value = np.where(events.max(axis=axis) == n, 0.0, ways.sum(axis=axis))
    return np.asarray(value / np.where(most > 0, most, 1.0) if normalize else value / nats)


def consolidated_entropy(
    parcels: int, pick_up: npt.ArrayLike | Sequence[int], *, chained: float = 0.0, base: float | None = None
) -> ConsolidatedEntropy:
    r"""Structural entropy where some parcels go to pick-up points: of the carrier, and of carrier and customers together.

    Of N parcels, $n_k$ go to pick-up point k and each of the others to a door of its own.

    - The carrier has $S=\ln\frac{N!}{\prod_k n_k!}$. What is taken from it, $\sum_k\ln n_k!$, has not gone: the customers tell
      the parcels of a pick-up point apart. Were every parcel moved by the carrier or by a customer who moves anyway, and
      nothing else, the sum $\ln N!$ would be conserved.
    - In practice collections are trips of their own, of customers who would have stayed at home, but for the share χ that is
      chained to other trips. Each is a movement that had not been there, and counts as one more event:
      $S_\text{system}=\ln\frac{(N+T)!}{\prod_k n_k!}$ with $T=(1-\chi)\sum_k n_k$.

    The formula of the whole is our reading of the paper's words. It agrees with what they say: without chaining consolidation
    makes the whole larger, with complete chaining smaller.

    Args:
        parcels: number N of parcels.
        pick_up: numbers $n_k$ of parcels at each pick-up point; in all at most N. May be empty.
        chained: share χ of collections that need no trip of their own, from 0 to 1.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The entropies of carrier and system.

    Raises:
        ValueError: if numbers are negative or not whole, more parcels are to be picked up than there are, or the share does
            not lie from 0 to 1, or the base is no base.
        TypeError: if counts are not numbers.

    References:
        Gerrits and van Heeswijk, "On the Entropy in Last-Mile Logistics" (arXiv 2605.00008).

    Examples:
        >>> found = consolidated_entropy(100, [10] * 5)
        >>> round(found.carrier, 1), round(found.system, 1)  # 363.7 without pick-up points
        (288.2, 529.5)
        >>> round(consolidated_entropy(100, [10] * 5, chained=1).system, 1)
        288.2
    """
    where = "consolidated_entropy"
    nats, unit = unit_of(base, where)
    points = _counts(where, "pick_up", pick_up)
    if points.ndim != 1:
        raise ValueError(f"{where}: pick_up must have one dimension (got shape {points.shape})")
    whole = _counts(where, "parcels", parcels)
    if whole.ndim:
        raise ValueError(f"{where}: parcels must be one number (got shape {whole.shape})")
    total, share = float(whole), number(where, "chained", chained)
    collected = float(points.sum())
    if collected > total:
        raise ValueError(f"{where}: pick_up holds {collected:g} parcels of {total:g}; it may hold at most all")
    if not 0 <= share <= 1:
        raise ValueError(f"{where}: chained must lie between 0 and 1 (got {chained})")
    handed_over = float(gammaln(points + 1).sum())
    trips = (1 - share) * collected
    return ConsolidatedEntropy(
        carrier=(float(gammaln(total + 1)) - handed_over) / nats,
        handed_over=handed_over / nats,
        system=(float(gammaln(total + trips + 1)) - handed_over) / nats,
        unit=unit,
    )


def _counts(where: str, argument: str, values: Any) -> np.ndarray:
    counts = numbers(where, argument, values)
    if (counts < 0).any() or (counts != np.floor(counts)).any() or (counts > _LARGEST).any():
        raise ValueError(f"{where}: {argument} must be whole numbers of at least 0 and at most {_LARGEST:.0f}")
    return counts
