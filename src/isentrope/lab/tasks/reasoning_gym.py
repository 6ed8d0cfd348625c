"""The procedurally generated tasks of the library Reasoning Gym, for policies that read and write English.

Each of its hundred datasets makes problems without end and verifies answers (arXiv 2505.24760). The prompt is the question
and a request to put the answer between ``<answer>`` and ``</answer>``; the last such pair in the completion counts.
"""

import difflib
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from isentrope.lab.tasks.problem import Problem, Split, draw_problems

# Virtual size of a dataset: entries are made on demand, from their index.
_SIZE = 2**30

# Their verifiers hand the answer to `eval`, or to sympy's `parse_expr`, which does: whoever writes the answer runs code.
_EVALUATING = frozenset(
    {
        "binary_matrix",
        "countdown",
        "intermediate_integration",
        "n_queens",
        "polynomial_multiplication",
        "puzzle24",
        "simple_integration",
        "spiral_matrix",
        "string_insertion",
    }
)


@dataclass(frozen=True)
class ReasoningGym:
    """A dataset of Reasoning Gym as a task.

    Args:
        dataset: its name there, such as ``"chain_sum"``, ``"basic_arithmetic"`` or ``"letter_counting"``.
        settings: further arguments of ``reasoning_gym.create_dataset``, such as ``{"max_terms": 3}``.
        max_new_tokens: room for a completion.
        partial_credit: give the library's partial rewards. Many of its verifiers pay for an answer that merely contains
            the right one, which a policy learns to exploit; without partial credit only a full score counts, as 1.
        run_answers: accept a dataset whose verifier evaluates the policy's text as Python.

    Raises:
        ValueError: if there is no such dataset, or its verifier evaluates answers and `run_answers` is not set.
        ImportError: if the package ``reasoning-gym`` is missing.

    References:
        arXiv 2505.24760.

    Examples:
        >>> task = ReasoningGym("chain_sum", settings={"max_terms": 2, "max_digits": 1})
        >>> problem = task.problems("train", 1)[0]
        >>> task.reward(problem, f"It is <answer>{problem.data['answer']}</answer>."), task.reward(problem, "Who knows?")
        (1.0, 0.0)
    """

    dataset: str
    settings: dict[str, Any] = field(default_factory=dict)
    max_new_tokens: int = 64
    partial_credit: bool = False
    run_answers: bool = False

    def __post_init__(self) -> None:
        names = _library().factory.DATASETS
        if self.dataset not in names:
            close = difflib.get_close_matches(self.dataset, names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"dataset: Reasoning Gym has no dataset {self.dataset!r}{hint}")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens: must be at least 1 (got {self.max_new_tokens})")
        if self.dataset in _EVALUATING and not self.run_answers:
            raise ValueError(
                f"dataset: the verifier of {self.dataset!r} evaluates the policy's answer as Python code; pass "
                "run_answers=True to accept that, in a sandbox"
            )

    @property
    def name(self) -> str:
        """``reasoning_gym:`` and the dataset's name."""
        return f"reasoning_gym:{self.dataset}"

    @cached_property
    def _entries(self) -> Any:
        return _library().create_dataset(self.dataset, size=_SIZE, seed=0, **self.settings)

    def problems(self, split: Split, count: int, seed: int = 0) -> list[Problem]:
        """`count` problems of a split; test problems are distinct.

        Raises:
            ValueError: if there are not that many test problems.
        """
        return draw_problems(self._draw, split, count, seed)

    def demonstration(self, problem: Problem, rng: np.random.Generator) -> str:
        """The library's own answer between its tags; `rng` is not used, because it knows one answer only.

        Raises:
            ValueError: if the dataset gives no answer.
        """
        if problem.solution is None:
            raise ValueError(f"problem: the dataset {self.dataset!r} gives no answer to {problem.prompt!r}")
        return problem.solution

    def thinking(self, problem: Problem, completion: str) -> int:
        """What comes before the last pair of answer tags; all, where there is none."""
        starts = [match.start() for match in re.finditer("<answer>.*?</answer>", completion, re.DOTALL)]
        return starts[-1] if starts else len(completion)

    def answer(self, problem: Problem, completion: str) -> str | None:
        """The text between the last pair of answer tags."""
        return _library().utils.extract_answer(completion)

    def reward(self, problem: Problem, completion: str) -> float:
        """The verifier's score of the text between the last pair of answer tags; 0 where there is none."""
        answer = self.answer(problem, completion)
        if answer is None:
            return 0.0
        score = float(self._entries.score_answer(answer=answer, entry=problem.data))
        return min(max(score, 0.0), 1.0) if self.partial_credit else float(score >= 1.0)

    def _draw(self, rng: np.random.Generator) -> tuple[str, Problem]:
        entry = self._entries[int(rng.integers(_SIZE))]
        prompt = f"{entry['question']}\nWrite only the final answer, between <answer> and </answer>."
        answer = entry["answer"]
        return entry["question"], Problem(prompt, None if answer is None else f"<answer>{answer}</answer>", entry)


def _library() -> Any:
    try:
        import reasoning_gym
    except ImportError as error:
        raise ImportError("the tasks of Reasoning Gym need its package: pip install isentrope[lm]") from error
    return reasoning_gym
