"""HICRA: credit for planning. Tokens of strategic phrases count more; the variety of phrases is an entropy of its own."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from isentrope.measures import entropy
from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number

Gram = Sequence[int]
"""A phrase as the ids of its tokens."""


def gram_matches(
    token_ids: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], grams: Collection[Gram]
) -> dict[tuple[int, ...], Bool[Tensor, "batch time"]]:
    """For each gram that occurs, the positions at which an occurrence begins.

    Args:
        token_ids: ``[B, T]``.
        mask: ``[B, T]`` tokens of the policy; an occurrence lies wholly inside it.
        grams: the phrases, of any lengths.

    References:
        arXiv 2509.03646.

    Examples:
        >>> import torch
        >>> ids = torch.tensor([[5, 5, 5, 7]])
        >>> matches = gram_matches(ids, torch.ones_like(ids, dtype=torch.bool), [(5, 5), (9,)])
        >>> {gram: starts.tolist() for gram, starts in matches.items()}
        {(5, 5): [[True, True, False, False]]}
    """
    found = {}
    for table, index in _spelled(token_ids, mask, _checked("gram_matches", grams)):
        for i in index[index >= 0].unique().tolist():
            starts = torch.zeros_like(mask)
            starts[:, : index.shape[1]] = index == i
            found[table[i]] = starts
    return found


def covered_by_grams(
    token_ids: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], grams: Collection[Gram]
) -> Bool[Tensor, "batch time"]:
    """The tokens that lie inside an occurrence of any gram; overlapping occurrences mark a token once.

    Args:
        token_ids: ``[B, T]``.
        mask: ``[B, T]`` tokens of the policy; an occurrence lies wholly inside it.
        grams: the phrases, of any lengths.

    References:
        arXiv 2509.03646.

    Examples:
        >>> import torch
        >>> ids = torch.tensor([[1, 2, 3, 1]])
        >>> covered_by_grams(ids, torch.ones_like(ids, dtype=torch.bool), [(1, 2), (2, 3)])
        tensor([[ True,  True,  True, False]])
    """
    covered = torch.zeros_like(mask)
    for table, index in _spelled(token_ids, mask, _checked("covered_by_grams", grams)):
        for offset in range(len(table[0])):
            covered[:, offset : index.shape[1] + offset] |= index >= 0
    return covered


def strategic_entropy(
    token_ids: Int[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    clusters: Mapping[tuple[int, ...], int],
    base: float | None = None,
) -> float:
    """Entropy of the strategies that a batch uses: ``-sum_c f_c log f_c`` over the frequencies of gram clusters.

    ``f_c`` is the share of cluster ``c`` among all occurrences of grams. Token entropy can fall while this rises: a policy
    that phrases each strategy in one way but knows many strategies. It is the plug-in value of the counts, which is low by
    about ``(clusters used - 1) / (2 occurrences)`` nats.

    Args:
        token_ids: ``[B, T]``.
        mask: ``[B, T]`` tokens of the policy.
        clusters: the cluster of each gram, any integers; grams of one meaning share a cluster.
        base: base of the logarithm; None for nats.

    Returns:
        The entropy; NaN if no gram occurs.

    References:
        Wang et al., Emergent Hierarchical Reasoning in LLMs through Reinforcement Learning, arXiv 2509.03646.

    Examples:
        >>> import torch
        >>> ids = torch.tensor([[1, 2, 9, 3, 4, 9, 5, 6]])
        >>> everything = torch.ones_like(ids, dtype=torch.bool)
        >>> strategic_entropy(ids, everything, {(1, 2): 0, (3, 4): 1, (5, 6): 2})  # log 3
        1.0986...
    """
    counts: Counter[int] = Counter()
    for gram, starts in gram_matches(token_ids, mask, list(clusters)).items():
        counts[clusters[gram]] += int(starts.sum())
    if not counts:
        return float("nan")
    return float(entropy(torch.tensor(list(counts.values()), dtype=torch.float64), normalize=True, base=base))


@dataclass(frozen=True)
class PlanningCredit:
    """Shaping that raises the advantage of planning tokens: ``A'_t = A_t + alpha |A_t|`` there.

    A rewarded planning token counts ``1 + alpha`` times, a punished one ``1 - alpha`` times. Planning tokens are those
    inside an occurrence of a strategic gram, or, without ``grams``, those that ``batch.extras["strategic"]`` marks.

    Args:
        strength: ``alpha``; a number or a controller.
        grams: strategic phrases as tuples of token ids; a frozenset is the fastest to carry. None if the host marks the
            tokens.

    Raises:
        ValueError: for empty grams or a strength outside [0, 1].

    References:
        Wang et al., Emergent Hierarchical Reasoning in LLMs through Reinforcement Learning (HICRA), arXiv 2509.03646.

    Examples:
        >>> import torch
        >>> ids = torch.tensor([[1, 2, 3], [1, 2, 3]])
        >>> batch = TokenBatch(
        ...     mask=torch.ones(2, 3, dtype=torch.bool), rewards=torch.ones(2), group_ids=torch.zeros(2).long(),
        ...     old_log_probs=torch.zeros(2, 3), token_ids=ids,
        ...     advantages=torch.tensor([[1.0] * 3, [-1.0] * 3]))
        >>> PlanningCredit(grams=frozenset({(2, 3)}))(batch)
        tensor([[ 1.0000,  1.2000,  1.2000],
                [-1.0000, -0.8000, -0.8000]])
    """

    strength: Number = 0.2
    grams: Collection[tuple[int, ...]] | None = None

    def __post_init__(self):
        if isinstance(self.strength, (int, float)) and not 0 <= self.strength <= 1:
            raise ValueError(f"PlanningCredit: strength must lie in [0, 1], got {self.strength}")
        if self.grams is not None:
            _checked("PlanningCredit", self.grams)

    @property
    def needs(self) -> frozenset[str]:
        """The tokens, if grams are to be found in them."""
        return frozenset() if self.grams is None else frozenset({"token_ids"})

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """New advantages ``[B, T]``."""
        assert batch.advantages is not None
        if self.grams is None:
            planning = batch.extra("strategic")
        elif batch.token_ids is None:
            raise ValueError("PlanningCredit: finding grams needs the batch's token_ids")
        else:
            planning = covered_by_grams(batch.token_ids, batch.mask, self.grams)
        return batch.advantages + self.strength * torch.where(planning, batch.advantages.abs(), 0)


def _checked(name: str, grams: Collection[Gram]) -> set[tuple[int, ...]]:
    unique = {tuple(gram) for gram in grams}
    for gram in unique:
        if not gram or not all(isinstance(token, int) and token >= 0 for token in gram):
            raise ValueError(f"{name}: a gram must be a non-empty tuple of token ids, got {gram!r}")
    return unique


def _spelled(
    token_ids: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], grams: set[tuple[int, ...]]
) -> Iterator[tuple[list[tuple[int, ...]], Int[Tensor, "batch starts"]]]:
    """The grams of each length that fits, with the place in them of the gram that the tokens spell at each start."""
    for length in sorted({len(gram) for gram in grams}):
        if length <= token_ids.shape[1]:
            table = sorted(gram for gram in grams if len(gram) == length)
            yield table, _table_index(token_ids, mask, torch.tensor(table, device=token_ids.device))


def _table_index(
    token_ids: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], table: Int[Tensor, "grams length"]
) -> Int[Tensor, "batch starts"]:
    """At each start, the row of the table (sorted, no row twice) that the tokens spell; -1 where they spell none."""
    length = table.shape[1]
    starts = token_ids.shape[1] - length + 1
    alive = mask.unfold(1, length, 1).all(-1)
    vocabulary = 1 + max(int(table.max()), int(token_ids[mask].max()) if mask.any() else 0)
    here, known = torch.zeros_like(token_ids[:, :starts]), torch.zeros_like(table[:, 0])
    # One token at a time, prefixes are numbered in their order, so that numbers stay small and comparison is exact.
    for offset in range(length):
        prefixes, known = (known * vocabulary + table[:, offset]).unique(return_inverse=True)
        spelled = here * vocabulary + token_ids[:, offset : starts + offset]
        here = torch.searchsorted(prefixes, spelled.contiguous()).clamp_max(len(prefixes) - 1)
        alive = alive & (prefixes[here] == spelled)
    return torch.where(alive, here, -1)
