"""Countdown: reach a target from given numbers by arithmetic.

The prompt ``3 5 7>22=`` asks for the target 22 from 3, 5 and 7, each used exactly once. The completion is one expression,
``7+3*5``, or, with working, one operation after the other with its result, ``3*5=15;7+15=22``. There are several correct
answers to every problem, so a policy can be right in many ways, and entropy is worth something.
"""

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from isentrope.lab.tasks.problem import Problem, Split, draw_problems

# No leading zeros, and few enough digits that no completion can make the verifier compute for long.
_NUMBER = "(0|[1-9][0-9]{0,5})"
_STEP = re.compile(rf"{_NUMBER}([+\-*/]){_NUMBER}={_NUMBER}")
_TOKEN = re.compile(r"(?:0|[1-9][0-9]{0,5})(?![0-9])|[-+*/()]")


@dataclass(frozen=True)
class Countdown:
    """Reach a target from given numbers, each used exactly once.

    Args:
        count: how many numbers are given, 2 to 5.
        largest: numbers are drawn from 1 to this.
        largest_target: targets lie between 1 and this.
        operations: which of ``+-*/`` are allowed.
        working: completions are chains of operations with their results (``3*5=15;7+15=22``; every result a whole
            number, none negative) instead of one expression (``7+3*5``; parentheses and fractions allowed). Chains are
            twice as long and leave less to chance at each token.
        minimum_solutions: only targets with at least this many correct completions are asked for.

    Raises:
        ValueError: if a setting is out of range.

    Examples:
        >>> task = Countdown()
        >>> problem = task.problem((3, 5, 7), 22)
        >>> problem.prompt
        '3 5 7>22='
        >>> task.solutions(problem)
        ['3*5+7', '5*3+7', '7+3*5', '7+5*3']
        >>> task.reward(problem, "(3)*5+7"), task.reward(problem, "15+7")
        (1.0, 0.0)
        >>> Countdown(working=True).solutions(problem)[:2]
        ['3*5=15;15+7=22', '3*5=15;7+15=22']
    """

    count: int = 3
    largest: int = 9
    largest_target: int = 99
    operations: str = "+-*"
    working: bool = False
    minimum_solutions: int = 2

    def __post_init__(self) -> None:
        if not 2 <= self.count <= 5:
            raise ValueError(f"count: must be between 2 and 5 (got {self.count})")
        if not 1 <= self.largest <= 99:
            raise ValueError(f"largest: must be between 1 and 99 (got {self.largest})")
        if self.largest_target < 1:
            raise ValueError(f"largest_target: must be at least 1 (got {self.largest_target})")
        if not self.operations or set(self.operations) - set("+-*/"):
            raise ValueError(f"operations: must be some of '+-*/' (got {self.operations!r})")
        if self.minimum_solutions < 1:
            raise ValueError(f"minimum_solutions: must be at least 1 (got {self.minimum_solutions})")

    @property
    def name(self) -> str:
        """``countdown``."""
        return "countdown"

    @property
    def max_new_tokens(self) -> int:
        """Characters of the longest possible answer, and the end."""
        digits = len(str(self.largest))
        if not self.working:
            return self.count * digits + (self.count - 1) + 2 * max(self.count - 2, 0) + 1
        # A result can have as many digits as all numbers together.
        results = min(self.count * digits, 6)
        return (self.count - 1) * (2 * max(digits, min(results, 3)) + results + 3)

    def problem(self, numbers: tuple[int, ...], target: int) -> Problem:
        """The problem of reaching `target` from `numbers`.

        Raises:
            ValueError: if `numbers` are not as many as the task gives, or the target cannot be reached.
        """
        if len(numbers) != self.count:
            raise ValueError(f"numbers: {self.count} are needed (got {len(numbers)})")
        solutions = self._by_target(tuple(sorted(numbers))).get(target)
        if not solutions:
            raise ValueError(f"target: {target} cannot be reached from {numbers}")
        prompt = f"{' '.join(map(str, numbers))}>{target}="
        return Problem(prompt, solutions[0], (tuple(numbers), target))

    def problems(self, split: Split, count: int, seed: int = 0) -> list[Problem]:
        """`count` problems of a split; test problems are distinct, also up to the order of their numbers.

        Raises:
            ValueError: if there are not that many test problems.
        """
        return draw_problems(self._draw, split, count, seed)

    def solutions(self, problem: Problem) -> list[str]:
        """All correct completions, without needless parentheses, in alphabetical order."""
        numbers, target = problem.data
        return list(self._by_target(tuple(sorted(numbers)))[target])

    def demonstration(self, problem: Problem, rng: np.random.Generator) -> str:
        """One of the correct completions, each equally likely."""
        numbers, target = problem.data
        solutions = self._by_target(tuple(sorted(numbers)))[target]
        return solutions[rng.integers(len(solutions))]

    def thinking(self, problem: Problem, completion: str) -> int:
        """With working, what comes before the last operation, and all where that is none; else nothing.

        Without working it answers at once: a rule that charges for thinking, such as `pear`, then changes nothing.
        """
        if not self.working:
            return 0
        return len(completion) if self.answer(problem, completion) is None else completion.rfind(";") + 1

    def answer(self, problem: Problem, completion: str) -> str | None:
        """With working, the last operation; else the expression."""
        answer = completion.rpartition(";")[2] if self.working else completion
        return answer if answer and (not self.working or _STEP.fullmatch(answer)) else None

    def reward(self, problem: Problem, completion: str) -> float:
        """1 if the completion reaches the target by allowed operations on exactly the given numbers, else 0."""
        numbers, target = problem.data
        correct = self._chain_reaches if self.working else self._expression_reaches
        return float(correct(completion, numbers, target))

    def _draw(self, rng: np.random.Generator) -> tuple[str, Problem]:
        while True:
            numbers = tuple(int(number) for number in rng.integers(1, self.largest + 1, self.count))
            targets = self._targets(tuple(sorted(numbers)))
            if targets:
                target = targets[rng.integers(len(targets))]
                return f"{sorted(numbers)}>{target}", self.problem(numbers, target)

    def _targets(self, numbers: tuple[int, ...]) -> list[int]:
        return [
            target
            for target, solutions in self._by_target(numbers).items()
            if 1 <= target <= self.largest_target and len(solutions) >= self.minimum_solutions
        ]

    def _by_target(self, numbers: tuple[int, ...]) -> dict[int, list[str]]:
        return (_chains if self.working else _expressions)(numbers, self.operations)

    def _chain_reaches(self, completion: str, numbers: tuple[int, ...], target: int) -> bool:
        available = Counter(numbers)
        steps = completion.split(";")
        if len(steps) != len(numbers) - 1:
            return False
        result = None
        for step in steps:
            match = _STEP.fullmatch(step)
            if match is None:
                return False
            left, operation, right, result = int(match[1]), match[2], int(match[3]), int(match[4])
            used = Counter((left, right))
            if operation not in self.operations or used - available:
                return False
            if _whole(left, operation, right) != result:
                return False
            available = available - used + Counter((result,))
        return result == target

    def _expression_reaches(self, completion: str, numbers: tuple[int, ...], target: int) -> bool:
        # The longest sensible expression has each number in its own parentheses.
        if len(completion) > 10 * len(numbers):
            return False
        tokens = _TOKEN.findall(completion)
        if "".join(tokens) != completion or any(token in "+-*/" and token not in self.operations for token in tokens):
            return False
        if Counter(int(token) for token in tokens if token.isdigit()) != Counter(numbers):
            return False
        return _evaluate(tokens) == target


