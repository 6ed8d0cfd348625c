"""Divergence of two laws of which only samples are known."""

from math import log, nan, sqrt
from typing import Any

import numpy as np

from isentrope._threads import threads_of
from isentrope.measures._parts import apart, part_size, parts, too_few
from isentrope.measures._spaces import as_numbers, columns_of, deviation, power_of_two
from isentrope.measures.estimate import Estimate, check_at_least, unit_of
from isentrope.measures.neighbours import NeighbourSearch


def kl_divergence_from_samples(
    x: Any,
    y: Any,
    *,
    k: int = 4,
    metric: str = "max",
    standardize: bool = True,
    base: float | None = None,
    local: bool = False,
    stderr: bool = True,
    n_jobs: int | None = None,
) -> Estimate:
    r"""Kullback-Leibler divergence $D(p\Vert q)$ from n samples x of p and m samples y of q, by nearest neighbours.

    $$\hat D=\frac dn\sum_i\ln\frac{\nu_i}{\rho_i}+\ln\frac m{n-1}$$

    with $\rho_i$ the distance of $x_i$ to its k-th neighbour among the other x, $\nu_i$ that to its k-th neighbour among
    the y, and d the number of columns. It goes to the divergence as n and m grow, and may be slightly negative where p
    and q are alike. Where p reaches far beyond the samples of q it is much too low, since no y is there to say how small
    q is.

    The samples of the two must have been drawn apart. A sample that is in both has a neighbour at distance 0 among the y
    and none among the x, which takes $\frac1{k-1}$ off its value: two equal sets would have the divergence -1/3 for k of
    4, and are refused. Values that agree because they are rounded are found within each set as well, and do no harm until
    more than k agree.

    The standard error comes from the estimates of pairs of parts of x and of y, at least 100 samples each; below
    200 samples from the spread of the local values, which leaves out what is random in y, as the note then says.
    `Estimate.test` is a two-sample test: it deals out all samples anew.

    Args:
        x: n samples of p, ``[n]`` or ``[n, d]``; an array, a list or a data frame.
        y: m samples of q, with as many columns.
        k: number of neighbours.
        metric: distance, "max" or "euclidean".
        standardize: divide each column by the standard deviation of all samples before the search, which leaves the
            divergence itself what it is.
        base: base of the logarithm; None for nats, 2 for bits.
        local: keep the values $\ln p(x_i)/q(x_i)$ whose mean is the estimate in ``Estimate.local``.
        stderr: also estimate the standard error, which searches parts of the samples again; NaN without.
        n_jobs: number of threads of a search; None for all cores where that pays.

    Returns:
        The divergence with its standard error; ``n`` is the number of samples of p.

    Raises:
        ValueError: if there are fewer than k + 1 samples of p or k of q, the numbers of columns differ, values are NaN or
            infinite, a setting is unknown, more than k samples share a place, where there is no density, or more than
            a hundredth of the samples of p are samples of q.
        TypeError: if the samples are not numbers.

    References:
        Wang, Kulkarni and Verdú (2009), "Divergence estimation for multidimensional densities via k-nearest-neighbor
        distances", IEEE Transactions on Information Theory 55, eq. 14; Pérez-Cruz (2008), "Kullback-Leibler divergence
        estimation of continuous distributions", ISIT.

    Examples:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> kl_divergence_from_samples(rng.normal(size=2000), rng.normal(1, 1, size=3000))  # the truth is 1/2
        Estimate(0.5... ± 0.0... nat, knn, n=2000)
    """
    name = "kl_divergence_from_samples"
    nats, unit = unit_of(base, name)
    if metric not in ("max", "euclidean"):
        raise ValueError(f"{name}: metric must be 'max' or 'euclidean' (got {metric!r})")
    check_at_least(name, "k", k, 1)
    if n_jobs is not None:
        threads_of(name, n_jobs)
    here, there = (_numbers(name, argument, data) for argument, data in (("x", x), ("y", y)))
    (n, dimensions), (m, other) = here.shape, there.shape
    if dimensions != other:
        raise ValueError(f"{name}: x and y must have the same columns (got {dimensions} and {other})")
    if n < k + 1 or m < k:
        raise ValueError(f"{name}: k={k} neighbours need at least {k + 1} samples of x and {k} of y (got {n} and {m})")
    together = np.concatenate([here, there])
    # A column without spread has no density under either law, and is refused by its distances.
    together -= np.median(together, axis=0)
    together *= power_of_two(float(np.abs(together).max()))
    if standardize:
        together /= [deviation(column) if column.any() else 1.0 for column in together.T]

    def values(first: np.ndarray, second: np.ndarray, n_jobs: int | None) -> np.ndarray:
        own = NeighbourSearch(first, euclidean=metric == "euclidean")
        among = NeighbourSearch(second, euclidean=metric == "euclidean")
        rho = own.nearest(k, n_jobs=n_jobs)[0][:, -1]
        nu = among.nearest(k, queries=own, n_jobs=n_jobs)[0][:, -1]
        if not (rho.all() and nu.all()):
            crowded = int(np.count_nonzero((rho == 0) | (nu == 0)))
            raise ValueError(
                f"{name}: {crowded} of {len(first)} samples of x share their place with k={k} others of x or y, where "
                "there is no density; a larger k takes wider neighbourhoods, kl_divergence the probabilities of symbols"
            )
        return dimensions * np.log(nu / rho) + log(len(second) / (len(first) - 1))

    here, there = together[:n], together[n:]
    _check_apart(name, here, there)
    known = values(here, there, n_jobs)
    note, variance = "", None
    number = min(16, min(n, m) // part_size(min(n, m), k))
    # As many parts of either; all samples are used, since what is random in x decays with n, and what is in y with m.
    chosen, chosen_there = parts(n, n // max(1, number), n), parts(m, m // max(1, number), m)
    if not stderr:
        variance = nan
    elif number > 1 and chosen is not None and chosen_there is not None:
        moved = (
            apart(here[chosen.rows], chosen.part, together),
            apart(there[chosen_there.rows], chosen_there.part, together),
        )
        variance = chosen.variance_of_whole(values(*moved, n_jobs), slice(None), n)
    if variance is None:
        variance = float(np.var(known, ddof=1)) / n
        note = too_few(k)

    def shuffled(generator: np.random.Generator) -> float:
        dealt = generator.permutation(together)
        return float(values(dealt[:n], dealt[n:], 1).mean()) / nats

    return Estimate(
        float(known.mean()) / nats,
        sqrt(variance) / nats,
        unit=unit,
        method="knn",
        n=n,
        note=note,
        local=known / nats if local else None,
        shuffled=shuffled,
    )


def _check_apart(name: str, here: np.ndarray, there: np.ndarray) -> None:
    """Refuse sets that share samples: more of x agree with y than the values that recur within either explain."""
    few = 2 + len(here) / 100
    if np.count_nonzero(np.isin(here[:, 0], there[:, 0])) <= few:
        return
    places = np.unique(np.concatenate([here, there]), axis=0, return_inverse=True)[1].ravel()
    counts = [np.bincount(found, minlength=places.max() + 1) for found in np.split(places, [len(here)])]
    shared = int(counts[0][counts[1] > 0].sum())
    # Of two samples of one set, how likely they are to agree.
    recurring = max(
        float(found @ (found - 1)) / max(1, size * (size - 1)) for found in counts for size in [found.sum()]
    )
    if shared > few + 3 * recurring * len(here) * len(there):
        raise ValueError(
            f"{name}: {shared} of {len(here)} samples of x are samples of y too; the two must be drawn apart, so leave "
            "the common ones out of either"
        )


def _numbers(name: str, argument: str, data: Any) -> np.ndarray:
    columns = as_numbers(name, argument, columns_of(name, argument, data))
    return np.stack([column.values.astype(np.float64) for column in columns], axis=1)
