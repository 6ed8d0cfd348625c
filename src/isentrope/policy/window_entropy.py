"""Entropy over the tokens that follow: where a response stays uncertain, rather than stumbles once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from isentrope.policy.batch import Tally, TokenBatch
from isentrope.policy.controllers import Memory, Stateful
from isentrope.policy.selection import row_quantile

_METRIC = "window_entropy"


def top_k_entropy(log_probs: Float[Tensor, "*shape top_k"]) -> Float[Tensor, "*shape"]:
    """A lower bound of the entropy from the ``k`` largest probabilities alone: ``-sum_k p log p - q log q``, in nats.

    ``q = 1 - sum_k p`` is what is left, counted as one further token. It is exact where at most one token is left. For
    hosts whose inference server returns a few log-probabilities a token.

    Args:
        log_probs: ``[..., k]`` log-probabilities of distinct tokens.

    Raises:
        ValueError: if the probabilities sum to more than 1.

    References:
        Chen et al., ARES, arXiv 2510.08457.

    Examples:
        >>> import torch
        >>> top_k_entropy(torch.tensor([0.5, 0.25]).log())  # as of (1/2, 1/4, 1/4): 1.5 log 2
        tensor(1.0397)
    """
    probs = log_probs.exp()
    rest = 1 - probs.sum(-1)
    if rest.numel() and float(rest.min()) < -1e-4:
        raise ValueError(f"top_k_entropy: probabilities must sum to at most 1, got {1 - float(rest.min())}")
    return torch.special.entr(probs).sum(-1) + torch.special.entr(rest.clamp_min(0))


class Windows(NamedTuple):
    """The mean entropy of the window after each token, ``[B, T]``, and where a token has a whole one, ``[B, T]``."""

    entropy: Float[Tensor, "batch time"]
    defined: Bool[Tensor, "batch time"]


def window_entropy(entropy: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], window: int = 4) -> Windows:
    """Mean entropy of the ``window`` tokens after each one: ``W_t = 1/w sum_{s=t+1..t+w} H_s``, in nats.

    Defined where the token and all of its window are valid; 0 elsewhere.

    Args:
        entropy: ``[B, T]`` token entropies.
        mask: ``[B, T]`` valid tokens.
        window: ``w``, in tokens.

    References:
        Chen et al., ARES, arXiv 2510.08457.

    Examples:
        >>> import torch
        >>> entropy = torch.tensor([[9.0, 1.0, 3.0, 5.0]])
        >>> window_entropy(entropy, torch.ones(1, 4, dtype=torch.bool), window=2).entropy
        tensor([[2., 4., 0., 0.]])
    """
    if window < 1:
        raise ValueError(f"window_entropy: window must be at least 1, got {window}")
    values, defined = torch.zeros_like(entropy), torch.zeros_like(mask)
    last = entropy.shape[1] - window
    if last > 0:
        following = torch.where(mask, entropy, 0)[:, 1:].unfold(1, window, 1).mean(-1)
        defined[:, :last] = mask[:, :last] & mask[:, 1:].unfold(1, window, 1).all(-1)
        values[:, :last] = torch.where(defined[:, :last], following, 0)
    return Windows(values, defined)


def peak_level(windows: Windows, quantile: float = 0.95) -> float | None:
    """The median over responses of the ``quantile`` of their window entropies; None without any window.

    References:
        Chen et al., ARES, arXiv 2510.08457.

    Examples:
        >>> import torch
        >>> entropy = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 5.0, 0.0, 5.0], [0.0, 7.0, 9.0, 0.0]])
        >>> peak_level(window_entropy(entropy, torch.ones(3, 4, dtype=torch.bool), window=1), quantile=1.0)
        5.0
    """
    having = windows.defined.any(-1)
    if not having.any():
        return None
    levels = row_quantile(windows.entropy, windows.defined, quantile)[having]
    return float(levels.double().quantile(0.5))


@dataclass(frozen=True)
class UncertainWindows(Stateful):
    """Counts the tokens after which a response stays uncertain, above a threshold that follows the batches slowly.

    ``tau <- decay tau + (1 - decay) L`` with ``L`` the `peak_level` of each batch, from that of the first one. The part that
    counts is `WindowsAbove` this ``tau``, that of the batches before; of the batch at hand in the first step.

    Args:
        window: ``w``, in tokens.
        tokens: count only at these token ids; at all by default. (The paper counts at words of reasoning, of which it does
            not publish the list; its code looks at the likeliest token of a position, not at the sampled one.)
        quantile: of the window entropies of each response, for ``L``.
        decay: weight of the past.

    Raises:
        ValueError: if ``window`` is less than 1, or ``quantile`` or ``decay`` lie outside [0, 1].

    References:
        Chen et al., ARES, arXiv 2510.08457.

    Examples:
        >>> part = UncertainWindows(decay=0.9)
        >>> memory = part.update(part.start(), {"window_entropy": 2.0}, 0)
        >>> part.at(part.update(memory, {"window_entropy": 1.0}, 1), 1).threshold
        1.9
    """

    window: int = 4
    tokens: frozenset[int] | None = None
    quantile: float = 0.95
    decay: float = 0.99

    def __post_init__(self):
        if self.window < 1:
            raise ValueError(f"UncertainWindows: window must be at least 1, got {self.window}")
        for name in ("quantile", "decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"UncertainWindows: {name} must lie in [0, 1], got {getattr(self, name)}")

    @property
    def needs(self) -> frozenset[str]:
        """Those of `WindowsAbove`."""
        return self.at(self.start(), 0).needs

    def start(self) -> Memory:
        """Nothing seen."""
        return {"threshold": None}

    def at(self, memory: Memory, step: int) -> "WindowsAbove":
        """What counts in this step."""
        return WindowsAbove(memory["threshold"], self.window, self.tokens, self.quantile)

    def observe(self, batch: TokenBatch) -> Tally:
        """The level of the peaks in the batch."""
        assert batch.old_entropy is not None
        level = peak_level(window_entropy(batch.old_entropy, batch.mask, self.window), self.quantile)
        return Tally() if level is None else Tally().add(_METRIC, torch.tensor([level], dtype=torch.float64))

    def update(self, memory: Memory, metrics: Mapping[str, float], step: int) -> Memory:
        """Move towards the batch's level; a batch without any window has none."""
        if _METRIC not in metrics:
            return memory
        past = metrics[_METRIC] if memory["threshold"] is None else memory["threshold"]
        return {"threshold": self.decay * past + (1 - self.decay) * metrics[_METRIC]}


