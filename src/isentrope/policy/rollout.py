"""Rollout parts: how responses are sampled. A part takes a `RolloutPlan` and returns a changed one.

A host runs the plan that it is given, and refuses at construction, by name, the parts that it cannot host.
"""

from dataclasses import dataclass, replace

from isentrope.policy.controllers import Number


@dataclass(frozen=True)
class RolloutPlan:
    """How a batch of responses is to be sampled.

    Attributes:
        group_size: responses per prompt.
        temperature: divides the logits, in sampling and in scoring alike.
    """

    group_size: int
    temperature: float = 1.0


@dataclass(frozen=True)
class Tempered:
    """Sample, and score, at this temperature.

    Args:
        temperature: a number or a controller.
    """

    temperature: Number

    def __call__(self, plan: RolloutPlan) -> RolloutPlan:
        """The plan at this temperature."""
        return replace(plan, temperature=self.temperature)
