"""The whole-batch stage on the driver, as pure functions: verl's data to a `TokenBatch`, and back to what rows carry."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor
from verl.utils import tensordict_utils as tu
from verl.workers.utils.padding import response_to_nested

from isentrope.integrations.verl.loss import FIELDS, PREPARED, TOTALS, padded
from isentrope.policy import Objective, TokenBatch

_OF_NEED = {"old_entropy": "entropy", "reference": "ref_log_prob", "token_ids": "responses"}


def real_rows(keys: Sequence[str], tags: Sequence[Mapping[str, Any]]) -> Tensor:
    """Which rows are responses, not verl's synthetic filling of the last mini-batch: ``[B]`` booleans.

    Raises:
        ValueError: if a response came in several pieces, of which only one would have earned the reward.
    """
    pieces = [key for key in keys if key.rsplit("_", 1)[-1] != "0"]
    if pieces:
        raise ValueError(
            f"isentrope: agent loops with several outputs a session are not supported, got the output {pieces[0]!r}"
        )
    return torch.tensor([not tag.get("is_padding", False) for tag in tags])


def token_batch(data: TensorDict, objective: Objective) -> TokenBatch:
    """verl's rows as a `TokenBatch`: rewards are the sums of ``rm_scores``, groups are numbered from their ``uid``.

    Raises:
        ValueError: if verl left out what a part needs.
    """
    for need, field in _OF_NEED.items():
        if need in objective.needs and field not in data:
            raise ValueError(f"objective {objective.name}: a part needs {need}, but verl's data have no {field!r}")
    _, groups = np.unique(np.array([str(uid) for uid in data["uid"]]), return_inverse=True)
    names = ("old_log_probs", "old_entropy", "reference_log_probs")
    scores: dict[str, Any] = {name: padded(data[FIELDS[name]]).float() for name in names if FIELDS[name] in data}
    return TokenBatch(
        mask=padded(data["response_mask"]).bool(),
        rewards=padded(data["rm_scores"]).sum(-1).float(),
        group_ids=torch.from_numpy(groups),
        token_ids=padded(data["responses"]) if "token_ids" in objective.needs else None,
        **scores,
    )


def windows(rows: int, size: int, ranks: int, shuffle: bool = False, seed: int = 42) -> list[Tensor]:
    """The rows of each optimiser step, over all ranks, as verl's workers will deal them.

    Each rank takes an equal run of the rows, in order, and cuts it into mini-batches with its own seed.

    Args:
        rows: rows of the batch.
        size: rows of a mini-batch over all ranks.
        ranks: data-parallel ranks.
        shuffle: whether workers shuffle.
        seed: their seed.

    Examples:
        >>> [window.tolist() for window in windows(rows=8, size=4, ranks=2)]
        [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    pieces = [
        tu.make_iterator(
            TensorDict({"row": run}, batch_size=len(run)),
            mini_batch_size=size // ranks,
            epochs=1,
            seed=seed + rank,
            dataloader_kwargs={"shuffle": shuffle},
        )
        for rank, run in enumerate(torch.arange(rows).chunk(ranks))
    ]
    return [torch.cat([piece["row"] for piece in step]) for step in zip(*pieces, strict=True)]


def row_fields(
    prepared: TokenBatch, real: Tensor, response_mask: Tensor, deal: Sequence[Tensor], width: int
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """What each row carries to the workers, and the names that belong into the note.

    Args:
        prepared: the real rows after `Objective.prepare`.
        real: ``[B]`` which of all rows these are; the others carry zeros and train nothing.
        response_mask: verl's nested mask of all rows.
        deal: rows of each window.
        width: longest response allowed, in tokens.
    """
    index = real.nonzero().squeeze(-1)

    def spread(tensor: Tensor) -> Tensor:
        return tensor.new_zeros(len(real), *tensor.shape[1:]).index_copy(0, index, tensor)

    everything = {path: spread(value) for path, value in prepared.prepared.items()}
    carried = ("mask", "loss_mask", "advantages", "rewards", "raw_rewards", "group_ids", "old_log_probs")
    of_all: dict[str, Any] = {name: spread(getattr(prepared, name)) for name in carried}
    batch = TokenBatch(**of_all, prepared=everything)
    names: list[str] = []
    totals = torch.empty(0)
    for rows in deal:
        counted = batch.rows(rows).with_totals(width).totals
        if not names:
            names = list(counted)
            totals = torch.zeros(len(real), len(names), dtype=torch.int64)
        totals[rows] = torch.stack([counted[name].long() for name in names])
    # The sampling policy's log-probabilities are verl's own field, already there. verl's metrics read ``returns``.
    fields = {FIELDS[name]: value for name, value in of_all.items() if name != "old_log_probs"}
    fields |= {"returns": of_all["advantages"]}
    fields |= {PREPARED.format(i): value for i, value in enumerate(everything.values())}
    ragged = {
        name: response_to_nested(value, response_mask) if value.shape == batch.mask.shape else value
        for name, value in fields.items()
    }
    return {**ragged, TOTALS: totals}, {"totals": names, "prepared": list(everything)}
