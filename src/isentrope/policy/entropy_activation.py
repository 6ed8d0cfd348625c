"""An output activation that keeps the entropy of responses between two bounds, in the place of a loss term.

It acts in training alone; responses are sampled from the raw policy. A rewarded response whose uncertain tokens have too
little entropy is trained as if the policy were sharper than it is, by logits times ``k``. Its gradient,

    ``A/k grad_z log softmax(k z)_a = A (e_a - softmax(k z))``,

saturates before the raw policy is sharp, while punished responses flatten it as ever. Where there is too much entropy the
logits are divided by ``k``.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from isentrope.policy.batch import TokenBatch


@dataclass(frozen=True)
class EntropyActivation:
    """Scales the logits of rewarded tokens by ``k``, 1 or ``1/k``, by the entropy of their response.

    ``H_i`` is the mean of the ``max(1, floor(share |o_i|))`` largest token entropies of the response under the policy
    that sampled. Where ``A > 0``: ``k z`` if ``H_i < low``, ``z / k`` if ``H_i > high``, ``z`` between; ``z`` where
    ``A <= 0``.

    Args:
        low: ``omega_low``, in nats.
        high: ``omega_high``, in nats.
        factor: ``k``.
        share: of the tokens of a response that its entropy is taken over.

    References:
        Kang et al., ERA: Entropy Regularizing Activation, arXiv 2510.08549, the form for language models.

    Examples:
        >>> import torch
        >>> batch = TokenBatch(
        ...     mask=torch.ones(2, 2, dtype=torch.bool), rewards=torch.zeros(2), group_ids=torch.zeros(2, dtype=torch.long),
        ...     old_log_probs=torch.zeros(2, 2), old_entropy=torch.tensor([[0.1, 0.2], [0.1, 0.9]]),
        ...     advantages=torch.ones(2, 2),
        ... )
        >>> EntropyActivation().prepare(batch, None).exp()  # the first response is too sure of itself
        tensor([[2., 2.],
                [1., 1.]])
    """

    low: float = 0.45
    high: float = 3.0
    factor: float = 2.0
    share: float = 0.2
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy"})

    def __post_init__(self):
        if not self.low <= self.high:
            raise ValueError(f"EntropyActivation: low must not exceed high, got {self.low} and {self.high}")
        if not self.factor > 0:
            raise ValueError(f"EntropyActivation: factor must be positive, got {self.factor}")
        if not 0 < self.share <= 1:
            raise ValueError(f"EntropyActivation: share must lie in (0, 1], got {self.share}")

    def prepare(self, batch: TokenBatch, generator: torch.Generator | None) -> Float[Tensor, "batch time"]:
        """The logarithm of each token's scale."""
        assert batch.old_entropy is not None
        assert batch.advantages is not None
        entropy = torch.where(batch.mask, batch.old_entropy, -torch.inf).sort(-1, descending=True).values
        count = (self.share * batch.lengths + 1e-9).floor().clamp_min(1)[:, None]
        counted = (torch.arange(entropy.shape[1], device=entropy.device) < count) & entropy.isfinite()
        mean = torch.where(counted, entropy, 0).sum(-1, keepdim=True) / counted.sum(-1, keepdim=True).clamp_min(1)
        direction = (mean < self.low).to(entropy.dtype) - (mean > self.high).to(entropy.dtype)
        return torch.where(batch.mask & (batch.advantages > 0), math.log(self.factor) * direction, 0)

    def __call__(
        self, logits: Float[Tensor, "tokens vocabulary"], prepared: Float[Tensor, " tokens"]
    ) -> Float[Tensor, "tokens vocabulary"]:
        """The scaled logits."""
        return logits * prepared.to(logits.dtype).exp()[:, None]


@dataclass(frozen=True)
class RescaledByActivation:
    """Divides each token's advantage by the scale of its logits: ``A / k``, ``A``, or ``A k``.

    So the gradient by the logits stays of the size that it had without the activation.

    Args:
        activation: the objective's.

    References:
        Kang et al., ERA, arXiv 2510.08549.
    """

    activation: EntropyActivation
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy"})

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """Advantages ``[B, T]``."""
        assert batch.advantages is not None
        return batch.advantages * (-self.activation.prepare(batch, None)).exp()
