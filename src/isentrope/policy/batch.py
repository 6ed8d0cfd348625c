"""`TokenBatch`: the one thing that flows through an objective, and `Tally`: means that stay right when batches split.

Rows are sampled responses, columns are response positions (right-padded). A host (the laboratory, TRL, verl) fills the
tensors it has; parts return changed copies and never write into one.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class TokenBatch:
    """Responses with their rewards, log-probabilities and entropies.

    All log-probabilities and entropies are those of the *sampling* distribution, at the sampling temperature; entropies
    are in nats over the full vocabulary. Values outside ``mask`` are never read.

    Attributes:
        mask: ``[B, T]`` true where the policy chose the token (end-of-sequence included, padding and tool output not).
        rewards: ``[B]`` outcome rewards, floating point.
        group_ids: ``[B]`` equal for responses to the same prompt; any integers, in any order.
        old_log_probs: ``[B, T]`` log-probability of each token under the policy that sampled it; no gradient.
        old_entropy: ``[B, T]`` entropy of that policy at each position; no gradient.
        log_probs: ``[B, T]`` under the current policy: with gradient in `Objective.loss`, without in `Objective.prepare`.
        entropy: ``[B, T]`` of the current policy; carries a gradient if a part needs ``"entropy_grad"``.
        reference_log_probs: ``[B, T]`` under a frozen reference policy.
        token_ids: ``[B, T]`` the tokens themselves.
        raw_rewards: ``[B]`` rewards before any reward part; set by `Objective.prepare`.
        advantages: ``[B, T]`` set by `Objective.prepare`.
        loss_mask: ``[B, T]`` tokens that enter the surrogate and its denominators; set by `Objective.prepare`.
        clipped: ``[B, T]`` tokens whose surrogate is clipped as `Objective.prepare` sees it.
        logits: makes the ``[B, T, V]`` temperature-scaled logits; given only if a part needs ``"logits"``.
        teacher: compares with a frozen teacher, see `against_teacher`; given only if a part needs ``"teacher"``.
        prepared: what two-stage parts computed on the whole batch, one tensor with leading ``B`` for each part.
        totals: 0-d tensors, the denominators of the optimisation window (`with_totals`).
        extras: further row-leading tensors for the parts that ask for them: token statistics under their names
            (``"varentropy"``, ...), turn index, phase, task id, score of the
            format.
    """

    mask: Bool[Tensor, "batch time"]
    rewards: Float[Tensor, "batch"]
    group_ids: Int[Tensor, "batch"]
    old_log_probs: Float[Tensor, "batch time"]
    old_entropy: Float[Tensor, "batch time"] | None = None
    log_probs: Float[Tensor, "batch time"] | None = None
    entropy: Float[Tensor, "batch time"] | None = None
    reference_log_probs: Float[Tensor, "batch time"] | None = None
    token_ids: Int[Tensor, "batch time"] | None = None
    raw_rewards: Float[Tensor, "batch"] | None = None
    advantages: Float[Tensor, "batch time"] | None = None
    loss_mask: Bool[Tensor, "batch time"] | None = None
    clipped: Bool[Tensor, "batch time"] | None = None
    logits: Callable[[], Float[Tensor, "batch time vocabulary"]] | None = None
    teacher: Callable[[Callable[[Tensor, Tensor], Tensor], Tensor], Tensor] | None = None
    prepared: Mapping[str, Tensor] = field(default_factory=dict)
    totals: Mapping[str, Tensor] = field(default_factory=dict)
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self):
        for name in _TOKEN_FIELDS:
            value = getattr(self, name)
            if value is not None and value.shape != self.mask.shape:
                raise ValueError(
                    f"TokenBatch: {name} must have the shape of mask, {tuple(self.mask.shape)}, got {tuple(value.shape)}"
                )
        for name in ("rewards", "group_ids"):
            if getattr(self, name).shape != self.mask.shape[:1]:
                raise ValueError(
                    f"TokenBatch: {name} must have one value a row, ({len(self.mask)},), "
                    f"got {tuple(getattr(self, name).shape)}"
                )

        if not self.rewards.is_floating_point():
            raise ValueError(f"TokenBatch: rewards must be floating point, got {self.rewards.dtype}")

    @property
    def lengths(self) -> Int[Tensor, "batch"]:
        """Response lengths in tokens."""
        return self.mask.sum(-1)

    @property
    def chosen(self) -> Bool[Tensor, "batch time"]:
        """The tokens that enter the surrogate: ``loss_mask``, or all valid ones before a selection was made."""
        return self.mask if self.loss_mask is None else self.loss_mask

    @property
    def outcome_rewards(self) -> Float[Tensor, "batch"]:
        """Rewards as the host gave them, before any reward part."""
        return self.rewards if self.raw_rewards is None else self.raw_rewards

    def extra(self, name: str) -> Tensor:
        """The tensor of this name in ``extras``.

        Raises:
            ValueError: naming it, if the host did not give it.
        """
        if name not in self.extras:
            raise ValueError(
                f"TokenBatch: a part needs extras[{name!r}], which the host did not give; "
                f"there are {', '.join(sorted(self.extras)) or 'none'}"
            )
        return self.extras[name]

    def against_teacher(
        self,
        measure: Callable[[Float[Tensor, "tokens vocabulary"], Float[Tensor, "tokens vocabulary"]], Tensor],
        where: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, "batch time"]:
        """What a measure says of the logits of the policy and of its teacher at some tokens, 0 at all others.

        The host makes both logits for a block of tokens at a time, so that neither exists as a whole. In `Objective.loss`
        the result carries a gradient through the policy.

        Args:
            measure: from the logits of the policy and of the teacher, ``[n, V]`` each, to ``[n]``.
            where: ``[B, T]``, valid tokens.

        Raises:
            ValueError: if the host gave no teacher.
        """
        if self.teacher is None:
            raise ValueError("TokenBatch: a part compares with a teacher, which the host did not give")
        return self.teacher(measure, where)

    def with_(self, **changes) -> "TokenBatch":
        """A copy with the named fields changed."""
        return replace(self, **changes)

    def rows(self, index: Tensor | slice) -> "TokenBatch":
        """The rows at ``index``; totals stay those of the window, which is what makes micro-batches add up.

        ``logits`` and ``teacher`` belong to all rows and are left out.
        """
        return self.mapped(lambda value: value[index] if value.ndim else value).with_(logits=None, teacher=None)

    def mapped(self, change: Callable[..., Tensor], *others: "TokenBatch") -> "TokenBatch":
        """A copy with every tensor but the totals changed, given together with those of other batches of the same fields.

        Tensors are visited in one order on all ranks, so that a change may exchange them with other ranks.
        """
        batches = (self, *others)
        changes: dict[str, Any] = {}
        for name in [f.name for f in fields(self)]:
            if isinstance(getattr(self, name), Tensor):
                changes[name] = change(*(getattr(batch, name) for batch in batches))
        for name in ("prepared", "extras"):
            keys = sorted(getattr(self, name))
            changes[name] = {key: change(*(getattr(batch, name)[key] for batch in batches)) for key in keys}
        return replace(self, **changes)

    def split(self, size: int) -> Iterator["TokenBatch"]:
        """Micro-batches of at most ``size`` rows, in order."""
        for start in range(0, len(self.mask), size):
            yield self.rows(slice(start, start + size))

    def with_totals(self, width: int | None = None) -> "TokenBatch":
        """A copy that knows its own denominators: call it on a whole optimisation window, then split the result.

        ``tokens`` and ``rows`` count over ``mask``; ``loss_tokens`` and ``loss_rows`` over ``loss_mask``; rows without
        any token are not counted. ``width`` is the longest response allowed, where it is given, else the padded length.
        Every boolean tensor in ``prepared`` is counted under
        its own name. Across ranks, sum these values (``width``: take the maximum).
        """
        loss_mask = self.chosen
        totals = {
            "tokens": self.mask.sum(),
            "rows": self.mask.any(-1).sum(),
            "loss_tokens": loss_mask.sum(),
            "loss_rows": loss_mask.any(-1).sum(),
            "width": torch.tensor(width or self.mask.shape[1], device=self.mask.device),
        }
        totals |= {name: value.sum() for name, value in self.prepared.items() if value.dtype == torch.bool}
        return replace(self, totals=totals)


def scattered(values: Float[Tensor, "tokens *rest"], mask: Bool[Tensor, "batch time"]) -> Tensor:
    """Values of the tokens where ``mask`` is true, in their places, and 0 elsewhere.

    Without any token the result still hangs on the graph of the values.

    Examples:
        >>> import torch
        >>> scattered(torch.tensor([1.0, 2.0]), torch.tensor([[True, False], [False, True]]))
        tensor([[1., 0.],
                [0., 2.]])
    """
    return values.new_zeros((*mask.shape, *values.shape[1:])).index_put(mask.nonzero(as_tuple=True), values)


_TOKEN_FIELDS = (
    "old_log_probs",
    "old_entropy",
    "log_probs",
    "entropy",
    "reference_log_probs",
    "token_ids",
    "advantages",
    "loss_mask",
    "clipped",
)


@dataclass(frozen=True)
class Tally:
    """Named sums with their counts: adding the tallies of micro-batches, or of ranks, gives the whole batch's mean.

    Examples:
        >>> import torch
        >>> first, second = Tally(), Tally()
        >>> mask = torch.tensor([[True, True], [True, False]])
        >>> first = first.add("entropy", torch.tensor([[1.0, 1.0], [4.0, 9.0]]), mask)
        >>> second = second.add("entropy", torch.tensor([[2.0, 9.0]]), torch.tensor([[True, False]]))
        >>> (first + second).means()
        {'entropy': 2.0}
    """

    sums: Mapping[str, Tensor] = field(default_factory=dict)
    counts: Mapping[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, values: Tensor, mask: Tensor | None = None) -> "Tally":
        """A tally that also holds the values where ``mask`` is true (everywhere, if there is none)."""
        values = values.detach()
        mask = torch.ones_like(values, dtype=torch.bool) if mask is None else mask
        total = torch.where(mask, values, 0).sum(dtype=torch.float64)
        return self + Tally({name: total}, {name: mask.sum()})

    def __add__(self, other: "Tally") -> "Tally":
        sums, counts = dict(self.sums), dict(self.counts)
        for name, value in other.sums.items():
            sums[name] = sums[name] + value if name in sums else value
            counts[name] = counts[name] + other.counts[name] if name in counts else other.counts[name]
        return Tally(sums, counts)

    def means(self) -> dict[str, float]:
        """Sum over count of each name; names that nothing was counted for are left out."""
        return {name: float(total) / int(self.counts[name]) for name, total in self.sums.items() if self.counts[name]}
