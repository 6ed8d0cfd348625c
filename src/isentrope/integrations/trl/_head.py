"""Token statistics inside a model's forward, where wrappers that shard or average a model see them.

TRL calls ``model(..., labels=..., fused_lm_head=True)`` and reads log-probabilities and entropies off the output. Here
the same call is answered by `isentrope.measures.token_statistics`: only positions with a label meet the output layer, in
blocks whose logits are made again in the backward pass, and further statistics may be asked for.
"""

import functools
import types
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from trl.trainer.utils import FusedCausalLMOutput, maybe_gather_lm_head_ctx

from isentrope.lab.hugging_face import output_head
from isentrope.policy.batch import scattered


@dataclass
class TokenHead:
    """What the next forward passes answer; the trainer changes it between them.

    Attributes:
        temperature: divides the logits.
        to_float32: project in float32, outside of autocast.
        statistics: names beyond log-probability and entropy.
        logits: also give the logits of every labelled position.
        activation: changes the logits, after the temperature, before anything is read off them.
    """

    temperature: float
    to_float32: bool = False
    statistics: tuple[str, ...] = ()
    logits: bool = False
    activation: Callable[[Tensor], Tensor] | None = None

    def install(self, model: Any) -> None:
        """Answer TRL's scoring calls of this model; every other call goes where it went before."""
        previous = model.forward

        @functools.wraps(type(model).forward)
        def forward(self, *args, fused_lm_head: bool = False, labels: Any = None, **kwargs):
            if not fused_lm_head:
                # An absent label stays absent: `generate` passes none, and models may take none.
                return previous(*args, **kwargs, **({} if labels is None else {"labels": labels}))
            hidden = self.base_model(*args, **{**kwargs, "use_cache": False}).last_hidden_state
            return head.scores(self, hidden[:, :-1], labels[:, 1:])

        head = self
        model.forward = types.MethodType(forward, model)

    def scores(self, model: Any, hidden: Tensor, labels: Tensor) -> FusedCausalLMOutput:
        """Statistics at the labelled positions, 0 elsewhere; what `unpack` takes apart stands in ``entropy``."""
        head = output_head(model)
        weight: Any = _whole(head.weight)
        bias: Any = _whole(head.bias)
        hidden, labels = hidden.to(weight.device), labels.to(weight.device)
        mask = labels != -100
        autocast = nullcontext()
        rows, chosen = hidden[mask], labels[mask]
        if self.to_float32:
            rows, autocast = rows.float(), torch.autocast(hidden.device.type, enabled=False)
        names = ("log_probs", "entropy", *self.statistics)
        with autocast, maybe_gather_lm_head_ctx(weight, bias):
            statistics, logits = replace(head, weight=weight, bias=bias).statistics(
                rows,
                chosen,
                temperature=self.temperature,
                outputs=names,
                need_logits=self.logits,
                activation=self.activation,
            )
        log_probs, entropy, *others = (scattered(getattr(statistics, name), mask) for name in names)
        if others or self.logits:
            # TRL hands on two tensors only; a last axis lets the second one carry the others through every wrapper.
            entropy = torch.stack([entropy, *others], -1)
            if self.logits:
                assert logits is not None
                entropy = torch.cat([entropy, scattered(logits, mask)], -1)
        loss = -log_probs.sum() / mask.sum().clamp_min(1)
        return FusedCausalLMOutput(loss=loss, log_probs=log_probs, entropy=entropy, label_mask=mask)

    def unpack(self, packed: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """Entropy, further statistics by name, and logits, from the output's ``entropy``."""
        if not (self.statistics or self.logits):
            return packed, {}, None
        count = 1 + len(self.statistics)
        columns = packed[..., :count].unbind(-1)
        return columns[0], dict(zip(self.statistics, columns[1:], strict=True)), packed[..., count:]


def _whole(parameter: Tensor | None) -> Tensor | None:
    """A parameter that FSDP keeps in shards, gathered."""
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
