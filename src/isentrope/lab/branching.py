"""Groups of completions that branch from one another, as a rollout plan asks: every branch is a row like any other."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from isentrope.lab.rollouts import Rollouts, join
from isentrope.lab.tokenizer import Tokenizer
from isentrope.policy import RolloutPlan, TokenBatch
from isentrope.policy.rollout import Forks

Draw = Callable[[Sequence[int], Sequence[Sequence[int]]], Rollouts]
"""Samples one completion for each prompt number, beginning with the given tokens."""


def grow(
    draw: Draw,
    plan: RolloutPlan,
    prompts: int,
    *,
    turns: Callable[[Rollouts], Int[Tensor, "batch time"]],
    tokenizer: Tokenizer,
    generator: torch.Generator,
) -> tuple[Rollouts, Int[Tensor, " batch"]]:
    """Sample groups round by round, each round from the prefixes that the plan's branching rule chooses.

    Args:
        draw: samples completions.
        plan: its ``branching`` is carried out.
        prompts: number of groups.
        turns: number of tool answers before each token.
        tokenizer: says which token ends and which pads.
        generator: randomness of the rule's choices.

    Returns:
        The rollouts, group after group, and for each how many of its tokens were taken over from another.

    Raises:
        ValueError: if the rule asks for more responses than a group holds, or for a prefix that does not exist.

    Examples:
        >>> from isentrope.lab import TinyTransformer, sample
        >>> from isentrope.lab.collection import turns
        >>> from isentrope.policy.tree_rollout import TreeRollout
        >>> model, randomness = TinyTransformer(width=16, layers=1, heads=2), torch.Generator().manual_seed(0)
        >>> draw = lambda groups, prefixes: sample(
        ...     model, ["1+2="] * len(groups), max_new_tokens=9, generator=randomness, prefixes=prefixes)
        >>> plan = TreeRollout(forks=1, continuations=3)(RolloutPlan(group_size=4))
        >>> rollouts, given = grow(draw, plan, 1, turns=turns, tokenizer=model.tokenizer, generator=randomness)
        >>> fork = int(given[1])
        >>> given.tolist() == [0, fork, fork, fork]
        True
        >>> bool((rollouts.completion_ids[:, :fork] == rollouts.completion_ids[:1, :fork]).all())
        True
    """
    assert plan.branching is not None
    rounds = plan.branching.rounds(prompts, plan.group_size, generator)
    rollouts: Rollouts | None = None
    groups = given = torch.zeros(0, dtype=torch.long)
    forks = next(rounds)
    while True:
        if len(forks):
            _check(forks, groups, rollouts, plan.group_size, prompts)
            drawn = draw(forks.groups.tolist(), _prefixes(forks, rollouts))
            rollouts = drawn if rollouts is None else join([rollouts, drawn], pad_id=tokenizer.pad_id)
            groups = torch.cat((groups, forks.groups.cpu()))
            given = torch.cat((given, forks.positions.cpu()))
        if rollouts is None:
            raise ValueError("branching: the first round must ask for responses")
        try:
            forks = rounds.send(_seen(rollouts, groups, turns(rollouts), tokenizer.eos_id))
        except StopIteration:
            break
    missing = plan.group_size - torch.bincount(groups, minlength=prompts)
    if missing.any():
        short = torch.arange(prompts).repeat_interleave(missing)
        rollouts = join([rollouts, draw(short.tolist(), [()] * len(short))], pad_id=tokenizer.pad_id)
        groups, given = torch.cat((groups, short)), torch.cat((given, torch.zeros_like(short)))
    order = groups.argsort(stable=True)
    return rollouts.rows(order), given[order].to(rollouts.mask.device)


def without_prefixes(
    rollouts: Rollouts, batch: TokenBatch, given: Int[Tensor, " batch"]
) -> tuple[Rollouts, TokenBatch]:
    """The tokens that a completion took over, as part of its prompt: attended to, outside the mask."""
    mask = rollouts.mask & (torch.arange(rollouts.mask.shape[1], device=given.device) >= given[:, None])
    log_probs, entropy = (torch.where(mask, values, 0) for values in (rollouts.log_probs, rollouts.entropy))
    return (
        replace(rollouts, mask=mask, log_probs=log_probs, entropy=entropy),
        batch.with_(mask=mask, old_log_probs=log_probs, old_entropy=entropy),
    )


def _seen(rollouts: Rollouts, groups: Tensor, turn: Tensor, eos_id: int) -> TokenBatch:
    """What a branching rule sees of the responses that there are."""
    return TokenBatch(
        mask=rollouts.mask,
        rewards=torch.zeros(len(rollouts), device=rollouts.mask.device),
        group_ids=groups.to(rollouts.mask.device),
        old_log_probs=rollouts.log_probs,
        old_entropy=rollouts.entropy,
        token_ids=rollouts.completion_ids,
        extras={"turn": turn, "special": rollouts.completion_ids == eos_id},
    )


def _prefixes(forks: Forks, rollouts: Rollouts | None) -> list[list[int]]:
    return [
        [] if parent < 0 or rollouts is None else rollouts.completion_ids[parent, :position].tolist()
        for parent, position in zip(forks.parents.tolist(), forks.positions.tolist(), strict=True)
    ]


def _check(forks: Forks, groups: Tensor, rollouts: Rollouts | None, group_size: int, prompts: int) -> None:
    sizes = torch.bincount(torch.cat((groups, forks.groups.cpu())), minlength=prompts)
    if len(sizes) > prompts or int(sizes.max()) > group_size:
        raise ValueError(
            f"branching: groups hold {group_size} responses and there are {prompts}, but the rule asks for "
            f"{int(sizes.max())} of prompt {int(sizes.argmax())}"
        )
    there = 0 if rollouts is None else len(rollouts)
    for parent, position, group in torch.stack((forks.parents, forks.positions, forks.groups), -1).tolist():
        if parent >= there or (parent < 0 and position) or (parent >= 0 and int(groups[parent]) != group):
            raise ValueError(f"branching: response {parent} is none of the {there} to prompt {group} so far")
        length = 0 if rollouts is None or parent < 0 else int(rollouts.written[parent].sum())
        if not 0 <= position <= length:
            raise ValueError(
                f"branching: response {parent} has {length} tokens, of which {position} cannot be taken over"
            )
