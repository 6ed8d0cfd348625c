"""What a comparison of many recipes says: its runs as rows of one table, and each recipe against the one it is made from.

A row of the table (`record`) is a run: what it was, the numbers before and after training, and its entropy at each step.
The ranking takes rows, not runs, so that it can be made again from the Parquet file that a comparison leaves behind.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import t as student

from isentrope._files import write_atomically
from isentrope.lab.experiment import Experiment
from isentrope.policy import recipes
from isentrope.report.store import RunStore

MEASURED = ("reward", "pass@1", "pass@8", "entropy", "entropy_share", "target_distance", "seconds", "tokens")
"""The numbers of a row that are shown as means over seeds."""

COMPARED = ("pass@1", "pass@8")
"""The numbers of a row that are compared with the baseline's of the same seed."""

MARKED = 2.0
"""A difference is marked beyond so many of its standard errors."""

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """A mean over seeds with its standard error; NaN where there is nothing, or one value only."""

    mean: float
    stderr: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Cell":
        """The mean of what is there."""
        numbers = np.array([v for v in values if v is not None and not math.isnan(v)], dtype=float)
        if not len(numbers):
            return cls(math.nan, math.nan)
        stderr = float(numbers.std(ddof=1) / math.sqrt(len(numbers))) if len(numbers) > 1 else math.nan
        return cls(float(numbers.mean()), stderr)

    def __format__(self, specification: str) -> str:
        """The mean, and its error where there is one, each by the specification of a number; of an error without sign."""
        if math.isnan(self.mean):
            return "–"
        error = "" if math.isnan(self.stderr) else f"±{self.stderr:{specification.lstrip('+')}}"
        return f"{self.mean:{specification}}{error}"


@dataclass(frozen=True)
class Difference:
    """How much more a recipe has than its baseline: the mean over seeds, the same seed of both each time.

    Attributes:
        cell: mean and standard error.
        pairs: seeds that both have.
    """

    cell: Cell
    pairs: int

    @property
    def marked(self) -> bool:
        """Whether it lies beyond `MARKED` standard errors."""
        return not math.isnan(self.cell.stderr) and abs(self.cell.mean) > MARKED * self.cell.stderr

    @property
    def chance(self) -> float:
        """How likely a mark is if nothing but the seeds differs: Student's t, ``P(|t| > 2)``; 0 for a single pair."""
        return 0.0 if self.pairs < 2 else 2 * float(student.sf(MARKED, self.pairs - 1))

    def __format__(self, specification: str) -> str:
        """Mean and error, with a star if it is marked."""
        return f"{self.cell:{specification}}{'*' if self.marked else ''}"


@dataclass(frozen=True)
class Standing:
    """A recipe among others.

    Attributes:
        recipe: its text.
        runs: seeds.
        baseline: the recipe that it is compared with; None for the first of all, or if that did not take part.
        cells: of each name in `MEASURED` the mean over seeds.
        differences: of each name in `COMPARED` the difference from the baseline.
    """

    recipe: str
    runs: int
    baseline: str | None
    cells: Mapping[str, Cell]
    differences: Mapping[str, Difference]


def record(run: RunStore) -> dict[str, Any]:
    """A finished run as a row.

    Returns:
        ``recipe``, ``baseline``, ``task``, ``seed``, ``steps``; ``reward`` (mean over the last twentieth of the steps);
        pass@k, in names such as ``pass@8``, and ``entropy`` (nats per token) on held-out problems after training, with
        ``_before`` the same before it; ``entropy_share``, the ratio of the two entropies; ``target_entropy`` and
        ``target_distance`` (mean absolute, over the second half), None without a target; ``seconds`` of training;
        ``tokens`` of the policy in all batches of rollouts, beginnings that a response took over from another and learns
        from included; ``entropies``, that of each step's rollouts.
    """
    metrics, summary, config = run.metrics(), run.summary, run.config
    trained = metrics["step"] > 0
    measured = metrics["evaluation_entropy"][np.isfinite(metrics["evaluation_entropy"])]
    passed = {name: value for name, value in summary.items() if name.startswith("pass@") and "stderr" not in name}
    return {
        "recipe": config["recipe"],
        "baseline": baseline(Experiment.from_dict(config["experiment"])),
        "task": config["task"],
        "seed": config["seed"],
        "steps": summary["steps"],
        "reward": summary["reward_end"],
        **{name.replace("_start", "_before"): value for name, value in passed.items()},
        "entropy": float(measured[-1]),
        "entropy_before": float(measured[0]),
        "entropy_share": float(measured[-1] / measured[0]),
        "target_entropy": summary.get("target_entropy"),
        "target_distance": summary.get("target_distance"),
        "seconds": summary["seconds"],
        "tokens": float((metrics["tokens_per_second"] * metrics["seconds"])[trained].sum()),
        "entropies": metrics["entropy"][trained].tolist(),
    }


