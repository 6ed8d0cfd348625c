"""`EntropyGRPOTrainer`: TRL's GRPO trainer with an `Objective` in the place of its loss.

Generation (transformers, continuous batching, vLLM), tools, images, PEFT, Accelerate, DeepSpeed, FSDP, logging, the table
of completions and checkpoints stay TRL's. What changes is what happens between a scored completion and a loss:

- rewards, groups, log-probabilities and entropies of the *generation batch* are gathered over all ranks, and
  `Objective.prepare` sees all of it at once, on every rank alike;
- what it decides travels with the rows, which TRL shuffles and cuts into micro-batches;
- `Objective.loss` sees a micro-batch, with the denominators of the whole optimisation window over all ranks;
- controllers are updated once an optimiser step, from values that are the same on all ranks.

Where `prepare` needs log-probabilities and entropies of the whole generation batch, TRL has them anyway if a generation
batch serves several optimiser steps. If each rank's generation batch is one micro-batch, the loss's own forward pass
gives them. Else they are read off the logits that `transformers` samples from. Where another engine samples, or tools run
in between, they cost a forward pass without gradient, or are done without (`batch_statistics`).

A window of ``gradient_accumulation_steps`` micro-batches that reaches beyond the generation batch at hand cannot know the
denominators of completions that do not exist yet: those of the micro-batches at hand are scaled up.
"""

import copy
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer, logger

from isentrope.catalog import papers
from isentrope.integrations.trl import _checkpoint
from isentrope.integrations.trl._checks import (
    BatchStatistics,
    check_activation,
    check_batch_statistics,
    check_needs,
    check_rollout,
    check_settings,
)
from isentrope.integrations.trl._head import TokenHead
from isentrope.integrations.trl._sampling import SamplingRecord
from isentrope.integrations.trl._stage import (
    concatenated,
    prepare_on_all_ranks,
    reduced,
    summed,
    token_parts,
    with_given_advantages,
    without_token_parts,
)
from isentrope.integrations.trl._surface import MULTIMODAL, check_surface
from isentrope.integrations.trl.monitor import DiagnosisCallback
from isentrope.policy import Objective, RolloutPlan, State, Tally, TokenBatch
from isentrope.policy.controllers import Stateful
from isentrope.policy.dynamics import covariance_contributions, entropy_drivers
from isentrope.policy.objective import STATISTICS

check_surface()

_OURS = "isentrope/"
"""What our tensors are called among TRL's, and our metrics."""

_LOGGED = {
    "all": ("kept_rows", "selected_tokens"),
    "rows": ("kept_rows",),
    "tokens": ("selected_tokens",),
}
"""Metrics of the whole-batch stage that the loss does not give better."""


@dataclass(frozen=True)
class SamplerCorrection:
    """TRL's weight for what separates vLLM's distribution from the trained model's."""

    def __call__(self, batch: TokenBatch) -> Tensor:
        """The importance sampling ratio, ``[B, T]``."""
        return batch.extras["importance_sampling_ratio"].expand(batch.mask.shape)


