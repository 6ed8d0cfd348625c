"""The loss that verl's workers run on each micro-batch: `Objective.loss` on what the driver prepared.

A row carries all that its loss needs: its prepared tensors and the totals of the optimisation window that it belongs to,
so that micro-batches, however verl cuts them, add up. What is the same for all rows travels as one text, `NOTE`.
"""

import json
from typing import Any, cast

import torch
from tensordict import TensorDict
from torch import Tensor
from verl.utils import tensordict_utils as tu
from verl.utils.metric import AggregationType, Metric
from verl.workers.utils.padding import no_padding_2_padding

from isentrope.policy import Objective, State, Tally, TokenBatch

NOTE = "isentrope"
"""Name of the text that says, as JSON, the state and the names of totals and prepared tensors."""
FIELDS = {
    "mask": "isentrope_mask",
    "loss_mask": "isentrope_loss_mask",
    "rewards": "isentrope_rewards",
    "raw_rewards": "isentrope_raw_rewards",
    "group_ids": "isentrope_group_ids",
    "advantages": "advantages",
    "old_log_probs": "old_log_probs",
    "old_entropy": "entropy",
    "reference_log_probs": "ref_log_prob",
    "token_ids": "responses",
}
"""Fields of a `TokenBatch` and their names in verl's data."""
TOTALS = "isentrope_totals"
PREPARED = "isentrope_prepared_{}"
SUM, COUNT = "isentrope/{}/sum", "isentrope/{}/count"


def objective_loss(
    objective: Objective, model_output: dict[str, Any], data: TensorDict, dp_group: Any = None
) -> tuple[Tensor, dict[str, Metric]]:
    """A micro-batch's contribution to its window's loss, times the number of data-parallel ranks, and its metrics.

    verl adds the gradients of micro-batches and averages those of ranks, hence the factor: together they give the
    gradient of the window's loss.

    Args:
        objective: what is trained; bound by `functools.partial` when the loss is installed.
        model_output: nested ``log_probs`` (and ``entropy``) ``[B, prompt + response]`` of the current policy.
        data: verl's micro-batch with the fields that the driver added.
        dp_group: not used; the totals of the window are known.

    Returns:
        The 0-d loss, and a sum and a count for each metric (`pack`).
    """
    text = tu.get_non_tensor_data(data, NOTE, None)
    if text is None:
        raise ValueError(
            "objective_loss: the data do not come from isentrope's trainer; set trainer.v1.trainer_mode=isentrope"
        )
    note = json.loads(cast(str, text))
    state = State.from_dict(note["state"])
    entropy = model_output.get("entropy")
    entropy = None if entropy is None else no_padding_2_padding(entropy, data)
    if entropy is not None and "entropy_grad" not in objective.needs:
        entropy = entropy.detach()
    carried: dict[str, Any] = {name: padded(data[field]) for name, field in FIELDS.items() if field in data}
    batch = TokenBatch(
        **carried,
        log_probs=no_padding_2_padding(model_output["log_probs"], data),
        entropy=entropy,
        prepared={path: padded(data[PREPARED.format(i)]) for i, path in enumerate(note["prepared"])},
        # Every row of a window carries the same totals.
        totals=dict(zip(note["totals"], padded(data[TOTALS])[0], strict=True)),
    )
    loss, tally = objective.loss(batch, state)
    ranks = cast(int, tu.get_non_tensor_data(data, "dp_size", 1))
    return loss * ranks, pack(tally)


def padded(tensor: Tensor) -> Tensor:
    """A nested tensor with zeros in the padding; other tensors as they are."""
    return torch.nested.to_padded_tensor(tensor, 0) if tensor.is_nested else tensor


def pack(tally: Tally) -> dict[str, Metric]:
    """Sums and counts as metrics that verl adds over micro-batches and averages over ranks and windows alike."""
    metrics = {}
    for name, total in tally.sums.items():
        metrics[SUM.format(name)] = Metric(AggregationType.SUM, float(total))
        metrics[COUNT.format(name)] = Metric(AggregationType.SUM, float(tally.counts[name]))
    return metrics


def unpack(metrics: dict[str, float], prefix: str = "actor/") -> dict[str, float]:
    """Take the sums and counts out of verl's reduced metrics: each mean over all tokens of the whole batch."""
    before, after = f"{prefix}{SUM}".split("{}")
    names = [key[len(before) : -len(after)] for key in metrics if key.startswith(before) and key.endswith(after)]
    means = {}
    for name in names:
        total, count = (metrics.pop(f"{prefix}{part.format(name)}") for part in (SUM, COUNT))
        if count:
            means[name] = float(total / count)
    return means
