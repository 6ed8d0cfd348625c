"""The store of good responses that a policy imitates again, bounded by age, and as plain tensors for a checkpoint."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from isentrope.lab.rollouts import Rollouts, join
from isentrope.policy import TokenBatch

_TENSORS = ("token_ids", "attention_mask", "completion_ids", "mask", "log_probs", "entropy")


@dataclass(frozen=True)
class ReplayBuffer:
    """Responses with their rewards and the step that drew them, and the mean rewards of the last groups.

    Every method returns a changed buffer.

    Attributes:
        rollouts: the responses, with the log-probabilities and entropies of the policy that drew them; None if empty.
        rewards: ``[stored]`` their rewards, after the objective's reward parts.
        steps: ``[stored]`` the batch of rollouts that they come from.
        means: mean rewards of groups, the latest last.

    Examples:
        >>> buffer = ReplayBuffer().seen([0.25, 0.5, 1.0, 1.0], at_most=3)
        >>> buffer.baseline, len(buffer)
        (1.0, 0)
    """

    rollouts: Rollouts | None = None
    rewards: Float[Tensor, " stored"] = field(default_factory=lambda: torch.empty(0))
    steps: Int[Tensor, " stored"] = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    means: tuple[float, ...] = ()

    def __len__(self) -> int:
        """Number of stored responses."""
        return len(self.rewards)

    @property
    def baseline(self) -> float:
        """The median of the groups' mean rewards.

        Raises:
            ValueError: if none was seen.
        """
        if not self.means:
            raise ValueError("ReplayBuffer: there is no baseline before a group was seen")
        return statistics.median(self.means)

    def seen(self, means: Sequence[float], at_most: int) -> "ReplayBuffer":
        """With the mean rewards of further groups, of which the last ``at_most`` are kept."""
        return replace(self, means=(*self.means, *means)[-at_most:])

    def kept(self, rows: Bool[Tensor, " stored"]) -> "ReplayBuffer":
        """With these responses alone."""
        if self.rollouts is None or bool(rows.all()):
            return self
        rollouts = self.rollouts.rows(rows) if bool(rows.any()) else None
        return replace(self, rollouts=rollouts, rewards=self.rewards[rows], steps=self.steps[rows])

    def storing(self, rollouts: Rollouts, batch: TokenBatch, rows: Bool[Tensor, " batch"], step: int) -> "ReplayBuffer":
        """With some responses of a batch beside the others.

        Args:
            rollouts: the responses.
            batch: the same, with what the policy that drew them says of them, and their rewards.
            rows: which to store.
            step: the batch's number.
        """
        if not bool(rows.any()):
            return self
        assert batch.old_entropy is not None
        drawn = replace(rollouts, mask=batch.mask, log_probs=batch.old_log_probs, entropy=batch.old_entropy).rows(rows)
        rewards, steps = batch.rewards[rows], torch.full((len(drawn),), step, device=rows.device)
        if self.rollouts is None:
            return replace(self, rollouts=drawn, rewards=rewards, steps=steps)
        # Each response keeps its own log-probabilities, so that it does not matter if the temperature has changed.
        earlier = replace(self.rollouts, temperature=drawn.temperature)
        return replace(
            self,
            rollouts=join([earlier, drawn]),
            rewards=torch.cat((self.rewards, rewards)),
            steps=torch.cat((self.steps, steps)),
        )

    def batch(self) -> TokenBatch:
        """The stored responses as an objective reads them, each a group of its own."""
        assert self.rollouts is not None
        return TokenBatch(
            mask=self.rollouts.mask,
            rewards=self.rewards,
            group_ids=torch.arange(len(self), device=self.rewards.device),
            old_log_probs=self.rollouts.log_probs,
            old_entropy=self.rollouts.entropy,
            token_ids=self.rollouts.completion_ids,
        )

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All of it, as tensors and as what JSON holds."""
        tensors = {"rewards": self.rewards, "steps": self.steps}
        values: dict[str, Any] = {"means": list(self.means)}
        if self.rollouts is not None:
            tensors |= {name: getattr(self.rollouts, name).contiguous() for name in _TENSORS}
            values |= {name: getattr(self.rollouts, name) for name in ("prompt_length", "completions", "temperature")}
        return tensors, values

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> "ReplayBuffer":
        """The buffer that `to_tensors` gave.

        Raises:
            KeyError: if something is missing.
        """
        rollouts = None
        if "completions" in values:
            plain = {name: values[name] for name in ("prompt_length", "completions", "temperature")}
            rollouts = Rollouts(**{name: tensors[name] for name in _TENSORS}, **plain)
        return cls(rollouts, tensors["rewards"], tensors["steps"], tuple(values["means"]))
