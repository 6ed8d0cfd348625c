"""Responses of agents that branch after a tool has answered, where the policy is then more uncertain than at first."""

import math
from collections.abc import Generator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from isentrope.policy.batch import TokenBatch
from isentrope.policy.rollout import Forks, RolloutPlan


def global_responses(
    root: Float[Tensor, " prompts"], tools: Float[Tensor, " prompts"], budget: int, sharpness: float = 0.5
) -> Int[Tensor, " prompts"]:
    """How many of a prompt's responses are sampled from the prompt, the others being kept for branches.

    ``m = k sigmoid(beta (H_root - H_tool))``, rounded, at least 1 and at most ``k``.

    Args:
        root: ``H_root``, entropy at the beginning of a probing response, in nats.
        tools: ``H_tool``, mean entropy after the answers of tools in it, in nats.
        budget: ``k``, responses of a prompt.
        sharpness: ``beta``, per nat.

    References:
        Dong et al., Agentic Entropy-Balanced Policy Optimization, arXiv 2510.14545.

    Examples:
        >>> global_responses(torch.tensor([0.4, 9.0, 0.0]), torch.tensor([0.4, 0.0, 9.0]), budget=16)
        tensor([ 8, 16,  1])
    """
    share = torch.sigmoid(sharpness * (root - tools).double())
    return (budget * share).round().long().clamp(1, budget)


def branch_probability(
    difference: Float[Tensor, "*shape"],
    consecutive: Int[Tensor, "*shape"],
    weight: float = 0.2,
    penalty: float = 0.05,
    threshold: float = 0.5,
) -> Float[Tensor, "*shape"]:
    """Probability of branching at a tool's answer, in float64.

    It branches if ``(u + w dH) (1 - p l) >= threshold`` with ``u`` uniform on [0, 1]: more often where the entropy is
    ``dH`` above that of the beginning, less often after ``l`` branchings in succession, and never once ``1 - p l`` leaves
    no room.

    Args:
        difference: ``dH``, in nats.
        consecutive: ``l``, rounds in succession in which this prompt's responses branched.
        weight: ``w``, per nat.
        penalty: ``p``.
        threshold: what the score must reach.

    References:
        Dong et al., Agentic Entropy-Balanced Policy Optimization, arXiv 2510.14545.

    Examples:
        >>> branch_probability(torch.zeros(3), torch.tensor([0, 5, 10]))
        tensor([0.5000, 0.3333, 0.0000], dtype=torch.float64)
    """
    room = (1 - penalty * consecutive.double()).clamp_min(0)
    return torch.where(room > 0, 1 - (threshold / room - weight * difference.double()), 0).clamp(0, 1)


def opening_entropy(batch: TokenBatch, window: int) -> Float[Tensor, "batch turns"]:
    """Mean entropy of the first ``window`` tokens of each turn, in nats; NaN where a response has no such turn.

    Examples:
        >>> batch = TokenBatch(
        ...     mask=torch.tensor([[True, True, False, True]]), rewards=torch.zeros(1), group_ids=torch.zeros(1).long(),
        ...     old_log_probs=torch.zeros(1, 4), old_entropy=torch.tensor([[0.1, 0.3, 9.0, 0.7]]),
        ...     extras={"turn": torch.tensor([[0, 0, 0, 1]])})
        >>> opening_entropy(batch, window=20)
        tensor([[0.2000, 0.7000]])
    """
    assert batch.old_entropy is not None
    turn = torch.where(batch.mask, batch.extra("turn"), -1)
    columns = []
    for number in range(int(turn.max()) + 1 if turn.numel() else 0):
        inside = turn == number
        opening = inside & (inside.cumsum(-1) <= window)
        # A turn without any token gives 0 / 0.
        columns.append(torch.where(opening, batch.old_entropy, 0).sum(-1) / opening.sum(-1))
    return torch.stack(columns, -1) if columns else batch.old_entropy.new_zeros(len(batch.mask), 0)


