"""The whole-batch stage on many ranks: gather, prepare, keep one's own rows."""

from collections.abc import Mapping

import torch
from accelerate import Accelerator
from torch import Tensor

from isentrope.policy import Objective, State, Tally, TokenBatch
from isentrope.policy.advantages import GroupCentered
from isentrope.policy.surrogates import UnclippedRatio


def prepare_on_all_ranks(
    objective: Objective, batch: TokenBatch, state: State, accelerator: Accelerator
) -> tuple[TokenBatch, Tally]:
    """`Objective.prepare` on the rows of all ranks together; each rank gets its own rows back.

    Every rank does the same arithmetic on the same numbers, in host memory, so that choices and tallies agree bit by bit.
    Rows that no reward function scored (NaN) stay out of groups and of the loss.
    """
    own = slice(accelerator.process_index * len(batch.mask), (accelerator.process_index + 1) * len(batch.mask))
    whole = batch.mapped(lambda x: _gathered(x, accelerator).cpu())
    scored = whole.rewards.isfinite()
    if not scored.any():
        whole, scored = whole.with_(rewards=torch.zeros_like(whole.rewards)), ~scored
    index = scored.nonzero().squeeze(-1)
    prepared, tally = objective.prepare(whole.rows(index), state)
    assert prepared.advantages is not None
    if not prepared.advantages[prepared.mask].isfinite().all():
        raise ValueError(
            f"objective {objective.name}: its advantages are not finite. A part that reads log-probabilities or "
            "entropies before the loss must say so in `needs`, or be a shaping or a selection"
        )

    def back(value: Tensor) -> Tensor:
        full = value.new_zeros((len(scored), *value.shape[1:]))
        full[index] = value
        value = full[own]
        return (value[:, : batch.mask.shape[1]] if value.ndim > 1 else value).to(batch.mask.device)

    return prepared.mapped(back), tally


def without_token_parts(objective: Objective) -> Objective:
    """The objective up to its advantages and row filters."""
    return objective.with_(
        shaping=(), selection=(), surrogate=UnclippedRatio(), token_weight=(), regularizers=(), output_activation=None
    )


def with_given_advantages(objective: Objective) -> Objective:
    """The objective from shaping on, on a batch whose advantages and rows are settled."""
    return objective.with_(
        reward=lambda batch: batch.extras["final_rewards"], advantage=lambda batch: batch.advantages, row_filter=()
    )


def token_parts(objective: Objective) -> list[str]:
    """Paths of the parts that choose or change single tokens before the loss, and so read log-probabilities."""
    paths = [f"{slot}[{i}]" for slot in ("shaping", "selection") for i in range(len(getattr(objective, slot)))]
    paths += [slot for slot in ("output_activation", "surrogate") if hasattr(getattr(objective, slot), "prepare")]
    for slot in ("token_weight", "regularizers"):
        paths += [f"{slot}[{i}]" for i, part in enumerate(getattr(objective, slot)) if hasattr(part, "prepare")]
    for slot in ("advantage", "reward", "row_filter"):
        # Parts may lie inside others. One that needs a reference compares it with the policy that sampled.
        alone = Objective("", GroupCentered(), UnclippedRatio()).with_(**{slot: getattr(objective, slot)})
        paths += [slot] * bool(alone.needs & {"old_entropy", "reference"})
    return paths


def summed(totals: Mapping[str, Tensor], accelerator: Accelerator) -> dict[str, Tensor]:
    """Counts of this rank, summed over all ranks."""
    if accelerator.num_processes == 1:
        return dict(totals)
    names = sorted(totals)
    stacked = torch.stack([totals[name].to(accelerator.device) for name in names])
    return dict(zip(names, accelerator.reduce(stacked, reduction="sum").unbind(), strict=True))  # pyright: ignore


def reduced(tally: Tally, accelerator: Accelerator) -> Tally:
    """A tally summed over all ranks."""
    if accelerator.num_processes == 1 or not tally.sums:
        return tally
    return Tally(summed(tally.sums, accelerator), summed(tally.counts, accelerator))


def concatenated(batches: list[TokenBatch], accelerator: Accelerator) -> TokenBatch:
    """The rows of several batches of this rank, and of all ranks, as one batch in host memory."""
    width = max(batch.mask.shape[1] for batch in batches)

    def joined(*values: Tensor) -> Tensor:
        wide = [torch.nn.functional.pad(v, (0, width - v.shape[1])) if v.ndim > 1 else v for v in values]
        return _gathered(torch.cat(wide), accelerator).cpu()

    return batches[0].mapped(joined, *batches[1:])


def _gathered(value: Tensor, accelerator: Accelerator) -> Tensor:
    """Rows of all ranks in order, padded to the widest."""
    if accelerator.num_processes == 1:
        return value
    sent = value.to(torch.uint8) if value.dtype == torch.bool else value
    if sent.ndim > 1:
        sent = accelerator.pad_across_processes(sent, dim=1)
    return accelerator.gather(sent).to(value.dtype)  # pyright: ignore[reportAttributeAccessIssue]
