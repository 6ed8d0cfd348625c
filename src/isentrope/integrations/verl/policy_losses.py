"""Recipes as verl policy losses: ``actor_rollout_ref.actor.policy_loss.loss_mode=isentrope_<recipe>``.

A policy loss of verl is the surrogate alone: it sees micro-batches without rewards, groups or entropies, beside verl's
own advantage estimator and ``loss_agg_mode``. Recipes that are more than these three are refused, with the reason.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY, agg_loss, register_policy_loss

from isentrope.policy import Objective, Tally, TokenBatch, recipes

_BEYOND_SURROGATE = (
    "rollout",
    "reward",
    "row_filter",
    "shaping",
    "selection",
    "output_activation",
    "token_weight",
    "regularizers",
)


def refusal(make: Callable[..., Objective]) -> str | None:
    """Why a recipe cannot be a policy loss, None if it can.

    Examples:
        >>> refusal(recipes.gspo), refusal(recipes.clip_cov)
        (None, 'its row_filter and token_weight need the whole batch or more than the surrogate')
    """
    required = [p.name for p in inspect.signature(make).parameters.values() if p.default is p.empty]
    if required:
        return f"it needs {' and '.join(required)}, which verl's configuration has no place for"
    objective = make()
    slots = [slot for slot in _BEYOND_SURROGATE if getattr(objective, slot)]
    if slots:
        return f"its {' and '.join(slots)} need the whole batch or more than the surrogate"
    if objective.needs or hasattr(objective.surrogate, "prepare") or objective.start().memory:
        return "its surrogate needs the whole batch or more than log-probabilities"
    return None


def register() -> None:
    """Register every recipe under ``isentrope_<recipe>``; those that are refused say why when they are used."""
    for name, make in recipes.names().items():
        if f"isentrope_{name}" not in POLICY_LOSS_REGISTRY:
            register_policy_loss(f"isentrope_{name}")(policy_loss(name, make))


def policy_loss(name: str, make: Callable[..., Objective]) -> Callable[..., tuple[Tensor, dict[str, Any]]]:
    """The function that verl calls for a recipe, with the recipe's default parameters."""
    reason = refusal(make)

    def loss(
        old_log_prob: Tensor,
        log_prob: Tensor,
        advantages: Tensor,
        response_mask: Tensor,
        loss_agg_mode: str = "token-mean",
        config: Any = None,
        rollout_is_weights: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        if reason is not None:
            raise ValueError(
                f"loss_mode=isentrope_{name}: the recipe {name} is not a policy loss, {reason}; use "
                f"trainer.v1.trainer_mode=isentrope +isentrope.objective={name}"
            )
        surrogate = make().surrogate
        mask = response_mask.bool()
        batch = TokenBatch(
            mask=mask,
            rewards=advantages.new_zeros(len(mask)),
            group_ids=torch.arange(len(mask)),
            old_log_probs=old_log_prob,
            log_probs=log_prob,
            advantages=advantages,
        )
        token_loss = surrogate(batch)
        if rollout_is_weights is not None:
            token_loss = token_loss * rollout_is_weights
        total = agg_loss(torch.where(mask, token_loss, 0), mask, loss_agg_mode, **config.global_batch_info)
        tally = Tally().add("actor/pg_clipfrac", surrogate.clipped(batch).double(), mask)
        return total, tally.add("actor/ppo_kl", old_log_prob - log_prob, mask).means()

    loss.__name__ = f"isentrope_{name}"
    return loss
