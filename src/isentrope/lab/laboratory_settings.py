"""The settings at which each recipe acts in the laboratory, where the published ones would not.

Published settings are made for batches of millions of tokens, responses of thousands, learning rates near 1e-6 and
entropies of their own. A batch here has some thousand tokens, a response about fifteen, and the policy moves far in a step. A
recipe that is not named here runs as published.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from isentrope.policy import recipes


@dataclass(frozen=True)
class Setting:
    """How a recipe is set in the laboratory.

    Attributes:
        text: the recipe with its settings.
        reason: why these.
        experiment: fields of `Experiment` that go with it.
    """

    text: str
    reason: str
    experiment: Mapping[str, Any] = field(default_factory=dict)


SETTINGS = {
    setting.text.partition("(")[0]: setting
    for setting in (
        Setting("gspo(low=0.03, high=0.04)", "the mean over fifteen tokens varies far more than that over thousands"),
        Setting("entropy_bonus(coefficient=0.05)", "0.001 is not seen in so short a run"),
        Setting("clip_cov(fraction=0.02)", "2e-4 of a thousand tokens is none"),
        Setting("kl_cov(fraction=0.02)", "2e-3 of a thousand tokens are two"),
        Setting("entropic(threshold=0.5, integral=0.05)", "few tokens are nearly sure, and the run is short"),
        Setting("clip_v(threshold=2.0, maximum_fraction=0.02)", "1e-4 of a thousand tokens is none"),
        Setting(
            "aent(low=0.2, high=0.3, initial=0.01, rate=0.002, largest=0.05)",
            "the band lies about the target of others, and the run is short",
        ),
        Setting("siren(coefficient=0.05)", "0.005 is not seen in so short a run"),
        Setting("epo(coefficient=0.05, steps=160)", "0.001 is not seen; steps are optimiser steps"),
        Setting("aer(fraction=0.8)", "the share of the first entropy that the recipes with a target hold"),
        Setting("spear(replayed=256)", "a batch has 256 responses"),
        Setting("cure(first_stage=80)", "half of the run; steps are optimiser steps"),
        Setting("agentic_aepo(rollout='branching')", "the task has a tool, after whose answers responses can branch"),
        Setting("ettrl(rollout='tree', forks=3, continuations=1)", "a tree of a size that divides a group of 8"),
        Setting("one_shot_em", "one problem, the one of 64 whose accuracy varies most", {"one_problem_of": 64}),
        Setting("tip", "the teacher is the policy of seed 0 after a warm start twice as long"),
        Setting("entrocraft(band=(0.26, 0.32))", "a band about the share that the recipes with a target hold"),
    )
}
"""By name of the recipe."""

COMBINATIONS = (
    Setting(
        "qae + entropy_target",
        "a baseline that leaves settled groups alone slows the fall of entropy, a controlled bonus then has less to do",
    ),
    Setting(
        "beyond_80_20 + entropy_target",
        "the reward speaks to the forks alone, the controller to every token",
    ),
    Setting(
        "em_rl + entropy_target",
        "certainty as the only reward runs to no entropy; held at a target it must choose where to be certain",
    ),
)
"""Combinations that none of the papers tries, and why they are worth a look."""

BUDGET: dict[str, Any] = {
    "task": "calculator",
    "steps": 40,
    "warm_start": 400,
    "windows": 4,
    "learning_rate": 2e-4,
    "evaluate_every": 0,
    "evaluation_problems": 128,
    "probe_every": 0,
}
"""What each run of a comparison of all recipes may spend, in the words of the command's options.

With one optimiser step a batch nothing is off-policy, and a clip never acts: here are four, at a learning rate that bears
them (on the calculator plain GRPO gains at 2e-4, stands still at 4e-4 and is destroyed at 1e-3). The warm start is short
enough that the policy still fails more often than not.
"""


def all_recipes() -> tuple[list[Setting], list[str]]:
    """Every recipe as it is set here, then the combinations; and a sentence for each that lacks an argument."""
    chosen, left_out = [], []
    for name, make in recipes.names().items():
        setting = SETTINGS.get(name, Setting(name, ""))
        required = {p.name for p in inspect.signature(make).parameters.values() if p.default is p.empty}
        given = recipes.parsed(setting.text)[0][1]
        if missing := sorted(required - given.keys() - {"target"}):
            left_out.append(f"{name} is left out: it needs {', '.join(missing)}")
        else:
            chosen.append(setting)
    return [*chosen, *COMBINATIONS], left_out
