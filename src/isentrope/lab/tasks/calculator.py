"""A calculator that has to be called: several turns of the policy, with the tool's answers in between.

The prompt ``3+4*5=`` asks for the value. The policy writes a call, ``4*5=``, to which the tool appends its result, ``20;``;
and so on, until the policy writes the value itself and ends: ``4*5=20;20+3=23;23``. One call takes two numbers, so the
policy has to know what may be done first, copy numbers and results, and notice when it is done; it need not calculate. A
sum can be taken in any order and both ways round, so there are many correct completions.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from isentrope.lab.tasks.problem import Problem, Split, draw_problems

_LARGEST_RESULT = 999_999
_NUMBER = "(0|[1-9][0-9]{0,5})"
_CALL = re.compile(rf"{_NUMBER}([+*]){_NUMBER}")

# The terms of a sum, each a product of factors.
_Terms = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Calculator:
    """Find the value of a sum of products by calls of a calculator.

    Args:
        count: how many numbers are given, 2 to 5.
        largest: numbers are drawn from 1 to this.

    Raises:
        ValueError: if a setting is out of range, or results could have more than six digits.

    Examples:
        >>> task = Calculator()
        >>> problem = task.problem("3+4*5")
        >>> task.tool(problem, "4*5=")
        '20;'
        >>> task.solutions(problem)
        ['4*5=20;20+3=23;23', '4*5=20;3+20=23;23', '5*4=20;20+3=23;23', '5*4=20;3+20=23;23']
        >>> task.reward(problem, "4*5=20;3+20=23;23"), task.reward(problem, "23"), task.reward(problem, "3+4=7;7*5=35;35")
        (1.0, 0.0, 0.0)
    """

    count: int = 3
    largest: int = 20

    def __post_init__(self) -> None:
        if not 2 <= self.count <= 5:
            raise ValueError(f"count: must be between 2 and 5 (got {self.count})")
        if self.largest < 1 or self.largest**self.count > _LARGEST_RESULT:
            most = int(_LARGEST_RESULT ** (1 / self.count))
            raise ValueError(f"largest: must be between 1 and {most} for {self.count} numbers (got {self.largest})")

    @property
    def name(self) -> str:
        """``calculator``."""
        return "calculator"

    @property
    def max_new_tokens(self) -> int:
        """Characters of the longest possible chain of calls with its results and the value, and the end."""
        return max(map(len, _chains(((self.largest,) * self.count,)))) + 1

    def problem(self, text: str) -> Problem:
        """The problem of finding the value of `text`, a sum of products.

        Raises:
            ValueError: if it is none, of as many positive whole numbers as the task gives.
        """
        if not re.fullmatch(r"[1-9][0-9]*([+*][1-9][0-9]*)*", text):
            raise ValueError(f"text: must be a sum of products of positive whole numbers, like 3+4*5 (got {text!r})")
        terms = tuple(tuple(map(int, term.split("*"))) for term in text.split("+"))
        given = sum(map(len, terms))
        if given != self.count:
            raise ValueError(f"text: {self.count} numbers are needed (got {given})")
        return Problem(f"{text}=", _chains(_canonical(terms))[0], terms)

    def problems(self, split: Split, count: int, seed: int = 0) -> list[Problem]:
        """`count` problems of a split; test problems are distinct, also up to the order of terms and factors.

        Raises:
            ValueError: if there are not that many test problems.
        """
        return draw_problems(self._draw, split, count, seed)

    def solutions(self, problem: Problem) -> list[str]:
        """All chains of calls that combine the given numbers into the value, and the value; in alphabetical order."""
        return list(_chains(_canonical(problem.data)))

    def demonstration(self, problem: Problem, rng: np.random.Generator) -> str:
        """One of these, each equally likely."""
        solutions = _chains(_canonical(problem.data))
        return solutions[rng.integers(len(solutions))]

    def tool(self, problem: Problem, text: str) -> str | None:
        """The result of the call that ends in ``=``, or ``?``, and a semicolon."""
        return f"{_result(text[:-1].rpartition(';')[2])};" if text.endswith("=") else None

    def planning(self, problem: Problem, completion: str) -> list[tuple[int, int]]:
        """What is asked of the calculator, call by call; the rest, equals signs and the value, only carries it out."""
        return [(call.start(), call.end()) for call in re.finditer("[^=;]+(?==)", completion)]

    def thinking(self, problem: Problem, completion: str) -> int:
        """Everything up to the last semicolon; all, where no value follows."""
        return len(completion) if self.answer(problem, completion) is None else completion.rfind(";") + 1

    def answer(self, problem: Problem, completion: str) -> str | None:
        """The number after the last semicolon."""
        number = completion.rpartition(";")[2]
        return number if re.fullmatch(_NUMBER, number) else None

    def reward(self, problem: Problem, completion: str) -> float:
        """1 if the value is right and all before it are calls with the tool's results, one of them at least; else 0."""
        *calls, value = completion.split(";")
        pairs = [call.partition("=") for call in calls]
        called = any(_result(call) != "?" for call, _, _ in pairs)
        genuine = all(equals and _result(call) == result for call, equals, result in pairs)
        return float(called and genuine and value == str(sum(int(np.prod(term)) for term in problem.data)))

    def _draw(self, rng: np.random.Generator) -> tuple[str, Problem]:
        numbers = rng.integers(1, self.largest + 1, self.count)
        signs = rng.choice(["+", "*"], self.count - 1)
        problem = self.problem(str(numbers[0]) + "".join(f"{s}{n}" for s, n in zip(signs, numbers[1:], strict=True)))
        return f"{_canonical(problem.data)}", problem


def _result(call: str) -> str:
    """The result of a call of two numbers; a question mark where it is none, or too large."""
    match = _CALL.fullmatch(call)
    if match is None:
        return "?"
    left, right = int(match[1]), int(match[3])
    result = left + right if match[2] == "+" else left * right
    return str(result) if result <= _LARGEST_RESULT else "?"


def _canonical(terms: _Terms) -> _Terms:
    return tuple(sorted(tuple(sorted(term)) for term in terms))


@lru_cache(maxsize=50_000)
def _chains(terms: _Terms) -> tuple[str, ...]:
    """All chains of calls, with results, that bring these (sorted) terms down to one number, and that number; sorted."""
    if len(terms) == 1 and len(terms[0]) == 1:
        return (str(terms[0][0]),)
    found = set()
    for index, factors in enumerate(terms):
        others = terms[:index] + terms[index + 1 :]
        for left, right, rest in _pairs(factors):
            tails = _chains(_canonical((*others, (*rest, left * right))))
            found.update(f"{left}*{right}={left * right};{tail}" for tail in tails)
    numbers = tuple(term[0] for term in terms if len(term) == 1)
    products = tuple(term for term in terms if len(term) > 1)
    for left, right, rest in _pairs(numbers):
        tails = _chains(_canonical((*products, *((number,) for number in rest), (left + right,))))
        found.update(f"{left}+{right}={left + right};{tail}" for tail in tails)
    return tuple(sorted(found))


def _pairs(numbers: tuple[int, ...]) -> set[tuple[int, int, tuple[int, ...]]]:
    """Two of the numbers, in either order, and the others."""
    places = range(len(numbers))
    return {
        (numbers[i], numbers[j], tuple(numbers[k] for k in places if k not in (i, j)))
        for i in places
        for j in places
        if i != j
    }
