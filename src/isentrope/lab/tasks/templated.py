"""A task whose questions are put in different forms, drawn anew for each problem."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from isentrope.lab.tasks.problem import HasAnswers, HasPhases, HasPlans, Problem, Split, Task, UsesTool
from isentrope.policy.templates import SYMBOLS, Template


@dataclass(frozen=True)
class Templated:
    """Another task in drawn forms: for the warm start of a policy that is to be trained or tested in them.

    The reward is that of the answer alone, whatever its form; `format` tells how well a completion keeps to it.

    Args:
        task: the task.
        templates: the forms.
        weights: their probabilities, up to a factor; equal if None.

    Raises:
        ValueError: if there is no template.

    References:
        Lu et al., Prompt Augmentation Scales up GRPO Training on Mathematical Reasoning, arXiv 2602.03190.

    Examples:
        >>> from isentrope.lab import Addition
        >>> task = Templated(Addition(), (Template("tags", "t:{prompt}", ("<", ">")),))
        >>> problem = task.put([Addition().problem((12, 7, 35))], np.random.default_rng(0))[0]
        >>> problem.prompt, problem.solution
        ('t:12+7+35=', '<19;54>')
        >>> task.reward(problem, "<42;54>"), task.reward(problem, "42;54"), task.format(problem, "42;54")
        (1.0, 1.0, 0.0)
    """

    task: Task
    templates: Sequence[Template] = SYMBOLS
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not self.templates:
            raise ValueError("templates: at least one is needed")

    @property
    def name(self) -> str:
        """``templated:`` and the task's name."""
        return f"templated:{self.task.name}"

    @property
    def max_new_tokens(self) -> int:
        """The task's, and room for the marks of the longest form, a token a character."""
        return self.task.max_new_tokens + max(sum(map(len, template.marks)) for template in self.templates)

    def put(self, problems: Sequence[Problem], rng: np.random.Generator) -> list[Problem]:
        """Problems of the task, each in a form that is drawn for it."""
        weights = None if self.weights is None else np.asarray(self.weights, dtype=float) / sum(self.weights)
        drawn = [self.templates[index] for index in rng.choice(len(self.templates), len(problems), p=weights)]
        return [
            Problem(
                template.asked(problem.prompt),
                None if problem.solution is None else template.answered(problem.solution),
                (template, problem),
            )
            for template, problem in zip(drawn, problems, strict=True)
        ]

    def problems(self, split: Split, count: int, seed: int = 0) -> list[Problem]:
        """`count` problems of a split of the task, in drawn forms."""
        return self.put(self.task.problems(split, count, seed), np.random.default_rng([seed, split == "test", 1]))

    def demonstration(self, problem: Problem, rng: np.random.Generator) -> str:
        """One of the task's, in the problem's form."""
        template, plain = problem.data
        return template.answered(self.task.demonstration(plain, rng))

    def reward(self, problem: Problem, completion: str) -> float:
        """The task's, of what the form's marks enclose."""
        template, plain = problem.data
        return self.task.reward(plain, template.answer(completion))

    def format(self, problem: Problem, completion: str) -> float:
        """How well a completion keeps to its form, from 0 to 1."""
        return problem.data[0].format(completion)

    def tool(self, problem: Problem, text: str) -> str | None:
        """What the task's tool writes after what the form's marks enclose so far; None where the task has no tool."""
        template, plain = problem.data
        within = template.answer(text)
        if not isinstance(self.task, UsesTool) or not text.endswith(within):
            return None
        return self.task.tool(plain, within)

    def planning(self, problem: Problem, completion: str) -> list[tuple[int, int]] | None:
        """The task's planning within the form's marks; None where the task knows of none."""
        template, plain = problem.data
        within = self.task.planning(plain, template.answer(completion)) if isinstance(self.task, HasPlans) else None
        if within is None:
            return None
        before = template.before(completion)
        return [(before + start, before + stop) for start, stop in within]

    def thinking(self, problem: Problem, completion: str) -> int | None:
        """The marks before the answer and the task's thinking within it; None where the task has no phases."""
        template, plain = problem.data
        text = template.answer(completion)
        within = self.task.thinking(plain, text) if isinstance(self.task, HasPhases) else None
        if within is None:
            return None
        return len(completion) if within == len(text) else template.before(completion) + within

    def answer(self, problem: Problem, completion: str) -> str | None:
        """The task's, of what the form's marks enclose."""
        template, plain = problem.data
        text = template.answer(completion)
        return self.task.answer(plain, text) if isinstance(self.task, HasAnswers) else text or None


def tool_of(task: Task) -> Callable[[Problem, str], str | None] | None:
    """What answers the policy's calls in a task; None where nothing does."""
    return task.tool if isinstance(task, UsesTool) and isinstance(plain(task, ())[0], UsesTool) else None


def plain(task: Task, problems: Sequence[Problem]) -> tuple[Task, Sequence[Problem]]:
    """A task and its problems without the forms that it puts them in."""
    return (task.task, [problem.data[1] for problem in problems]) if isinstance(task, Templated) else (task, problems)
