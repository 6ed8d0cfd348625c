"""How much an optimiser step of a trainer changes the entropy: predicted to first order, and measured on the same tokens."""

import math
from typing import Any

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, reduce
from torch import Tensor
from torch.distributed.tensor import DTensor

from isentrope.integrations.trl._tokens import entropy_of


def why_no_probe(args: Any, model: torch.nn.Module) -> str:
    """What keeps a probe from being made here; nothing if it can be."""
    sharded = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if AcceleratorState().distributed_type in sharded or any(isinstance(p, DTensor) for p in parameters):
        return "the parameters are sharded over ranks"
    if any(p.device.type == "mps" for p in parameters):
        return "this device has no double precision"
    checkpointing = getattr(args, "gradient_checkpointing_kwargs", None) or {}
    if checkpointing.get("use_reentrant"):
        return "reentrant gradient checkpointing has no torch.autograd.grad; set use_reentrant=False"
    return ""


class Probe:
    """Made before an optimiser step, asked after it: the change of entropy, to first order and measured.

    It holds the gradient of the entropy, but no copy of the parameters: ``g . theta`` before is subtracted from
    ``g . theta'`` after, in double precision, in which products of single-precision numbers are exact.
    """

    def __init__(self, model: torch.nn.Module, args: tuple, kwargs: dict):
        self._model, self._args, self._kwargs = model, args, kwargs
        parameters = [p for p in model.parameters() if p.requires_grad]
        with torch.enable_grad():
            total, self._tokens = self._entropy()
            gradient = torch.autograd.grad(total, parameters, allow_unused=True)
        self._pairs = [(p, g) for p, g in zip(parameters, gradient, strict=True) if g is not None]
        self._total, self._product = float(total.detach()), self._inner_product()

    @torch.no_grad()
    def changes(self) -> dict[str, float]:
        total, _ = self._entropy()
        here = [self._inner_product() - self._product, float(total) - self._total, self._tokens]
        everyone: Any = reduce(torch.tensor(here, dtype=torch.float64, device=total.device), "sum")
        predicted, measured, tokens = everyone.tolist()
        if not tokens:
            return {}
        return {"entropy_change_predicted": predicted / tokens, "entropy_change_measured": measured / tokens}

    def _entropy(self) -> tuple[Tensor, int]:
        """Sum of the entropy over the tokens, and their number.

        Both passes start from the same state of the generators, so that dropout drops the same, and leave it as it was.
        """
        kind = next(self._model.parameters()).device.type
        devices = sorted({p.device.index or 0 for p in self._model.parameters() if p.device.type == kind != "cpu"})
        with torch.random.fork_rng(devices=devices, device_type=kind if devices else "cuda"):
            output = self._model(*self._args, **self._kwargs)
        return entropy_of(output)[output.label_mask].double().sum(), int(output.label_mask.sum())

    @torch.no_grad()
    def _inner_product(self) -> float:
        size = 1 << 24
        return math.fsum(
            float(torch.dot(a.double(), b.double()))
            for p, g in self._pairs
            for a, b in zip(p.detach().flatten().split(size), g.flatten().split(size), strict=True)
        )