def _whole(left: int, operation: str, right: int) -> int | None:
    """The result where it is a whole number that is not negative, else None."""
    if operation == "+":
        return left + right
    if operation == "*":
        return left * right
    if operation == "-":
        return left - right if left >= right else None
    return left // right if right and left % right == 0 else None


@lru_cache(maxsize=20_000)
def _chains(numbers: tuple[int, ...], operations: str) -> dict[int, list[str]]:
    """All chains of operations on exactly these (sorted) numbers, by the number they end with, sorted."""
    if len(numbers) == 1:
        return {numbers[0]: [""]}
    found: dict[int, set[str]] = {}
    pairs = {(left, right) for i, left in enumerate(numbers) for j, right in enumerate(numbers) if i != j}
    for left, right in pairs:
        rest = list(numbers)
        rest.remove(left)
        rest.remove(right)
        for operation in operations:
            result = _whole(left, operation, right)
            if result is None:
                continue
            step = f"{left}{operation}{right}={result}"
            for target, tails in _chains(tuple(sorted([*rest, result])), operations).items():
                found.setdefault(target, set()).update(f"{step};{tail}" if tail else step for tail in tails)
    return {target: sorted(chains) for target, chains in sorted(found.items())}


@lru_cache(maxsize=20_000)
def _expressions(numbers: tuple[int, ...], operations: str) -> dict[int, list[str]]:
    """All expressions in exactly these numbers without needless parentheses, by their whole-number value, sorted."""
    by_value: dict[int, list[str]] = {}
    for value, texts in _trees(numbers, operations).items():
        if value.denominator == 1:
            by_value[int(value)] = sorted({text for text, _ in texts})
    return dict(sorted(by_value.items()))


