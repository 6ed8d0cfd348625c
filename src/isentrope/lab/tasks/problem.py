"""What a task is: problems, a verifier, and demonstrations for the supervised warm start."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

Split = Literal["train", "test"]

_TEST_SHARE = 5  # one problem in this many belongs to the test split


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        prompt: what the policy reads.
        solution: one correct completion, or None where none is known.
        data: what the task's verifier needs.
    """

    prompt: str
    solution: str | None = None
    data: Any = None


@runtime_checkable
class Task(Protocol):
    """Problems with a verifiable reward.

    The two splits are disjoint by construction: which split a problem belongs to is decided by a hash of the problem
    itself, without regard to seeds.
    """

    @property
    def name(self) -> str:
        """The name that `task` finds it by."""
        ...

    @property
    def max_new_tokens(self) -> int:
        """Room for the longest demonstration and its end token, in tokens of the tokenizer the task is meant for."""
        ...

    def problems(self, split: Split, count: int, seed: int = 0) -> list[Problem]:
        """`count` problems of a split; the same seed gives the same problems."""
        ...

    def reward(self, problem: Problem, completion: str) -> float:
        """Reward of a completion, between 0 and 1."""
        ...

    def demonstration(self, problem: Problem, rng: np.random.Generator) -> str:
        """A correct completion, drawn at random where there are several."""
        ...


@runtime_checkable
class UsesTool(Protocol):
    """A task whose policy may call a tool; `isinstance` tells."""

    def tool(self, problem: Problem, text: str) -> str | None:
        """What the tool writes after a completion has come to `text`, of which the policy wrote the last token.

        It depends on `problem` and `text` alone, so that a completion can be read again.
        """
        ...


@runtime_checkable
class HasPhases(Protocol):
    """A task whose completions think before they answer; `isinstance` tells, unless the task puts another one."""

    def thinking(self, problem: Problem, completion: str) -> int | None:
        """How many characters come before the answer; all where it is never given. None if the task put has no phases."""
        ...


@runtime_checkable
class HasPlans(Protocol):
    """A task that tells planning from carrying out; `isinstance` tells, unless the task puts another one."""

    def planning(self, problem: Problem, completion: str) -> list[tuple[int, int]] | None:
        """From where to where the characters plan, stretch by stretch. None if the task put does not tell."""
        ...


@runtime_checkable
class HasAnswers(Protocol):
    """A task that finds the answer in a completion; `isinstance` tells. Elsewhere the completion is the answer."""

    def answer(self, problem: Problem, completion: str) -> str | None:
        """The answer, or None where none is given; equal answers are equal texts."""
        ...


def split_of(key: str) -> Split:
    """The split that a problem belongs to, by a hash of its canonical form; one in five is a test problem.

    Examples:
        >>> [split_of(f"problem {index}") for index in range(4)].count("train")
        4
    """
    digest = blake2b(key.encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "big") % _TEST_SHARE == 0 else "train"


def draw_problems(
    draw: Callable[[np.random.Generator], tuple[str, Problem]], split: Split, count: int, seed: int
) -> list[Problem]:
    """`count` problems of `split` from a sampler of (canonical form, problem).

    Training problems are independent draws and may repeat. Test problems are distinct, so that a standard error over
    them means what it says.

    Raises:
        ValueError: if `split` or `count` is not valid, or there are fewer than `count` distinct test problems.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split: must be 'train' or 'test' (got {split!r})")
    if count < 0:
        raise ValueError(f"count: must not be negative (got {count})")
    rng = np.random.default_rng([seed, split == "test"])
    problems: list[Problem] = []
    seen: set[str] = set()
    misses = 0
    while len(problems) < count:
        key, problem = draw(rng)
        if split_of(key) == split and key not in seen:
            problems.append(problem)
            misses = 0
            if split == "test":
                seen.add(key)
            continue
        misses += 1
        if misses == 20_000:
            raise ValueError(
                f"count: {count} {split} problems asked for, but after 20000 draws in vain there seem to be only "
                f"{len(problems)}"
            )
    return problems
