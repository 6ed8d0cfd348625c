"""Responses that fork at uncertain tokens: exploration where the policy hesitates, and fewer tokens to sample."""

from collections.abc import Generator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from isentrope.policy.batch import TokenBatch
from isentrope.policy.rollout import Forks, RolloutPlan


def most_uncertain(
    entropy: Float[Tensor, "batch time"], valid: Bool[Tensor, "batch time"], count: int
) -> Int[Tensor, "batch count"]:
    """The positions of the ``count`` largest entropies of each row, largest first; -1 where there are no more.

    Args:
        entropy: ``[B, T]``.
        valid: ``[B, T]`` the positions that may be chosen.
        count: how many.

    Examples:
        >>> entropy = torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.2, 0.0]])
        >>> most_uncertain(entropy, torch.tensor([[True, True, True], [True, False, False]]), 2)
        tensor([[ 1,  2],
                [ 0, -1]])
    """
    ranked = torch.where(valid, entropy, -torch.inf).sort(dim=-1, descending=True, stable=True).indices[:, :count]
    ranked = torch.nn.functional.pad(ranked, (0, count - ranked.shape[1]), value=-1)
    return torch.where(torch.arange(count, device=valid.device) < valid.sum(-1, keepdim=True), ranked, -1)


def expected_token_ratio(forks: int, continuations: int) -> float:
    """Tokens that a tree samples over those of as many independent responses, if forks are placed uniformly.

    ``(1 + B N / 2) / (1 + B N)`` for ``N`` forks with ``B`` continuations each, every one of which samples half a
    response in the mean.

    References:
        Liu et al., ETTRL, arXiv 2508.11356.

    Examples:
        >>> round(expected_token_ratio(forks=3, continuations=2), 3)
        0.571
    """
    branches = forks * continuations
    return (1 + branches / 2) / (1 + branches)


@dataclass(frozen=True)
class TreeRollout:
    """Sample some responses in full, then fork each where its policy was most uncertain.

    From each of ``M`` full responses ``y`` take the ``among`` positions of largest entropy, of these ``forks`` at random,
    and at each such position ``s`` sample ``continuations`` further responses that begin with ``y_{<s}``; the token at
    ``s`` is drawn anew. A group then holds ``M (1 + forks * continuations)`` responses, which must be the group size.
    A response with fewer positions to fork at is made up for by responses from the prompt.

    Args:
        forks: ``N``, positions of each full response that are forked at.
        continuations: ``B``, responses from each fork.
        among: the number of most uncertain positions to draw the forks from; ``forks`` if None, so that the choice is
            not random.
        first: the first position that may be forked at.
        learns_prefix: whether the tokens taken over count as the response's own. If not they are prompt: outside the
            mask, with no share in loss, length or metrics.
        uniform: draw forks from all positions, whatever their entropy (the ablation).

    Raises:
        ValueError: if a number is out of range, or the group size is no multiple of a tree's size.

    References:
        Li et al., CURE, arXiv 2508.11016 (one fork among the 20 most uncertain tokens, prefixes as prompts); Liu et al.,
        ETTRL, arXiv 2508.11356 (forks at the most uncertain tokens, whole responses).

    Examples:
        >>> tree = TreeRollout(forks=1, continuations=3)
        >>> batch = TokenBatch(
        ...     mask=torch.ones(1, 4, dtype=torch.bool), rewards=torch.zeros(1), group_ids=torch.zeros(1).long(),
        ...     old_log_probs=torch.zeros(1, 4), old_entropy=torch.tensor([[0.1, 0.2, 1.5, 0.3]]))
        >>> rounds = tree.rounds(prompts=1, group_size=4, generator=torch.Generator())
        >>> len(next(rounds)), rounds.send(batch).positions
        (1, tensor([2, 2, 2]))
    """

    forks: int = 2
    continuations: int = 2
    among: int | None = None
    first: int = 0
    learns_prefix: bool = True
    uniform: bool = False

    def __post_init__(self):
        if self.forks < 1 or self.continuations < 1:
            raise ValueError(
                f"TreeRollout: forks and continuations must be at least 1, got {self.forks} and {self.continuations}"
            )
        if self.among is not None and self.among < self.forks:
            raise ValueError(f"TreeRollout: among must be at least forks, {self.forks}, got {self.among}")
        if self.first < 0:
            raise ValueError(f"TreeRollout: first must not be negative, got {self.first}")

    @property
    def size(self) -> int:
        """Responses of a tree."""
        return 1 + self.forks * self.continuations

    def __call__(self, plan: RolloutPlan) -> RolloutPlan:
        """The plan with trees."""
        if plan.group_size % self.size:
            raise ValueError(
                f"TreeRollout: {self.forks} forks with {self.continuations} continuations make trees of {self.size} "
                f"responses, so the group size must be a multiple of {self.size}, got {plan.group_size}"
            )
        return replace(plan, branching=self)

    def rounds(self, prompts: int, group_size: int, generator: torch.Generator) -> Generator[Forks, TokenBatch, None]:
        """The full responses, then all forks."""
        batch = yield Forks.fresh(torch.arange(prompts).repeat_interleave(group_size // self.size))
        chosen = self.positions(batch, generator)
        row = torch.arange(len(chosen), device=chosen.device)[:, None].expand_as(chosen)
        rows, positions = (each[chosen >= 0].repeat_interleave(self.continuations) for each in (row, chosen))
        yield Forks(batch.group_ids[rows], rows, positions)

    def positions(self, batch: TokenBatch, generator: torch.Generator) -> Int[Tensor, "batch forks"]:
        """Where each response forks; -1 where it has no more positions."""
        assert batch.old_entropy is not None
        valid = batch.mask & (torch.arange(batch.mask.shape[1], device=batch.mask.device) >= self.first)
        if "special" in batch.extras:
            valid = valid & ~batch.extras["special"]
        draw = torch.rand(batch.mask.shape, generator=generator, dtype=torch.float64).to(batch.mask.device)
        if self.uniform:
            return most_uncertain(draw, valid, self.forks)
        if self.among is None:
            return most_uncertain(batch.old_entropy, valid, self.forks)
        candidates = most_uncertain(batch.old_entropy, valid, self.among)
        candidate = torch.zeros_like(valid)
        row, rank = torch.nonzero(candidates >= 0, as_tuple=True)
        candidate[row, candidates[row, rank]] = True
        return most_uncertain(draw, candidate, self.forks)
