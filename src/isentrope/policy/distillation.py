"""On-policy distillation: a student learns a frozen teacher's distributions at the tokens of its own responses.

With ``S`` and ``T`` the distributions of student and teacher after the same prefix, the loss of a token is
``delta = KL(S || T)`` over the whole vocabulary, or another divergence; its gradient reaches the student through ``S``
alone, the prefixes stay as they were drawn. No reward enters.

Which tokens are worth it, is judged on two axes: how uncertain the student is, and how far it is from the teacher. Sure and
in agreement, a token has nothing to teach; sure and in disagreement, it teaches much, and no rule that looks at the entropy
alone finds it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from isentrope.measures import jensen_shannon_divergence, kl_divergence
from isentrope.policy.batch import TokenBatch
from isentrope.policy.controllers import Number
from isentrope.policy.selection import row_quantile

Divergence = Callable[[Float[Tensor, "*tokens vocabulary"], Float[Tensor, "*tokens vocabulary"]], Tensor]
"""From the logits of student and teacher, ``[..., V]`` each, to nats ``[...]``."""


def reverse_kl(
    student: Float[Tensor, "*tokens vocabulary"], teacher: Float[Tensor, "*tokens vocabulary"]
) -> Float[Tensor, "*tokens"]:
    """``KL(S || T) = sum_v S_v (log S_v - log T_v)`` in nats: the student leaves out what the teacher would not say.

    References:
        Xu et al., TIP, arXiv 2604.14084.

    Examples:
        >>> import torch
        >>> reverse_kl(torch.tensor([0.9, 0.1]).log(), torch.tensor([0.5, 0.5]).log())
        tensor(0.3681)
    """
    return kl_divergence(p_logits=student, q_logits=teacher)


def forward_kl(
    student: Float[Tensor, "*tokens vocabulary"], teacher: Float[Tensor, "*tokens vocabulary"]
) -> Float[Tensor, "*tokens"]:
    """``KL(T || S) = sum_v T_v (log T_v - log S_v)`` in nats: the student covers all that the teacher might say.

    References:
        Xu et al., TIP, arXiv 2604.14084.
    """
    return kl_divergence(p_logits=teacher, q_logits=student)


@dataclass(frozen=True)
class JensenShannon:
    """``b KL(T || M) + (1 - b) KL(S || M)`` in nats with the mixture ``M = b T + (1 - b) S``; bounded by ``log 2``.

    Args:
        teacher_share: ``b`` in (0, 1).

    References:
        Xu et al., TIP, arXiv 2604.14084; the generalised form: Agarwal et al., arXiv 2306.13649.
    """

    teacher_share: float = 0.5

    def __post_init__(self):
        if not 0 < self.teacher_share < 1:
            raise ValueError(f"JensenShannon: teacher_share must lie in (0, 1), got {self.teacher_share}")

    def __call__(
        self, student: Float[Tensor, "*tokens vocabulary"], teacher: Float[Tensor, "*tokens vocabulary"]
    ) -> Float[Tensor, "*tokens"]:
        """The divergence of each token."""
        shares = (1 - self.teacher_share, self.teacher_share)
        return jensen_shannon_divergence(p_logits=student, q_logits=teacher, weights=shares)


@dataclass(frozen=True)
class TeacherDivergence:
    """A surrogate that is no policy gradient: the divergence of the student from the teacher at each selected token.

    Args:
        divergence: from the logits of student and teacher to nats.

    References:
        Xu et al., TIP: Token Importance in On-Policy Distillation, arXiv 2604.14084.
    """

    divergence: Divergence = reverse_kl
    needs: ClassVar[frozenset[str]] = frozenset({"teacher"})

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """Token loss ``[B, T]``."""
        return batch.against_teacher(self.divergence, batch.chosen)


def unit_range(
    values: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], quantile: float = 1.0
) -> Float[Tensor, "batch time"]:
    """The valid values moved and scaled to [0, 1], those above a quantile of theirs cut to it first; 0 elsewhere.

    Equal values become 0.

    Examples:
        >>> import torch
        >>> unit_range(torch.tensor([[1.0, 3.0, 2.0, 9.0]]), torch.tensor([[True, True, True, False]]))
        tensor([[0.0000, 1.0000, 0.5000, 0.0000]])
    """
    valid = values[mask]
    if not len(valid):
        return torch.zeros_like(values)
    least, most = valid.min(), valid.max()
    if quantile < 1:
        most = row_quantile(valid[None], torch.ones_like(valid[None], dtype=torch.bool), quantile)[0]
    spread = most - least
    if not spread > 0:
        return torch.zeros_like(values)
    return torch.where(mask, (torch.minimum(values, most) - least) / spread, 0)


def top_share_of_rows(
    values: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], fraction: float
) -> Bool[Tensor, "batch time"]:
    """The ``max(1, floor(fraction N_i))`` largest of the ``N_i`` valid values of each row, the earlier ones of equals.

    Examples:
        >>> import torch
        >>> top_share_of_rows(torch.tensor([[3.0, 1.0, 2.0, 9.0]]), torch.tensor([[True, True, True, False]]), 0.67)
        tensor([[ True, False,  True, False]])
    """
    count = mask.sum(-1, keepdim=True)
    share = (fraction * count + 1e-9).floor().clamp_min(1)
    order = torch.where(mask, values, -torch.inf).sort(dim=-1, stable=True, descending=True).indices
    rank = torch.empty_like(order).scatter_(-1, order, torch.arange(mask.shape[1], device=mask.device).expand_as(order))
    return mask & (rank < share)


def _entropy(batch: TokenBatch) -> Tensor:
    assert batch.entropy is not None
    return batch.entropy


@dataclass(frozen=True)
class Uncertainty:
    """The score ``H``, the student's entropy in nats, which sees nothing of the teacher (arXiv 2604.14084)."""

    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy"})

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """The score of each token."""
        return _entropy(batch)


