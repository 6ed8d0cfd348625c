"""Time and memory of the diffusion spectral entropy of normal points, beside other ways that are installed.

    python benchmarks/spectral.py                          # 2,000 points of 64 dimensions, bandwidth 10
    python benchmarks/spectral.py --points 5000
    python benchmarks/spectral.py --points 50000 --repeats 1   # only what needs no matrix

"error" is that from one symmetric eigenvalue problem in float64. "MB" is the largest sum of arrays, without LAPACK's workspace.
"""

import argparse
import statistics
import time
import tracemalloc

import numpy as np
from rich.console import Console
from rich.table import Table

# Above, the dense ways would need minutes and gigabytes.
DENSE = 12_000


def as_published(points, bandwidth):
    """The steps of dse-dsmi 1.1: full diagonal matrices, products with them, one eigenvalue problem."""
    squares = (points**2).sum(1)
    kernel = np.exp(-(squares[:, None] + squares - 2 * points @ points.T) / (2 * bandwidth**2))
    inverse = np.diag(1 / np.sqrt(kernel.sum(1)))
    eigenvalues = np.abs(np.linalg.eigvalsh(inverse @ kernel @ inverse))
    shares = eigenvalues / eigenvalues.sum() + np.finfo(float).eps
    return -(shares * np.log2(shares)).sum()


def dse_dsmi(points, bandwidth):
    from dse_dsmi import diffusion_spectral_entropy

    return diffusion_spectral_entropy(points, gaussian_kernel_sigma=bandwidth)


def torch_eigenvalues(points, bandwidth):
    import torch

    x = torch.from_numpy(points)
    kernel = torch.exp(-(torch.cdist(x, x) ** 2) / (2 * bandwidth**2))
    root = kernel.sum(1).rsqrt()
    eigenvalues = torch.linalg.eigvalsh(kernel * root[:, None] * root).clamp(min=1e-300)
    shares = eigenvalues / eigenvalues.sum()
    return float(-(shares * shares.log2()).sum())


def exact(points, bandwidth):
    from isentrope.measures import diffusion_spectral_entropy

    return float(diffusion_spectral_entropy(points, bandwidth=bandwidth, base=2))


def lanczos(points, bandwidth, memory=2**30):
    from isentrope.measures import DiffusionOperator, matrix_entropy_from_products

    operator = DiffusionOperator(points, bandwidth=bandwidth, memory=memory, n_jobs=-1)
    return matrix_entropy_from_products(operator, base=2, rng=0)


METHODS = {
    "numpy: the published steps": (as_published, True),
    "dse-dsmi": (dse_dsmi, True),
    "torch.linalg.eigvalsh": (torch_eigenvalues, True),
    "isentrope: diffusion_spectral_entropy": (exact, True),
    "isentrope: matrix_entropy_from_products": (lanczos, False),
    "isentrope: the same, kernel not held": (lambda points, bandwidth: lanczos(points, bandwidth, memory=0), False),
}


def main() -> None:
    """Run all that is installed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--bandwidth", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    points = np.random.default_rng(12).normal(size=(arguments.points, arguments.dimensions))
    dense = arguments.points <= DENSE
    expected = exact(points, arguments.bandwidth) if dense else float("nan")
    table = Table("method", "median (s)", "MB", "entropy (bit)", "error")
    for name, (method, needs_matrix) in METHODS.items():
        if needs_matrix and not dense:
            continue
        seconds = []
        try:
            method(points[:50], arguments.bandwidth)  # imports
            for _ in range(arguments.repeats):
                start = time.perf_counter()
                found = method(points, arguments.bandwidth)
                seconds.append(time.perf_counter() - start)
        except ImportError as missing:
            table.add_row(name, f"not installed: {missing.name}", "", "", "")
            continue
        tracemalloc.start()
        if dense:
            method(points, arguments.bandwidth)
        megabytes = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        stated = f" ± {found.stderr:.4f}" if hasattr(found, "stderr") else ""
        error = f"{abs(float(found) / expected - 1):.2%}" if dense else ""
        table.add_row(
            name,
            f"{statistics.median(seconds):.3g}",
            f"{megabytes:.0f}" if dense else "",
            f"{float(found):.6f}{stated}",
            error,
        )
    Console().print(table)


if __name__ == "__main__":
    main()
