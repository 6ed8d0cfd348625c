"""The command `compare`: several recipes on one footing."""

import json as json_format
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import replace
from datetime import datetime
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from isentrope.cli.train import base_experiment
from isentrope.lab.comparison import Progress, lacks_teacher, table, with_seeds
from isentrope.lab.comparison import compare as compare_runs
from isentrope.lab.experiment import Experiment
from isentrope.lab.jobs import LocalProcesses
from isentrope.lab.laboratory_settings import BUDGET, Setting, all_recipes
from isentrope.lab.ranking import COMPARED, HEADINGS, Standing, marks, record, shown, standings, write_records
from isentrope.policy import recipes as known_recipes
from isentrope.report import RunStore, write_report


def compare(
    *recipes: str,
    every: Annotated[bool, Parameter("--all", negative=())] = False,
    seeds: int = 3,
    model: str = "tiny",
    task: str | None = None,
    steps: int | None = None,
    target_entropy: str = "80%",
    windows: int | None = None,
    learning_rate: float | None = None,
    warm_start: int | None = None,
    evaluation_problems: int | None = None,
    seed: int = 0,
    jobs: int | None = None,
    threads: int = 1,
    ray: Annotated[bool | str, Parameter(negative=(), metavar="[ADDRESS]", show_default=False)] = False,
    output: Path | None = None,
    json: bool = False,
) -> None:
    """Train several recipes from the same start with the same budget, over several seeds, and show one table.

    Numbers are means over seeds with standard errors; entropies are nats per token, the distance to the target is the
    mean absolute one over the second half of training. Each run is a run folder like any other, and a report with all
    curves lies beside them. An interrupted comparison goes on if it is called again with the same `--output`. A run whose
    process is killed goes on from its last checkpoint, up to three times.

    With `--all` every recipe is trained, at settings under which it acts in a small laboratory (`isentrope recipes` shows
    the published ones), and a few combinations. The table is then sorted by pass@8, each recipe stands beside the plain one
    that it changes, seed by seed, and one row a run, with its entropy step by step, is left in `comparison.parquet`.

    Examples:

    ```
    isentrope compare grpo clip_cov entropic --seeds 3
    isentrope compare grpo "entropy_bonus(coefficient=0.02)" entropy_target --target-entropy 0.4
    isentrope compare grpo dapo gspo --steps 200 --jobs 2 --output runs/baselines
    isentrope compare dapo "dapo + qae + entropic" --task addition
    isentrope compare grpo clip_cov entropic --seeds 10 --ray auto
    isentrope compare --all --jobs 2 --output runs/all
    ```

    Parameters
    ----------
    recipes
        Names of recipes, with arguments in parentheses if wanted; several joined by `+` are combined.
    every
        All recipes, and those named besides.
    seeds
        Runs of each recipe.
    model
        As for `isentrope train`.
    task
        As for `isentrope train`; of all recipes the calculator, on which every one of them acts.
    steps
        Batches of rollouts in each run.
    target_entropy
        For the recipes that hold one: nats per token, or a share of the entropy before training.
    windows
        Optimiser steps that each batch is split into.
    learning_rate
        AdamW's.
    warm_start
        As for `isentrope train`.
    evaluation_problems
        As for `isentrope train`.
    seed
        The first seed.
    jobs
        Runs at a time; by default as many as the cores bear, or as Ray finds room for.
    threads
        CPU threads of each run.
    ray
        Train the runs on Ray: on a cluster of this machine alone (`--ray`), on the one that this machine belongs to
        (`--ray auto`), or at an address (`--ray HOST:PORT`, `--ray ray://HOST:PORT`).
    output
        Folder of the runs; by default a new one under `runs`.
    json
        Print the table as JSON.
    """
    chosen, left_out = all_recipes() if every else ([], [])
    asked_for = [*chosen, *(Setting(recipe, "") for recipe in recipes)]
    if not asked_for:
        raise ValueError(
            f"compare: name the recipes to compare, or give --all; there are {', '.join(known_recipes.names())}"
        )
    if seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {seeds}")
    address = None if ray is False else _address(ray)
    asked = {
        "task": task, "steps": steps, "windows": windows, "learning_rate": learning_rate, "evaluation_problems": evaluation_problems,
        "warm_start": warm_start,
    }  # fmt: skip
    settings = (BUDGET if every else {}) | {name: value for name, value in asked.items() if value is not None}
    experiments = []
    for one in asked_for:
        experiment = base_experiment(
            model=model, seed=seed, recipe=one.text,
            target_entropy=target_entropy if known_recipes.takes(one.text, "target") else None, **settings,
        )  # fmt: skip
        if every:
            # In all the forms that prompt augmentation asks in, the plain one among them; every recipe starts alike.
            asked_in_forms = f"templated:{experiment.task.removeprefix('templated:')}"
            experiment = replace(experiment, warm_start_task=asked_in_forms)
        experiment = replace(experiment, **one.experiment)
        experiment.objective(entropy=1.0)
        if one in chosen and lacks_teacher(experiment):
            chosen.remove(one)
            left_out.append(
                f"{one.text} is left out: its teacher is a longer warm start of the tiny policy, which has none here"
            )
            continue
        experiments.extend(with_seeds(experiment, seeds))
    folder = output or Path("runs") / f"compare-{datetime.now():%Y%m%d-%H%M%S}"
    view, failure = _LiveView(experiments, quiet=json, growing=not every), None
    for sentence in left_out:
        view.say(sentence)
    # What Ray says must not run into the table.
    with redirect_stdout(sys.stderr), _launcher(address, threads) as launcher, _stopping(view.say), view:
        try:
            runs = compare_runs(
                experiments, folder, jobs=jobs, launcher=launcher, on_change=view.change, on_retry=view.say
            )
        except RuntimeError as error:
            # The other runs have come to an end, and are worth a table.
            runs, failure = view.progress.finished, error
        except KeyboardInterrupt:
            view.say(f"Stopped; go on with the same command and --output {folder}")
            raise
    if every and runs:
        _conclude_all(runs, chosen, folder, json)
    elif json:
        print(_as_json(runs))
    elif runs:
        console = Console()
        console.print(_table(experiments, runs))
        if find_spec("plotly"):
            console.print(f"Report: {write_report(runs, folder / 'report.html')}", soft_wrap=True)
    if failure:
        raise failure


