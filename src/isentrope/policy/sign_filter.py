"""Entrocraft: responses are rejected by the sign of their advantage while the batch's entropy is outside a band."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from isentrope.policy.advantages import GroupNormalized
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
    against 0.02 (six seeds, standard error 0.11). Without `EqualPrompts` it ends at 0.05, standard error 0.03: there it is
    the mean within each prompt that acts.

    The reference code rejects no rows; `OneSignedRewards` is what it does.

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
        _check_band("SignFilter", self.low, self.high)
        if isinstance(self.exceptions, (int, float)) and not 0 <= self.exceptions <= 1:
            raise ValueError(f"SignFilter: exceptions must lie in [0, 1], got {self.exceptions}")

    def prepare(self, batch: TokenBatch, generator: torch.Generator) -> Bool[Tensor, "batch"]:
        """True for the rows to keep."""
        assert batch.advantages is not None
        keep = _side(batch, self.low, self.high) * row_means(batch.advantages, batch.mask) >= 0
        if self.exceptions:
            keep = keep | (torch.rand(len(keep), generator=generator) < self.exceptions).to(keep.device)
        return keep


@dataclass(frozen=True)
class OneSignedRewards:
    """The advantage of Entrocraft's reference code: raw rewards of one sign while the entropy is outside the band.

    Above the band ``A_i = max(r_i, 0)``, below it ``A_i = min(r_i, 0)``, inside it the reward standardised within its
    group. Denominators keep every row. Punishing needs negative rewards: with rewards of 0 and 1 nothing is learnt below
    the band. The paper describes `SignFilter` instead.

    Args:
        low: lower end of the band in nats, a number or a schedule.
        high: upper end of the band in nats.

    References:
        Li et al., Addressing Performance Saturation for LLM RL via Precise Entropy Curve Control (Entrocraft),
        arXiv 2604.26326.

    Examples:
        >>> import torch
        >>> batch = TokenBatch(
        ...     mask=torch.ones(2, 1, dtype=torch.bool), rewards=torch.tensor([1.0, -1.0]),
        ...     group_ids=torch.zeros(2).long(), old_log_probs=torch.zeros(2, 1), entropy=torch.full((2, 1), 0.3))
        >>> OneSignedRewards(0.6, 0.7)(batch)
        tensor([ 0., -1.])
    """

    low: Number
    high: Number
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy"})

    def __post_init__(self):
        _check_band("OneSignedRewards", self.low, self.high)

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch"]:
        """Advantages ``[B]``."""
        wanted = _side(batch, self.low, self.high)
        if not wanted:
            return GroupNormalized()(batch)
        return batch.rewards.clamp_min(0) if wanted > 0 else batch.rewards.clamp_max(0)


def _check_band(name: str, low: Number, high: Number) -> None:
    numbers = [end for end in (low, high) if isinstance(end, (int, float))]
    if numbers != sorted(numbers):
        raise ValueError(f"{name}: low must not exceed high, got {low} and {high}")


def _side(batch: TokenBatch, low: float, high: float) -> int:
    """1 if the mean over responses of their mean token entropy lies above the band, -1 below, 0 inside."""
    assert batch.entropy is not None
    entropies = row_means(batch.entropy, batch.mask)[batch.mask.any(-1)].double()
    if not len(entropies):
        return 0
    entropy = float(entropies.mean())
    return (entropy > high) - (entropy < low)


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
