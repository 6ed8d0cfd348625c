"""Time of estimates by nearest neighbours against the packages that people use for them.

    python benchmarks/measures_neighbours.py                   # the workloads below, medians of five calls
    python benchmarks/measures_neighbours.py --only transfer   # those whose name contains this word
    python benchmarks/measures_neighbours.py --repeats 9

All methods of a workload get the same samples, k = 4. Ours give a standard error too, but where it says "value alone". "First" includes compilation or the reading of its cache. Values are
in nats; packages that are not installed are named and left out (ennemi, npeet-plus, infomeasure, scikit-learn).
"""

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from math import log, pi
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

K = 4
Samples = tuple[np.ndarray, ...]


def gaussian(n: int, d: int, rho: float) -> Samples:
    """Vectors of d columns, of which all pairs have the correlation rho."""
    rng = np.random.default_rng(0)
    z = np.sqrt(1 - rho) * rng.normal(size=(n, 2 * d)) + np.sqrt(rho) * rng.normal(size=(n, 1))
    return (z[:, 0], z[:, 1]) if d == 1 else (z[:, :d], z[:, d:])


def cloud(n: int, d: int) -> Samples:
    return (np.random.default_rng(0).normal(size=(n, d)),)


def classes(n: int) -> Samples:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, n)
    return y + rng.uniform(0, 2, n), y


def three(n: int) -> Samples:
    rng = np.random.default_rng(0)
    z, a, b = rng.normal(size=(3, n))
    x = z + a
    return x, x + z + b, z


def coupled(n: int) -> Samples:
    """The second series follows the first: ln(1 + 0.25 / 0.81) / 2 = 0.1347 nat."""
    x, e = np.random.default_rng(0).normal(size=(2, n))
    y = np.zeros(n)
    for t in range(1, n):
        y[t] = 0.5 * y[t - 1] + 0.5 * x[t - 1] + 0.9 * e[t]
    return x, y


def plain_entropy(m: Any, x: np.ndarray) -> float:
    from scipy.special import digamma

    radius = m.cKDTree(x).query(x, K + 1, p=np.inf)[0][:, -1]
    return float(digamma(len(x)) - digamma(K) + x.shape[1] * (log(2) + np.log(radius).mean()))


def plain_information(m: Any, x: np.ndarray, y: np.ndarray, *z: np.ndarray) -> float:
    """The first estimator of Kraskov and others, or that of Frenzel and Pompe, by SciPy's trees."""
    from scipy.special import digamma

    x, y, *z = (v.reshape(len(v), -1) for v in (x, y, *z))
    joint = np.concatenate([x, y, *z], axis=1)
    radius = np.nextafter(m.cKDTree(joint).query(joint, K + 1, p=np.inf, workers=-1)[0][:, -1], 0)

    def places(*parts: np.ndarray) -> np.ndarray:
        points = np.concatenate(parts, axis=1)
        return m.cKDTree(points).query_ball_point(points, radius, p=np.inf, return_length=True, workers=-1)

    known = digamma(places(*z)) if z else digamma(len(x))
    return float(np.mean(digamma(K) - digamma(places(x, *z)) - digamma(places(y, *z)) + known))


def plain_o_information(m: Any, x: np.ndarray) -> float:
    """Mean over all triplets of differences of entropies, each subset's computed once."""
    from itertools import combinations

    def subsets(size: int) -> Any:
        return combinations(range(x.shape[1]), size)

    h = {s: plain_entropy(m, x[:, s]) for size in (1, 2, 3) for s in subsets(size)}
    return float(
        np.mean([h[s] + sum(h[(i,)] for i in s) - sum(h[pair] for pair in combinations(s, 2)) for s in subsets(3)])
    )


def our_o_information(m: Any, x: np.ndarray) -> float:
    return float(m.higher_order_information(x, orders=(3, 3), method="ksg", k=K).o_information.mean())


