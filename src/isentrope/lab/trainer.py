"""The laboratory's trainer: one policy, one task, one objective, one step at a time.

A step is: sample a group of responses for each prompt; reward them; `Objective.prepare` on the whole batch;
`Objective.control`; then, for each optimiser step on these rollouts, the loss of the window in micro-batches, clip the
gradient, step. Where the plan has a replay, stored responses are then imitated, and good ones stored. Nothing here knows of
any recipe.

All randomness is derived from the seed and the number of the step, so a checkpoint holds no generator states and a
resumed run repeats the unbroken one number for number.
"""

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from isentrope.lab.collection import collect
from isentrope.lab.distillation import beside_teacher, check_vocabulary
from isentrope.lab.evaluation import Evaluation, evaluate
from isentrope.lab.models import LanguageModel
from isentrope.lab.probe import EntropyProbe
from isentrope.lab.replay import ReplayBuffer
from isentrope.lab.rollouts import Rollouts, hidden_states, score
from isentrope.lab.tasks import Problem, Task
from isentrope.policy import Objective, RolloutPlan, State, Tally, TokenBatch
from isentrope.policy.advantages import group_moments
from isentrope.policy.aggregation import row_means
from isentrope.policy.dynamics import entropy_drivers
from isentrope.policy.objective import STATISTICS
from isentrope.policy.replay import Replay, self_imitation


