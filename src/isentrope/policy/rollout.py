"""Rollout parts: how responses are sampled. A part takes a `RolloutPlan` and returns a changed one.

A host runs the plan that it is given, and refuses at construction, by name, the parts that it cannot host.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Memory, Number, Stateful
from isentrope.policy.templates import Template

if TYPE_CHECKING:
    from isentrope.policy.replay import Replay


@dataclass(frozen=True)
class Forks:
    """Responses to be sampled next; each may begin as an earlier one did.

    Attributes:
        groups: ``[forks]`` the prompt of each, counted from 0.
        parents: ``[forks]`` the earlier response that it begins as, counted in the order in which responses were asked
            for; -1 for none.
        positions: ``[forks]`` how many tokens it takes over; 0 for none.
    """

    groups: Int[Tensor, " forks"]
    parents: Int[Tensor, " forks"]
    positions: Int[Tensor, " forks"]

    def __len__(self) -> int:
        """Number of responses."""
        return len(self.groups)

    @classmethod
    def fresh(cls, groups: Int[Tensor, " forks"]) -> "Forks":
        """Responses from the prompt."""
        return cls(groups, torch.full_like(groups, -1), torch.zeros_like(groups))


class Branching(Protocol):
    """A rule by which the responses to a prompt grow out of one another, round by round."""

    @property
    def learns_prefix(self) -> bool:
        """Whether what a response took over from its parent counts as its own, or as its prompt."""
        ...

    def rounds(self, prompts: int, group_size: int, generator: torch.Generator) -> Generator[Forks, TokenBatch, None]:
        """Ask for responses and be sent all that there are, in the order in which they were asked for, until done.

        The batch that is sent holds ``old_entropy``, ``token_ids`` and the extra ``"turn"``; ``"special"`` marks tokens
        that are no text. Its ``group_ids`` count prompts from 0, its rewards are not known yet and 0, and its ``mask``
        covers also what was taken over. Groups that are still short in the end are filled from the prompt.
        """
        ...


@dataclass(frozen=True)
class RolloutPlan:
    """How a batch of responses is to be sampled.

    Attributes:
        group_size: responses per prompt.
        temperature: divides the logits, in sampling and in scoring alike.
        branching: the rule by which the responses of a group branch from one another; independent if None.
        tempered_share: share of the prompts whose responses are sampled at ``tempered_at`` instead, and scored at
            ``temperature`` like all others. The extra ``"tempered"``, ``[B]``, marks them.
        tempered_at: that temperature.
        templates: forms in which questions are put; each visit to a prompt draws one. As they are if empty. The extra
            ``"format"``, ``[B]`` from 0 to 1, tells how well each response keeps to its own.
        template_weights: probabilities of the forms, up to a factor; equal if None.
        replay: what responses are kept and trained on again (`isentrope.policy.replay`); none if None.
    """

    group_size: int
    temperature: float = 1.0
    branching: Branching | None = None
    tempered_share: float = 0.0
    tempered_at: float = 1.0
    templates: tuple[Template, ...] = ()
    template_weights: tuple[float, ...] | None = None
    replay: "Replay | None" = None


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


def unchanged(plan: RolloutPlan) -> RolloutPlan:
    """The plan as it is."""
    return plan


@dataclass(frozen=True)
class Until(Stateful):
    """A rollout part for the first optimiser steps; afterwards the plan is left as it is.

    Args:
        part: the part.
        step: the first optimiser step without it.

    Examples:
        >>> hot_start = Until(Tempered(1.2), step=300)
        >>> [hot_start.at({}, step)(RolloutPlan(8)).temperature for step in (0, 299, 300)]
        [1.2, 1.2, 1.0]
    """

    part: Any
    step: int

    def __post_init__(self):
        if self.step < 0:
            raise ValueError(f"Until: step must not be negative, got {self.step}")

    def at(self, memory: Memory, step: int) -> Callable[[RolloutPlan], RolloutPlan]:
        """The part, or `unchanged`."""
        return self.part if step < self.step else unchanged


@dataclass(frozen=True)
class PromptTemplates:
    """Draw a template for each visit to a prompt, the same for its whole group.

    What keeping to it is worth, the reward part `FormatBonus` says.

    Args:
        templates: the forms.
        weights: their probabilities, up to a factor; equal if None.

    Raises:
        ValueError: if there is no template, names repeat, or weights are no weights of them.

    References:
        Prompt Augmentation Scales up GRPO Training on Mathematical Reasoning, arXiv 2602.03190.

    Examples:
        >>> part = PromptTemplates((Template("plain"), Template("tags", marks=("<", ">"))))
        >>> [template.name for template in part(RolloutPlan(8)).templates]
        ['plain', 'tags']
    """

    templates: tuple[Template, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self):
        names = [template.name for template in self.templates]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"PromptTemplates: templates must be some, with different names, got {names}")
        if self.weights is not None and (
            len(self.weights) != len(names) or not all(w >= 0 for w in self.weights) or not sum(self.weights) > 0
        ):
            raise ValueError(
                f"PromptTemplates: weights must be one for each of {len(names)} templates, not negative and not all 0, "
                f"got {self.weights}"
            )

    def __call__(self, plan: RolloutPlan) -> RolloutPlan:
        """The plan with templates."""
        return replace(plan, templates=self.templates, template_weights=self.weights)
