"""Diffusion spectral mutual information: how much less samples spread over diffusion modes within groups."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from isentrope.measures._array import _to_numpy, stop_gradient
from isentrope.measures.estimate import Estimate, generator_of, unit_of
from isentrope.measures.kernel_entropy import diffusion_spectral_entropy, neighbour_bandwidth
from isentrope.measures.spectral import read_matrices


def diffusion_spectral_mutual_information(
    points: Float[Any, "n d"] | Sequence,
    groups: Shaped[Any, "n"] | Sequence,
    *,
    bandwidth: float | None = None,
    time: float = 1.0,
    n_subsets: int = 5,
    rng: int | np.random.Generator | None = None,
    base: float | None = None,
) -> Estimate:
    r"""Diffusion spectral mutual information of points and a grouping of them.

    .. math:: \sum_b \frac{n_b}{n} \Bigl[ \frac{1}{R} \sum_{r=1}^{R} S(A^*_{b,r}) - S(A_b) \Bigr]

    with the diffusion spectral entropy S of the points :math:`A_b` of a group and of R random subsets :math:`A^*_{b,r}` of as
    many of all points. Equal numbers are compared because the entropy grows with the number of points. Of a grouping that has
    nothing to do with the points the mean is 0, and values may be slightly negative; for k groups far apart of nearly
    equal points it comes close to ``log k``. The standard error is that of the random subsets alone.

    Args:
        points: Points ``[n, d]``, one a row.
        groups: Group of each point, n labels, such as classes or clusters.
        bandwidth: Width of the kernel; None for `neighbour_bandwidth` of all points.
        time: Diffusion time, positive.
        n_subsets: Number R of random subsets of each size, at least 2.
        rng: Seed or generator.
        base: Base of the logarithm; None for nats, 2 for bits.

    Returns:
        The information, with ``test`` by shuffling the groups.

    Raises:
        TypeError: If the dtype of the points is not real floating.
        ValueError: As `diffusion_spectral_entropy` does, or if there are not as many labels as points or fewer than 2
            subsets.

    References:
        arXiv 2312.04823 (D. Liao et al.).

    Examples:
        >>> import numpy as np
        >>> points = np.repeat([[0.0], [100.0]], 30, axis=0)
        >>> found = diffusion_spectral_mutual_information(points, [0] * 30 + [1] * 30, bandwidth=1.0, rng=0, base=2)
        >>> round(found.value, 9)
        1.0
    """
    name = "diffusion_spectral_mutual_information"
    nats, unit = unit_of(base, name)
    matrix, xp, _ = read_matrices(name, "points", points, zero=True)
    matrix = stop_gradient(matrix)
    if matrix.ndim != 2:
        raise ValueError(f"{name}: points must be [n, d], got shape {tuple(matrix.shape)}")
    n = matrix.shape[0]
    _, labels = np.unique(_to_numpy(groups), return_inverse=True)
    if labels.shape != (n,):
        raise ValueError(f"{name}: groups must be a label for each of the {n} points, got shape {labels.shape}")
    if isinstance(n_subsets, bool) or not isinstance(n_subsets, int | np.integer) or n_subsets < 2:
        raise ValueError(f"{name}: n_subsets must be an integer of at least 2, got {n_subsets!r}")
    width = neighbour_bandwidth(matrix) if bandwidth is None else bandwidth
    sizes = np.bincount(labels)

    def spread(indices: np.ndarray) -> float:
        chosen = xp.take(matrix, xp.asarray(indices, device=matrix.device), axis=0)
        return float(diffusion_spectral_entropy(chosen, bandwidth=width, time=time))

    def within(labels: np.ndarray) -> float:
        return sum(size / n * spread(np.flatnonzero(labels == group)) for group, size in enumerate(sizes))

    generator = generator_of(name, rng)
    subsets = {
        int(size): [spread(generator.choice(n, size, replace=False)) for _ in range(n_subsets)]
        for size in np.unique(sizes)
    }
    shares = {size: size / n * int((sizes == size).sum()) for size in subsets}
    among = sum(share * float(np.mean(subsets[size])) for size, share in shares.items())
    variance = sum(share**2 * float(np.var(subsets[size], ddof=1)) / n_subsets for size, share in shares.items())

    def shuffled(generator: np.random.Generator) -> float:
        return float(among - within(generator.permutation(labels))) / nats

    return Estimate(
        float(among - within(labels)) / nats,
        variance**0.5 / nats,
        unit,
        method="diffusion_spectral",
        n=n,
        shuffled=shuffled,
    )
