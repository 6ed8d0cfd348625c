"""SPINE's selection: the forks of each response are its tokens of highest entropy."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool
from torch import Tensor

from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number
from isentrope.policy.selection import row_quantile


@dataclass(frozen=True)
class ForkingTokens:
    """A selection of the forks of each response: tokens of entropy at or above the ``1 - fraction`` quantile of theirs.

    The quantile is that of the response's own valid tokens, so that every response keeps its surest fork, whatever the
    others are like; `TopEntropy` ranks the whole batch instead. Tokens equal to the quantile stay: where all entropies are
    equal all do. Denominators count the forks alone.

    Args:
        fraction: share of each response's tokens; 0.2 in the paper's first version.

    Raises:
        ValueError: if the fraction lies outside (0, 1].

    References:
        Wu et al., SPINE: Token-Selective Test-Time Reinforcement Learning with Entropy-Band Regularization,
        arXiv 2511.17938.

    Examples:
        >>> import torch
        >>> batch = TokenBatch(
        ...     mask=torch.ones(1, 5, dtype=torch.bool), rewards=torch.ones(1), group_ids=torch.zeros(1).long(),
        ...     old_log_probs=torch.zeros(1, 5), entropy=torch.tensor([[0.1, 2.0, 0.0, 0.3, 0.2]]))
        >>> ForkingTokens(0.5)(batch)
        tensor([[False,  True, False,  True,  True]])
    """

    fraction: Number = 0.2
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy"})

    def __post_init__(self):
        if isinstance(self.fraction, (int, float)) and not 0 < self.fraction <= 1:
            raise ValueError(f"ForkingTokens: fraction must lie in (0, 1], got {self.fraction}")

    def __call__(self, batch: TokenBatch) -> Bool[Tensor, "batch time"]:
        """True for the tokens to train on."""
        assert batch.entropy is not None
        threshold = row_quantile(batch.entropy, batch.mask, 1 - self.fraction)
        return batch.mask & (batch.entropy >= threshold[:, None])
