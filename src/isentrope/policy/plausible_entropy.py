"""The entropy of the policy over its plausible tokens only, and a bonus on it.

Over a vocabulary of 150,000 an entropy bonus is earned most cheaply by moving mass into the tail. Here the unlikely tokens
are removed, the rest renormalised to ``q``, and ``H~ = -sum q log q`` taken; the set is fixed while differentiating, so the
gradient is ``-q_j (log q_j + H~)`` on the tokens that are kept and 0 on the others: nothing is pushed into the tail.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from isentrope.measures import token_statistics_from_logits
from isentrope.policy.batch import Tally, TokenBatch, scattered
from isentrope.policy.controllers import Number


def clamped_entropy(logits: Float[Tensor, "*tokens vocabulary"], removed: float) -> Float[Tensor, "*tokens"]:
    """Entropy in nats after the ``floor(removed V)`` least likely of the ``V`` tokens are taken out.

    Args:
        logits: ``[..., V]``.
        removed: share of the vocabulary in ``[0, 1)``.

    References:
        Shen, arXiv 2509.03493.

    Examples:
        >>> import torch
        >>> clamped_entropy(torch.zeros(10), 0.3)  # log 7
        tensor(1.9459)
    """
    size = logits.shape[-1]
    # The sum of a share and its complement may miss 1 by a rounding.
    return _entropy(logits.topk(size - math.floor(removed * size + 1e-9), -1).values)


def nucleus_entropy(
    logits: Float[Tensor, "*tokens vocabulary"], mass: float, include_crossing: bool = True
) -> Float[Tensor, "*tokens"]:
    """Entropy in nats over the nucleus: the fewest most likely tokens that together have at least this probability.

    Args:
        logits: ``[..., V]``.
        mass: ``p`` in ``(0, 1]``.
        include_crossing: whether the token with which the sum reaches ``p`` belongs to the nucleus. If not, only tokens up
            to which the sum stays below ``p`` do, as in SIREN's code; if there is none, the entropy is 0.

    References:
        Jiang et al., arXiv 2509.25133.

    Examples:
        >>> import torch
        >>> nucleus_entropy(torch.zeros(10), 0.75)  # log 8
        tensor(2.0794)
    """
    ranked = logits.sort(-1, descending=True).values
    if mass < 1:
        probs = ranked.detach().softmax(-1)
        reached = probs.cumsum(-1)
        outside = (reached - probs if include_crossing else reached) >= mass
        # One token has the entropy of an empty set: none.
        outside[..., 0] = False
        ranked = ranked.masked_fill(outside, -torch.inf)
    return _entropy(ranked)


def at_valid_tokens(batch: TokenBatch, measure: Callable[[Tensor], Tensor]) -> Float[Tensor, "batch time"]:
    """What a measure says of the logits at each valid position, 0 elsewhere."""
    assert batch.logits is not None
    return scattered(measure(batch.logits()[batch.mask]), batch.mask)


def _entropy(logits: Tensor) -> Tensor:
    anything = torch.zeros(logits.shape[:-1], dtype=torch.long, device=logits.device)
    entropy = token_statistics_from_logits(logits, anything, outputs=("entropy",)).entropy
    assert entropy is not None
    return entropy


@dataclass(frozen=True)
class ClampedEntropyBonus:
    """Rewards the entropy over the more likely part of the vocabulary: adds ``-coefficient H~_t`` to the loss.

    Its mean is the metric ``clamped_entropy``, which a controller may follow (it sees that of the step before).

    Args:
        coefficient: ``lambda``, in loss per nat; a number or a controller.
        removed: share ``p`` of the vocabulary that is taken out. 0 is the plain entropy bonus.

    Raises:
        ValueError: if nothing would be left.

    References:
        Shen, On Entropy Control in LLM-RL Algorithms (AEnt), arXiv 2509.03493.

    Examples:
        >>> mask = torch.ones(1, 1, dtype=torch.bool)
        >>> batch = TokenBatch(
        ...     mask=mask, rewards=torch.ones(1), group_ids=torch.zeros(1).long(), old_log_probs=torch.zeros(1, 1),
        ...     logits=lambda: torch.zeros(1, 1, 10))
        >>> term, tally = ClampedEntropyBonus(0.1, removed=0.3)(batch)
        >>> term, tally.means()
        (tensor([[-0.1946]]), {'clamped_entropy': 1.9459...})
    """

    coefficient: Number
    removed: float = 0.3
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __post_init__(self):
        if not 0 <= self.removed < 1:
            raise ValueError(f"ClampedEntropyBonus: removed must lie in [0, 1), got {self.removed}")

    def __call__(self, batch: TokenBatch) -> tuple[Float[Tensor, "batch time"], Tally]:
        """The term for each token, and the tally of the clamped entropy."""
        entropy = at_valid_tokens(batch, lambda logits: clamped_entropy(logits, self.removed))
        return -self.coefficient * entropy, Tally().add("clamped_entropy", entropy, batch.mask)
