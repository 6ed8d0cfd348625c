"""Time of the mutual information of all pairs of discrete variables, beside other ways that are installed.

    python benchmarks/discrete_information.py                # 50 variables of 8 values, 100,000 samples
    python benchmarks/discrete_information.py --repeats 5

Peers that count pair by pair in Python are run on a few pairs and scaled to all; "error" is the largest difference from
the loop over `numpy.bincount` on the pairs run.
"""

import argparse
import statistics
import time
from itertools import combinations

import numpy as np
from rich.console import Console
from rich.table import Table


def sample(n: int, d: int, values: int) -> np.ndarray:
    """Columns that share a hidden variable, some more, some less."""
    rng = np.random.default_rng(0)
    hidden = rng.integers(0, values, n)
    kept = rng.random((n, d)) < np.linspace(0.1, 0.9, d)
    return np.where(kept, hidden[:, None], rng.integers(0, values, (n, d)))


def bincount_loop(data, pairs):
    values = int(data.max()) + 1
    found = []
    for i, j in pairs:
        p = np.bincount(data[:, i] * values + data[:, j], minlength=values**2).reshape(values, values) / len(data)
        some = p > 0
        found.append(float(p[some] @ np.log(p[some] / np.outer(p.sum(1), p.sum(0))[some])))
    return found


def isentrope(data, pairs, n_jobs=1):
    from isentrope.measures import mutual_information_matrix

    matrix = mutual_information_matrix(data, method="plugin", n_jobs=n_jobs).values
    return [matrix[i, j] for i, j in pairs]


def scikit_learn(data, pairs):
    from sklearn.metrics import mutual_info_score

    return [mutual_info_score(data[:, i], data[:, j]) for i, j in pairs]


def infomeasure(data, pairs):
    import infomeasure as im

    return [im.mutual_information(data[:, i], data[:, j], approach="discrete") for i, j in pairs]


METHODS = {
    "numpy: bincount, pair by pair": (bincount_loop, None),
    "isentrope: mutual_information_matrix": (isentrope, None),
    "isentrope, two threads": (lambda data, pairs: isentrope(data, pairs, n_jobs=2), None),
    "scikit-learn: mutual_info_score": (scikit_learn, 20),
    "infomeasure: mutual_information": (infomeasure, 20),
}


def main() -> None:
    """Run all that is installed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--variables", type=int, default=50)
    parser.add_argument("--values", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    data = sample(arguments.samples, arguments.variables, arguments.values)
    pairs = list(combinations(range(arguments.variables), 2))
    expected = bincount_loop(data, pairs)
    table = Table("method", "median of all pairs (s)", "first call (s)", "error (nat)")
    for name, (method, limit) in METHODS.items():
        some = pairs if limit is None else pairs[:limit]
        seconds = []
        try:
            for _ in range(arguments.repeats + 1):
                start = time.perf_counter()
                found = method(data, some)
                seconds.append((time.perf_counter() - start) * len(pairs) / len(some))
        except ImportError as missing:
            table.add_row(name, f"not installed: {missing.name}", "", "")
            continue
        error = max(abs(a - b) for a, b in zip(found, expected, strict=False))
        table.add_row(name, f"{statistics.median(seconds[1:]):.3g}", f"{seconds[0]:.3g}", f"{error:.1g}")
    Console().print(table)


if __name__ == "__main__":
    main()
