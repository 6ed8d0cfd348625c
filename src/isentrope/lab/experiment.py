"""An experiment: a recipe, a model, a task and their settings, trained into a run folder and resumed from it."""

import fcntl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from isentrope.lab.checkpoint import checkpoints, load_policy, restore, save_checkpoint
from isentrope.lab.evaluation import Evaluation
from isentrope.lab.hugging_face import HuggingFaceModel
from isentrope.lab.loading import load_model
from isentrope.lab.models import LanguageModel
from isentrope.lab.one_problem import most_varied
from isentrope.lab.tasks import Problem, Task
from isentrope.lab.tasks import task as find_task
from isentrope.lab.tiny import TinyTransformer
from isentrope.lab.trainer import Trainer, TrainerSettings
from isentrope.lab.warm_start import warm_start
from isentrope.policy import Objective, diagnose, recipes
from isentrope.report.store import RunStore

WARM_START_STEPS = 600
"""Supervised steps that teach a tiny policy to be right now and then."""


@dataclass(frozen=True)
class Experiment:
    """What to train, and how; plain values, so that it can be stored and read back.

    Attributes:
        recipe: name of a recipe, with arguments if wanted: ``"grpo"``, ``"clip_cov(fraction=0.02)"``.
        model: ``"tiny"``, ``"smollm2"``, a folder, or a hub id.
        task: name of a task.
        steps: batches of rollouts to train on.
        target_entropy: nats per token for a recipe that holds one; ``"80%"`` is that share of the policy's entropy
            before training.
        warm_start_task: the task that the warm start demonstrates; ``task`` if None.
        warm_start_steps: supervised steps before; by default `WARM_START_STEPS` for a tiny model, none for others.
        start: folder of a policy to start from, already warm; the model and its warm start if None.
        teacher: folder of the frozen policy that a recipe such as `tip` learns from; it is read again on resumption.
        one_problem_of: train on one problem alone: of this many training problems the one whose accuracy varies most over
            ``evaluation_samples`` completions of the policy before training.
        lora_rank: train low-rank adapters of this rank instead of all weights.
        evaluate_every: steps between evaluations, in addition to the first and the last; 0 for these two alone.
        evaluation_problems: held-out problems of an evaluation.
        evaluation_samples: completions for each.
        pass_at: the ``k`` of pass@k.
        checkpoint_every: steps between checkpoints.
        settings: the trainer's.
    """

    recipe: str = "grpo"
    model: str = "tiny"
    task: str = "countdown"
    steps: int = 200
    target_entropy: float | str | None = None
    warm_start_task: str | None = None
    warm_start_steps: int | None = None
    start: str | None = None
    teacher: str | None = None
    one_problem_of: int | None = None
    lora_rank: int | None = None
    evaluate_every: int = 50
    evaluation_problems: int = 128
    evaluation_samples: int = 16
    pass_at: tuple[int, ...] = (1, 8)
    checkpoint_every: int = 20
    settings: TrainerSettings = field(default_factory=TrainerSettings)

    def __post_init__(self):
        for name in ("steps", "evaluation_problems", "evaluation_samples", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.one_problem_of is not None and self.one_problem_of < 1:
            raise ValueError(f"one_problem_of must be at least 1, or None, got {self.one_problem_of}")
        if self.evaluate_every < 0 or (self.warm_start_steps or 0) < 0:
            raise ValueError("evaluate_every and warm_start_steps must not be negative")
        if any(not 1 <= k <= self.evaluation_samples for k in self.pass_at):
            raise ValueError(
                f"pass_at must lie between 1 and evaluation_samples = {self.evaluation_samples}, got {self.pass_at}"
            )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Experiment":
        """The experiment that `to_dict` wrote."""
        return cls(**{**data, "settings": TrainerSettings(**data["settings"]), "pass_at": tuple(data["pass_at"])})

    def config(self, command: str) -> dict[str, Any]:
        """A run's configuration: the experiment itself and, flat, what reports show of it."""
        settings = self.settings
        return {
            "command": command,
            "recipe": self.recipe,
            "model": self.model,
            "task": self.task,
            "steps": self.steps,
            "seed": settings.seed,
            "temperature": settings.temperature,
            "prompts_per_step": settings.prompts_per_step,
            "group_size": settings.group_size,
            "learning_rate": settings.learning_rate,
            "experiment": self.to_dict(),
        }

    def objective(self, entropy: float | None = None) -> Objective:
        """The objective; ``entropy`` is that of the policy before training, for a target given in percent."""
        target = self.target_entropy
        if isinstance(target, str):
            share = _percent(target)
            if entropy is None:
                raise ValueError(f"target_entropy: {target} is relative; the policy's entropy is needed")
            target = share * entropy
        return recipes.named(self.recipe, **({} if target is None else {"target": target}))

    def check(self) -> None:
        """Refuse, before anything that takes long, a recipe that cannot be made or that lacks its teacher.

        Raises:
            ValueError: saying what is wrong.
        """
        learns = "teacher" in self.objective(entropy=1.0).needs
        if learns and self.teacher is None:
            raise ValueError(f"teacher: recipe {self.recipe} needs one; give the folder of a saved policy")
        if not learns and self.teacher is not None:
            raise ValueError(f"teacher: recipe {self.recipe} learns from none; leave it out, or take tip")


def initial_policy(
    experiment: Experiment, on_phase: Callable[[str, int, int], None] = lambda name, done, total: None
) -> LanguageModel:
    """The policy that an experiment starts from: its model, after the supervised warm start if there is one."""
    task = find_task(experiment.warm_start_task or experiment.task)
    on_phase("loading the model", 0, 1)
    source = experiment.start or experiment.model
    model = load_model(source, seed=experiment.settings.seed, lora_rank=experiment.lora_rank)
    on_phase("loading the model", 1, 1)
    steps = 0 if experiment.start else experiment.warm_start_steps
    if steps is None:
        steps = WARM_START_STEPS if experiment.model == "tiny" else 0
    if steps:
        # A pretrained model needs to be shown the form of an answer, gently; a tiny one everything.
        pace = {} if isinstance(model, TinyTransformer) else {"batch_size": 8, "learning_rate": 3e-5}
        warm_start(
            model,
            task,
            steps=steps,
            seed=experiment.settings.seed,
            **pace,
            progress=lambda done, total, loss: on_phase("supervised warm start", done, total),
        )
    return model


def run(
    experiment: Experiment,
    store: RunStore,
    *,
    model: LanguageModel | None = None,
    on_phase: Callable[[str, int, int], None] = lambda name, done, total: None,
    on_step: Callable[[dict[str, float]], None] = lambda row: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train an experiment into a run folder, from its newest checkpoint if it has one.

    Args:
        experiment: what to train.
        store: the run's folder, new or interrupted.
        model: the policy to start from, which is trained in place; `initial_policy` of the experiment if None.
        on_phase: called with a phase's name, what is done and the total, before training and during evaluations.
        on_step: called with each row of metrics.
        should_stop: asked after each step; if true, the run is stored and left, to be resumed.

    Returns:
        Whether the run is complete.

    Raises:
        ValueError: if another process trains this run.
    """
    with _alone_in(store.path):
        return _run(experiment, store, model, on_phase, on_step, should_stop)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep a second process from training the same run; the lock ends with the process, however that ends."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder} is being trained by another process; wait for it, or end it") from None
        yield


def _run(
    experiment: Experiment,
    store: RunStore,
    model: LanguageModel | None,
    on_phase: Callable[[str, int, int], None],
    on_step: Callable[[dict[str, float]], None],
    should_stop: Callable[[], bool],
) -> bool:
    folder = store.path / "checkpoints"
    found = checkpoints(folder)
    if found:
        trainer, problems = _resumed(experiment, store, found[-1])
    else:
        experiment.check()
        store.truncate(-1)
        trainer, problems = _started(
            experiment, store, model or initial_policy(experiment, on_phase), on_phase, on_step
        )
    flushed = time.monotonic()
    while trainer.step_count < experiment.steps:
        try:
            row: dict[str, float] = {"step": trainer.step_count + 1, **trainer.step()}
        except FloatingPointError:
            # What led to the divergence is what one wants to look at.
            store.flush()
            raise
        step, last = trainer.step_count, trainer.step_count == experiment.steps
        if last or (experiment.evaluate_every and step % experiment.evaluate_every == 0):
            on_phase("evaluation", 0, 1)
            row |= _evaluation_row(trainer.evaluate(problems, experiment.evaluation_samples, experiment.pass_at))
            on_phase("evaluation", 1, 1)
            store.add_samples(_samples(trainer))
        elif step == 1:
            store.add_samples(_samples(trainer))
        store.append(row)
        on_step(row)
        stopping = not last and should_stop()
        if last or stopping or step % experiment.checkpoint_every == 0:
            # Metrics first: a resumed run drops the rows that come after its checkpoint.
            store.flush()
            save_checkpoint(folder, trainer)
        elif time.monotonic() - flushed > 5:
            store.flush()
            flushed = time.monotonic()
        if stopping:
            break
    finished = trainer.step_count >= experiment.steps
    store.write_json("diagnosis", diagnose(store.metrics()).to_dict())
    store.write_json("summary", {**_summary(store.metrics(), experiment.pass_at), "finished": finished})
    return finished


def _started(experiment, store, model, on_phase, on_step) -> tuple[Trainer, list]:
    settings, task = experiment.settings, find_task(experiment.task)
    problems = task.problems("test", experiment.evaluation_problems, 0)
    teacher = None if experiment.teacher is None else load_model(experiment.teacher)
    scout = Trainer(model, task, recipes.grpo(), settings)
    on_phase("evaluation", 0, 1)
    evaluation = scout.evaluate(problems, experiment.evaluation_samples, experiment.pass_at)
    on_phase("evaluation", 1, 1)
    chosen = None
    if experiment.one_problem_of is not None:
        on_phase("choice of the problem", 0, 1)
        candidates = _candidates(experiment, task)
        chosen = most_varied(scout.evaluate(candidates, experiment.evaluation_samples, (1,)).rewards)
        on_phase("choice of the problem", 1, 1)
    objective = experiment.objective(evaluation.entropy)
    reference = None
    if "reference" in objective.needs:
        model.save(store.path / "reference")
        reference = load_policy(store.path, type(model), "reference")
    trainer = Trainer(model, task, objective, settings, reference, teacher, _trained_on(experiment, task, chosen))
    row = {"step": 0, **_evaluation_row(evaluation)}
    store.append(row)
    store.write_json(
        "config",
        {
            **store.config,
            "objective": repr(objective),
            "papers": list(objective.papers),
            "kind": type(model).__name__,
            "entropy_before": evaluation.entropy,
            "target_entropy": objective.target(trainer.state),
            "trained_problem": chosen,
        },
    )
    store.flush()
    save_checkpoint(store.path / "checkpoints", trainer)
    on_step(row)
    return trainer, problems


def _resumed(experiment, store, checkpoint: Path) -> tuple[Trainer, list]:
    task = find_task(experiment.task)
    kind = _kind(store.config["kind"])
    objective = experiment.objective(store.config["entropy_before"])
    reference = load_policy(store.path, kind, "reference") if "reference" in objective.needs else None
    problems = _trained_on(experiment, task, store.config.get("trained_problem"))
    teacher = None if experiment.teacher is None else load_model(experiment.teacher)
    model = load_policy(checkpoint, kind)
    trainer = Trainer(model, task, objective, experiment.settings, reference, teacher, problems)
    restore(checkpoint, trainer)
    store.truncate(trainer.step_count)
    return trainer, task.problems("test", experiment.evaluation_problems, 0)


def _candidates(experiment: Experiment, task: Task) -> list[Problem]:
    assert experiment.one_problem_of is not None
    return task.problems("train", experiment.one_problem_of, experiment.settings.seed)


def _trained_on(experiment: Experiment, task: Task, chosen: int | None) -> list[Problem] | None:
    return None if chosen is None else [_candidates(experiment, task)[chosen]]


def _kind(name: str) -> type[LanguageModel]:
    for kind in (TinyTransformer, HuggingFaceModel):
        if kind.__name__ == name:
            return kind
    raise ValueError(f"config.json: unknown kind of model {name!r}")


def _percent(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = 0.0
    if not text.endswith("%") or not value > 0:
        raise ValueError(f"target_entropy: must be nats such as 0.5, or a share such as '80%', got {text!r}")
    return value


def _evaluation_row(evaluation: Evaluation) -> dict[str, float]:
    row = {f"pass@{k}": value for k, value in evaluation.pass_at_k.items()}
    row |= {f"pass@{k}_stderr": value for k, value in evaluation.pass_at_k_standard_error.items()}
    return row | {
        "evaluation_entropy": evaluation.entropy,
        "evaluation_reward": evaluation.reward,
        "distinct_correct": evaluation.distinct_correct,
    }


def _samples(trainer: Trainer, groups: int = 2, each: int = 2) -> list[dict[str, Any]]:
    """A few completions of the last rollouts with the entropy of each token."""
    rollouts, rewards = trainer.last_rollouts, trainer.last_rewards
    assert rollouts is not None
    assert rewards is not None
    size = trainer.settings.group_size
    rows = [group * size + i for group in range(groups) for i in range(each) if group * size + i < len(rollouts)]
    tokenizer, samples = trainer.model.tokenizer, []
    for row in rows:
        written = rollouts.written[row]
        ids = rollouts.completion_ids[row][written].tolist()
        entropies = rollouts.entropy[row][written].tolist()
        prompt = rollouts.token_ids[row, : rollouts.prompt_length]
        shown = prompt[rollouts.attention_mask[row, : rollouts.prompt_length]].tolist()
        samples.append(
            {
                "step": trainer.step_count,
                "prompt": tokenizer.decode(shown),
                "completion": rollouts.completions[row],
                "tokens": tokenizer.tokens(ids),
                # What a tool wrote has no entropy.
                "entropies": [
                    entropy if own else None
                    for entropy, own in zip(entropies, rollouts.mask[row][written].tolist(), strict=True)
                ],
                "reward": float(rewards[row]),
            }
        )
    return samples


def _summary(metrics: Mapping[str, np.ndarray], pass_at: tuple[int, ...]) -> dict[str, float]:
    """The numbers by which runs are compared."""
    trained = metrics["step"] > 0
    entropy = metrics.get("entropy", np.full(len(trained), np.nan))[trained]
    later = entropy[len(entropy) // 2 :]
    summary: dict[str, float] = {"steps": int(trained.sum())}
    if len(entropy):
        width = max(1, len(entropy) // 20)
        summary |= {
            "entropy_start": float(entropy[:width].mean()),
            "entropy_end": float(entropy[-width:].mean()),
            "entropy_second_half": float(later.mean()),
            "reward_end": float(metrics["reward"][trained][-width:].mean()),
            "tokens_per_second": float(np.median(metrics["tokens_per_second"][trained])),
            "seconds": float(metrics["seconds"][trained].sum()),
            "memory_mb": float(metrics["memory_mb"][trained].max()),
        }
        if "target_entropy" in metrics:
            target = metrics["target_entropy"][trained]
            summary |= {
                "target_entropy": float(target[-1]),
                "target_distance": float(np.abs(later - target[len(target) // 2 :]).mean()),
            }
    for name in [f"pass@{k}{suffix}" for k in pass_at for suffix in ("", "_stderr")]:
        values = metrics[name][np.isfinite(metrics[name])] if name in metrics else []
        if len(values):
            summary |= {name: float(values[-1]), f"{name}_start": float(values[0])}
    return summary