def _conclude_all(runs: Sequence[RunStore], chosen: Sequence[Setting], folder: Path, json: bool) -> None:
    """Write the rows of a comparison of all recipes, and show what they say."""
    records = [record(run) for run in runs]
    path = folder / "comparison.parquet"
    write_records(records, path)
    ranked = standings(records)
    if json:
        print(json_format.dumps([_standing_as_dict(standing) for standing in ranked]).replace("NaN", "null"))
        return
    console = Console()
    if not console.is_terminal:
        # A file is as wide as its lines.
        console.width = 200
    console.print(_ranking(ranked))
    for name in COMPARED:
        marked, of, chance = marks(ranked, name)
        console.print(
            f"{name}: {marked} of {of} differences from the baseline lie beyond two standard errors (*); "
            f"with nothing but chance about {chance:.0f} would.",
            highlight=False,
        )
    console.print(_settings(chosen))
    console.print(f"Every run: {path}. For all curves: isentrope report {folder}", soft_wrap=True, highlight=False)


def _address(ray: bool | str) -> str:
    """Where Ray is, from what stands after ``--ray``."""
    if ray is True:
        return "local"
    if ray not in ("local", "auto") and ":" not in str(ray):
        raise ValueError(
            f"--ray takes nothing, local, auto, HOST:PORT or ray://HOST:PORT, got {ray!r}; recipes come before it"
        )
    return str(ray)


def _launcher(address: str | None, threads: int):
    if address is None:
        return nullcontext(LocalProcesses(threads))
    from isentrope.integrations.ray import ray_cluster

    return ray_cluster(address, threads=threads)


@contextmanager
def _stopping(say: Callable[[str], None]) -> Iterator[None]:
    """Ends the comparison in good order at Ctrl-C or a termination, and says so; a second one ends it at once."""

    def stop(number, frame):
        say("Stopping when each run has stored its step (Ctrl-C again: at once) ...")
        raise KeyboardInterrupt

    # A terminal that is lost (SIGHUP) must not leave runs at work that nobody follows.
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    earlier = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