class WindowCount(NamedTuple):
    """The number of tokens that count in each response, ``[B]``, and the sum of their excess over the threshold, ``[B]``."""

    number: Float[Tensor, "batch"]
    excess: Float[Tensor, "batch"]


@dataclass(frozen=True)
class WindowsAbove:
    """Tokens of each response after which the policy stays uncertain: ``N_i = #{t: W_t >= tau}``.

    Beside it their soft count ``C_i = sum_t relu(W_t - tau)``, in nats. Entropies are those of the sampling policy.

    Args:
        threshold: ``tau`` in nats; None for the batch's own `peak_level`.
        window: ``w``, in tokens.
        tokens: count only at these token ids; at all by default.
        quantile: for a threshold of None.

    References:
        Chen et al., ARES, arXiv 2510.08457.

    Examples:
        >>> import torch
        >>> batch = TokenBatch(
        ...     mask=torch.ones(1, 4, dtype=torch.bool), rewards=torch.ones(1), group_ids=torch.zeros(1).long(),
        ...     old_log_probs=torch.zeros(1, 4), old_entropy=torch.tensor([[9.0, 1.0, 3.0, 5.0]]))
        >>> WindowsAbove(1.5, window=2)(batch)  # W = 2, 4
        WindowCount(number=tensor([2.]), excess=tensor([3.]))
    """

    threshold: float | None = None
    window: int = 4
    tokens: frozenset[int] | None = None
    quantile: float = 0.95

    @property
    def needs(self) -> frozenset[str]:
        """The sampling policy's entropy; the tokens, if only some count."""
        return frozenset({"old_entropy"} | ({"token_ids"} if self.tokens is not None else set()))

    def __call__(self, batch: TokenBatch) -> WindowCount:
        """``N`` and ``C``."""
        assert batch.old_entropy is not None
        windows = window_entropy(batch.old_entropy, batch.mask, self.window)
        counted = windows.defined
        if self.tokens is not None:
            if batch.token_ids is None:
                raise ValueError("WindowsAbove: counting at some tokens needs the batch's token_ids")
            wanted = torch.tensor(sorted(self.tokens), dtype=torch.long, device=batch.token_ids.device)
            counted = counted & torch.isin(batch.token_ids, wanted)
        threshold = peak_level(windows, self.quantile) if self.threshold is None else self.threshold
        excess = windows.entropy - (0.0 if threshold is None else threshold)
        number = (counted & (excess >= 0)).sum(-1).to(excess.dtype)
        return WindowCount(number, torch.where(counted, excess.relu(), 0).sum(-1))