SCIPY, OURS = "scipy.spatial", "isentrope.measures"
INFORMATION = {
    "isentrope": (OURS, lambda m, x, y: m.mutual_information(x, y, k=K)),
    "isentrope, value alone": (OURS, lambda m, x, y: m.mutual_information(x, y, k=K, stderr=False)),
    "isentrope, ksg2": (OURS, lambda m, x, y: m.mutual_information(x, y, k=K, method="ksg2")),
    "SciPy's trees, plain": (SCIPY, plain_information),
    "npeet-plus": ("npeet_plus", lambda m, x, y: m.mi(_columns(x), _columns(y), k=K, base=np.e)),
    "infomeasure": ("infomeasure", lambda m, x, y: m.mutual_information(x, y, approach="ksg", k=K)),
}
SCALARS = {
    **INFORMATION,
    "ennemi": ("ennemi", lambda m, x, y: m.estimate_mi(y, x, k=K).item()),
    "scikit-learn": (
        "sklearn.feature_selection",
        lambda m, x, y: m.mutual_info_regression(_columns(x), y, n_neighbors=K)[0],
    ),
}
# How the samples are made, the truth, and for each method the module it needs and what it calls.
WORKLOADS: dict[str, tuple[Callable[[], Samples], float, dict[str, tuple[str, Callable]]]] = {
    "entropy, 10,000 samples of 2 columns": (
        lambda: cloud(10_000, 2),
        log(2 * pi * np.e),
        {
            "isentrope": (OURS, lambda m, x: m.differential_entropy(x, k=K)),
            "SciPy's trees, plain": (SCIPY, plain_entropy),
            "npeet-plus": ("npeet_plus", lambda m, x: m.entropy(x, k=K, base=np.e)),
            "infomeasure": ("infomeasure", lambda m, x: m.entropy(x, approach="kl", k=K)),
            "ennemi": ("ennemi", lambda m, x: m.estimate_entropy(x, k=K, multidim=True)),
        },
    ),
    "entropy, 10,000 samples of 10 columns": (
        lambda: cloud(10_000, 10),
        5 * log(2 * pi * np.e),
        {
            "isentrope": (OURS, lambda m, x: m.differential_entropy(x, k=K)),
            "SciPy's trees, plain": (SCIPY, plain_entropy),
            "npeet-plus": ("npeet_plus", lambda m, x: m.entropy(x, k=K, base=np.e)),
            "infomeasure": ("infomeasure", lambda m, x: m.entropy(x, approach="kl", k=K)),
        },
    ),
    "mutual information, 10,000 samples, 1 + 1": (lambda: gaussian(10_000, 1, 0.75), 0.413339, SCALARS),
    "mutual information, 10,000 samples, 5 + 5": (lambda: gaussian(10_000, 5, 0.5), 0.592812, INFORMATION),
    "mutual information, 1,000,000 samples, 1 + 1": (
        lambda: gaussian(1_000_000, 1, 0.75),
        0.413339,
        {name: INFORMATION[name] for name in ("isentrope", "SciPy's trees, plain")},
    ),
    "mixed mutual information, 10,000 samples, 5 classes": (
        lambda: classes(10_000),
        log(5) - 0.8 * log(2),
        {
            "isentrope": (OURS, lambda m, x, y: m.mutual_information(x, y, k=K)),
            "ennemi": ("ennemi", lambda m, x, y: m.estimate_mi(y, x, k=K, discrete_y=True).item()),
            "npeet-plus": ("npeet_plus", lambda m, x, y: m.micd(_columns(x), _columns(y), k=K, base=np.e)),
            "scikit-learn": (
                "sklearn.feature_selection",
                lambda m, x, y: m.mutual_info_classif(_columns(x), y, n_neighbors=K)[0],
            ),
        },
    ),
    "conditional information, 10,000 samples": (
        lambda: three(10_000),
        0.5 * log(2),
        {
            "isentrope": (OURS, lambda m, x, y, z: m.conditional_mutual_information(x, y, z, k=K)),
            "isentrope, value alone": (
                OURS,
                lambda m, x, y, z: m.conditional_mutual_information(x, y, z, k=K, stderr=False),
            ),
            "SciPy's trees, plain": (SCIPY, plain_information),
            "npeet-plus": ("npeet_plus", lambda m, *v: m.mi(*map(_columns, v), k=K, base=np.e)),
            "ennemi": ("ennemi", lambda m, x, y, z: m.estimate_mi(y, x, cond=z, k=K).item()),
            "infomeasure": ("infomeasure", lambda m, x, y, z: m.mutual_information(x, y, cond=z, approach="ksg", k=K)),
        },
    ),
    "transfer entropy, 10,000 samples, histories 1": (
        lambda: coupled(10_000),
        0.5 * log(1 + 0.25 / 0.81),
        {
            "isentrope": (OURS, lambda m, x, y: m.transfer_entropy(x, y, k=K)),
            "isentrope, value alone": (OURS, lambda m, x, y: m.transfer_entropy(x, y, k=K, stderr=False)),
            "SciPy's trees, plain": (SCIPY, lambda m, x, y: plain_information(m, x[:-1], y[1:], y[:-1])),
            "npeet-plus": (
                "npeet_plus",
                lambda m, x, y: m.mi(_columns(y[1:]), _columns(x[:-1]), _columns(y[:-1]), k=K, base=np.e),
            ),
            "ennemi": ("ennemi", lambda m, x, y: m.estimate_mi(y, x, lag=1, cond=y, cond_lag=1, k=K).item()),
            "infomeasure": ("infomeasure", lambda m, x, y: m.transfer_entropy(x, y, approach="metric", k=K)),
        },
    ),
    "200 shuffles of 1,000 independent samples (p-value)": (
        lambda: gaussian(1000, 1, 0.0),
        float("nan"),
        {
            "isentrope": (OURS, lambda m, x, y: m.mutual_information(x, y, k=K).test(200, rng=0).pvalue),
            "isentrope, 2 threads": (
                OURS,
                lambda m, x, y: m.mutual_information(x, y, k=K).test(200, rng=0, n_jobs=2).pvalue,
            ),
            "isentrope, ends early": (
                OURS,
                lambda m, x, y: m.mutual_information(x, y, k=K).test(200, rng=0, stop_after=10).pvalue,
            ),
            "npeet-plus": (
                "npeet_plus",
                lambda m, x, y: m.mi_pvalue(_columns(x), _columns(y), k=K, n_permutations=200)[1],
            ),
        },
    ),
    "O-information of 56 triplets, 1,000 samples": (
        lambda: cloud(1000, 8),
        0.0,
        {"isentrope": (OURS, our_o_information), "SciPy's trees, plain": (SCIPY, plain_o_information)},
    ),
}


def _columns(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1)


def main() -> None:
    """Run all that is installed and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="a word of the workloads' names")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    for name, (draw, truth, methods) in WORKLOADS.items():
        if arguments.only not in name:
            continue
        samples = draw()
        table = Table("method", "median (ms)", "first call (ms)", "value", title=f"{name}; truth {truth:.6f}")
        for label, (module, call) in methods.items():
            try:
                imported = importlib.import_module(module)
            except ImportError as missing:
                table.add_row(label, "not installed", "", f"{missing.name}")
                continue
            seconds, value = [], float("nan")
            for _ in range(arguments.repeats + 1):
                start = time.perf_counter()
                value = float(call(imported, *samples))
                seconds.append(time.perf_counter() - start)
            table.add_row(
                label, f"{1e3 * statistics.median(seconds[1:]):.3g}", f"{1e3 * seconds[0]:.3g}", f"{value:.6f}"
            )
        Console().print(table)


if __name__ == "__main__":
    main()