@dataclass(frozen=True)
class TrainerSettings:
    """How a policy is trained, whatever the objective.

    Attributes:
        prompts_per_step: problems in a batch of rollouts.
        group_size: responses to each.
        temperature: of sampling and scoring alike; a rollout part may change it.
        learning_rate: AdamW's.
        maximum_gradient_norm: gradients are scaled down to this norm.
        micro_batch_size: responses in a forward pass; all at once if None. Changes memory, not results.
        windows: optimiser steps that a batch of rollouts is split into, by whole groups.
        epochs: passes over a batch of rollouts.
        statistics: what the whole-batch rules see from the second optimiser step on a batch on: ``"rollout"``, the
            policy that sampled, or ``"current"``, for which the batch is scored and prepared again.
        max_new_tokens: longest response; the task's own if None.
        probe_every: steps between measurements of predicted against real entropy change; 0 for none.
        probe_rows: responses that these measurements use.
        seed: of everything.
    """

    prompts_per_step: int = 32
    group_size: int = 8
    temperature: float = 1.0
    learning_rate: float = 5e-4
    maximum_gradient_norm: float = 1.0
    micro_batch_size: int | None = None
    windows: int = 1
    epochs: int = 1
    statistics: Literal["rollout", "current"] = "rollout"
    max_new_tokens: int | None = None
    probe_every: int = 5
    probe_rows: int = 64
    seed: int = 0

    def __post_init__(self):
        for name in ("prompts_per_step", "group_size", "windows", "epochs", "probe_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("micro_batch_size", "max_new_tokens"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, or None, got {getattr(self, name)}")
        for name in ("probe_every", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.statistics not in ("rollout", "current"):
            raise ValueError(f"statistics must be 'rollout' or 'current', got {self.statistics!r}")
        for name in ("temperature", "learning_rate", "maximum_gradient_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.windows > self.prompts_per_step:
            raise ValueError(
                f"windows must not exceed prompts_per_step ({self.prompts_per_step}), because groups stay whole; "
                f"got {self.windows}"
            )


class Trainer:
    """Trains `model` on `task` by `objective`; see the module's description of a step.

    Args:
        model: the policy, trained in place.
        task: problems and their verifier.
        objective: what is trained.
        settings: how.
        reference: the frozen policy of objectives that need one.
        teacher: the frozen model that the policy learns from, of objectives that need one; of the same vocabulary.
        problems: train on these in turn, rather than on the task's own.

    Raises:
        ValueError: if the objective needs what is not given, or its output activation does not go with a setting.

    Attributes:
        step_count: optimisation steps done, each on fresh rollouts.
        state: the objective's state.
        last_rollouts: the rollouts of the last step, for looking at.
        last_rewards: their rewards.
        replay: what is stored for self-imitation.

    Examples:
        >>> from isentrope.lab import Countdown, TinyTransformer, Trainer, TrainerSettings
        >>> from isentrope.policy import recipes
        >>> settings = TrainerSettings(prompts_per_step=2, group_size=4, probe_every=0)
        >>> trainer = Trainer(TinyTransformer(width=16, layers=1, heads=2), Countdown(), recipes.grpo(), settings)
        >>> [name for name in trainer.step() if name in ("reward", "entropy")]
        ['reward', 'entropy']
    """

    def __init__(
        self,
        model: LanguageModel,
        task: Task,
        objective: Objective,
        settings: TrainerSettings,
        reference: LanguageModel | None = None,
        teacher: LanguageModel | None = None,
        problems: Sequence[Problem] | None = None,
    ):
        if "reference" in objective.needs and reference is None:
            raise ValueError(f"objective {objective.name} needs a reference model; give reference=")
        if "teacher" in objective.needs:
            if teacher is None:
                raise ValueError(f"objective {objective.name} needs a teacher; give teacher=")
            if objective.output_activation is not None:
                raise ValueError(
                    f"objective {objective.name}: a policy with an output activation cannot have a teacher"
                )
            check_vocabulary(model, teacher)
            teacher.eval()
        if problems is not None and not len(problems):
            raise ValueError("problems: there must be at least one, or None for the task's own")
        # An activation that is decided on the whole batch is no part of the policy that samples.
        self._decides_activation = hasattr(objective.output_activation, "prepare")
        if self._decides_activation and settings.statistics == "current":
            raise ValueError(
                f"statistics='current': the output activation of {objective.name} is settled once a batch; use 'rollout'"
            )
        self.model, self.task, self.objective, self.settings = model, task, objective, settings
        self.reference, self.teacher, self.problems = reference, teacher, problems
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        # Dropout would make the scored policy another one than the sampled one.
        model.eval()
        self.statistics = tuple(sorted(objective.needs & STATISTICS))
        self.max_new_tokens = settings.max_new_tokens or task.max_new_tokens
        self.state: State = objective.start(settings.seed)
        self.step_count = 0
        self.last_rollouts: Rollouts | None = None
        self.last_rewards: Tensor | None = None
        self.replay = ReplayBuffer()

    def step(self) -> dict[str, float]:
        """One batch of rollouts and the optimiser steps on it; returns the step's metrics, without ``step`` itself.

        ``tokens_per_second`` counts the policy's tokens in the batch, those included with which a response began as another
        did and from which it learns.
        """
        started = time.perf_counter()
        settings, objective = self.settings, self.objective
        plan = objective.rollout_plan(RolloutPlan(settings.group_size, settings.temperature), self.state)
        rollouts, raw = self._rollouts(plan)
        sampled = time.perf_counter()

        prepared, whole = objective.prepare(raw, self.state)
        assert raw.old_entropy is not None
        assert prepared.advantages is not None
        drivers = entropy_drivers(raw.old_log_probs, raw.old_entropy, prepared.advantages, raw.mask)
        metrics = whole.means() | drivers
        sampler_entropy = raw.old_entropy
        if self._decides_activation and settings.epochs * settings.windows > 1:
            # Later optimiser steps compare with the sampling policy under the same activation.
            scores = self._in_pieces(self.model, rollouts, plan.temperature, ("log_probs", "entropy"), prepared)
            prepared = prepared.with_(old_log_probs=scores["log_probs"])
            sampler_entropy = scores["entropy"]
        probing = settings.probe_every and self.step_count % settings.probe_every == 0
        probe = self._probe(rollouts) if probing else None

        seen, tally, losses, norms, acted = whole.means(), Tally(), [], [], self.state
        groups = torch.arange(len(raw.mask)) // plan.group_size
        window_of = groups * settings.windows // settings.prompts_per_step
        for update in range(settings.epochs * settings.windows):
            if update and settings.statistics == "current":
                prepared, again = objective.prepare(self._scored(raw, rollouts, plan), self.state)
                seen = again.means()
            acted = self.state = objective.control(self.state, seen)
            window = torch.nonzero(window_of == update % settings.windows).squeeze(-1)
            counted = prepared.rows(window).with_totals(width=self.max_new_tokens)
            loss, part, norm = self._update(counted, rollouts, window, plan, update == 0)
            tally, losses, norms = tally + part, [*losses, loss], [*norms, norm]
            self.state = self.state.next_step(part.means())
            if "loss_entropy" in part.means():
                # What this step found the entropy to be, told from its own rows: filters leave some rows out.
                drawn = float(sampler_entropy[window][counted.mask].double().mean())
                seen["entropy"] = whole.means()["entropy"] + part.means()["loss_entropy"] - drawn
        replayed = self._replay(plan, plan.replay, rollouts, raw, prepared) if plan.replay is not None else {}
        self.step_count += 1

        if probe is not None:
            metrics |= probe.changes()
        seconds = time.perf_counter() - started
        tokens = int(rollouts.mask.sum())
        metrics |= tally.means() | replayed | objective.control_metrics(acted)
        metrics |= {
            "loss": float(np.mean(losses)),
            "gradient_norm": float(np.mean(norms)),
            "learning_rate": settings.learning_rate,
            "temperature": plan.temperature,
            "tokens_per_second": tokens / seconds,
            "seconds": seconds,
            "seconds_sampling": sampled - started,
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        return metrics

    def evaluate(self, problems: Sequence[Problem], samples: int, k: Sequence[int]) -> Evaluation:
        """pass@k on `problems`, sampled at the settings' temperature with numbers that depend on the seed alone."""
        return evaluate(
            self.model,
            self.task,
            problems,
            samples=samples,
            k=k,
            temperature=self.settings.temperature,
            generator=torch.Generator().manual_seed(_derived(self.settings.seed, "evaluation")),
            activation=self.objective.activation(self.state),
        )

    def _rollouts(self, plan: RolloutPlan) -> tuple[Rollouts, TokenBatch]:
        settings = self.settings
        if self.problems is None:
            seed = _derived(settings.seed, "problems", self.step_count)
            problems = self.task.problems("train", settings.prompts_per_step, seed)
        else:
            first = self.step_count * settings.prompts_per_step
            problems = [self.problems[(first + i) % len(self.problems)] for i in range(settings.prompts_per_step)]
        rollouts, batch = collect(
            self.model,
            self.task,
            problems,
            plan,
            generator=torch.Generator().manual_seed(_derived(settings.seed, "rollouts", self.step_count)),
            max_new_tokens=self.max_new_tokens,
            activation=self.objective.activation(self.state),
        )
        self.last_rollouts, self.last_rewards = rollouts, batch.rewards
        if "reference" in self.objective.needs:
            assert self.reference is not None
            reference = self._in_pieces(self.reference, rollouts, plan.temperature, ("log_probs",))
            batch = batch.with_(reference_log_probs=reference["log_probs"])
        if "teacher" in self.objective.needs:
            assert self.teacher is not None
            compared = beside_teacher(
                self.model,
                self.teacher,
                rollouts,
                temperature=plan.temperature,
                micro_batch_size=settings.micro_batch_size,
            )
            batch = batch.with_(teacher=compared)
        if self.statistics:
            # The sampler does not know them: score the batch once more.
            batch = self._scored(batch, rollouts, plan)
            batch = batch.with_(old_log_probs=batch.log_probs, old_entropy=batch.entropy, log_probs=None, entropy=None)
        return rollouts, batch

    @torch.no_grad()
    def _in_pieces(
        self,
        model: LanguageModel,
        rollouts: Rollouts,
        temperature: float,
        outputs: tuple[str, ...],
        prepared: TokenBatch | None = None,
    ) -> dict[str, Tensor]:
        """Scores of all rollouts without gradient, in micro-batches."""
        pieces = []
        for index in torch.arange(len(rollouts)).split(self.settings.micro_batch_size or len(rollouts)):
            rows = rollouts.rows(index)
            decided = None if prepared is None else prepared.rows(index)
            activation = self.objective.activation(self.state, decided, rows.mask)
            pieces.append(score(model, rows, temperature=temperature, outputs=outputs, activation=activation))
        return {name: torch.cat([getattr(piece, name) for piece in pieces]) for name in outputs}

    def _scored(self, raw: TokenBatch, rollouts: Rollouts, plan: RolloutPlan) -> TokenBatch:
        """The batch with what the current policy says of it, without gradient."""
        outputs = ("log_probs", "entropy", *self.statistics)
        scores = self._in_pieces(self.model, rollouts, plan.temperature, outputs)
        statistics = {name: scores.pop(name) for name in self.statistics}
        return raw.with_(**scores, extras={**raw.extras, **statistics})

    def _replay(
        self, plan: RolloutPlan, replay: Replay, rollouts: Rollouts, raw: TokenBatch, prepared: TokenBatch
    ) -> dict[str, float]:
        """Imitate what is stored, if it is enough, and store the good ones of the present rollouts; returns metrics."""
        assert prepared.advantages is not None
        means = group_moments(prepared.rewards, raw.group_ids).mean
        of_groups = dict(zip(raw.group_ids.tolist(), means.tolist(), strict=True))
        buffer = self.replay.seen(list(of_groups.values()), replay.baselines)
        buffer = buffer.kept(buffer.steps >= self.step_count - replay.maximum_age)
        usable = buffer.rewards > buffer.baseline
        trained = 0
        if replay.weight and int(usable.sum()) > 1.5 * replay.size:
            chosen = buffer.kept(usable)
            trained = len(chosen)
            self._imitate(chosen, replay.weight, plan, -(-len(raw.mask) // self.settings.windows))
            buffer = buffer.kept(torch.zeros_like(usable))
        good = (row_means(prepared.advantages, prepared.mask) > 0) & prepared.mask.any(-1)
        self.replay = buffer.storing(rollouts, raw.with_(rewards=prepared.rewards), good, self.step_count)
        return {"replay_baseline": buffer.baseline, "replay_stored": len(self.replay), "replay_trained": trained}

    def _imitate(self, chosen: ReplayBuffer, weight: float, plan: RolloutPlan, size: int) -> None:
        """Optimiser steps on stored responses, ``size`` at a time."""
        assert chosen.rollouts is not None
        objective = self_imitation(self.objective, self.state, chosen.baseline, weight)
        state = objective.start(_derived(self.settings.seed, "replay", self.step_count))
        prepared, _ = objective.prepare(self._scored(chosen.batch(), chosen.rollouts, plan), state)
        for window in torch.arange(len(chosen)).split(size):
            counted = prepared.rows(window).with_totals(width=self.max_new_tokens)
            self._update(counted, chosen.rollouts, window, plan, False, (objective, state))

    def _update(
        self,
        window: TokenBatch,
        rollouts: Rollouts,
        rows: Tensor,
        plan: RolloutPlan,
        first: bool,
        replayed: tuple[Objective, State] | None = None,
    ) -> tuple[float, Tally, float]:
        """One optimiser step on a window: its loss, tally and gradient norm."""
        objective, state = replayed or (self.objective, self.state)
        needs = objective.needs
        # From the second optimiser step on the policy is no longer the sampler, whose entropy is known.
        updates = self.settings.epochs * self.settings.windows
        outputs = ("log_probs", "entropy") if updates > 1 or needs & {"entropy", "entropy_grad"} else ("log_probs",)
        self.optimizer.zero_grad(set_to_none=True)
        total, tally = 0.0, Tally()
        # Rows that a filter dropped have nothing to contribute.
        kept = torch.nonzero(window.mask.any(-1)).squeeze(-1)
        for index in kept.split(self.settings.micro_batch_size or max(1, len(kept))):
            if not len(index):
                continue
            rows_of, sampled = window.rows(index), rollouts.rows(rows[index.cpu()])
            hidden = None
            if "teacher" in needs:
                assert self.teacher is not None
                hidden = hidden_states(self.model, sampled, sampled.mask)
                compared = beside_teacher(
                    self.model, self.teacher, sampled, temperature=plan.temperature, hidden=hidden
                )
                rows_of = rows_of.with_(teacher=compared)
            scores = score(
                self.model,
                sampled,
                temperature=plan.temperature,
                outputs=(*outputs, *self.statistics),
                need_logits="logits" in needs,
                activation=objective.activation(state, rows_of, sampled.mask),
                hidden=hidden,
            )
            micro = rows_of.with_(
                log_probs=scores.log_probs,
                entropy=scores.entropy if "entropy_grad" in needs else _detached(scores.entropy),
                extras={**rows_of.extras, **{name: getattr(scores, name) for name in self.statistics}},
                logits=None if scores.logits is None else lambda logits=scores.logits: logits,
            )
            if first:
                # The policy that sampled, exactly: the sampler's own numbers differ by rounding, which would give
                # |log pi - log pi_old| a gradient of random sign.
                micro = micro.with_(old_log_probs=_detached(scores.log_probs))
            loss, part = objective.loss(micro, state)
            if loss.requires_grad:
                loss.backward()
            total, tally = total + float(loss.detach()), tally + part
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.maximum_gradient_norm)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"gradient norm is {float(norm)} at step {self.step_count + 1}: training diverged")
        self.optimizer.step()
        return total, tally, float(norm)

    def _probe(self, rollouts: Rollouts) -> EntropyProbe:
        return EntropyProbe(
            self.model,
            rollouts.rows(slice(0, self.settings.probe_rows)),
            micro_batch_size=self.settings.micro_batch_size,
            activation=self.objective.activation(self.state),
        )


def _detached(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.detach()


def _derived(seed: int, purpose: str, step: int = 0) -> int:
    """A seed for one purpose at one step, independent of all others."""
    return int(np.random.SeedSequence([seed, step, *purpose.encode()]).generate_state(1, np.uint64)[0] >> 1)
