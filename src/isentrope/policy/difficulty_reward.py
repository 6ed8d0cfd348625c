"""ARES's reward: easy prompts are to be solved with few uncertain passages, hard ones may have many.

"AEPO" in this paper is *adaptive* entropy policy optimisation; arXiv 2510.08141 (`recipes.dcpo`) and arXiv 2510.14545
(`recipes.agentic_aepo`) are two others of that name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from isentrope.policy.advantages import group_moments
from isentrope.policy.batch import Tally, TokenBatch
from isentrope.policy.controllers import Memory, Number, Stateful
from isentrope.policy.window_entropy import UncertainWindows, WindowsAbove

DIFFICULTIES = ("easy", "medium", "hard")
"""Names of the buckets, in the order of their numbers."""

_MARGIN = (0.15, 0.25, 0.35)
_KAPPA = (2.0, 3.0, 4.0)
_SOFTNESS = (2.0, 2.5, 3.0)
_CAP = (1.0, 1.0, 1.2)
_CONSOLATION = (0.6, 0.8, 1.0)


def difficulty(correct: Bool[Tensor, "batch"], group_ids: Int[Tensor, "batch"]) -> Int[Tensor, "batch"]:
    """The bucket of each response's prompt by the share of right responses: 0 from 2/3, 1 from 1/3, else 2.

    Args:
        correct: ``[B]`` which responses are right.
        group_ids: ``[B]``, equal for responses to the same prompt.

    References:
        Chen et al., ARES, arXiv 2510.08457.

    Examples:
        >>> import torch
        >>> ids = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
        >>> difficulty(torch.tensor([1, 1, 0, 1, 0, 0, 0, 0, 0]).bool(), ids)[::3]
        tensor([0, 1, 2])
    """
    accuracy = group_moments(correct.double(), group_ids).mean
    # Two of three are two thirds, whatever they round to.
    return 2 - (accuracy >= 2 / 3 - 1e-9).long() - (accuracy >= 1 / 3 - 1e-9).long()


def entropy_reward(
    number: Float[Tensor, "batch"],
    target: Float[Tensor, "batch"],
    bucket: Int[Tensor, "batch"],
    correct: Bool[Tensor, "batch"],
    gain: Float[Tensor, "batch"],
) -> Float[Tensor, "batch"]:
    """What ARES adds to the reward of a response with ``N`` uncertain passages where ``N*`` are usual.

    With ``d = N - N*``, the margin ``m = max(1, f max(N*, 1))``, the cap ``c``, the Huber function ``h(x) = x^2 / 2k`` up to
    ``k`` and ``x - k/2`` beyond, the logistic function ``s`` and ``x+ = max(x, 0)``:

    ======  ====================================================  ==========================
    bucket  right                                                 wrong
    ======  ====================================================  ==========================
    easy    ``-min(c, c h((d - m)+) / (m + k))``                  ``0.6 c s((d - m)+ / q)``
    medium  ``-min(c, c h((|d| - m)+) / (m + k))``                ``0.8 c s((d - m)+ / q)``
    hard    ``c s((d + m) / q)`` if ``d >= -m``, else             ``c s((d - m)+ / q)``
            ``-min(c, c h(-d - m) / 2(m + k))``
    ======  ====================================================  ==========================

    For easy, medium and hard ``f = .15, .25, .35``, ``k = 2, 3, 4``, ``q = 2, 2.5, 3``, ``c = gain, gain, 1.2 gain``.

    A wrong answer always gains at least half of its bound. The bounds overlap: for gains above 0.625, 0.556 and 0.432 a
    wrong answer can earn more than a right one to the same prompt (easy, medium, hard); with ARES's first gain of 0.5 a
    wrong one with many passages earns more than a right one with none where more than 40 are usual on hard prompts.

    Args:
        number: ``N``, ``[B]``.
        target: ``N*``, ``[B]``.
        bucket: ``[B]``, 0 easy, 1 medium, 2 hard.
        correct: ``[B]``.
        gain: ``alpha``, ``[B]``.

    References:
        Chen et al., ARES, arXiv 2510.08457, with the constants of its code.

    Examples:
        >>> import torch
        >>> usual, gain = torch.full((2,), 2.0), torch.full((2,), 0.5)
        >>> entropy_reward(torch.tensor([3.0, 1.0]), usual, torch.tensor([0, 2]), torch.tensor([True, True]), gain)
        tensor([-0.0000, 0.3000])
    """

    def of(table: tuple[float, ...]) -> Tensor:
        return torch.tensor(table, dtype=number.dtype, device=number.device)[bucket]

    difference = number - target
    margin = (of(_MARGIN) * target.clamp_min(1)).clamp_min(1)
    kappa, softness, cap = of(_KAPPA), of(_SOFTNESS), of(_CAP) * gain
    hard = bucket == 2
    beyond = torch.where(bucket == 1, difference.abs(), torch.where(hard, -difference, difference)) - margin
    excess = beyond.clamp_min(0)
    huber = torch.where(excess <= kappa, excess**2 / (2 * kappa), excess - kappa / 2)
    penalty = torch.minimum(cap, cap * huber / (margin + kappa) * torch.where(hard, 0.5, 1.0))
    bonus = cap * ((difference + margin) / softness).sigmoid()
    right = torch.where(hard & (difference >= -margin), bonus, -penalty)
    wrong = cap * of(_CONSOLATION) * ((difference - margin).clamp_min(0) / softness).sigmoid()
    return torch.where(correct, right, wrong)


@dataclass(frozen=True)
class HierarchicalEntropyReward(Stateful):
    """Adds `entropy_reward` to the rewards, with targets and gains that follow the batches, one for each difficulty.

    ``N*`` is a mean over earlier batches of the mean of ``N`` over the prompts of the bucket: ``N* <- decay N* +
    (1 - decay) mean N``. The gain moves by ``rate (mean N - N*)`` for easy and medium prompts and against it for hard ones,
    between 0 and ``largest_gain``. Hence, off its bounds, the gain of easy prompts is at any time its first value plus
    ``rate / (1 - decay)`` times the growth of ``N*`` since the first batch.

    The published code takes the batch's own mean, rounded, for ``N*``. The gain then moves by nothing but ``rate`` times
    what rounding left, whatever the policy does; ``published=True`` does the same.

    The first batch is its own target. A batch without prompts of a bucket leaves that bucket's memory alone.

    Args:
        counter: what counts the uncertain passages ``N`` of a response.
        gain: first gain of all buckets.
        rate: change of a gain per passage.
        largest_gain: upper bound of the gains.
        decay: weight of the past in ``N*``; 0 is the batch before.
        published: ``N*`` from the batch itself, rounded.
        correct_above: reward above which a response is right.

    Raises:
        ValueError: if ``gain`` or ``decay`` lies outside its range.

    References:
        Chen et al., ARES: Multimodal Adaptive Reasoning via Difficulty-Aware Token-Level Entropy Shaping,
        arXiv 2510.08457.

    Examples:
        >>> part = HierarchicalEntropyReward()
        >>> memory = part.start()
        >>> for number in (8.0, 10.0):
        ...     memory = part.update(memory, {"easy": number, "hard": number}, 0)
        >>> memory["targets"], memory["gains"]
        ([10.0, None, 10.0], [0.6, 0.5, 0.4])
    """

    counter: Number = field(default_factory=UncertainWindows)
    gain: float = 0.5
    rate: float = 0.05
    largest_gain: float = 2.0
    decay: float = 0.0
    published: bool = False
    correct_above: float = 0.5

    def __post_init__(self):
        if not 0 <= self.gain <= self.largest_gain:
            raise ValueError(
                f"HierarchicalEntropyReward: gain must lie in [0, largest_gain = {self.largest_gain}], got {self.gain}"
            )
        if not 0 <= self.decay < 1:
            raise ValueError(f"HierarchicalEntropyReward: decay must lie in [0, 1), got {self.decay}")

    def start(self) -> Memory:
        """The first gains, and no targets."""
        return {"gains": [self.gain] * 3, "targets": [None] * 3}

    def at(self, memory: Memory, step: int) -> "EntropyRewardTowards":
        """The reward of this step."""
        targets = (None,) * 3 if self.published else tuple(memory["targets"])
        return EntropyRewardTowards(self.counter, targets, tuple(memory["gains"]), self.published, self.correct_above)

    def observe(self, batch: TokenBatch) -> Tally:
        """The mean over prompts of ``N``, in each bucket."""
        number = group_moments(self.counter(batch).number, batch.group_ids).mean
        bucket = difficulty(batch.outcome_rewards > self.correct_above, batch.group_ids)
        once = _one_of_each(batch.group_ids, batch.mask.any(-1))
        tally = Tally()
        for index, name in enumerate(DIFFICULTIES):
            tally = tally.add(name, number, once & (bucket == index))
        return tally

    def update(self, memory: Memory, metrics: Mapping[str, float], step: int) -> Memory:
        """Move gains and targets of the buckets that occur."""
        gains, targets = list(memory["gains"]), list(memory["targets"])
        for index, name in enumerate(DIFFICULTIES):
            if name not in metrics:
                continue
            number, target = metrics[name], targets[index]
            if self.published:
                target = round(number)
            change = 0.0 if target is None else (number - target) * (-1 if name == "hard" else 1)
            gains[index] = min(max(gains[index] + self.rate * change, 0.0), self.largest_gain)
            targets[index] = number if target is None else self.decay * target + (1 - self.decay) * number
        return {"gains": gains, "targets": targets}


@dataclass(frozen=True)
class EntropyRewardTowards:
    """The reward of `HierarchicalEntropyReward` (arXiv 2510.08457) in one step, towards given numbers with given gains.

    A target of None is the mean over the batch's own prompts of the bucket, rounded if ``rounded``.
    """

    counter: WindowsAbove
    targets: tuple[float | None, ...]
    gains: tuple[float, ...]
    rounded: bool = False
    correct_above: float = 0.5

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch"]:
        """Rewards ``[B]``."""
        correct = batch.outcome_rewards > self.correct_above
        bucket = difficulty(correct, batch.group_ids)
        number = self.counter(batch).number.to(batch.rewards.dtype)
        own = group_moments(number, batch.group_ids).mean
        once = _one_of_each(batch.group_ids, batch.mask.any(-1))
        targets, gains = torch.zeros_like(number), torch.zeros_like(number)
        for index, (target, gain) in enumerate(zip(self.targets, self.gains, strict=True)):
            here = bucket == index
            if target is None:
                mean = own[here & once].mean() if (here & once).any() else own.new_zeros(())
                targets = torch.where(here, mean.round() if self.rounded else mean, targets)
            else:
                targets = torch.where(here, target, targets)
            gains = torch.where(here, gain, gains)
        return batch.rewards + entropy_reward(number, targets, bucket, correct, gains)


def _one_of_each(group_ids: Int[Tensor, "batch"], present: Bool[Tensor, "batch"]) -> Bool[Tensor, "batch"]:
    """The first row of each group that is present."""
    _, index = group_ids.unique(return_inverse=True)
    row = torch.where(present, torch.arange(len(present), device=present.device), len(present))
    first = torch.full_like(row, len(present)).scatter_reduce(0, index, row, "amin")
    return present & (row == first[index])
