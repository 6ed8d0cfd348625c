r"""Couplings of small entropy: joint laws with given marginals that are as predictable, one from the other, as may be.

The least H(X, Y) of all joint laws with the marginals p and q is the greatest I(X; Y) = H(p) + H(q) - H(X, Y). Finding it is
NP-hard; matching the largest masses comes within a known constant of it.
"""

from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from math import e, log

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int

from isentrope.measures._laws import law_of, shannon
from isentrope.measures.estimate import unit_of

# What is left of a mass of order 1 that rounding has not taken to 0.
_CRUMB = 1e-15


@dataclass(frozen=True, eq=False)
class Coupling:
    """A joint law by its cells above zero.

    Args:
        indices: for each cell the outcome of each marginal.
        probabilities: probability of each cell.
        shape: number of outcomes of each marginal.
        entropy: joint entropy, in ``unit``.
        lower_bound: no coupling of these marginals has less entropy than this, in ``unit``.
        unit: "nat", "bit", "hartley" or "log <base>".
    """

    indices: Int[np.ndarray, "cells marginals"]
    probabilities: Float[np.ndarray, " cells"]
    shape: tuple[int, ...]
    entropy: float
    lower_bound: float
    unit: str

    def toarray(self) -> Float[np.ndarray, "..."]:
        """The joint law with one axis a marginal, zeros included."""
        joint = np.zeros(self.shape)
        joint[tuple(self.indices.T)] = self.probabilities
        return joint


def minimum_entropy_coupling(
    *marginals: Float[np.ndarray, " outcomes"] | npt.ArrayLike, base: float | None = None
) -> Coupling:
    r"""Coupling of small entropy: the largest masses of all marginals are matched, again and again.

    In each step a cell takes the least of the marginals' largest masses. It has at most $\sum_k(n_k-1)+1$ cells. Its entropy
    is above the least by at most 1/e nat (0.53 bit) for two marginals, and by at most (1 + ln 2)/2 nat (1.22 bit) for more. The
    bound that comes with the result is the better of this guarantee and the entropy of the most even law that majorises all
    marginals, $\sum_{i\le m}z_i=\min_k\sum_{i\le m}p^{(k)}_{i}$ for masses in falling order, which is often closer.

    Args:
        marginals: probabilities of each marginal; two or more.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The coupling with its entropy and a lower bound to that of all couplings.

    Raises:
        TypeError: if a marginal is not numeric.
        ValueError: if there are fewer than two marginals, probabilities are negative, not finite or do not sum to 1, or the
            base is unknown.

    References:
        Ebrahimi, Chen and Khisti, "Minimum Entropy Coupling with Bottleneck" (arXiv 2410.21666); Cicalese, Gargano and
        Vaccaro, "Minimum-entropy couplings and their applications" (arXiv 1901.07530); the guarantees are of Compton, Katz,
        Qi, Greenewald and Kocaoglu (2023), "Minimum-entropy coupling approximation guarantees beyond the majorization
        barrier".

    Examples:
        >>> coupling = minimum_entropy_coupling([0.5, 0.25, 0.25], [0.75, 0.25], base=2)
        >>> coupling.toarray()
        array([[0.5 , 0.  ],
               [0.25, 0.  ],
               [0.  , 0.25]])
        >>> coupling.entropy, coupling.lower_bound
        (1.5, 1.5)
    """
    where = "minimum_entropy_coupling"
    nats, unit = unit_of(base, where)
    if len(marginals) < 2:
        raise ValueError(f"{where}: give at least two marginals (got {len(marginals)})")
    laws = [law_of(where, f"marginal {k}", p) for k, p in enumerate(marginals)]
    heaps = [[(-mass, i) for i, mass in enumerate(p) if mass > 0] for p in laws]
    for heap in heaps:
        heapify(heap)
    indices, probabilities = [], []
    while all(heaps):
        mass = min(-heap[0][0] for heap in heaps)
        indices.append([heap[0][1] for heap in heaps])
        probabilities.append(mass)
        for heap in heaps:
            left = -heap[0][0] - mass
            if left > _CRUMB:
                heapreplace(heap, (-left, heap[0][1]))
            else:
                heappop(heap)
    entropy = shannon(probabilities)
    guarantee = 1 / e if len(laws) == 2 else (1 + log(2)) / 2
    return Coupling(
        indices=np.array(indices),
        probabilities=np.array(probabilities),
        shape=tuple(len(p) for p in laws),
        entropy=entropy / nats,
        lower_bound=min(max(shannon(_meet(*laws)), entropy - guarantee), entropy) / nats,
        unit=unit,
    )


def _meet(*laws: np.ndarray) -> np.ndarray:
    """The most even law that majorises all laws: their greatest lower bound in the order of majorisation."""
    size = max(p.size for p in laws)
    sums = [np.cumsum(np.pad(np.sort(p.ravel())[::-1], (0, size - p.size))) for p in laws]
    return np.maximum(np.diff(np.min(sums, axis=0), prepend=0), 0)
