"""Entrocraft: responses are rejected by the sign of their advantage while the batch's entropy is outside a band."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from isentrope.policy.aggregation import row_means
from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number


@dataclass(frozen=True)
class SignFilter:
    """A row filter that keeps the responses whose advantage pushes the batch's entropy back into a band.

    With the batch entropy ``H`` (the mean over responses of their mean token entropy) and
    ``m = 1[H > high] - 1[H < low]``, response ``i`` stays if ``m A_i >= 0``: below the band rewarded responses go, above
    it punished ones, inside it none. ``A_i`` is the mean of the response's token advantages, which were estimated on the
    full group. `EqualPrompts` then gives each prompt the same weight, as in the paper's objective.

    The sign rule is right for tokens more likely than ``exp(-H)``. Where the advantage does not depend on the token, one
    on-policy step changes the entropy by nothing on average, whatever its sign. On the bandit of 20 arms (learning rate
    0.5, 400 batches, band 1.5 to 1.6 nats) the band is never held: with one optimiser step a batch the fall is delayed
    (1.96 against 0.60 nats after 200 batches) and ends below GRPO's (0.09 against 0.17), with eight it ends at 0.42
    against 0.02 (six seeds, standard error 0.11).

    The reference code rejects no rows: outside the band it replaces the group's advantages by the raw rewards with one
    sign set to 0, which leaves the denominators as they are. This part follows the paper.

    Args:
        low: lower end of the band in nats, a number or a schedule; 0.6 falling to 0.1 in the paper.
        high: upper end of the band in nats; 0.7 falling to 0.2 in the paper.
        exceptions: probability with which a response that the rule rejects stays after all; 0 in the paper.

    Raises:
        ValueError: if the band is upside down or the probability lies outside [0, 1].

    References:
        Li et al., Addressing Performance Saturation for LLM RL via Precise Entropy Curve Control (Entrocraft),
        arXiv 2604.26326, section 4.

    Examples:
        >>> import torch
        >>> batch = TokenBatch(
        ...     mask=torch.ones(2, 1, dtype=torch.bool), rewards=torch.tensor([1.0, 0.0]),
        ...     group_ids=torch.zeros(2).long(), old_log_probs=torch.zeros(2, 1), entropy=torch.full((2, 1), 0.3),
        ...     advantages=torch.tensor([[1.0], [-1.0]]))
        >>> SignFilter(0.6, 0.7).prepare(batch, torch.Generator())
        tensor([False,  True])
    """

    low: Number
    high: Number
    exceptions: Number = 0.0
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy"})

    def __post_init__(self):
        numbers = [end for end in (self.low, self.high) if isinstance(end, (int, float))]
        if numbers != sorted(numbers):
            raise ValueError(f"SignFilter: low must not exceed high, got {self.low} and {self.high}")
        if isinstance(self.exceptions, (int, float)) and not 0 <= self.exceptions <= 1:
            raise ValueError(f"SignFilter: exceptions must lie in [0, 1], got {self.exceptions}")

    def prepare(self, batch: TokenBatch, generator: torch.Generator) -> Bool[Tensor, "batch"]:
        """True for the rows to keep."""
        assert batch.entropy is not None
        assert batch.advantages is not None
        answered = batch.mask.any(-1)
        entropies = row_means(batch.entropy, batch.mask)[answered].double()
        entropy = float(entropies.mean()) if len(entropies) else self.low
        wanted = (entropy > self.high) - (entropy < self.low)
        keep = wanted * row_means(batch.advantages, batch.mask) >= 0
        if self.exceptions:
            keep = keep | (torch.rand(len(keep), generator=generator) < self.exceptions).to(keep.device)
        return keep


@dataclass(frozen=True)
class EqualPrompts:
    """A token weight by which each prompt counts the same, however many of its responses a filter kept.

    A row weighs ``N / (P n_x)`` with ``n_x`` the kept rows of its prompt, ``P`` the prompts with any, and ``N`` the kept
    rows, so that a mean over rows is the mean over prompts of the means over their rows. Without a filter, and with
    groups of one size, all weights are 1.

    References:
        Li et al., Addressing Performance Saturation for LLM RL via Precise Entropy Curve Control (Entrocraft),
        arXiv 2604.26326, the objective over the accepted set.
    """

    def prepare(self, batch: TokenBatch, generator: torch.Generator) -> Float[Tensor, "batch"]:
        """The weight of each row; 0 for rows that were dropped."""
        kept = batch.mask.any(-1)
        _, index, size = batch.group_ids[kept].unique(return_inverse=True, return_counts=True)
        weights = torch.zeros_like(batch.old_log_probs[:, 0])
        weights[kept] = (kept.sum() / (len(size) * size[index].double())).to(weights.dtype)
        return weights

    def __call__(self, batch: TokenBatch, prepared: Float[Tensor, "batch"]) -> Float[Tensor, "batch time"]:
        """Weights ``[B, T]``."""
        return prepared[:, None].expand(batch.mask.shape)
