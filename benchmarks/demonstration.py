"""Tabulate a comparison for the documentation: one row a recipe, from the summaries of its stored runs.

    isentrope compare grpo entropy_target "clip_cov(fraction=0.02)" --seeds 5 --output runs/demonstration
    python benchmarks/demonstration.py runs/demonstration --save

Prints Markdown; `--save` writes it, with each run's summary as JSON beside it, to `benchmarks/results`.
"""

import json
import sys
from pathlib import Path

import numpy as np

from isentrope.lab import table
from isentrope.report import RunStore, list_runs

RESULTS = Path(__file__).parent / "results"


def markdown(runs: list[RunStore]) -> str:
    """The table, with the three claims that the demonstration makes checked run by run."""
    lines = [
        "| recipe | reward | pass@1 | pass@8 | entropy, start → end | second half ÷ target − 1 | tokens/s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in table(runs):
        cells = row.cells
        own = [run.summary for run in runs if run.config["recipe"] == row.recipe]
        offset = [s["entropy_second_half"] / s["target_entropy"] - 1 for s in own if "target_entropy" in s]
        held = f"{min(offset):+.1%} … {max(offset):+.1%}" if offset else "–"
        lines.append(
            f"| `{row.recipe}` | {cells['reward_end']:.3f} | {cells['pass@1']:.3f} | {cells['pass@8']:.3f} "
            f"| {cells['entropy_start']:.3f} → {cells['entropy_end']:.3f} | {held} "
            f"| {cells['tokens_per_second'].mean:,.0f} |"
        )
    start = np.array([run.summary["pass@8_start"] for run in runs])
    lines += ["", f"Before reinforcement learning pass@8 is {start.mean():.3f}, pass@1 "
              f"{np.mean([run.summary['pass@1_start'] for run in runs]):.3f}."]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    runs = [RunStore.open(path) for path in list_runs(sys.argv[1])]
    text = markdown(runs)
    print(text)
    if "--save" in sys.argv:
        (RESULTS / "demonstration.md").write_text(text, encoding="utf-8")
        rows = [{"recipe": run.config["recipe"], "seed": run.config["seed"], **run.summary} for run in runs]
        (RESULTS / "demonstration.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
