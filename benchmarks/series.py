"""Time and memory of entropies of series against the packages that people use for them.

    python benchmarks/series.py                  # single series of 10,000 and 100,000 samples, batches, scales, Lempel-Ziv
    python benchmarks/series.py --only sample    # what contains this word
    python benchmarks/series.py --save           # and write benchmarks/results/series.md

Every method runs in a process of its own on the same white noise. "First" includes compilation or the reading of its
cache, "median" is of the calls after it, "extra" is how far the peak memory exceeds what the process held with inputs in
place and modules imported. Packages that are not installed are named and left out (antropy, neurokit2, EntropyHub).
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

REPEATS = 5
RADIUS = 0.2  # in standard deviations


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=n)


def tree_sample_entropy(series: np.ndarray) -> float:
    """The short way with SciPy: both counts by a k-d tree."""
    from scipy.spatial import cKDTree

    windows, pairs = len(series) - 2, []
    for length in (2, 3):
        tree = cKDTree(np.stack([series[k : k + windows] for k in range(length)], axis=1))
        pairs.append((tree.count_neighbors(tree, RADIUS * series.std(), p=np.inf) - windows) / 2)
    return float(np.log(pairs[0] / pairs[1]))


# For each task: how its input is made, and for each method the module it needs and what it calls.
TASKS: dict[str, tuple[Callable[[], np.ndarray], dict[str, tuple[str, Callable]]]] = {}
for size in (10_000, 100_000):
    TASKS[f"permutation entropy, order 5, n = {size:,} (bits)"] = (
        lambda size=size: noise(size),
        {
            "isentrope": ("isentrope.measures", lambda m, x: m.permutation_entropy(x, order=5, base=2)),
            "antropy": ("antropy", lambda m, x: m.perm_entropy(x, order=5)),
            "neurokit2": ("neurokit2", lambda m, x: m.entropy_permutation(x, dimension=5, corrected=False)[0]),
            "EntropyHub": ("EntropyHub", lambda m, x: m.PermEn(x, m=5)[0][-1]),
        },
    )
    TASKS[f"sample entropy, m = 2, r = 0.2 sd, n = {size:,} (nats)"] = (
        lambda size=size: noise(size),
        {
            "isentrope": ("isentrope.measures", lambda m, x: m.sample_entropy(x)),
            "antropy": ("antropy", lambda m, x: m.sample_entropy(x)),
            "neurokit2": (
                "neurokit2",
                lambda m, x: m.entropy_sample(x, dimension=2, tolerance=RADIUS * x.std())[0],
            ),
            "SciPy, k-d tree": ("scipy.spatial", lambda _, x: tree_sample_entropy(x)),
            # It compares all pairs in one matrix: 74 GiB at 100,000 samples.
            **(
                {"EntropyHub": ("EntropyHub", lambda m, x: m.SampEn(x, m=2, r=RADIUS * x.std())[0][-1])}
                if size <= 10_000
                else {}
            ),
        },
    )
TASKS["permutation entropy, order 5, of 1,000 series of 1,000 samples (mean, bits)"] = (
    lambda: noise(1_000_000).reshape(1000, 1000),
    {
        "isentrope": ("isentrope.measures", lambda m, x: m.permutation_entropy(x, order=5, base=2).mean()),
        "antropy, in a loop": ("antropy", lambda m, x: np.mean([m.perm_entropy(row, order=5) for row in x])),
    },
)
TASKS["sample entropy over 20 scales, n = 10,000 (the last, nats)"] = (
    lambda: noise(10_000),
    {
        "isentrope, plain": (
            "isentrope.measures",
            lambda m, x: m.multiscale_entropy(m.sample_entropy, x, composition="plain")[-1],
        ),
        "antropy, in a loop": (
            "antropy",
            lambda m, x: [
                m.sample_entropy(x[: len(x) // s * s].reshape(-1, s).mean(axis=1), tolerance=RADIUS * x.std())
                for s in range(1, 21)
            ][-1],
        ),
        "isentrope, refined": ("isentrope.measures", lambda m, x: m.multiscale_entropy(m.sample_entropy, x)[-1]),
    },
)
TASKS["Lempel-Ziv phrases of 100,000 bits (normalised)"] = (
    lambda: (noise(100_000) > 0).astype(np.int64),
    {
        "isentrope": ("isentrope.measures", lambda m, x: m.lempel_ziv_complexity(x, normalize=True)),
        "antropy": ("antropy", lambda m, x: m.lziv_complexity(x, normalize=True)),
    },
)


def peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure(task: str, method: str) -> dict:
    """In a process of its own: value, times in seconds and extra memory."""
    make, methods = TASKS[task]
    module_name, call = methods[method]
    try:
        module = import_module(module_name)
    except ImportError as error:
        return {"missing": str(error)}
    series, held, times = make(), peak_bytes(), []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        value = float(call(module, series))
        times.append(time.perf_counter() - start)
    return {
        "value": value,
        "first": times[0],
        "median": statistics.median(times[1:]),
        "extra": peak_bytes() - held,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="tasks whose name contains this")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/series.md")
    parser.add_argument("--one", nargs=2, metavar=("TASK", "METHOD"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one)))
        return
    console = Console()
    lines = [f"Python {platform.python_version()}, {platform.machine()}; median of {REPEATS} calls.", ""]
    for task, (_, methods) in TASKS.items():
        if arguments.only.lower() not in task.lower():
            continue
        table = Table("method", "value", "first, s", "median, s", "extra, MB", title=task)
        lines += [f"**{task}**", "", "| method | value | first, s | median, s | extra, MB |", "|---|---|---|---|---|"]
        for method in methods:
            command = [sys.executable, __file__, "--one", task, method]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"missing": "failed"}
            if "missing" in found:
                console.print(f"{method} left out: {found['missing']}")
                continue
            row = [
                method,
                f"{found['value']:.6f}",
                f"{found['first']:.3g}",
                f"{found['median']:.3g}",
                f"{found['extra'] / 1e6:.0f}",
            ]
            table.add_row(*row)
            lines.append(f"| {' | '.join(row)} |")
        console.print(table)
        lines.append("")
    if arguments.save:
        results = Path(__file__).parent / "results" / "series.md"
        partial = results.with_suffix(".partial")
        partial.write_text("\n".join(lines))
        partial.rename(results)
        console.print(f"written to {results}")


if __name__ == "__main__":
    main()
