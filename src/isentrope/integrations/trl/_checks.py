"""What is refused before a trainer is made: settings that would do nothing, and parts that TRL cannot host."""

import dataclasses
from typing import Literal, get_args

from trl.trainer.grpo_config import GRPOConfig

from isentrope.integrations.trl._stage import token_parts
from isentrope.policy import NEEDS, Objective, RolloutPlan, State
from isentrope.policy.rollout import Tempered, Until

BatchStatistics = Literal["old_pass", "previous_step", "micro_batch"]

_REPLACED = (
    "loss_type", "epsilon", "epsilon_high", "delta", "importance_sampling_level", "scale_rewards",
    "multi_objective_aggregation", "top_entropy_quantile", "entropy_coef", "use_adaptive_entropy",
    "off_policy_mask_threshold", "beta", "use_bias_correction_kl", "entropy_coef_min", "entropy_coef_max",
    "entropy_coef_delta", "entropy_target", "sapo_temperature_neg", "sapo_temperature_pos", "vespo_k_pos",
    "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg",
)  # fmt: skip
"""Settings of TRL's own loss, which the objective replaces."""


def check_settings(args: GRPOConfig) -> None:
    """Refuse settings of TRL's own loss, which would do nothing."""
    defaults = {f.name: f.default for f in dataclasses.fields(GRPOConfig)}
    changed = [name for name in _REPLACED if getattr(args, name) != defaults[name]]
    if changed:
        given = ", ".join(f"{name}={getattr(args, name)!r}" for name in changed)
        raise ValueError(
            f"args: {given} would do nothing, because the objective replaces TRL's loss; leave "
            f"{'it' if len(changed) == 1 else 'them'} out and change the objective instead, as in "
            "recipes.dapo(low=0.2, high=0.28) or .adding(regularizers=KLPenalty(0.04))"
        )


def check_rollout(objective: Objective, state: State, plan: RolloutPlan, use_vllm: bool) -> None:
    """Refuse rollout parts that TRL's generation cannot follow."""
    for index, (part, now) in enumerate(zip(objective.rollout, objective.at(state).rollout, strict=True)):
        # What is wanted at some step must be hosted from the first one on.
        if not isinstance(part.part if isinstance(part, Until) else now, Tempered):
            raise ValueError(
                f"objective {objective.name}: TRL cannot host rollout[{index}], {part!r}; its generation can only be "
                "told a temperature (isentrope.policy.rollout.Tempered), not to branch, to sample a part of a batch at "
                "another temperature, or to change prompts"
            )
        for refused, reason in ((use_vllm, "use_vllm=True"), ("reference" in objective.needs, "a reference policy")):
            if refused:
                raise ValueError(
                    f"objective {objective.name}: TRL cannot host rollout[{index}], {part!r}, together with {reason}, "
                    "whose temperature is fixed"
                )
    planned = objective.rollout_plan(plan, state)
    if planned.group_size != plan.group_size:
        raise ValueError(
            f"objective {objective.name}: its rollout wants groups of {planned.group_size}; set "
            f"num_generations={planned.group_size} in GRPOConfig"
        )


def check_needs(objective: Objective) -> None:
    """Refuse what no trainer of rewards has."""
    if "teacher" in objective.needs:
        raise ValueError(
            f"objective {objective.name}: a part needs {NEEDS['teacher']}, which TRL's GRPO trainer does not have; train "
            "it in the laboratory, isentrope.lab.Trainer(..., teacher=...)"
        )


def check_activation(objective: Objective) -> None:
    """Refuse an output activation that belongs to the policy that samples, which TRL would sample without it."""
    part = objective.output_activation
    if part is not None and not hasattr(part, "prepare"):
        raise ValueError(
            f"objective {objective.name}: TRL samples from the plain softmax, it cannot host the output activation "
            f"{part!r}; one that acts in training alone has a `prepare` (isentrope.policy.entropy_activation)"
        )


def check_batch_statistics(objective: Objective, state: State, choice: str) -> None:
    """Refuse parts that a choice of ``batch_statistics`` leaves without numbers."""
    if choice not in get_args(BatchStatistics):
        raise ValueError(f"batch_statistics must be one of {', '.join(get_args(BatchStatistics))}, got {choice!r}")
    choosing = token_parts(objective.at(state))
    if choice == "previous_step" and choosing:
        raise ValueError(
            f"batch_statistics='previous_step': {', '.join(choosing)} of {objective.name} read the log-probabilities of "
            "the batch itself; use 'old_pass' (exact), or 'micro_batch'"
        )
    early = [path for path in choosing if path in ("advantage", "reward", "row_filter")]
    if choice == "micro_batch" and early:
        raise ValueError(
            f"batch_statistics='micro_batch': {', '.join(early)} of {objective.name} must see whole groups; use 'old_pass'"
        )
    if choice != "old_pass":
        observing = [path for path, part in objective.controllers(state).items() if hasattr(part, "observe")]
        if observing:
            raise ValueError(
                f"batch_statistics={choice!r}: {', '.join(observing)} of {objective.name} observe whole batches; "
                "use 'old_pass'"
            )
