"""Rewards without labels: what the policy's own certainty, or the agreement of its answers, says of a response.

They replace the rewards that came with the batch. `DropUniformGroups` looks at those, so leave it out of an objective
that must not see labels.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from isentrope.policy.batch import TokenBatch


@dataclass(frozen=True)
class NegativeEntropy:
    """The response's negative entropy as its reward.

    ``"sequence"`` is ``sum_t log pi(y_t)``, one sample of the negative entropy over responses: its policy gradient is that
    of the entropy over responses. ``"token"`` is ``-sum_t H_t`` with the full entropies of the sampling policy. It has
    the same mean and less noise, but its policy gradient leaves out how each ``H_t`` itself depends on the policy: it
    only prefers tokens after which the entropy is lower, and at the last token does nothing.

    Both are sums: short responses lose less.

    Args:
        estimator: ``"sequence"`` or ``"token"``.

    References:
        Agarwal et al., The Unreasonable Effectiveness of Entropy Minimization in LLM Reasoning (EM-RL),
        arXiv 2505.15134.

    Examples:
        >>> batch = TokenBatch(
        ...     mask=torch.tensor([[True, True], [True, False]]), rewards=torch.zeros(2),
        ...     group_ids=torch.zeros(2, dtype=torch.long), old_log_probs=torch.tensor([[-1.0, -2.0], [-0.5, 0.0]]),
        ... )
        >>> NegativeEntropy()(batch)
        tensor([-3.0000, -0.5000])
    """

    estimator: Literal["sequence", "token"] = "sequence"

    def __post_init__(self):
        if self.estimator not in ("sequence", "token"):
            raise ValueError(f"NegativeEntropy: estimator must be 'sequence' or 'token', got {self.estimator!r}")

    @property
    def needs(self) -> frozenset[str]:
        """The sampling policy's entropy, unless its log-probabilities do."""
        return frozenset({"old_entropy"} if self.estimator == "token" else ())

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch"]:
        """Rewards ``[B]``."""
        values = batch.old_log_probs if self.estimator == "sequence" else batch.old_entropy
        assert values is not None
        total = torch.where(batch.mask, values, 0).sum(-1).to(batch.rewards.dtype)
        return total if self.estimator == "sequence" else -total


def _padded_groups(group_ids: Int[Tensor, "batch"]) -> tuple[Tensor, Tensor, Tensor]:
    """The group of each row, its place in it, and a ``[groups, largest]`` table of rows with -1 where there is none."""
    _, index, size = group_ids.unique(return_inverse=True, return_counts=True)
    order = index.argsort(stable=True)
    place = torch.empty_like(index)
    place[order] = torch.arange(len(index), device=index.device) - (size.cumsum(0) - size)[index[order]]
    table = torch.full((len(size), int(size.max()) if len(size) else 0), -1, device=index.device)
    table[index, place] = torch.arange(len(index), device=index.device)
    return index, place, table


@dataclass(frozen=True)
class MajorityVote:
    """1 for a response whose answer is the most frequent of its group, 0 for the others.

    Answers that tie for the majority share it: each of ``k`` gets ``1/k``, the mean over ways to break the tie (the
    published code takes the first). So a group without any agreement has nothing to learn from. A response without an
    answer has no vote and gets 0.

    A response's own vote helps it to win. ``leave_one_out`` counts the others' votes alone, so that an answer that nobody
    else gave gets 0.

    Args:
        leave_one_out: judge each response by the votes of the others.

    References:
        Zuo et al., TTRL: Test-Time Reinforcement Learning, arXiv 2504.16084.

    Examples:
        >>> batch = TokenBatch(
        ...     mask=torch.ones(4, 1, dtype=torch.bool), rewards=torch.zeros(4), old_log_probs=torch.zeros(4, 1),
        ...     group_ids=torch.zeros(4, dtype=torch.long), extras={"answer": torch.tensor([12, 12, 7, -1])},
        ... )
        >>> MajorityVote()(batch)
        tensor([1., 1., 0., 0.])
        >>> MajorityVote(leave_one_out=True)(batch)
        tensor([0.5000, 0.5000, 0.0000, 0.0000])
    """

    leave_one_out: bool = False

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch"]:
        """Rewards ``[B]``."""
        index, place, table = _padded_groups(batch.group_ids)
        answers = torch.where(table >= 0, batch.extra("answer")[table.clamp_min(0)], -1)
        valid: Bool[Tensor, "groups size"] = answers >= 0
        # agree[g, i, j]: as judged by response i, j casts a vote for i's answer.
        agree = (answers[:, :, None] == answers[:, None, :]) & valid[:, :, None] & valid[:, None, :]
        votes = agree.sum(-1)[:, None, :].expand(agree.shape)
        if self.leave_one_out:
            votes = votes - agree.long()
        votes = torch.where(valid[:, None, :], votes, 0)
        best = votes.amax(-1, keepdim=True)
        # Each answer's c supporters count 1/c each, so that the sum counts answers.
        supporters = agree.sum(-1).clamp_min(1)[:, None, :]
        tied = torch.where((votes == best) & (best > 0), 1 / supporters, 0).sum(-1)
        own = votes.diagonal(dim1=1, dim2=2)
        won = (own == best.squeeze(-1)) & (own > 0)
        rewards = torch.where(won, 1 / tied.clamp_min(1), 0)
        return rewards[index, place].to(batch.rewards.dtype)
