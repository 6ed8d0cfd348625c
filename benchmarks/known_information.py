"""Estimates of 40 mutual informations that are known, beside those of the package that brings the tasks, benchmark-mi.

    python benchmarks/known_information.py --peer /path/to/python-with-benchmark-mi --save

Distributions with heavy tails, many dimensions, sparse dependence and non-linear transforms, with their exact mutual
information (arXiv 2306.11078). The package needs older versions of NumPy and JAX than other packages bear (jax 0.4.30), so
an interpreter of its own draws the samples and runs the package's estimators; then ours run on the same samples.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

RESULT = Path(__file__).parent / "results" / "known_information.md"
NEIGHBOURS = 10  # as in the package's paper

THEIRS = ("KSG", "CCA")
OURS = {
    "ksg": {"method": "ksg", "k": NEIGHBOURS},
    "ksg, Euclidean": {"method": "ksg", "k": NEIGHBOURS, "metric": "euclidean"},
    "gaussian_copula": {"method": "gaussian_copula"},
}


def draw(folder: Path, samples: int, seed: int) -> None:
    """With the package at hand: leave samples, the truth and the package's own estimates, a file for each task."""
    import bmi
    from bmi.benchmark import BENCHMARK_TASKS

    for number, (name, task) in enumerate(BENCHMARK_TASKS.items()):
        x, y = (np.asarray(values, dtype=np.float64) for values in task.sample(samples, seed))
        found = {"name": name, "truth": task.mutual_information, "x": x, "y": y}
        for label, estimator in (
            ("KSG", bmi.estimators.KSGEnsembleFirstEstimator(neighborhoods=(NEIGHBOURS,))),
            ("CCA", bmi.estimators.CCAMutualInformationEstimator()),
        ):
            begun = time.perf_counter()
            found[label] = float(estimator.estimate(x, y))
            found[f"{label} seconds"] = time.perf_counter() - begun
        np.savez(folder / f"{number:02d}.npz", **found)
        print(name, flush=True)


def estimate(path: Path) -> dict:
    """Ours on the samples of one task, beside what was found there."""
    from isentrope.measures import mutual_information

    with np.load(path) as stored:
        found = {name: stored[name].item() for name in stored if name not in ("x", "y")}
        x, y = stored["x"], stored["y"]
    found["dimensions"] = f"{x.shape[1]}+{y.shape[1]}"
    for name, settings in OURS.items():
        begun = time.perf_counter()
        one = mutual_information(x, y, **settings)
        found[f"{name} seconds"] = time.perf_counter() - begun
        found[name], found[f"{name} stderr"] = one.value, one.stderr
    return found


def table(rows: list[dict], samples: int) -> str:
    """Estimates in nats, with standard errors of ours; then errors and times over all tasks."""
    heading = ["task", "dimensions", "truth", *(f"benchmark-mi {name}" for name in THEIRS), *OURS]
    lines = [
        f"{samples:,} samples a task, k = {NEIGHBOURS}, nats; ± is the standard error that the estimate itself reports.",
        "",
        "| " + " | ".join(heading) + " |",
        "|---|---|" + "---:|" * (len(heading) - 2),
    ]
    for row in rows:
        cells = [row["name"], row["dimensions"], f"{row['truth']:.3f}", *(f"{row[name]:.3f}" for name in THEIRS)]
        cells += [f"{row[name]:.3f} ± {row[f'{name} stderr']:.3f}" for name in OURS]
        lines.append("| " + " | ".join(cells) + " |")
    for label, of in (
        ("root mean square error", lambda name: np.sqrt(np.mean([(row[name] - row["truth"]) ** 2 for row in rows]))),
        ("median absolute error", lambda name: np.median([abs(row[name] - row["truth"]) for row in rows])),
        ("seconds, median of a task", lambda name: np.median([row[f"{name} seconds"] for row in rows])),
        ("seconds, all tasks", lambda name: np.sum([row[f"{name} seconds"] for row in rows])),
    ):
        lines.append(f"| **{label}** | | | " + " | ".join(f"{of(name):.3f}" for name in (*THEIRS, *OURS)) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Draw with the peer's interpreter, estimate with this one, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer", help="an interpreter that has benchmark-mi")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--draw", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.draw:
        draw(arguments.draw, arguments.samples, arguments.seed)
        return
    if not arguments.peer:
        parser.error("--peer: name an interpreter that has benchmark-mi")
    with tempfile.TemporaryDirectory() as folder:
        options = ["--draw", folder, "--samples", str(arguments.samples), "--seed", str(arguments.seed)]
        subprocess.run([arguments.peer, __file__, *options], check=True)
        rows = [estimate(path) for path in sorted(Path(folder).glob("*.npz"))]
    text = table(rows, arguments.samples)
    print(text)
    if arguments.save:
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
