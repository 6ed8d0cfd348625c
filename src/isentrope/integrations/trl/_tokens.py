"""The tokens of an optimiser step: what its forward and backward passes said of them, gathered over ranks, and in numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather, pad_across_processes
from jaxtyping import Bool, Float
from torch import Tensor

from isentrope.policy.dynamics import entropy_drivers, token_entropy_change


def entropy_of(output: Any) -> Float[Tensor, "batch time"]:
    """The entropy in the output of a fused head; the head of `EntropyGRPOTrainer` packs further statistics behind it."""
    return output.entropy if output.entropy.ndim == output.label_mask.ndim else output.entropy[..., 0]


@dataclass
class Pass:
    """What a forward pass said of its tokens, and, after its backward pass, the loss's gradient in their log-probability."""

    mask: Bool[Tensor, "batch time"]
    log_probs: Float[Tensor, "batch time"]
    entropy: Float[Tensor, "batch time"]
    gradient: Float[Tensor, "batch time"] | None = None

    def receive(self, gradient: Tensor) -> None:
        # Autograd may use the memory of a gradient again.
        self.gradient = gradient.detach().clone()

    def table(self) -> Float[Tensor, "tokens 4"]:
        gradient = torch.full_like(self.log_probs, math.nan) if self.gradient is None else self.gradient
        present = torch.ones_like(self.log_probs)
        return torch.stack([x[self.mask].float() for x in (self.log_probs, self.entropy, gradient, present)], dim=-1)


def gathered(passes: Sequence[Pass], device: torch.device, scale: float) -> Float[Tensor, "tokens 3"]:
    """Log-probability, entropy and weight of every token of the step, from all ranks."""
    empty = torch.zeros(0, 4, device=device)
    here = torch.cat([empty, *(seen.table().to(device) for seen in passes)])
    everyone: Any = gather(pad_across_processes(here))
    table = everyone[everyone[:, 3] > 0].cpu().double()
    return torch.stack([table[:, 0], table[:, 1], -len(table) * scale * table[:, 2]], dim=-1)


def token_metrics(
    log_probs: Float[Tensor, "tokens"], entropy: Float[Tensor, "tokens"], weight: Float[Tensor, "tokens"]
) -> dict[str, float]:
    """What `EntropyMonitor` logs of the tokens of one optimiser step.

    Args:
        log_probs: log-probability of each token, nats.
        entropy: entropy at its position, nats.
        weight: what it counts for in the loss, 1 for supervised training; NaN where that is not known.

    Returns:
        ``entropy`` and ``log_prob`` (means), ``entropy_p10`` and ``entropy_p90``, ``entropy_share_top20`` (the share of
        the total entropy in the fifth of the tokens of highest entropy), ``tokens``; with weights
        ``token_entropy_change`` (mean predicted change for separate logits and a unit step) and ``fall_concentration``;
        with weights that differ also ``covariance`` and its four parts.

    References:
        arXiv 2505.22617; arXiv 2602.03392.

    Examples:
        >>> import torch
        >>> p = torch.tensor([0.8, 0.2]).double()
        >>> metrics = token_metrics(p.log(), torch.full((2,), 0.5004).double(), torch.tensor([1.0, -1.0]).double())
        >>> round(metrics["covariance"], 4)  # rewarded where likely, punished where unlikely
        0.6931
    """
    ranked = entropy.sort(descending=True).values
    total = float(ranked.sum())
    low, high = np.quantile(entropy.numpy(), (0.1, 0.9))
    metrics = {
        "entropy": float(entropy.mean()),
        "entropy_p10": float(low),
        "entropy_p90": float(high),
        "log_prob": float(log_probs.mean()),
        "tokens": float(len(entropy)),
    }
    if total > 0:
        metrics["entropy_share_top20"] = float(ranked[: max(1, len(ranked) // 5)].sum()) / total
    if weight.isfinite().all():
        metrics["token_entropy_change"] = float(token_entropy_change(log_probs, entropy, weight).mean())
        rows = [values[None] for values in (log_probs, entropy, weight)]
        drivers = entropy_drivers(rows[0], rows[1], rows[2], torch.ones_like(rows[0], dtype=torch.bool))
        parts = {name: value for name, value in drivers.items() if name.startswith("covariance/")}
        if weight.min() == weight.max():
            drivers = {name: value for name, value in drivers.items() if name not in parts}
        else:
            metrics["covariance"] = sum(parts.values())
        metrics |= drivers
    return metrics


def over_steps(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over the steps that have a value, each with the weight of its tokens; of the tokens themselves, a plain one."""
    averaged = {}
    for name in dict.fromkeys(name for step in steps for name in step):
        having = [step for step in steps if name in step]
        sizes = None if name == "tokens" else [step["tokens"] for step in having]
        averaged[name] = float(np.average([step[name] for step in having], weights=sizes))
    return averaged