@lru_cache(maxsize=20_000)
def _trees(numbers: tuple[int, ...], operations: str) -> dict[Fraction, set[tuple[str, int]]]:
    """Expressions as (text, rank), by value; rank 3 is a number, 2 a product or quotient, 1 a sum or difference."""
    if len(numbers) == 1:
        return {Fraction(numbers[0]): {(str(numbers[0]), 3)}}
    found: dict[Fraction, set[tuple[str, int]]] = {}
    parts = set()
    for chosen in range(1, 2 ** len(numbers) - 1):
        left = tuple(number for index, number in enumerate(numbers) if chosen >> index & 1)
        right = tuple(number for index, number in enumerate(numbers) if not chosen >> index & 1)
        parts.add((left, right))
    for left, right in parts:
        for left_value, left_texts in _trees(left, operations).items():
            for right_value, right_texts in _trees(right, operations).items():
                for operation in operations:
                    if operation == "/" and right_value == 0:
                        continue
                    value = _exact(left_value, operation, right_value)
                    rank = 2 if operation in "*/" else 1
                    texts = found.setdefault(value, set())
                    for left_text, left_rank in left_texts:
                        head = left_text if left_rank >= rank else f"({left_text})"
                        for right_text, right_rank in right_texts:
                            # 'a-(b-c)' and 'a/(b*c)' need their parentheses, 'a+(b-c)' and 'a*(b/c)' do not.
                            bare = right_rank > rank or (right_rank == rank and operation in "+*")
                            tail = right_text if bare else f"({right_text})"
                            texts.add((f"{head}{operation}{tail}", rank))
    return found


def _exact(left: Fraction, operation: str, right: Fraction) -> Fraction:
    if operation == "+":
        return left + right
    if operation == "-":
        return left - right
    if operation == "*":
        return left * right
    return left / right


def _evaluate(tokens: list[str]) -> Fraction | None:
    """Value of an infix expression of whole numbers, or None if it is malformed or divides by zero."""
    position = 0

    def peek() -> str:
        return tokens[position] if position < len(tokens) else ""

    def take() -> str:
        nonlocal position
        position += 1
        return tokens[position - 1]

    def atom() -> Fraction | None:
        if peek() == "(":
            take()
            value = chain("+-")
            if value is None or peek() != ")":
                return None
            take()
            return value
        return Fraction(int(take())) if peek().isdigit() else None

    def chain(level: str) -> Fraction | None:
        part = atom if level == "*/" else lambda: chain("*/")
        value = part()
        while value is not None and peek() and peek() in level:
            operation, right = take(), part()
            if right is None or (operation == "/" and right == 0):
                return None
            value = _exact(value, operation, right)
        return value

    value = chain("+-")
    return value if position == len(tokens) else None
