"""STEER: tokens count less, the more a step on them would change the entropy."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number
from isentrope.policy.dynamics import token_entropy_change
from isentrope.policy.surrogates import importance_ratio


@dataclass(frozen=True)
class EntropyChangeWeight:
    """Weight of each token by the size of its predicted change of entropy ``m_t = |Omega_t|``.

    ``Omega_t`` is the first-order change that a step on the token makes in the entropy at its position:

    - ``"first_order"``: ``rho A pi (1 - pi)(log pi + H)``, from log-probability and entropy alone;
    - ``"exact"``: ``rho A (S - E)`` with ``S = pi (log pi + H)`` and ``E`` its mean over the vocabulary, which needs the
      statistic ``probability_covariance``;
    - ``"published"``: ``(A / pi_old) pi (1 - pi)(log pi + H) = rho A (1 - pi)(log pi + H)``, the reference code's. It
      lacks a factor ``pi``. Over the outcomes of random softmaxes (50 normal logits of deviation 2) its correlation with
      the exact change, weighted by ``pi``, is 0.73 on average, that of ``"first_order"`` 0.999.

    The exponential mapping is ``lambda_t = exp(-k m_t)`` with ``k = -log(lowest) / max(max_t m_t, floor)``: a token that
    changes nothing keeps weight 1, the one that changes most gets ``lowest`` (more, if even it stays below ``floor``).
    The linear mapping falls from ``highest`` at the smallest ``m_t`` to ``lowest`` at the largest; where all are equal it
    is half way between. The extremes are taken over the whole batch (the reference code takes those of the micro-batch),
    the ``m_t`` from the current policy. Weights are not renormalised.

    It slows the collapse and does not stop it: on the bandit of 20 arms GRPO's entropy ends at 0.086 nats, with ``lowest``
    0.8 and 0.5 at 0.094 and 0.118 (``"published"``: 0.112 and 0.185; means of four seeds, standard errors below 0.012).

    Args:
        lowest: ``lambda_min``, in (0, 1]; 1 turns the exponential mapping off.
        form: how the change is predicted.
        mapping: how it becomes a weight.
        highest: ``lambda_max`` of the linear mapping.
        floor: smallest largest change that earns ``lowest``, in nats times advantage.

    Raises:
        ValueError: for numbers out of range or unknown forms.

    References:
        Hao et al., Rethinking Entropy Interventions in RLVR: An Entropy Change Perspective (STEER), arXiv 2510.10150;
        the exact change: arXiv 2602.03392.

    Examples:
        >>> import torch
        >>> p = torch.tensor([[0.8, 0.2, 0.6]])
        >>> batch = TokenBatch(
        ...     mask=torch.ones(1, 3, dtype=torch.bool), rewards=torch.ones(1), group_ids=torch.zeros(1).long(),
        ...     old_log_probs=p.log(), log_probs=p.log(), entropy=torch.tensor([[0.5, 0.5, 0.5]]),
        ...     advantages=torch.tensor([[1.0, 1.0, 0.0]]))
        >>> part = EntropyChangeWeight(0.5)
        >>> part(batch, part.prepare(batch, torch.Generator()))
        tensor([[0.8412, 0.5000, 1.0000]])
    """

    lowest: Number = 0.8
    form: Literal["first_order", "exact", "published"] = "first_order"
    mapping: Literal["exponential", "linear"] = "exponential"
    highest: float = 1.2
    floor: float = 0.02

    def __post_init__(self):
        if self.form not in ("first_order", "exact", "published"):
            raise ValueError(
                f"EntropyChangeWeight: form must be 'first_order', 'exact' or 'published', got {self.form!r}"
            )
        if self.mapping not in ("exponential", "linear"):
            raise ValueError(f"EntropyChangeWeight: mapping must be 'exponential' or 'linear', got {self.mapping!r}")
        if isinstance(self.lowest, (int, float)) and not 0 < self.lowest <= 1:
            raise ValueError(f"EntropyChangeWeight: lowest must lie in (0, 1], got {self.lowest}")
        if self.floor <= 0:
            raise ValueError(f"EntropyChangeWeight: floor must be positive, got {self.floor}")
        if self.highest < 1:
            raise ValueError(f"EntropyChangeWeight: highest must be at least 1, got {self.highest}")

    @property
    def needs(self) -> frozenset[str]:
        """The entropy, before the loss and in it, and what the exact form needs."""
        return frozenset({"old_entropy", "entropy"} | ({"probability_covariance"} if self.form == "exact" else set()))

    def prepare(self, batch: TokenBatch, generator: torch.Generator) -> Float[Tensor, "batch 2"]:
        """The smallest and the largest change over the whole batch, the same in each row."""
        sizes = self._sizes(batch)[batch.chosen]
        ends = torch.stack(sizes.aminmax()) if len(sizes) else sizes.new_zeros(2)
        return ends.expand(len(batch.mask), 2)

    def __call__(self, batch: TokenBatch, prepared: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch time"]:
        """Weights ``[B, T]``."""
        sizes = self._sizes(batch)
        least, most = prepared[:, :1], prepared[:, 1:]
        if self.mapping == "exponential":
            return self.lowest ** (sizes / most.clamp_min(self.floor)).clamp(max=1)
        place = torch.where(most > least, (sizes - least) / (most - least), 0.5).clamp(0, 1)
        return self.highest - (self.highest - self.lowest) * place

    def _sizes(self, batch: TokenBatch) -> Tensor:
        assert batch.log_probs is not None
        assert batch.entropy is not None
        assert batch.advantages is not None
        log_probs, entropy = batch.log_probs.detach(), batch.entropy.detach()
        ratio = importance_ratio(batch).detach()
        if self.form == "published":
            probs = log_probs.exp()
            change = ratio * batch.advantages * (1 - probs) * (log_probs + entropy)
        else:
            covariance = batch.extra("probability_covariance") if self.form == "exact" else None
            change = token_entropy_change(log_probs, entropy, ratio * batch.advantages, covariance)
        return torch.where(batch.mask, change.abs(), 0)
