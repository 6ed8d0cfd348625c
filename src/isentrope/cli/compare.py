"""The command `compare`: several recipes on one footing."""

import json as json_format
import signal
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from isentrope.cli.train import base_experiment
from isentrope.lab.comparison import compare as compare_runs
from isentrope.lab.comparison import table, with_seeds
from isentrope.policy import recipes as known_recipes
from isentrope.report import write_report


def compare(
    *recipes: str,
    seeds: int = 3,
    model: str = "tiny",
    task: str | None = None,
    steps: int | None = None,
    target_entropy: str = "80%",
    learning_rate: float | None = None,
    seed: int = 0,
    jobs: int | None = None,
    output: Path | None = None,
    json: bool = False,
) -> None:
    """Train several recipes from the same start with the same budget, over several seeds, and show one table.

    Numbers are means over seeds with standard errors; entropies are nats per token, the distance to the target is the
    mean absolute one over the second half of training. Each run is a run folder like any other, and a report with all
    curves lies beside them. An interrupted comparison goes on if it is called again with the same `--output`.

    Examples:

    ```
    isentrope compare grpo clip_cov entropic --seeds 3
    isentrope compare grpo "entropy_bonus(coefficient=0.02)" entropy_target --target-entropy 0.4
    isentrope compare grpo dapo gspo --steps 200 --jobs 2 --output runs/baselines
    ```

    Parameters
    ----------
    recipes
        Names of recipes, with arguments in parentheses if wanted.
    seeds
        Runs of each recipe.
    model
        As for `isentrope train`.
    task
        As for `isentrope train`.
    steps
        Batches of rollouts in each run.
    target_entropy
        For the recipes that hold one: nats per token, or a share of the entropy before training.
    learning_rate
        AdamW's.
    seed
        The first seed.
    jobs
        Processes at a time; by default one a core.
    output
        Folder of the runs; by default a new one under `runs`.
    json
        Print the table as JSON.
    """
    if not recipes:
        raise ValueError(f"compare: name the recipes to compare, from {', '.join(known_recipes.names())}")
    if seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {seeds}")
    experiments = []
    for recipe in recipes:
        experiment = base_experiment(
            model=model, task=task, steps=steps, learning_rate=learning_rate, seed=seed, recipe=recipe,
            target_entropy=target_entropy if known_recipes.takes(recipe, "target") else None,
        )  # fmt: skip
        experiment.objective(entropy=1.0)
        experiments.extend(with_seeds(experiment, seeds))
    folder = output or Path("runs") / f"compare-{datetime.now():%Y%m%d-%H%M%S}"
    errors = Console(stderr=True, quiet=json)
    status = Text("preparing")
    with Live(status, console=errors, refresh_per_second=2):

        def show(done: int, total: int, running: list[str]) -> None:
            status.plain = f"{done} of {total} runs done" + "".join(f"\n  {line}" for line in running)

        def stop(number, frame):
            raise KeyboardInterrupt

        signal.signal(signal.SIGTERM, stop)
        try:
            runs = compare_runs(experiments, folder, jobs=jobs, on_change=show)
        except KeyboardInterrupt:
            errors.print(f"Stopped; go on with the same command and --output {folder}", style="yellow")
            raise
    rows = table(runs)
    if json:
        print(
            json_format.dumps(
                [
                    {"recipe": row.recipe, "runs": row.runs}
                    | {name: cell.mean for name, cell in row.cells.items()}
                    | {f"{name}_stderr": cell.stderr for name, cell in row.cells.items()}
                    for row in rows
                ]
            ).replace("NaN", "null")
        )
        return
    shown = Table(box=box.SIMPLE_HEAD, title=f"{seeds} seeds, means ± standard errors", padding=(0, 1))
    shown.add_column("recipe", overflow="fold")
    for heading in ("reward", "pass@1", "pass@8", "entropy", "off target", "tokens/s"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        cells = row.cells
        shown.add_row(
            row.recipe,
            *(f"{cells[name]:.2f}" for name in ("reward_end", "pass@1", "pass@8")),
            f"{cells['entropy_start'].mean:.2f}→{cells['entropy_end'].mean:.2f}",
            f"{cells['target_distance']:.3f}",
            f"{cells['tokens_per_second'].mean:,.0f}",
        )
    console = Console()
    console.print(shown)
    if find_spec("plotly"):
        console.print(f"Report: {write_report(runs, folder / 'report.html')}", soft_wrap=True)