class EntropyGRPOTrainer(GRPOTrainer):
    """`trl.GRPOTrainer` whose loss is an `isentrope.policy.Objective`.

    Args:
        model: as for `GRPOTrainer`.
        reward_funcs: as for `GRPOTrainer`.
        args: `trl.GRPOConfig`. Its settings of the loss (``loss_type``, ``epsilon``, ``beta``, ``scale_rewards``,
            ``entropy_coef``, ...) must keep their defaults: the objective says all of that.
        objective: what to train by, as from `isentrope.policy.recipes`.
        batch_statistics: where whole-batch rules and controllers take log-probabilities and entropies from.
            ``"old_pass"``: the policy that sampled, over the whole generation batch and all ranks; exact.
            ``"previous_step"``: controllers follow the step before; parts that choose tokens are refused.
            ``"micro_batch"``: controllers follow the step before, parts that choose tokens see the micro-batch at hand
            (of all ranks), as other implementations do.
        token_head: what computes log-probabilities and entropies: ``"isentrope"``
            (`isentrope.measures.token_statistics`), ``"trl"`` (its fused kernel), or None for TRL's on accelerators
            unless a part asks for more than it gives, and ours elsewhere.
        **options: everything else that `GRPOTrainer` takes.

    Attributes:
        objective: the objective.
        objective_state: its `State`: the optimiser steps done and what controllers remember.

    Raises:
        ValueError: if a setting belongs to TRL's own loss, or a part needs what TRL cannot host; the message names it.

    Examples:
        >>> from isentrope.policy import recipes
        >>> trainer = EntropyGRPOTrainer(
        ...     model="Qwen/Qwen3-0.6B",
        ...     reward_funcs=reward,
        ...     train_dataset=dataset,
        ...     objective=recipes.entropy_target(target=0.3),
        ... )  # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP
    """

    args: Any  # a GRPOConfig whose sizes TRL has settled
    model: Any

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: GRPOConfig | None = None,
        *,
        objective: Objective,
        batch_statistics: BatchStatistics = "old_pass",
        token_head: Literal["isentrope", "trl"] | None = None,
        **options: Any,
    ):
        if not isinstance(objective, Objective):
            raise TypeError(f"objective must be an Objective, as from isentrope.policy.recipes, got {objective!r}")
        if args is None:
            name = model if isinstance(model, str) else model.config._name_or_path
            args = GRPOConfig(f"{name.split('/')[-1]}-{objective.name}")
        check_settings(args)
        state = objective.start(args.seed)
        check_needs(objective)
        check_activation(objective)
        check_batch_statistics(objective, state, batch_statistics)
        group_size: Any = args.num_generations
        check_rollout(objective, state, RolloutPlan(group_size, args.temperature), args.use_vllm)
        if "reference" in objective.needs:
            # TRL makes a reference model where its own loss has a KL term; the number is read nowhere else.
            args = copy.copy(args)
            args.beta = 1.0
        super().__init__(model, reward_funcs, args, **options)
        self.args.beta = 0.0
        self._corrects_sampler = self.use_vllm and self.vllm_importance_sampling_correction
        if self._corrects_sampler:
            objective = objective.adding(token_weight=SamplerCorrection())
        self.objective, self.objective_state = objective, state
        # TRL's model card cites one paper.
        for paper in [paper for paper in papers() if paper.key in objective.papers[:1]]:
            self._paper = {"title": paper.title, "id": paper.arxiv, "citation": paper.bibtex()}
        self.batch_statistics: BatchStatistics = batch_statistics
        self._generating: Any = self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model
        self._statistics = tuple(sorted(objective.needs & STATISTICS))
        self._head = self._chosen_head(token_head)
        self._reads_tokens = bool(token_parts(objective.at(state)))

        self._micro_batches_per_generation: int = self.args.steps_per_generation * self.args.num_iterations
        self._trl_scores_old = self._corrects_sampler or bool(
            self.args.gradient_accumulation_steps % self._micro_batches_per_generation
        )
        # An activation that is decided on the whole batch must be known before the loss's forward pass.
        self._decides_activation = hasattr(objective.output_activation, "prepare")
        if self._decides_activation and (self._trl_scores_old or batch_statistics != "old_pass"):
            raise ValueError(
                f"objective {objective.name}: its output activation is decided on the whole batch of the policy that "
                "samples; TRL can host it with batch_statistics='old_pass' and one optimiser step a generation batch "
                "(gradient_accumulation_steps a multiple of steps_per_generation * num_iterations, no vLLM correction)"
            )
        self._rewards: Tensor | None = None  # of the generation batch and all ranks, one column a reward function
        self._old_scores: list[Tensor] | None = None  # collects TRL's pass over the generation batch while it runs
        self._record: SamplingRecord | None = None  # collects what sampling knows, while it runs
        self._seen: dict[str, float] = {}  # what controllers are shown
        self._last: dict[str, float] = {}  # metrics of the last optimiser step
        self._follows = any(
            hasattr(part, "observe") or type(part).update is not Stateful.update
            for part in objective.controllers(state).values()
        )
        self._evaluated: list[tuple[TokenBatch, Tally]] = []
        self._position = 0  # micro-batches of the present window that are done
        self._totals: dict[str, Tensor] = {}
        self._tally = Tally()
        self._window: list[TokenBatch] = []
        own = [each for each in self.callback_handler.callbacks if isinstance(each, DiagnosisCallback)]
        (own[-1] if own else DiagnosisCallback()).watch(self)

    def _chosen_head(self, choice: str | None) -> TokenHead | None:
        """The head that answers scoring passes, installed; None for TRL's."""
        objective = self.objective
        wanted = [*self._statistics, *sorted({"logits"} & objective.needs)]
        wanted += ["an output activation"] if objective.output_activation is not None else []
        wanted += ["a temperature that changes"] if objective.rollout else []
        if choice is None:
            accelerated = self.accelerator.device.type in ("cuda", "xpu")
            choice = "isentrope" if wanted or not (accelerated or self.aux_loss_enabled) else "trl"
        if choice == "trl" and wanted:
            raise ValueError(f"token_head='trl' cannot give what {objective.name} needs: {', '.join(wanted)}")
        if choice == "trl":
            return None
        if choice != "isentrope":
            raise ValueError(f"token_head must be 'isentrope', 'trl' or None, got {choice!r}")
        if self.aux_loss_enabled:
            raise ValueError(
                "token_head='isentrope' has no load-balancing loss for mixtures of experts; set router_aux_loss_coef=0"
            )
        if is_deepspeed_zero3_enabled():
            raise ValueError("token_head='isentrope' does not work under DeepSpeed ZeRO-3; use ZeRO-2 or FSDP")
        head = TokenHead(
            self.temperature, self.args.cast_lm_head_to_fp32, self._statistics, "logits" in objective.needs
        )
        head.install(self._generating)
        return head

    # The generation batch: rewards and scores, seen as a whole.

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        self._rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        return self._rewards

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, **options
    ):
        # TRL's pass for old log-probabilities leaves the entropies out, which cost next to nothing there. Under PEFT the
        # reference pass, which comes later, is one of the same model.
        keep = self._old_scores is not None and not self._old_scores and model is self.model
        scores = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy or keep, **options
        )
        if keep:
            assert self._old_scores is not None
            self._old_scores.extend(scores[:2])
        return scores

    def _generate_single_turn(self, *arguments, **options):
        # Not around all of the above: a reward function may call the model too.
        with nullcontext() if self._record is None else self._record.watching(self._generating):
            return super()._generate_single_turn(*arguments, **options)

    def _generate_and_score_completions(self, inputs):
        training = self.model.training
        if self.objective.rollout and training:
            plan = RolloutPlan(self.args.num_generations, self.args.temperature)
            self.temperature = self.objective.rollout_plan(plan, self.objective_state).temperature
            self.generation_config.temperature = self.generation_kwargs["temperature"] = self.temperature
        self._aim_head(self.temperature, None)
        whole = self.batch_statistics == "old_pass"
        in_loss = whole and self._prepares_in_loss(training)
        wanted = whole and not in_loss and (self._reads_tokens or self._follows)
        record = SamplingRecord(self.temperature, ("log_probs", "entropy", *self._statistics))
        self._old_scores = [] if self._trl_scores_old else None
        self._record = record if wanted and not self._trl_scores_old else None
        try:
            output = super()._generate_and_score_completions(inputs)
            old_scores = self._named(*self._old_scores) if self._old_scores else None
        finally:
            self._old_scores = self._record = None
        output |= self._rewards_and_groups(len(output["completion_ids"]), training)
        if in_loss:
            return output
        if wanted and old_scores is None:
            old_scores = record.scores(output["completion_ids"], output["completion_mask"].bool())
            # All ranks make a scoring pass, or none does.
            missed = torch.tensor(int(old_scores is None), device=self.accelerator.device)
            if summed({"missed": missed}, self.accelerator)["missed"]:
                old_scores = self._scored_without_gradient(output, training)
        tokens_later = self.batch_statistics == "micro_batch" and self._reads_tokens
        return self._prepared(output, old_scores, "rows" if tokens_later else "all")

    def _rewards_and_groups(self, count: int, training: bool) -> dict[str, Tensor]:
        """This rank's rewards, NaN where no function scored, and group numbers that are the same on all ranks."""
        assert self._rewards is not None
        weighted = (self._rewards * self.reward_weights.to(self._rewards.device)).nansum(1)
        rewards = torch.where(self._rewards.isnan().all(1), torch.nan, weighted)
        index = torch.arange(len(rewards), device=rewards.device)
        group_size: Any = self.num_generations if training else self.num_generations_eval
        group_ids = index // group_size
        own = slice(self.accelerator.process_index * count, (self.accelerator.process_index + 1) * count)
        return {
            _OURS + "rewards": rewards[own],
            _OURS + "group_ids": group_ids[own],
            _OURS + "temperature": rewards.new_tensor(self.temperature),
        }

    def _prepares_in_loss(self, training: bool) -> bool:
        """Whether the generation batch of each rank is the micro-batch that its loss sees, under the policy that sampled."""
        whole = not training or self.args.steps_per_generation == 1
        return whole and not self._trl_scores_old and not self._decides_activation

    def _scored_without_gradient(self, inputs: dict, training: bool) -> dict[str, Tensor]:
        """Token statistics of a generation batch under the present policy, by name."""
        size = self.args.per_device_train_batch_size if training else self.args.per_device_eval_batch_size
        with torch.no_grad(), disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            return self._named(*self._scored(self.model, inputs, size)[:2])

    def _scored(self, model, inputs: dict, batch_size: int | None = None):
        """Log-probabilities, (packed) entropies and load-balancing loss of the completions."""
        return self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            inputs["completion_ids"].size(1),
            batch_size,
            compute_entropy=True,
            compute_aux_loss=self.aux_loss_enabled,
            **{name: inputs.get(name) for name in MULTIMODAL},
        )

    def _aim_head(self, temperature: float, inputs: dict | None) -> None:
        """Let the head answer for this temperature, and for the output activation of these rows."""
        if self._head is None:
            return
        self._head.temperature = temperature
        if self._decides_activation:
            batch, mask = (None, None) if inputs is None else (self._batch(inputs), inputs["completion_mask"].bool())
            self._head.activation = self.objective.activation(self.objective_state, batch, mask)

    def _unpacked(self, packed: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        return (packed, {}, None) if self._head is None else self._head.unpack(packed)

    def _named(self, log_probs: Tensor, packed: Tensor) -> dict[str, Tensor]:
        """A scoring pass's answer by the names of its statistics, without gradient."""
        entropy, statistics, _ = self._unpacked(packed.detach())
        return {"log_probs": log_probs.detach(), "entropy": entropy, **statistics}

    def _batch(self, inputs: dict) -> TokenBatch:
        """A host's rows as a batch; log-probabilities of the sampling policy are NaN where TRL has none."""
        ours = {key.removeprefix(_OURS): value for key, value in inputs.items() if key.startswith(_OURS)}
        mask = ours.get("mask", _valid(inputs))
        names = ("advantages", "loss_mask", "old_entropy", "raw_rewards")
        extras = {name: inputs[name] for name in ("importance_sampling_ratio",) if name in inputs}
        return TokenBatch(
            mask=mask,
            rewards=ours["rewards"],
            group_ids=ours["group_ids"],
            old_log_probs=inputs.get("old_per_token_logps", torch.full(mask.shape, torch.nan, device=mask.device)),
            reference_log_probs=inputs.get("ref_per_token_logps"),
            token_ids=inputs["completion_ids"] if "token_ids" in self.objective.needs else None,
            prepared={key.removeprefix("prepared/"): x for key, x in ours.items() if key.startswith("prepared/")},
            extras=extras,
            **{name: ours[name] for name in names if name in ours},
        )

    def _prepared(self, inputs: dict, scores: dict[str, Tensor] | None, part: Literal["all", "rows", "tokens"]) -> dict:
        """The rows with what `Objective.prepare` decides, by all of it or by its part for rows or for tokens.

        Controllers are shown the metrics of the whole batch, or those of the step before.
        """
        batch, objective, state = self._batch(inputs), self.objective, self.objective_state
        if scores is not None:
            extras = {**batch.extras, **{name: scores[name] for name in self._statistics}}
            batch = batch.with_(old_log_probs=scores["log_probs"], old_entropy=scores["entropy"], extras=extras)
        if part != "all":
            split = without_token_parts if part == "rows" else with_given_advantages
            objective, state = split(objective.at(state)), State(state.step, state.seed)
        if part == "tokens":
            assert batch.raw_rewards is not None
            extras = {**batch.extras, "final_rewards": batch.rewards}
            batch = batch.with_(rewards=batch.raw_rewards, extras=extras)
        batch, tally = prepare_on_all_ranks(objective, batch, state, self.accelerator)
        decided = {name: getattr(batch, name) for name in ("rewards", "raw_rewards", "mask", "advantages")}
        if part != "rows":
            decided |= {"loss_mask": batch.loss_mask, "old_entropy": batch.old_entropy}
            decided |= {f"prepared/{path}": value for path, value in batch.prepared.items()}
        # Without log-probabilities of the sampling policy what is made of them is NaN.
        metrics = {name: value for name, value in tally.means().items() if value == value}
        if part != "tokens" and self.model.training:
            self._seen = metrics if self.batch_statistics == "old_pass" else metrics | self._last
        self._log({name: metrics[name] for name in _LOGGED[part] if name in metrics})
        return inputs | {_OURS + name: value for name, value in decided.items() if value is not None}

    # The micro-batch: one contribution to the window's loss.

    def _compute_loss(self, model, inputs):
        training = self.model.training
        self._temperature = float(inputs[_OURS + "temperature"])
        self._aim_head(self._temperature, inputs)
        log_probs, packed, aux_loss = self._scored(model, inputs)
        entropy, statistics, logits = self._unpacked(packed)
        in_loss = _OURS + "loss_mask" not in inputs
        if in_loss:
            part = "tokens" if _OURS + "advantages" in inputs else "all"
            inputs = self._prepared(inputs, self._named(log_probs, packed), part)
        batch = self._batch(inputs)
        needs = self.objective.needs
        batch = batch.with_(
            log_probs=log_probs,
            entropy=entropy if "entropy_grad" in needs else entropy.detach(),
            # The policy that sampled is the one at hand wherever TRL did not score it before.
            old_log_probs=inputs.get("old_per_token_logps", log_probs.detach()),
            extras={**batch.extras, **statistics},
            logits=None if logits is None else lambda: logits,
        )
        # A batch without any token has no entropy to follow.
        if training and self._position == 0 and "entropy" in self._seen:
            self.objective_state = self.objective.control(self.objective_state, self._seen)
        batch = batch.with_(totals=self._window_totals(batch, in_loss, training))
        loss, tally = self.objective.loss(batch, self.objective_state)
        # Accelerate averages gradients over ranks; contributions add up.
        loss = loss * self.accelerator.num_processes
        if aux_loss is not None:
            loss = loss + self.router_aux_loss_coef * aux_loss / (
                self.current_gradient_accumulation_steps if training else 1
            )
        seen = TokenBatch(
            mask=_valid(inputs),
            rewards=batch.rewards,
            group_ids=batch.group_ids,
            old_log_probs=log_probs.detach(),
            old_entropy=entropy.detach(),
            advantages=batch.advantages,
        )
        if not training:
            self._evaluated.append((seen, tally))
            return loss
        self._window.append(seen)
        self._tally += tally
        self._position += 1
        if self.accelerator.sync_gradients:
            self._close_window()
        return loss

    def _window_totals(self, batch: TokenBatch, in_loss: bool, training: bool) -> dict[str, Tensor]:
        """Denominators of the window that a micro-batch belongs to, over all ranks."""
        if not training:
            return self._counted([batch])
        count = self.current_gradient_accumulation_steps
        if in_loss and self.batch_statistics == "old_pass":
            return _scaled(self._counted([batch]), count)
        generation, step = self._micro_batches_per_generation, self._step
        if self._position == 0 or step % generation == 0:
            ahead = range(step, min(step + count - self._position, (step // generation + 1) * generation))
            buffered: Any = self._buffered_inputs
            known = [self._batch(buffered[i % self.args.steps_per_generation]) for i in ahead]
            self._totals = _scaled(self._counted(known), count / len(known))
        if in_loss:
            # Nobody knows how many tokens the coming micro-batches will choose: as large a share as here.
            here = self._counted([batch])
            known = {name: self._totals[name] for name in ("tokens", "rows", "width")}
            rows = float(known["rows"]) / max(1, int(here["rows"]))
            tokens = float(known["tokens"]) / max(1, int(here["tokens"]))
            return _scaled(here, tokens) | {"loss_rows": here["loss_rows"] * rows} | known
        return self._totals

    def _counted(self, batches: list[TokenBatch]) -> dict[str, Tensor]:
        """Totals of some micro-batches, summed over all ranks."""
        width = self.max_completion_length
        each = [batch.with_totals(width).totals for batch in batches]
        sums = {name: torch.stack([totals[name] for totals in each]).sum() for name in each[0]}
        return summed(sums, self.accelerator) | {"width": each[0]["width"]}

    def _close_window(self) -> None:
        """After the last micro-batch of an optimiser step: the next state, from reduced values, and the metrics."""
        state, tally = self.objective_state, reduced(self._tally, self.accelerator)
        metrics = self._metrics_of(self._window, tally)
        metrics |= self.objective.control_metrics(state)
        self._log(metrics | {f"statistics_scope/{self.batch_statistics}": 1.0, "temperature": self._temperature})
        if "entropy" in metrics:
            self._metrics["train"]["entropy"].append(metrics["entropy"])
        self._last = self._last | metrics
        # Controllers of a further optimiser step on this generation batch follow what this one left.
        self._seen = self._seen | {name: metrics[name] for name in ("entropy", "covariance") if name in metrics}
        self.objective_state = state.next_step(tally.means())
        self._window, self._tally, self._position = [], Tally(), 0

    def _metrics_of(self, window: list[TokenBatch], tally: Tally) -> dict[str, float]:
        """Metrics of the current policy on a window's tokens of all ranks, filtered rows included."""
        whole = concatenated(window, self.accelerator)
        assert whole.old_entropy is not None
        assert whole.advantages is not None
        covariance = covariance_contributions(whole.old_log_probs, whole.advantages, whole.mask)
        metrics = (
            Tally().add("entropy", whole.old_entropy, whole.mask).add("covariance", covariance, whole.mask).means()
        )
        if metrics:
            metrics |= entropy_drivers(whole.old_log_probs, whole.old_entropy, whole.advantages, whole.mask)
        return metrics | {name: value for name, value in tally.means().items() if name != "loss_entropy"}

    def _log(self, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._metrics["train" if self.model.training else "eval"][_OURS + name].append(value)

    def get_batch_samples(self, *arguments, **options):
        """The micro-batches of the next optimiser step: a window begins, whatever became of the one before."""
        self._window, self._tally, self._position = [], Tally(), 0
        return super().get_batch_samples(*arguments, **options)

    def log(self, logs, start_time=None):
        """TRL's log, with the evaluation set's metrics over all its tokens."""
        if self._evaluated and not self.model.training:
            batches, tallies = zip(*self._evaluated, strict=True)
            tally = reduced(sum(tallies, Tally()), self.accelerator)
            metrics = self._metrics_of(list(batches), tally)
            self._log(metrics)
            self._metrics["eval"]["entropy"] += [metrics["entropy"]] if "entropy" in metrics else []
            self._evaluated = []
        super().log(logs, start_time)

    # Checkpoints.

    def _layout(self) -> dict[str, int]:
        names = (
            "per_device_train_batch_size", "steps_per_generation", "gradient_accumulation_steps", "num_iterations",
            "num_generations",
        )  # fmt: skip
        return {name: getattr(self.args, name) for name in names} | {"processes": self.accelerator.num_processes}

    def _save_checkpoint(self, model, trial):
        progress = _checkpoint.Progress(
            objective=self.objective.name,
            state=self.objective_state.to_dict(),
            micro_steps=self._step,
            layout=self._layout(),
            seen=self._seen,
            last=self._last,
            in_block=bool(self._step % self._micro_batches_per_generation) and self._buffered_inputs is not None,
        )
        folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        # Before TRL's own files, so that a checkpoint that is complete for TRL is complete for us.
        _checkpoint.save(folder, progress, self.accelerator.process_index, self._buffered_inputs or [])
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        # A trainer that trained before must not go on with what it had in hand.
        self._step, self._buffered_inputs, self._evaluated = 0, None, []
        if checkpoint is None:
            return
        progress = _checkpoint.load(Path(checkpoint))
        if progress is None:
            logger.warning(
                f"{checkpoint} was not written by EntropyGRPOTrainer: controllers start afresh, and a generation batch "
                "that was not used up is drawn again."
            )
            return
        state = State.from_dict(progress.state)
        self.objective.controllers(state)  # refuses the state of another objective
        self.objective_state, self._seen, self._last = state, progress.seen, progress.last
        if progress.in_block:
            changed = [name for name, value in self._layout().items() if progress.layout[name] != value]
            if changed:
                raise ValueError(
                    f"{checkpoint} was written in the middle of a generation batch, with another {', '.join(changed)}; "
                    f"resume with {', '.join(f'{name}={progress.layout[name]}' for name in changed)}"
                )
            self._step = progress.micro_steps
            self._buffered_inputs = _checkpoint.load_rollouts(
                Path(checkpoint), self.accelerator.process_index, self.accelerator.device
            )


def _valid(inputs: dict) -> Tensor:
    """Tokens that the policy chose: tool output and padding are none."""
    mask = inputs["completion_mask"].bool()
    return mask & inputs["tool_mask"].bool() if "tool_mask" in inputs else mask


def _scaled(totals: dict[str, Tensor], factor: float) -> dict[str, Tensor]:
    """Counts of a part of a window, taken for all of it; exact counts stay integers."""
    if factor == 1:
        return totals
    return {name: value if name == "width" else value * factor for name, value in totals.items()}
