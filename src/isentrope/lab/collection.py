"""From problems to a training batch: completions are drawn, rewarded, and told apart into turns, phases and answers."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from isentrope.lab.branching import grow, without_prefixes
from isentrope.lab.models import LanguageModel
from isentrope.lab.rollouts import Rollouts, sample
from isentrope.lab.tasks.problem import HasAnswers, HasPhases, HasPlans, Problem, Task
from isentrope.lab.tasks.templated import Templated, plain, tool_of
from isentrope.lab.tempering import at_two_temperatures, spread
from isentrope.lab.tokenizer import Tokenizer
from isentrope.policy import RolloutPlan, TokenBatch

# From where to where, in characters.
Stretches = list[tuple[int, int]]


def collect(
    model: LanguageModel,
    task: Task,
    problems: Sequence[Problem],
    plan: RolloutPlan,
    *,
    generator: torch.Generator,
    max_new_tokens: int | None = None,
    activation: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Rollouts, TokenBatch]:
    """Draw and reward a group of completions for each problem, as `plan` says.

    Args:
        model: the policy.
        task: the verifier.
        problems: one a group.
        plan: how many completions, at which temperature, how they branch, and in which forms problems are put.
        generator: source of randomness.
        max_new_tokens: longest completion, beside the marks of a form; the task's own if None.
        activation: of the policy's logits, see `sample`.

    Returns:
        The rollouts and the batch, group after group. Beside the extras of `to_batch` it holds ``tempered`` ``[B]``,
        true for what was drawn at the plan's other temperature; if problems are put in forms, ``format`` ``[B]``, how
        well each completion keeps to its own, from 0 to 1; and, if completions branch, ``given`` ``[B]``, the number of
        tokens that were taken over from another.

    Raises:
        ValueError: if there is no problem.

    Examples:
        >>> from isentrope.lab import Addition, TinyTransformer
        >>> model, task = TinyTransformer(width=16, layers=1, heads=2), Addition()
        >>> problems = task.problems("train", 2)
        >>> _, batch = collect(model, task, problems, RolloutPlan(group_size=3), generator=torch.Generator())
        >>> batch.group_ids
        tensor([0, 0, 0, 1, 1, 1])
    """
    if plan.templates:
        task, problems = plain(task, problems)
        task = Templated(task, plan.templates, plan.template_weights)
        problems = task.put(problems, np.random.default_rng(int(torch.randint(2**62, (), generator=generator))))
        if max_new_tokens is not None:
            max_new_tokens += task.max_new_tokens - task.task.max_new_tokens
    tempered = spread(len(problems), plan.tempered_share)

    def rows(groups: Sequence[int], prefixes: Sequence[Sequence[int]] | None = None) -> Rollouts:
        """One completion for each of these problems, by number, at its own temperature."""

        def part(index: Tensor, temperature: float) -> Rollouts:
            return draw(
                model,
                task,
                [problems[groups[i]] for i in index.tolist()],
                temperature=temperature,
                generator=generator,
                max_new_tokens=max_new_tokens,
                prefixes=None if prefixes is None else [prefixes[i] for i in index.tolist()],
                activation=activation,
            )

        return at_two_temperatures(model, part, tempered[list(groups)], plan, activation)

    groups = torch.arange(len(problems)).repeat_interleave(plan.group_size)
    repeated = [problems[group] for group in groups.tolist()]
    if plan.branching is None:
        rollouts, given = rows(groups.tolist()), None
    else:
        rollouts, given = grow(rows, plan, len(problems), turns=turns, tokenizer=model.tokenizer, generator=generator)
    batch = to_batch(model.tokenizer, task, repeated, rollouts, plan.group_size)
    extras = {**batch.extras, "tempered": tempered.to(rollouts.mask.device).repeat_interleave(plan.group_size)}
    if isinstance(task, Templated):
        scores = [task.format(problem, text) for problem, text in zip(repeated, rollouts.completions, strict=True)]
        extras["format"] = batch.rewards.new_tensor(scores)
    if given is None:
        return rollouts, batch.with_(extras=extras)
    assert plan.branching is not None
    batch = batch.with_(extras={**extras, "given": given})
    return (rollouts, batch) if plan.branching.learns_prefix else without_prefixes(rollouts, batch, given)


def draw(
    model: LanguageModel,
    task: Task,
    problems: Sequence[Problem],
    *,
    temperature: float = 1.0,
    generator: torch.Generator,
    max_new_tokens: int | None = None,
    prefixes: Sequence[Sequence[int]] | None = None,
    activation: Callable[[Tensor], Tensor] | None = None,
) -> Rollouts:
    """One completion for each problem; where the task has a tool, it answers. Repeat a problem to draw from it again.

    Args:
        model: the policy.
        task: whose tool answers.
        problems: one a completion.
        temperature: sampling temperature.
        generator: source of randomness.
        max_new_tokens: longest completion; the task's own if None.
        prefixes: token ids that each completion begins with, see `sample`.
        activation: of the policy's logits, see `sample`.

    Returns:
        The rollouts.

    Raises:
        ValueError: as `sample` does.

    Examples:
        >>> from isentrope.lab import Calculator, TinyTransformer
        >>> model, task = TinyTransformer(width=16, layers=1, heads=2), Calculator()
        >>> call = [model.tokenizer.encode("4*5=")]
        >>> problems = [task.problem("3+4*5")]
        >>> draw(model, task, problems, generator=torch.Generator(), max_new_tokens=7, prefixes=call).completions
        ['4*5=20;']
    """
    answer = tool_of(task)
    return sample(
        model,
        [problem.prompt for problem in problems],
        max_new_tokens=task.max_new_tokens if max_new_tokens is None else max_new_tokens,
        temperature=temperature,
        generator=generator,
        prefixes=prefixes,
        activation=activation,
        tool=None if answer is None else lambda row, text: answer(problems[row], text),
    )


def to_batch(
    tokenizer: Tokenizer,
    task: Task,
    problems: Sequence[Problem],
    rollouts: Rollouts,
    group: int | Int[Tensor, " batch"],
) -> TokenBatch:
    """Rewarded rollouts as an objective reads them.

    ``extras`` holds, whatever the task: ``turn`` ``[B, T]``, the number of tool answers before each token of the policy,
    -1 elsewhere; ``answer`` ``[B]``, equal for equal answers, -1 for none. If the task has phases, also ``thinking``
    ``[B, T]``, true at the policy's tokens before its answer; if it knows of plans, ``strategic`` ``[B, T]``, true at the
    policy's tokens that plan.

    Args:
        tokenizer: the policy's.
        task: the verifier.
        problems: one a rollout.
        rollouts: the completions.
        group: size of the groups, which then follow one another, or the group id of each rollout.

    Returns:
        The batch.

    Raises:
        ValueError: if there are not as many problems as rollouts.

    Examples:
        >>> from isentrope.lab import Addition, TinyTransformer
        >>> model, task = TinyTransformer(width=16, layers=1, heads=2), Addition()
        >>> problems = task.problems("train", 1) * 4
        >>> rollouts = draw(model, task, problems, generator=torch.Generator())
        >>> batch = to_batch(model.tokenizer, task, problems, rollouts, group=2)
        >>> batch.group_ids, sorted(batch.extras)
        (tensor([0, 0, 1, 1]), ['answer', 'thinking', 'turn'])
    """
    if len(problems) != len(rollouts):
        raise ValueError(f"problems: one is needed for each of the {len(rollouts)} rollouts (got {len(problems)})")
    device = rollouts.mask.device
    rewards = [task.reward(problem, text) for problem, text in zip(problems, rollouts.completions, strict=True)]
    told: dict[str, Callable[[Problem, str], Stretches | None]] = {}
    if isinstance(task, HasPhases):
        told["thinking"] = partial(_before_the_answer, task)
    if isinstance(task, HasPlans):
        told["strategic"] = task.planning
    marked = {name: _marked(tokenizer, problems, rollouts, stretches) for name, stretches in told.items()}
    return TokenBatch(
        mask=rollouts.mask,
        rewards=torch.tensor(rewards, dtype=torch.float32, device=device),
        group_ids=torch.arange(len(problems), device=device) // group if isinstance(group, int) else group,
        old_log_probs=rollouts.log_probs,
        old_entropy=rollouts.entropy,
        token_ids=rollouts.completion_ids,
        extras={
            "turn": turns(rollouts),
            "answer": _answers(task, problems, rollouts.completions).to(device),
            **{name: tokens for name, tokens in marked.items() if tokens is not None},
        },
    )


def turns(rollouts: Rollouts) -> Int[Tensor, "batch time"]:
    """How often a tool has answered before each token of the policy; -1 at all other positions.

    Examples:
        >>> from isentrope.lab import Calculator, TinyTransformer
        >>> model, task = TinyTransformer(width=16, layers=1, heads=2), Calculator()
        >>> call = [model.tokenizer.encode("4*5=20;2")]
        >>> turns(draw(model, task, [task.problem("3+4*5")], generator=torch.Generator(), max_new_tokens=8, prefixes=call))
        tensor([[ 0,  0,  0,  0, -1, -1, -1,  1]])
    """
    answering = rollouts.written & ~rollouts.mask
    begins = answering.clone()
    begins[:, 1:] &= ~answering[:, :-1]
    return torch.where(rollouts.mask, begins.cumsum(1), -1)


def _before_the_answer(task: HasPhases, problem: Problem, completion: str) -> Stretches | None:
    """The one stretch in which the policy thinks."""
    characters = task.thinking(problem, completion)
    return None if characters is None else [(0, characters)]


def _marked(
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
    rollouts: Rollouts,
    stretches: Callable[[Problem, str], Stretches | None],
) -> Bool[Tensor, "batch time"] | None:
    """The policy's tokens in some stretches of characters; None where the task put tells none."""
    ids, counts = rollouts.completion_ids.tolist(), rollouts.written.sum(1).tolist()
    marked = torch.zeros(rollouts.mask.shape, dtype=torch.bool)
    for row, (problem, text) in enumerate(zip(problems, rollouts.completions, strict=True)):
        found = stretches(problem, text)
        if found is None:
            return None
        written = ids[row][: counts[row]]
        for start, stop in found:
            first = _tokens_within(tokenizer, written, start) if start else 0
            marked[row, first : _tokens_within(tokenizer, written, stop)] = True
    return rollouts.mask & marked.to(rollouts.mask.device)


def _tokens_within(tokenizer: Tokenizer, token_ids: list[int], characters: int) -> int:
    """How many of the first tokens make a text of at most so many characters."""
    fits, fails = 0, len(token_ids) + 1
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if len(tokenizer.decode(token_ids[:middle])) <= characters:
            fits = middle
        else:
            fails = middle
    return fits


def _answers(task: Task, problems: Sequence[Problem], completions: Sequence[str]) -> Int[Tensor, " batch"]:
    if isinstance(task, HasAnswers):
        answers = [task.answer(problem, text) for problem, text in zip(problems, completions, strict=True)]
    else:
        answers = [text or None for text in completions]
    numbers: dict[str, int] = {}
    return torch.tensor(
        [-1 if answer is None else numbers.setdefault(answer, len(numbers)) for answer in answers], dtype=torch.long
    )