@dataclass(frozen=True)
class ToolBranching:
    """Divide a prompt's responses between fresh ones and branches, and branch after tools' answers.

    One response probes each prompt. Where it is more uncertain at the beginning than after tools have answered, more of
    the group is sampled from the prompt (`global_responses`), else more is kept for branches. Then, answer after answer,
    every response that got that far may branch there (`branch_probability`): another one takes over everything up to and
    including the answer. What is left when no response goes on is sampled from the prompt.

    A branch is drawn from the same distribution whether its parent is finished first or decoded beside it, so rounds
    here are answers of tools, and ``l`` counts those in succession at which a prompt's responses branched.

    The published code takes for the entropy of a step the *sum* over the first 20 tokens of the entropy of the 10 likeliest
    tokens, over ``ln V``: about ``20 / 12 = 1.7`` times the mean entropy in nats that is used here.

    Args:
        sharpness: ``beta`` of `global_responses`.
        weight: ``w`` of `branch_probability`.
        penalty: ``p`` of `branch_probability`.
        threshold: score at which a response branches.
        beam: a response and its branches together, so that each branches ``beam - 1`` times at most.
        window: tokens at the beginning of a turn whose entropy counts.
        root_window: tokens at the beginning of the probing response whose entropy counts.

    References:
        Dong et al., Agentic Entropy-Balanced Policy Optimization, arXiv 2510.14545.

    Examples:
        >>> from isentrope.policy.rollout import RolloutPlan
        >>> rule = ToolBranching()
        >>> rule(RolloutPlan(8)).branching is rule
        True
    """

    sharpness: float = 0.5
    weight: float = 0.2
    penalty: float = 0.05
    threshold: float = 0.5
    beam: int = 2
    window: int = 20
    root_window: int = 50
    learns_prefix: bool = True

    def __post_init__(self):
        if self.window < 1 or self.root_window < 1 or self.beam < 1:
            raise ValueError(
                "ToolBranching: beam, window and root_window must be at least 1, got "
                f"{self.beam}, {self.window} and {self.root_window}"
            )
        for name in ("sharpness", "weight", "penalty", "threshold"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"ToolBranching: {name} must be finite and not negative, got {getattr(self, name)}")

    def __call__(self, plan: RolloutPlan) -> RolloutPlan:
        """The plan with branches at tools' answers."""
        return replace(plan, branching=self)

    def rounds(self, prompts: int, group_size: int, generator: torch.Generator) -> Generator[Forks, TokenBatch, None]:
        """The probes, the other fresh responses, then the branches at the first answer, the second, ..."""
        batch = yield Forks.fresh(torch.arange(prompts))
        root = opening_entropy(batch, self.root_window)[:, 0]
        tools = opening_entropy(batch, self.window)[:, 1:]
        # A probe without tools says nothing of them.
        tools = torch.where(tools.isnan().all(-1), root, tools.nanmean(-1))
        wanted = global_responses(root, tools, group_size, self.sharpness)
        batch = yield Forks.fresh(batch.group_ids.repeat_interleave(wanted - 1))

        consecutive = torch.zeros_like(wanted)
        branched = torch.zeros(len(batch.mask), dtype=torch.long, device=wanted.device)
        number = 1
        while (entropies := opening_entropy(batch, self.window)).shape[1] > number:
            group = batch.group_ids
            after = entropies[:, number]
            left = group_size - torch.bincount(group, minlength=prompts)
            probability = branch_probability(
                after - root[group], consecutive[group], self.weight, self.penalty, self.threshold
            )
            draw = torch.rand(len(group), generator=generator, dtype=torch.float64).to(group.device)
            rows = torch.nonzero(~after.isnan() & (branched < self.beam - 1) & (draw < probability)).squeeze(-1)
            # Of a group that has no room for all of them, the first.
            earlier = (group[rows, None] == group[None, rows]).tril(-1).sum(-1)
            rows = rows[earlier < left[group[rows]]]
            branched[rows] += 1
            did = torch.bincount(group[rows], minlength=prompts) > 0
            consecutive = torch.where(did, consecutive + 1, 0)
            here = batch.mask[rows] & (batch.extra("turn")[rows] == number)
            batch = yield Forks(group[rows], rows, here.long().argmax(-1))
            branched = torch.cat((branched, branched.new_zeros(len(rows))))
            number += 1
