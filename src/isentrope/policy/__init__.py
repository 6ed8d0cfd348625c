"""Entropy in reinforcement learning: the batch, the objective and its parts, recipes, dynamics and diagnosis."""

from isentrope._threads import settle_threads

settle_threads()

from isentrope.policy import (  # noqa: E402
    advantages,
    aggregation,
    controllers,
    dynamics,
    filters,
    recipes,
    regularizers,
    rewards,
    rollout,
    selection,
    surrogates,
    weights,
)
from isentrope.policy.batch import Tally, TokenBatch  # noqa: E402
from isentrope.policy.diagnosis import Diagnosis, diagnose  # noqa: E402
from isentrope.policy.law import RewardEntropyLaw, fit_reward_entropy_law  # noqa: E402
from isentrope.policy.objective import NEEDS, Objective, State  # noqa: E402
from isentrope.policy.rollout import RolloutPlan  # noqa: E402

__all__ = [
    "NEEDS",
    "Diagnosis",
    "Objective",
    "RewardEntropyLaw",
    "RolloutPlan",
    "State",
    "Tally",
    "TokenBatch",
    "advantages",
    "aggregation",
    "controllers",
    "diagnose",
    "dynamics",
    "filters",
    "fit_reward_entropy_law",
    "recipes",
    "regularizers",
    "rewards",
    "rollout",
    "selection",
    "surrogates",
    "weights",
]
