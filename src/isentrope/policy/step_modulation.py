"""Entropy-modulated policy gradients: the advantage of an agent's trajectory, shared out over its steps by entropy."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number

_EPSILON = 1e-8


@dataclass(frozen=True)
class StepModulation:
    """Shaping by the entropy of an agent's steps: sure steps count more, uncertain ones less, clear next steps pay.

    A step is one turn of one trajectory (``batch.extras["turn"]``); its entropy is the mean over its tokens, brought to
    ``h`` in [0, 1] by the smallest and largest of the batch. With ``g = exp(-k h) / mean exp(-k h)`` over all steps of
    the batch, whose mean is 1, and ``f = exp(-k' h_next)``, 0 for the last step of a trajectory,

        A' = A g + zeta f,   less the mean of A' over all steps of the batch.

    At ``k = 0`` and ``zeta = 0`` that leaves the advantage less its mean over steps.

    Args:
        sharpness: ``k``.
        clarity_sharpness: ``k'``.
        clarity: ``zeta``, the weight of the next step's clarity.

    References:
        Wang et al., Harnessing Uncertainty: Entropy-Modulated Policy Gradients for Long-Horizon LLM Agents (EMPG),
        arXiv 2509.09265.

    Examples:
        >>> import torch
        >>> batch = TokenBatch(
        ...     mask=torch.ones(1, 2, dtype=torch.bool), rewards=torch.ones(1), group_ids=torch.zeros(1).long(),
        ...     old_log_probs=torch.zeros(1, 2), entropy=torch.tensor([[0.0, 1.0]]), advantages=torch.ones(1, 2),
        ...     extras={"turn": torch.tensor([[0, 1]])})
        >>> StepModulation(clarity=0.0)(batch)
        tensor([[ 0.4621, -0.4621]])
    """

    sharpness: Number = 1.0
    clarity_sharpness: Number = 1.0
    clarity: Number = 0.05
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy"})

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """New advantages ``[B, T]``.

        Raises:
            ValueError: if ``extras["turn"]`` is missing, or a token of the policy belongs to no turn.
        """
        assert batch.entropy is not None
        assert batch.advantages is not None
        turn, mask = batch.extra("turn"), batch.mask
        if (turn[mask] < 0).any():
            raise ValueError(
                'StepModulation: every token of the mask must belong to a turn, extras["turn"] has -1 there'
            )
        if not mask.any():
            return batch.advantages
        rows = mask.nonzero()[:, 0]
        # Sorted by row and then by turn, so that a step's successor stands beside it.
        steps, step = torch.stack([rows, turn[mask]], 1).unique(dim=0, return_inverse=True)
        count = torch.bincount(step)

        def step_means(values: Tensor) -> Tensor:
            return torch.zeros(len(steps), dtype=torch.float64, device=mask.device).index_add(0, step, values) / count

        entropy = step_means(batch.entropy[mask].double())
        height = (entropy - entropy.min()) / (entropy.max() - entropy.min() + _EPSILON)
        scale = (-self.sharpness * height).exp()
        scale = scale / scale.mean()
        followed = torch.zeros_like(height, dtype=torch.bool)
        followed[:-1] = steps[1:, 0] == steps[:-1, 0]
        clear = torch.where(followed, (-self.clarity_sharpness * height.roll(-1)).exp(), 0)
        shaped = batch.advantages[mask].double() * scale[step] + self.clarity * clear[step]
        shaped = shaped - step_means(shaped).mean()
        return torch.zeros_like(batch.advantages).masked_scatter(mask, shaped.to(batch.advantages.dtype))
