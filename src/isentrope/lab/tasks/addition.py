"""Addition of several numbers, with running sums as working.

The prompt ``12+7+35=`` asks for the sum; the completion adds two of the numbers at a time and writes down the total so far,
``19;54``, until all are used. The order is free: ``42;54`` (7 + 35 first) is as good, so there are as many correct answers
as there are orders with different running sums.
"""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from isentrope.lab.tasks.problem import Problem, Split, draw_problems


@dataclass(frozen=True)
class Addition:
    """Add several numbers, writing the running sums.

    Args:
        count: how many numbers are given, 2 to 6.
        largest: numbers are drawn from 1 to this.

    Raises:
        ValueError: if a setting is out of range.

    Examples:
        >>> task = Addition(count=3)
        >>> problem = task.problem((12, 7, 35))
        >>> task.solutions(problem)
        ['19;54', '42;54', '47;54']
        >>> task.reward(problem, "19;54"), task.reward(problem, "54"), task.reward(problem, "20;54")
        (1.0, 0.0, 0.0)
    """

    count: int = 3
    largest: int = 50

    def __post_init__(self) -> None:
        if not 2 <= self.count <= 6:
            raise ValueError(f"count: must be between 2 and 6 (got {self.count})")
        if not 1 <= self.largest <= 9999:
            raise ValueError(f"largest: must be between 1 and 9999 (got {self.largest})")

    @property
    def name(self) -> str:
        """``addition``."""
        return "addition"

    @property
    def max_new_tokens(self) -> int:
        """Characters of the longest possible answer, and the end."""
        return sum(len(str(used * self.largest)) + 1 for used in range(2, self.count + 1))

    def problem(self, numbers: tuple[int, ...]) -> Problem:
        """The problem of adding `numbers`.

        Raises:
            ValueError: if they are not as many as the task gives, or one is not positive.
        """
        if len(numbers) != self.count:
            raise ValueError(f"numbers: {self.count} are needed (got {len(numbers)})")
        if min(numbers) < 1:
            raise ValueError(f"numbers: must be positive (got {min(numbers)} at index {numbers.index(min(numbers))})")
        return Problem("+".join(map(str, numbers)) + "=", _running_sums(tuple(sorted(numbers)))[0], tuple(numbers))

    def problems(self, split: Split, count: int, seed: int = 0) -> list[Problem]:
        """`count` problems of a split; test problems are distinct, also up to the order of their numbers.

        Raises:
            ValueError: if there are not that many test problems.
        """
        return draw_problems(self._draw, split, count, seed)

    def solutions(self, problem: Problem) -> list[str]:
        """All correct completions, those with small running sums first."""
        return list(_running_sums(tuple(sorted(problem.data))))

    def demonstration(self, problem: Problem, rng: np.random.Generator) -> str:
        """One of the correct completions, each equally likely."""
        solutions = _running_sums(tuple(sorted(problem.data)))
        return solutions[rng.integers(len(solutions))]

    def thinking(self, problem: Problem, completion: str) -> int:
        """The running sums before the last; all, where that is not a number."""
        return len(completion) if self.answer(problem, completion) is None else completion.rfind(";") + 1

    def answer(self, problem: Problem, completion: str) -> str | None:
        """The last running sum."""
        total = completion.rpartition(";")[2]
        return total if total.isdecimal() else None

    def reward(self, problem: Problem, completion: str) -> float:
        """1 if the completion is a chain of running sums of the given numbers that uses all of them, else 0."""
        # The correct completions are few and written in one way only, so membership is the whole verification.
        return float(completion in _running_sums(tuple(sorted(problem.data))))

    def _draw(self, rng: np.random.Generator) -> tuple[str, Problem]:
        numbers = tuple(int(number) for number in rng.integers(1, self.largest + 1, self.count))
        return f"{sorted(numbers)}", self.problem(numbers)


@lru_cache(maxsize=50_000)
def _running_sums(numbers: tuple[int, ...]) -> tuple[str, ...]:
    """The distinct sequences of running sums over all orders, each as text, in numerical order."""

    def continued(total: int, left: Counter[int]) -> list[tuple[int, ...]]:
        if not left:
            return [()]
        return [
            (total + number, *rest)
            for number in sorted(left)
            for rest in continued(total + number, left - Counter((number,)))
        ]

    sums = {sequence[1:] for sequence in continued(0, Counter(numbers))}
    return tuple(";".join(map(str, sequence)) for sequence in sorted(sums))