class _LiveView:
    """What a comparison shows while it goes on: the table so far and what is at work, or else a line for each run.

    A table that would not fit a screen is not ``growing``: then too each run leaves a line, above what is at work.
    """

    def __init__(self, experiments: Sequence[Experiment], quiet: bool, growing: bool = True):
        self.progress = Progress(len(experiments))
        self._growing = growing
        self._first: tuple[float, int] | None = None
        self._experiments = experiments
        self._console = Console(stderr=True, quiet=quiet, soft_wrap=True, highlight=False)
        self._live: Live | None = None
        self._table: Table | None = None

    def __enter__(self) -> "_LiveView":
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(self, *error) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(line, style="yellow", markup=False)

    def change(self, progress: Progress) -> None:
        """Show how far the comparison is."""
        new = progress.finished[len(self.progress.finished) :]
        self.progress = progress
        if self._live is None or not self._growing:
            for run in new:
                self._console.print(_line(run), markup=False)
        if self._live is None:
            return
        if self._growing and (new or self._table is None):
            self._table = _table(self._experiments, progress.finished)
        failed = f", {progress.failed} failed" if progress.failed else ""
        waiting = f", {progress.waiting} waiting" if progress.waiting else ""
        at_work = "".join(f"\n  {line}" for line in progress.running)
        status = f"{len(progress.finished)} of {progress.total} runs done{failed}{waiting}{self._left()}{at_work}"
        self._live.update(Group(self._table, Text(status)) if self._table else Text(status))

    def _left(self) -> str:
        """How long it will go on, from the pace since it began; nothing before that is known."""
        done = len(self.progress.finished) + self.progress.failed
        if self._first is None and self.progress.running:
            self._first = (time.monotonic(), done)
        if self._first is None or done == self._first[1]:
            return ""
        pace = (time.monotonic() - self._first[0]) / (done - self._first[1])
        return f", about {ceil((self.progress.total - done) * pace / 60)} min left"


def _line(run: RunStore) -> str:
    summary = run.summary
    return (
        f"{run.config['name']} done: reward {summary['reward_end']:.2f}, "
        f"entropy {summary['entropy_start']:.2f}→{summary['entropy_end']:.2f}"
    )


def _table(experiments: Sequence[Experiment], runs: Sequence[RunStore]) -> Table:
    shown = Table(
        box=box.SIMPLE_HEAD, title="means ± standard errors", title_justify="left", padding=(0, 1, 0, 0), pad_edge=False
    )
    shown.add_column("recipe", overflow="fold")
    for heading in ("runs", "reward", "pass@1", "pass@8", "entropy", "off target", "tokens/s"):
        shown.add_column(heading, justify="right", no_wrap=True)
    rows = {row.recipe: row for row in table(runs)}
    for recipe, total in Counter(experiment.recipe for experiment in experiments).items():
        if recipe not in rows:
            shown.add_row(recipe, f"0/{total}", *["–"] * 6)
            continue
        cells = rows[recipe].cells
        shown.add_row(
            recipe,
            f"{rows[recipe].runs}/{total}",
            *(f"{cells[name]:.2f}" for name in ("reward_end", "pass@1", "pass@8")),
            f"{cells['entropy_start'].mean:.2f}→{cells['entropy_end'].mean:.2f}",
            f"{cells['target_distance']:.3f}",
            f"{cells['tokens_per_second'].mean:,.0f}",
        )
    return shown


def _ranking(ranked: Sequence[Standing]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, title="means ± standard errors, by pass@8", title_justify="left", padding=(0, 1, 0, 0),
        pad_edge=False,
    )  # fmt: skip
    for index, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if index else "left", overflow="fold")
    for standing in ranked:
        table.add_row(*shown(standing))
    return table


def _settings(chosen: Sequence[Setting]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, title="not as published", title_justify="left", padding=(0, 2, 0, 0), pad_edge=False
    )
    table.add_column("recipe")
    table.add_column("why")
    for setting in chosen:
        if setting.reason:
            table.add_row(setting.text, setting.reason)
    return table


def _standing_as_dict(standing: Standing) -> dict[str, Any]:
    described: dict[str, Any] = {
        "recipe": standing.recipe, "runs": standing.runs, "baseline": standing.baseline,
    }  # fmt: skip
    for name, cell in standing.cells.items():
        described |= {name: cell.mean, f"{name}_stderr": cell.stderr}
    for name, difference in standing.differences.items():
        described |= {
            f"{name}_difference": difference.cell.mean,
            f"{name}_difference_stderr": difference.cell.stderr,
            f"{name}_marked": difference.marked,
        }
    return described


def _as_json(runs: Sequence[RunStore]) -> str:
    return json_format.dumps(
        [
            {"recipe": row.recipe, "runs": row.runs}
            | {name: cell.mean for name, cell in row.cells.items()}
            | {f"{name}_stderr": cell.stderr for name, cell in row.cells.items()}
            for row in table(runs)
        ]
    ).replace("NaN", "null")