@dataclass(frozen=True)
class SoftOr:
    """The score ``1 - (1 - h)(1 - d)``: large where the student is uncertain or far from the teacher.

    ``h`` is its entropy and ``d`` the divergence, each brought to [0, 1] over the whole batch (`unit_range`), the entropy
    cut at its ``quantile``. Where student and teacher agree everywhere, it is ``h``.

    Args:
        quantile: where the largest entropies are cut.
        divergence: by which ``d`` is measured.

    References:
        Xu et al., TIP: Token Importance in On-Policy Distillation, arXiv 2604.14084.
    """

    quantile: float = 0.98
    divergence: Divergence = reverse_kl
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy", "teacher"})

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """The score of each token."""
        entropy = unit_range(_entropy(batch), batch.mask, self.quantile)
        distance = unit_range(batch.against_teacher(self.divergence, batch.mask), batch.mask)
        return 1 - (1 - entropy) * (1 - distance)


@dataclass(frozen=True)
class Overconfidence:
    """The score ``KL(T || S) (1 - h)``: large where the student is sure and the teacher thinks otherwise.

    The forward divergence only ranks; what is trained is the objective's own.

    Args:
        quantile: where the largest entropies are cut before they are brought to [0, 1] (`unit_range`).

    References:
        Xu et al., TIP: Token Importance in On-Policy Distillation, arXiv 2604.14084.
    """

    quantile: float = 0.98
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy", "teacher"})

    def __call__(self, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """The score of each token."""
        entropy = unit_range(_entropy(batch), batch.mask, self.quantile)
        return batch.against_teacher(forward_kl, batch.mask) * (1 - entropy)


@dataclass(frozen=True)
class ImportantTokens:
    """A selection of the tokens of highest score in each response: `SoftOr`, `Uncertainty` or `Overconfidence`.

    Scores are taken over the whole batch, the share of the tokens response by response (one at least). Denominators count
    the selected tokens alone.

    Args:
        fraction: share ``rho`` of each response's tokens. A number or a controller.
        score: a callable from `TokenBatch` to ``[B, T]``.

    Raises:
        ValueError: if the fraction lies outside (0, 1].

    References:
        Xu et al., TIP: Token Importance in On-Policy Distillation, arXiv 2604.14084.

    Examples:
        >>> batch = TokenBatch(
        ...     mask=torch.ones(1, 4, dtype=torch.bool), rewards=torch.ones(1), group_ids=torch.zeros(1).long(),
        ...     old_log_probs=torch.zeros(1, 4), entropy=torch.tensor([[0.1, 0.9, 0.0, 0.3]]))
        >>> ImportantTokens(0.5, Uncertainty())(batch)
        tensor([[False,  True, False,  True]])
    """

    fraction: Number = 0.5
    score: Callable[[TokenBatch], Float[Tensor, "batch time"]] = SoftOr()

    def __post_init__(self):
        if isinstance(self.fraction, (int, float)) and not 0 < self.fraction <= 1:
            raise ValueError(f"ImportantTokens: fraction must lie in (0, 1], got {self.fraction}")

    @property
    def needs(self) -> frozenset[str]:
        """What the score needs."""
        return getattr(self.score, "needs", frozenset())

    def __call__(self, batch: TokenBatch) -> Bool[Tensor, "batch time"]:
        """True for the tokens to train on."""
        return top_share_of_rows(self.score(batch), batch.mask, self.fraction)


@dataclass(frozen=True)
class SampledTokens:
    """A selection at random: ``max(1, floor(fraction N))`` of the batch's tokens, drawn without replacement.

    The chance to be drawn next is in proportion to ``h^alpha d^gamma``, with the student's entropy ``h`` and the
    Jensen-Shannon divergence ``d`` from the teacher, neither below ``floor``.

    Args:
        fraction: share of the batch's tokens; 1 keeps them all.
        alpha: exponent of the entropy.
        gamma: exponent of the divergence; 0 looks at the entropy alone.
        floor: least entropy and divergence, in nats.

    Raises:
        ValueError: if the fraction lies outside (0, 1].

    References:
        Xu et al., TIP: Token Importance in On-Policy Distillation, arXiv 2604.14084.
    """

    fraction: Number = 0.5
    alpha: float = 1.0
    gamma: float = 0.0
    floor: float = 1e-8

    def __post_init__(self):
        if isinstance(self.fraction, (int, float)) and not 0 < self.fraction <= 1:
            raise ValueError(f"SampledTokens: fraction must lie in (0, 1], got {self.fraction}")

    @property
    def needs(self) -> frozenset[str]:
        """The student's entropy, and the teacher if the divergence counts."""
        return frozenset({"old_entropy", "teacher"} if self.gamma else {"old_entropy"})

    def prepare(self, batch: TokenBatch, generator: torch.Generator) -> Bool[Tensor, "batch time"]:
        """True for the tokens to train on."""
        where = batch.mask.nonzero(as_tuple=True)
        count = len(where[0])
        log_weight = self.alpha * _entropy(batch)[where].double().clamp_min(self.floor).log()
        if self.gamma:
            distance = batch.against_teacher(JensenShannon(), batch.mask)[where]
            log_weight = log_weight + self.gamma * distance.double().clamp_min(self.floor).log()
        # Exponential races: the order in which they end is that of draws without replacement.
        finish = torch.empty(count, dtype=torch.double).exponential_(generator=generator).log().to(log_weight.device)
        first = (finish - log_weight).argsort()[: max(1, int(self.fraction * count + 1e-9))]
        drawn = torch.zeros_like(batch.mask)
        drawn[where[0][first], where[1][first]] = True
        return drawn


def quadrants(
    entropy: Float[Tensor, "batch time"],
    divergence: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
) -> Int[Tensor, "batch time"]:
    """The type of each token: 1 uncertain and far from the teacher, 2 uncertain, 3 sure but far, 4 sure and near; 0 outside.

    The batch's medians divide both axes; a value at the median counts as low.

    References:
        Xu et al., TIP: Token Importance in On-Policy Distillation, arXiv 2604.14084.

    Examples:
        >>> import torch
        >>> every = torch.ones(1, 4, dtype=torch.bool)
        >>> quadrants(torch.tensor([[2.0, 2.0, 0.0, 0.0]]), torch.tensor([[5.0, 0.0, 5.0, 0.0]]), every)
        tensor([[1, 2, 3, 4]])
    """
    high = []
    for values in (entropy, divergence):
        valid = values[mask][None]
        high.append(values > row_quantile(valid, torch.ones_like(valid, dtype=torch.bool), 0.5))
    uncertain, far = high
    return torch.where(mask, 4 - 2 * uncertain.long() - far.long(), 0)


@dataclass(frozen=True)
class InQuadrants:
    """A selection of the tokens of some `quadrants`: ``InQuadrants((3,))`` are those where the student is sure and wrong.

    Args:
        kept: numbers from 1 to 4.

    References:
        Xu et al., TIP: Token Importance in On-Policy Distillation, arXiv 2604.14084.
    """

    kept: tuple[int, ...] = (1, 2, 3)
    needs: ClassVar[frozenset[str]] = frozenset({"old_entropy", "teacher"})

    def __post_init__(self):
        if not self.kept or not set(self.kept) <= {1, 2, 3, 4}:
            raise ValueError(f"InQuadrants: kept must name quadrants from 1 to 4, got {self.kept}")

    def __call__(self, batch: TokenBatch) -> Bool[Tensor, "batch time"]:
        """True for the tokens to train on."""
        kind = quadrants(_entropy(batch), batch.against_teacher(reverse_kl, batch.mask), batch.mask)
        return torch.isin(kind, torch.tensor(self.kept, device=kind.device))
