"""A policy beside its frozen teacher, at the same tokens and without ever holding all logits of either."""

from collections.abc import Callable
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from isentrope.lab.models import LanguageModel, OutputHead
from isentrope.lab.rollouts import _LOGITS_AT_ONCE, Rollouts, hidden_states
from isentrope.lab.tokenizer import Tokenizer

Comparison = Callable[[Callable[[Tensor, Tensor], Tensor], Bool[Tensor, "batch time"]], Float[Tensor, "batch time"]]
"""What `TokenBatch.teacher` is: from a measure of two logits ``[n, V]``, and where to take it, to ``[batch, time]``."""


def beside_teacher(
    model: LanguageModel,
    teacher: LanguageModel,
    rollouts: Rollouts,
    *,
    temperature: float,
    hidden: Float[Tensor, "tokens width"] | None = None,
    micro_batch_size: int | None = None,
) -> Comparison:
    """A function that compares a policy with its teacher at tokens of `rollouts`, with a gradient through the policy.

    It reads only rows that have a token to compare, and makes the logits of both for a block of tokens at a time; in the
    backward pass they are made again.

    Args:
        model: the policy.
        teacher: a model with the same vocabulary.
        rollouts: what the policy wrote.
        temperature: divides the logits of both.
        hidden: the policy's `hidden_states` at its own tokens, where they are at hand.
        micro_batch_size: responses in a forward pass; all at once if None.

    Returns:
        The function.

    Raises:
        ValueError: if the vocabularies are not the same.

    Examples:
        >>> from isentrope.lab import TinyTransformer, sample
        >>> from isentrope.policy.distillation import reverse_kl
        >>> model = TinyTransformer(width=16, layers=1, heads=2)
        >>> drawn = sample(model, ["1+2="], max_new_tokens=3, generator=torch.Generator().manual_seed(0))
        >>> beside_teacher(model, model, drawn, temperature=1.0)(reverse_kl, drawn.mask).abs().max() < 1e-6
        tensor(True)
    """
    check_vocabulary(model, teacher)

    def compare(measure: Callable[[Tensor, Tensor], Tensor], where: Tensor) -> Tensor:
        values = torch.zeros(where.shape, device=where.device)
        rows = where.any(-1).nonzero()[:, 0]
        if not len(rows):
            return values
        measured = []
        for index in rows.split(len(rows) if hidden is not None else micro_batch_size or len(rows)):
            some, chosen = rollouts.rows(index), where[index]
            ours = hidden_states(model, some, chosen) if hidden is None else hidden[where[rollouts.mask]]
            with torch.no_grad():
                theirs = hidden_states(teacher, some, chosen)
            measured += _in_blocks(measure, ours, theirs, model.head(), teacher.head(), temperature)
        return values.index_put(where.nonzero(as_tuple=True), torch.cat(measured).to(values.dtype))

    return compare


def check_vocabulary(model: LanguageModel, teacher: LanguageModel) -> None:
    """Refuse a teacher whose tokens are others.

    Raises:
        ValueError: if the vocabularies are not of one size, or the tokenizers have another token at an id of both.
    """
    ours, theirs = len(model.head().weight), len(teacher.head().weight)
    if ours != theirs:
        raise ValueError(f"teacher: its vocabulary has {theirs} tokens, the policy's {ours}; they must be the same")
    other = _first_difference(model.tokenizer, teacher.tokenizer)
    if other is not None:
        token, taught = (tokenizer.tokens([other])[0] for tokenizer in (model.tokenizer, teacher.tokenizer))
        raise ValueError(f"teacher: its token {other} is {taught!r}, the policy's {token!r}; they must be the same")


@lru_cache(maxsize=4)
def _first_difference(ours: Tokenizer, theirs: Tokenizer) -> int | None:
    """The first id whose token is another; None if there is none. Remembered, because a step asks again."""
    if ours == theirs:
        return None
    ids = range(min(len(ours), len(theirs)))
    pairs = zip(ids, ours.tokens(ids), theirs.tokens(ids), strict=True)
    return next((index for index, mine, taught in pairs if mine != taught), None)


def _in_blocks(
    measure: Callable[[Tensor, Tensor], Tensor],
    ours: Tensor,
    theirs: Tensor,
    head: OutputHead,
    teacher_head: OutputHead,
    temperature: float,
) -> list[Tensor]:
    def measured(student: Tensor, teacher: Tensor) -> Tensor:
        with torch.no_grad():
            teacher_logits = teacher_head.logits(teacher) / temperature
        return measure(head.logits(student) / temperature, teacher_logits)

    size = max(256, _LOGITS_AT_ONCE // len(head.weight))
    blocks = zip(ours.split(size), theirs.split(size), strict=True)
    if not torch.is_grad_enabled():
        return [measured(*block) for block in blocks]
    return [checkpoint(measured, *block, use_reentrant=False) for block in blocks]
