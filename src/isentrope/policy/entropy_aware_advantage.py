"""Agentic entropy-balanced policy optimisation: the advantage grows with the token's entropy."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number


@dataclass(frozen=True)
class EntropyAwareAdvantage:
    """Shaping by standardised entropy: ``A'_t = A_t (1 + a z_t)`` with ``z_t = (H_t - mean H) / std H``.

    Mean and standard deviation (the unbiased one) are over the valid tokens of the whole batch; the reference code takes
    those of the micro-batch. Where all entropies are equal nothing changes. A token more than ``1 / a`` standard
    deviations below the mean would change the sign of its advantage, as in the paper; no limit is set here.

    This is the advantage of the paper's three pieces; the others are a branching rollout and a clip that keeps gradient.

    Args:
        strength: ``a``; a number or a controller.

    References:
        Dong et al., Agentic Entropy-Balanced Policy Optimization (AEPO), arXiv 2510.14545.

    Examples:
        >>> import torch
        >>> batch = TokenBatch(
        ...     mask=torch.ones(1, 2, dtype=torch.bool), rewards=torch.ones(1), group_ids=torch.zeros(1).long(),
        ...     old_log_probs=torch.zeros(1, 2), entropy=torch.tensor([[0.0, 2.0]]), advantages=torch.ones(1, 2))
        >>> EntropyAwareAdvantage()(batch)
        tensor([[0.8586, 1.1414]])
    """

    strength: Number = 0.2
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy"})

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """New advantages ``[B, T]``."""
        assert batch.entropy is not None
        assert batch.advantages is not None
        valid = batch.entropy.detach()[batch.mask].double()
        if len(valid) < 2 or valid.min() == valid.max():
            return batch.advantages
        z = (batch.entropy.detach() - valid.mean()) / valid.std()
        return batch.advantages * (1 + self.strength * z).to(batch.advantages.dtype)