def baseline(experiment: Experiment) -> str | None:
    """The name of the plain recipe that an experiment's recipe changes least; `grpo` for the other plain ones.

    Examples:
        >>> baseline(Experiment("qae + entropic")), baseline(Experiment("dapo")), baseline(Experiment("grpo"))
        ('dapo', 'grpo', None)
    """
    plain, changes = recipes.difference(experiment.objective(entropy=1.0))
    if changes:
        return plain.name
    return None if plain.name == "grpo" else "grpo"


def standings(records: Sequence[Record], by: str = "pass@8") -> list[Standing]:
    """One standing a recipe, the largest mean of ``by`` first, those without one last; a row may lack numbers."""
    rows: dict[str, dict[int, Record]] = {}
    for row in records:
        rows.setdefault(row["recipe"], {})[row["seed"]] = row
    listed = []
    for recipe, own in rows.items():
        name = next(iter(own.values()))["baseline"]
        other = rows.get(name, {})
        paired = sorted(own.keys() & other.keys())
        differences = {
            key: _difference((own[seed].get(key), other[seed].get(key)) for seed in paired) for key in COMPARED
        }
        cells = {key: Cell.of(row.get(key) for row in own.values()) for key in MEASURED}
        listed.append(Standing(recipe, len(own), name if other else None, cells, differences))
    return sorted(listed, key=lambda s: (math.isnan(s.cells[by].mean), -s.cells[by].mean))


def _difference(pairs: Iterable[tuple[float | None, float | None]]) -> Difference:
    """Of the pairs that have both."""
    less = [mine - theirs for mine, theirs in pairs if mine is not None and theirs is not None]
    return Difference(Cell.of(less), len(less))


HEADINGS = (
    "recipe", "reward", "pass@1", "less baseline's", "pass@8", "less baseline's", "entropy", "of start", "off target",
    "seconds",
)  # fmt: skip
"""Above what `shown` gives."""


def shown(standing: Standing) -> tuple[str, ...]:
    """A standing as the words of a table's row."""
    cells, differences = standing.cells, standing.differences
    return (
        standing.recipe,
        f"{cells['reward']:.3f}",
        f"{cells['pass@1']:.3f}",
        f"{differences['pass@1']:+.3f}",
        f"{cells['pass@8']:.3f}",
        f"{differences['pass@8']:+.3f}",
        f"{cells['entropy']:.3f}",
        f"{replace(cells['entropy_share'], stderr=math.nan):.0%}",
        f"{cells['target_distance']:.3f}",
        f"{replace(cells['seconds'], stderr=math.nan):.0f}",
    )


def marks(ranked: Sequence[Standing], name: str) -> tuple[int, int, float]:
    """How many differences are marked, of how many, and how many would be by chance alone."""
    differences = [s.differences[name] for s in ranked if s.differences[name].pairs > 1]
    return sum(d.marked for d in differences), len(differences), sum(d.chance for d in differences)


def write_records(records: Sequence[Record], path: str | Path) -> None:
    """Write rows to a Parquet file, with the columns of all; what a row lacks is null there, and None when it is read.

    Raises:
        OSError: if the file could not be written.
    """
    columns = dict.fromkeys(name for row in records for name in row)
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in records])
    pq.write_table(table, sink, compression="zstd")
    write_atomically(path, sink.getvalue().to_pybytes())


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """The rows that `write_records` wrote."""
    return pq.read_table(path).to_pylist()
