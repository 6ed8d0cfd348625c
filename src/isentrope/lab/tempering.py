"""A batch with two temperatures: some prompts' completions are sampled hotter or colder, and all are scored alike."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from isentrope.lab.models import LanguageModel
from isentrope.lab.rollouts import Rollouts, join, score
from isentrope.policy import RolloutPlan


def spread(count: int, share: float) -> Bool[Tensor, " count"]:
    """Marks ``floor(share * count)`` of `count` prompts, as evenly spread as can be.

    Examples:
        >>> spread(8, 0.25).tolist()
        [False, False, False, True, False, False, False, True]
    """
    steps = torch.floor(torch.arange(count + 1, dtype=torch.float64) * share + 1e-9)
    return steps.diff() > 0


def at_two_temperatures(
    model: LanguageModel,
    draw: Callable[[Int[Tensor, " some"], float], Rollouts],
    tempered: Bool[Tensor, " rows"],
    plan: RolloutPlan,
    activation: Callable[[Tensor], Tensor] | None = None,
) -> Rollouts:
    """Completions of which some are drawn at the plan's other temperature; all carry the numbers of its own.

    Args:
        model: the policy.
        draw: completions of the rows of these numbers, at this temperature.
        tempered: which rows are drawn at ``plan.tempered_at``.
        plan: the temperatures.
        activation: of the policy's logits, see `score`.

    Returns:
        The rollouts, in the order of the rows.
    """
    plain, other = torch.nonzero(~tempered).squeeze(-1), torch.nonzero(tempered).squeeze(-1)
    if not len(other):
        return draw(plain, plan.temperature)
    pieces = [draw(plain, plan.temperature)] if len(plain) else []
    pieces.append(rescored(model, draw(other, plan.tempered_at), plan.temperature, activation))
    return join(pieces, pad_id=model.tokenizer.pad_id).rows(torch.cat((plain, other)).argsort())


@torch.no_grad()
def rescored(
    model: LanguageModel,
    rollouts: Rollouts,
    temperature: float,
    activation: Callable[[Tensor], Tensor] | None = None,
) -> Rollouts:
    """The same completions with the log-probabilities and entropies that they have at another temperature."""
    scores = score(model, rollouts, temperature=temperature, activation=activation)
    return replace(rollouts, log_probs=scores.log_probs, entropy=scores.entropy, temperature=temperature)
