"""The objective that a verl configuration asks for, and what in the configuration contradicts it.

    trainer.v1.trainer_mode=isentrope '+isentrope.objective="clip_cov(fraction=0.02)"' +isentrope.seed=0

The key travels with verl's configuration into the process that trains, wherever Ray puts it.
"""

import importlib

from omegaconf import DictConfig, OmegaConf, open_dict

from isentrope.policy import NEEDS, Objective, recipes

PROVIDED = frozenset({"old_entropy", "entropy", "entropy_grad", "reference", "token_ids"})
"""What verl's workers can give a part."""


def requested_objective(config: DictConfig) -> tuple[Objective, int]:
    """The objective and the seed that ``config.isentrope`` names.

    Args:
        config: verl's configuration. ``isentrope.objective`` is a recipe, ``"clip_cov(fraction=0.02)"``, or the place of
            an `Objective` or of a function that makes one, ``"my_package.my_module:my_objective"``.

    Raises:
        ValueError: if nothing, or something unknown, is asked for.

    Examples:
        >>> from omegaconf import OmegaConf
        >>> config = OmegaConf.create({"isentrope": {"objective": "clip_cov(fraction=0.02)", "seed": 3}})
        >>> objective, seed = requested_objective(config)
        >>> objective.name, seed
        ('clip_cov', 3)
    """
    section = config.get("isentrope") or {}
    unknown = set(section) - {"objective", "seed"}
    if unknown:
        raise ValueError(f"isentrope: unknown keys {sorted(unknown)}; there are objective and seed")
    text = section.get("objective")
    if not isinstance(text, str):
        raise ValueError(
            "trainer.v1.trainer_mode=isentrope needs an objective, as in "
            f"""'+isentrope.objective="clip_cov(fraction=0.02)"'; got {text!r}"""
        )
    seed = section.get("seed", 0)
    if not isinstance(seed, int):
        raise ValueError(f"isentrope.seed must be an integer, got {seed!r}")
    return (_located(text) if ":" in text and "(" not in text else recipes.named(text)), seed


def _located(text: str) -> Objective:
    module, _, name = text.partition(":")
    found = getattr(importlib.import_module(module), name, None)
    if not isinstance(found, Objective) and callable(found):
        found = found()
    if not isinstance(found, Objective):
        raise ValueError(f"isentrope.objective: {text!r} must be an Objective, or make one, got {found!r}")
    return found


def refuse_what_verl_cannot(objective: Objective) -> None:
    """Refuse parts that have no place in verl.

    Raises:
        ValueError: naming the part or what it needs.
    """
    if objective.rollout:
        raise ValueError(
            f"objective {objective.name}: verl samples independent responses to the prompts of its data set, at a fixed "
            f"actor_rollout_ref.rollout.temperature and n; it cannot host the rollout part {objective.rollout[0]!r}"
        )
    if objective.output_activation is not None:
        raise ValueError(
            f"objective {objective.name}: verl's inference engines sample from the plain softmax, they cannot host the "
            f"output activation {objective.output_activation!r}"
        )
    missing = sorted(objective.needs - PROVIDED)
    if missing:
        raise ValueError(
            f"objective {objective.name}: a part needs {', '.join(missing)} ({NEEDS[missing[0]]}); verl's workers give "
            f"only {', '.join(sorted(PROVIDED))}"
        )


def reconcile(config: DictConfig, objective: Objective) -> None:
    """Refuse settings that the objective would silently replace, and switch on what it needs; changes ``config``.

    Entropy with gradient and the reference policy are computed by verl's workers if ``actor.calculate_entropy`` and
    ``actor.use_kl_loss`` say so; the coefficients beside them are not read.

    Raises:
        ValueError: naming the setting.
    """
    actor = config.actor_rollout_ref.actor
    reference = "reference" in objective.needs
    for setting, value, allowed, instead in (
        ("critic.enable", config.critic.enable, (None, False), "objectives have no critic"),
        ("algorithm.use_kl_in_reward", config.algorithm.use_kl_in_reward, (False,), "give the objective a KL part"),
        ("actor_rollout_ref.actor.entropy_coeff", actor.entropy_coeff, (0,), "give the objective an EntropyBonus"),
        ("actor_rollout_ref.actor.policy_loss.loss_mode", actor.policy_loss.loss_mode, ("vanilla",), "drop it"),
        (
            "actor_rollout_ref.actor.use_kl_loss",
            actor.use_kl_loss,
            (False, True) if reference else (False,),
            "give the objective a KLPenalty",
        ),
    ):
        if value not in allowed:
            raise ValueError(
                f"objective {objective.name}: {setting}={value} would have no effect, the objective takes its place; "
                f"{instead}"
            )
    if config.algorithm.adv_estimator == "gae" and config.critic.enable is None:
        raise ValueError(
            f"objective {objective.name}: algorithm.adv_estimator=gae would start a critic that nothing reads; set "
            "algorithm.adv_estimator=grpo (the objective's own advantage is used)"
        )
    if OmegaConf.select(config, "distillation.enabled"):
        raise ValueError(f"objective {objective.name}: distillation.enabled=True has a loss of its own; switch it off")
    correction = config.algorithm.get("rollout_correction") or {}
    for name in ("bypass_mode", "rollout_is", "rollout_rs"):
        if correction.get(name):
            raise ValueError(
                f"objective {objective.name}: algorithm.rollout_correction.{name}={correction[name]} is not supported"
            )
    if actor.shuffle and actor.ppo_epochs > 1:
        raise ValueError(
            f"objective {objective.name}: actor_rollout_ref.actor.shuffle=True with ppo_epochs={actor.ppo_epochs} deals "
            "the rows into other mini-batches in each epoch, whose totals are not known beforehand; switch one off"
        )
    with open_dict(config):
        # Elsewhere verl takes every mode but this one for an asynchronous trainer.
        config.trainer.v1.trainer_mode = "sync"
        actor.use_kl_loss = reference
        actor.calculate_entropy = actor.calculate_entropy or bool(objective.needs & {"entropy", "entropy_grad"})
