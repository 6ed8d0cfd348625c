"""Several recipes on one footing: the same policy, problems and budget for each, over several seeds.

Each run is an ordinary training run in its own process and its own folder, so a comparison that was interrupted goes on
where it was, and `isentrope report` reads its runs like any others. Where the processes are is up to the `Launcher`.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from isentrope.lab.experiment import WARM_START_STEPS, Experiment, initial_policy
from isentrope.lab.jobs import Job, Launcher, LocalProcesses, WorkerLost, stop_all
from isentrope.lab.ranking import Cell
from isentrope.report.store import RunStore, list_runs

COLUMNS = (
    "reward_end",
    "pass@1",
    "pass@8",
    "entropy_start",
    "entropy_end",
    "target_distance",
    "tokens_per_second",
)
"""What a comparison's table shows, from each run's summary."""

TEACHER_WARM_STARTS = 2
"""How many warm starts long the training of the teacher is that a recipe learns from, if none is given."""

_MADE = frozenset({"start", "teacher"})
"""Fields of an experiment that a comparison fills in itself."""

RETRIES = 3
"""How often a run whose process was killed is taken up again."""


@dataclass(frozen=True)
class Progress:
    """How far a comparison is.

    Attributes:
        total: its runs.
        finished: those that are complete, in the order in which they came to be.
        failed: how many failed.
        running: what is at work now, in words.
    """

    total: int
    finished: tuple[RunStore, ...] = ()
    failed: int = 0
    running: tuple[str, ...] = ()

    @property
    def waiting(self) -> int:
        """How many have yet to begin."""
        return self.total - len(self.finished) - self.failed - len(self.running)


@dataclass(frozen=True)
class Row:
    """One recipe of a comparison."""

    recipe: str
    runs: int
    cells: dict[str, Cell]


def run_name(experiment: Experiment) -> str:
    """The folder name part of a run: recipe and seed, in characters that file systems take.

    Examples:
        >>> run_name(Experiment(recipe="clip_cov(fraction=0.02)"))
        'clip_cov-fraction=0.02-s0'
    """
    plain = experiment.recipe.replace("(", "-").replace(")", "").replace(", ", "-").replace(" ", "")
    safe = "".join(c if c.isalnum() or c in "._+=-" else "-" for c in plain)
    return f"{safe}-s{experiment.settings.seed}"


def found(folder: Path, experiment: Experiment) -> RunStore | None:
    """The run of this experiment in a folder, if there is one.

    Raises:
        ValueError: if there is a run of that name with other settings.
    """
    asked = json.loads(json.dumps(experiment.to_dict()))
    for path in reversed(list_runs(folder)):
        if not path.name.partition("-")[2].partition("-")[2].startswith(run_name(experiment)):
            continue
        store = RunStore.open(path)
        if store.config.get("name") != run_name(experiment):
            continue
        stored = store.config.get("experiment", {})
        other = sorted(key for key in asked if key not in _MADE and asked[key] != stored.get(key))
        if other:
            raise ValueError(
                f"{path} is a run of that name with another {', '.join(other)}; choose another folder, or delete it"
            )
        return store
    return None


def compare(
    experiments: Sequence[Experiment],
    folder: Path,
    *,
    jobs: int | None = None,
    launcher: Launcher | None = None,
    on_change: Callable[[Progress], None] = lambda progress: None,
    on_retry: Callable[[str], None] = lambda line: None,
) -> list[RunStore]:
    """Train every experiment that is not finished yet, ``jobs`` at a time, and return all runs.

    Experiments of one model, task and seed start from one and the same warm-started policy, which is made once; a recipe
    that learns from a teacher is given the policy after `TEACHER_WARM_STARTS` times as long a warm start. A run
    whose process was killed goes on from its last checkpoint, up to `RETRIES` times; one whose training failed does not.

    Args:
        experiments: what to train; the same recipe with several seeds gives error bars.
        folder: where the runs are.
        jobs: runs at a time; as many as the launcher has slots for if None.
        launcher: what trains a run; `LocalProcesses` of one thread if None.
        on_change: told how far the comparison is, a few times a second.
        on_retry: told in one line of each run that is taken up again.

    Raises:
        ValueError: if an experiment is named twice, ``jobs`` is less than 1, the folder has a run of that name with
            other settings, or an experiment lacks a teacher that cannot be made (`lacks_teacher`); no run begins then.
        RuntimeError: if a run failed, with the last line that it printed; the others are finished first.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    twice = [name for name, count in Counter(map(run_name, experiments)).items() if count > 1]
    if twice:
        raise ValueError(f"compare: {', '.join(twice)} asked for more than once")
    launcher = launcher or LocalProcesses()
    jobs = jobs or launcher.slots or len(experiments)
    folder.mkdir(parents=True, exist_ok=True)
    for experiment in experiments:
        found(folder, experiment)
    started = []
    for experiment in experiments:
        on_change(Progress(len(experiments), running=(f"a policy to start from, seed {experiment.settings.seed}",)))
        started.append(_with_start(experiment, folder))
    for experiment in started:
        experiment.check()
    finished = [run for e in started if (run := found(folder, e)) and run.summary.get("finished")]
    done = {run.config["name"] for run in finished}
    waiting = [e for e in started if run_name(e) not in done]
    failures, retries = [], Counter()
    running: dict[str, tuple[Experiment, Job]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                experiment = waiting.pop(0)
                running[run_name(experiment)] = (experiment, launcher(_run(experiment, folder)))
            for name, (experiment, job) in list(running.items()):
                try:
                    if not job.finished():
                        continue
                    finished.append(_run(experiment, folder))
                except WorkerLost as lost:
                    if retries[name] == RETRIES:
                        failures.append(f"{name}: {lost}, for the {RETRIES + 1}th time")
                    else:
                        retries[name] += 1
                        waiting.insert(0, experiment)
                        on_retry(f"{name}: {lost}; it goes on from its last checkpoint ({retries[name]} of {RETRIES})")
                except RuntimeError as error:
                    failures.append(f"{name}: {error}")
                del running[name]
            on_change(Progress(len(started), tuple(finished), len(failures), _described(running)))
            if waiting or running:
                time.sleep(0.5)
    finally:
        # An interrupted comparison leaves runs that can be resumed, not processes that go on.
        stop_all([job for _, job in running.values()])
    if failures:
        raise RuntimeError(f"{len(failures)} of {len(started)} runs failed: {'; '.join(failures)}")
    return [run for e in started if (run := found(folder, e))]


def table(runs: Sequence[RunStore]) -> list[Row]:
    """One row a recipe: means over seeds with standard errors, in the order in which recipes first appear."""
    by_recipe: dict[str, list[RunStore]] = {}
    for run in runs:
        by_recipe.setdefault(run.config["recipe"], []).append(run)
    return [
        Row(recipe, len(group), {name: Cell.of(run.summary.get(name) for run in group) for name in COLUMNS})
        for recipe, group in by_recipe.items()
    ]


def with_seeds(experiment: Experiment, seeds: int) -> Iterator[Experiment]:
    """The experiment with ``seeds`` seeds, from its own upwards."""
    for seed in range(experiment.settings.seed, experiment.settings.seed + seeds):
        yield replace(experiment, settings=replace(experiment.settings, seed=seed))


def lacks_teacher(experiment: Experiment) -> bool:
    """Whether its recipe learns from a teacher that is not given and cannot be made, for want of a warm start.

    Examples:
        >>> [lacks_teacher(Experiment("tip", warm_start_steps=steps)) for steps in (None, 400, 0)]
        [False, False, True]
        >>> lacks_teacher(Experiment("tip", model="smollm2")), lacks_teacher(Experiment("grpo", model="smollm2"))
        (True, False)
    """
    return _learns(experiment) and experiment.teacher is None and not _warms_up(experiment)


def _warms_up(experiment: Experiment) -> bool:
    """Whether a comparison makes the policies that an experiment starts from and learns from."""
    return experiment.model == "tiny" and experiment.warm_start_steps != 0


def _learns(experiment: Experiment) -> bool:
    return "teacher" in experiment.objective(entropy=1.0).needs


def _with_start(experiment: Experiment, folder: Path) -> Experiment:
    """The experiment from a stored warm-started policy, where a warm start is due, and with a teacher if it needs one."""
    if not _warms_up(experiment):
        return experiment
    steps = WARM_START_STEPS if experiment.warm_start_steps is None else experiment.warm_start_steps
    if experiment.start is None:
        experiment = replace(experiment, start=_warm(experiment, steps, experiment.settings.seed, folder))
    if experiment.teacher is None and _learns(experiment):
        # One for all seeds, because it takes so long.
        experiment = replace(experiment, teacher=_warm(experiment, TEACHER_WARM_STARTS * steps, 0, folder))
    return experiment


def _warm(experiment: Experiment, steps: int, seed: int, folder: Path) -> str:
    """The folder of the policy after so many supervised steps, made if there is none."""
    task = experiment.warm_start_task or experiment.task
    path = folder / "start" / f"{task}-{steps}-s{seed}".replace(":", "-")
    if not path.is_dir():
        # Under another name until it is whole, so that an interrupted warm start is made again.
        partial = path.with_name(f".{path.name}.partial")
        settings = replace(experiment.settings, seed=seed)
        initial_policy(replace(experiment, start=None, warm_start_steps=steps, settings=settings)).save(partial)
        partial.rename(path)
    return str(path)


def _run(experiment: Experiment, folder: Path) -> RunStore:
    """The run of an experiment, made if there is none."""
    return found(folder, experiment) or RunStore.create(
        folder, run_name(experiment), experiment.config("isentrope compare")
    )


def _described(running: Mapping[str, tuple[Experiment, Job]]) -> tuple[str, ...]:
    steps = {name: job.step for name, (_, job) in running.items()}
    return tuple(f"{name} {step}/{running[name][0].steps}" for name, step in steps.items() if step is not None)
