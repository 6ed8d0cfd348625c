"""Time of the O-information of all n-plets of variables, beside other ways that are installed.

    python benchmarks/higher_order.py                # orders 3 to 5 of 20 Gaussian variables, 10,000 samples
    python benchmarks/higher_order.py --repeats 5

"error" is the largest difference from determinants of each n-plet's correlations (of the samples, or of their normal scores),
uncorrected for bias as the peers are. With neighbours, all 56 triplets of 8 independent variables, 1,000 samples, "error" is the root of the
mean square, because all values are 0.
"""

import argparse
import statistics
import time
from itertools import combinations
from math import log

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.spatial import KDTree
from scipy.special import digamma

from isentrope.measures import higher_order_information


def batched(samples, orders, scores=False):
    """Plug-in O-information from batches of determinants and inverses."""
    if scores:
        from isentrope.measures.gaussian import gaussian_scores

        samples = gaussian_scores(samples)
    correlation = np.corrcoef(samples.T)
    found = []
    for order in range(orders[0], orders[1] + 1):
        chosen = np.array(list(combinations(range(len(correlation)), order)))
        part = correlation[chosen[:, :, None], chosen[:, None, :]]
        whole = np.linalg.slogdet(part)[1]
        # The determinant without one variable is that of all times its entry of the inverse.
        others = order * whole + np.log(np.diagonal(np.linalg.inv(part), axis1=1, axis2=2)).sum(axis=1)
        found.append(-whole / 2 - (others - (order - 1) * whole) / 2)
    return np.concatenate(found)


def bias(n, order):
    """What the correction of determinants adds to the O-information of n samples."""

    def half(size):
        return sum(log((n - 1) / 2) - digamma((n - i) / 2) for i in range(1, size + 1)) / 2

    return (order - 2) * half(order) + order * (half(1) - half(order - 1))


def isentrope(method, n_jobs=1):
    def run(samples, orders):
        found = higher_order_information(samples, orders=orders, method=method, n_jobs=n_jobs)
        return (
            found.o_information - np.array([0, *(bias(len(samples), n) for n in range(1, orders[1] + 1))])[found.order]
        )

    return run


def thoi(samples, orders):
    from thoi.measures.gaussian_copula import multi_order_measures

    return multi_order_measures(samples, orders[0], orders[1])["o"].to_numpy()


def thoi_from_covariance(samples, orders):
    from thoi.measures.gaussian_copula import nplets_measures

    covariance = np.corrcoef(samples.T)
    found = []
    for order in range(orders[0], orders[1] + 1):
        chosen = np.array(list(combinations(range(len(covariance)), order)))
        found.append(np.asarray(nplets_measures(covariance, chosen, covmat_precomputed=True, T=len(samples)))[:, 0, 2])
    return np.concatenate(found)


def hoi(method):
    def run(samples, orders):
        from hoi.metrics import Oinfo

        return np.asarray(Oinfo(samples, verbose=False).fit(orders[0], orders[1], method=method)).ravel() * log(2)

    return run


def entropies_apart(samples, orders):
    """O-information from entropies of Kozachenko and Leonenko, each subset searched once."""
    n, d = samples.shape
    k = 3

    def entropy(columns):
        data = samples[:, columns]
        distance = KDTree(data).query(data, k=k + 1, p=np.inf, workers=-1)[0][:, -1]
        return digamma(n) - digamma(k) + len(columns) * np.mean(np.log(2 * distance))

    h = {c: entropy(c) for size in range(1, orders[1] + 1) for c in combinations(range(d), size)}
    return np.array(
        [
            (order - 2) * h[c] + sum(h[i,] - h[tuple(j for j in c if j != i)] for i in c)
            for order in range(orders[0], orders[1] + 1)
            for c in combinations(range(d), order)
        ]
    )


GAUSSIAN = {
    "numpy: batched determinants and inverses": (batched, False),
    "isentrope: gaussian": (isentrope("gaussian"), False),
    "isentrope: gaussian_copula": (isentrope("gaussian_copula"), True),
    "isentrope: gaussian_copula, two threads": (isentrope("gaussian_copula", 2), True),
    "thoi: multi_order_measures": (thoi, True),
    "thoi: nplets_measures of a covariance": (thoi_from_covariance, False),
    "hoi: Oinfo, gauss": (hoi("gauss"), False),
    "hoi: Oinfo, gc": (hoi("gc"), True),
}
NEIGHBOURS = {
    "scipy: entropies, each subset once, all cores": entropies_apart,
    "isentrope: ksg": lambda samples, orders: (
        higher_order_information(samples, orders=orders, method="ksg", k=3).o_information
    ),
    "isentrope: ksg, two threads": lambda samples, orders: (
        higher_order_information(samples, orders=orders, method="ksg", k=3, n_jobs=2).o_information
    ),
}


def timed(function, samples, orders, repeats):
    """The result, the median of all calls but the first, and the first."""
    seconds = []
    found = None
    for _ in range(repeats + 1):
        start = time.perf_counter()
        found = function(samples, orders)
        seconds.append(time.perf_counter() - start)
    return found, statistics.median(seconds[1:]), seconds[0]


def main() -> None:
    """Run all that is installed and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--variables", type=int, default=20)
    parser.add_argument("--highest", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    d, orders = arguments.variables, (3, arguments.highest)
    samples = rng.normal(size=(arguments.samples, d)) @ (np.eye(d) + 0.3 * rng.normal(size=(d, d)))
    expected = {scores: batched(samples, orders, scores) for scores in (False, True)}
    table = Table("Gaussian", "median (ms)", "first call (s)", "error (nat)", title=f"{len(expected[True])} n-plets")
    for name, (function, scores) in GAUSSIAN.items():
        try:
            found, median, first = timed(function, samples, orders, arguments.repeats)
        except ImportError as missing:
            table.add_row(name, f"not installed: {missing.name}", "", "")
            continue
        error = np.abs(found - expected[scores]).max()
        table.add_row(name, f"{1e3 * median:.3g}", f"{first:.3g}", f"{error:.1g}")
    Console().print(table)

    samples = rng.normal(size=(1000, 8))
    table = Table("neighbours", "median (ms)", "first call (s)", "error (nat)", title="56 triplets")
    for name, function in NEIGHBOURS.items():
        found, median, first = timed(function, samples, (3, 3), arguments.repeats)
        table.add_row(name, f"{1e3 * median:.3g}", f"{first:.3g}", f"{np.sqrt(np.mean(found**2)):.1g}")
    Console().print(table)


if __name__ == "__main__":
    main()
