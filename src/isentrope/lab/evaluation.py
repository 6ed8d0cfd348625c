"""How good, and how varied, a policy is: pass@k with standard errors, entropy, and distinct correct answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from isentrope.lab.collection import draw
from isentrope.lab.models import LanguageModel
from isentrope.lab.tasks.problem import Problem, Task


def pass_at_k(
    n: int | Int[np.ndarray, "*problems"], c: int | Int[np.ndarray, "*problems"], k: int
) -> Float[np.ndarray, "*problems"]:
    """Unbiased estimate of the probability that at least one of k draws is correct, from c correct among n draws.

    ``pass@k = 1 - C(n-c, k) / C(n, k) = 1 - Π_{i=n-c+1}^{n} (1 - k / i)``; the product is exact where binomial
    coefficients would overflow.

    Args:
        n: draws per problem.
        c: correct draws per problem; broadcasts with `n`.
        k: draws one is allowed.

    Returns:
        The estimates, in float64.

    Raises:
        ValueError: if not ``0 <= c <= n`` or not ``1 <= k <= n``.

    References:
        arXiv 2107.03374, equation 1.

    Examples:
        >>> pass_at_k(4, np.array([0, 1, 4]), 2)
        array([0. , 0.5, 1. ])
    """
    draws, correct = np.broadcast_arrays(np.asarray(n), np.asarray(c))
    if not (np.issubdtype(draws.dtype, np.integer) and np.issubdtype(correct.dtype, np.integer)):
        raise TypeError(f"n, c: must be integers (got {draws.dtype} and {correct.dtype})")
    if ((correct < 0) | (correct > draws)).any():
        index = tuple(int(i) for i in np.argwhere((correct < 0) | (correct > draws))[0])
        raise ValueError(f"c: must lie between 0 and n (got {correct[index]} of {draws[index]} at index {index})")
    if draws.size and not 1 <= k <= draws.min():
        raise ValueError(f"k: must lie between 1 and n = {draws.min()} (got {k})")
    if not draws.size:
        return np.zeros(draws.shape)
    i = np.arange(1, draws.max() + 1)
    factors = np.where((i > (draws - correct)[..., None]) & (i <= draws[..., None]), np.clip(1 - k / i, 0, None), 1.0)
    return 1 - factors.prod(-1)


@dataclass(frozen=True)
class Evaluation:
    """A policy on a set of problems; every mean is over problems, every standard error that of the mean.

    Attributes:
        pass_at_k: estimate for each k.
        pass_at_k_standard_error: its standard error over problems.
        reward: mean reward.
        reward_standard_error: its standard error over problems.
        entropy: mean entropy per token of the policy, in nats, at `temperature`; token-weighted over all completions.
        length: mean number of the policy's tokens, end included.
        truncated: share of completions that were cut before their end.
        distinct_correct: mean over problems of how many different correct completions were drawn.
        problems: number of problems.
        samples: completions per problem.
        temperature: the sampling temperature.
        rewards: the rewards, ``[problems, samples]``.
    """

    pass_at_k: dict[int, float]
    pass_at_k_standard_error: dict[int, float]
    reward: float
    reward_standard_error: float
    entropy: float
    length: float
    truncated: float
    distinct_correct: float
    problems: int
    samples: int
    temperature: float
    rewards: Float[np.ndarray, "problems samples"]


def evaluate(
    model: LanguageModel,
    task: Task,
    problems: Sequence[Problem],
    *,
    samples: int = 16,
    k: Sequence[int] = (1, 8),
    temperature: float = 1.0,
    generator: torch.Generator,
    batch_size: int = 512,
    correct: float = 1.0,
    activation: Callable[[Tensor], Tensor] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Sample completions for each problem and report how often and how variously they are correct.

    Args:
        model: the policy.
        task: the verifier.
        problems: what to solve, usually ``task.problems("test", ...)``.
        samples: completions per problem.
        k: for which k to estimate pass@k; each at most `samples`.
        temperature: sampling temperature.
        generator: source of randomness.
        batch_size: completions generated together.
        correct: a completion counts as correct if its reward is at least this.
        activation: of the policy's logits, see `sample`.
        progress: called with (problems done, problems) after each batch.

    Returns:
        The evaluation.

    Raises:
        ValueError: if there is no problem or a k exceeds `samples`.

    Examples:
        >>> from isentrope.lab.tasks import Countdown
        >>> from isentrope.lab.tiny import TinyTransformer
        >>> task = Countdown()
        >>> model = TinyTransformer(width=16, layers=1, heads=2)
        >>> result = evaluate(model, task, task.problems("test", 4), samples=8, generator=torch.Generator().manual_seed(0))
        >>> result.pass_at_k
        {1: 0.0, 8: 0.0}
    """
    if not problems:
        raise ValueError("problems: at least one problem is needed")
    if not k or not all(1 <= one <= samples for one in k):
        raise ValueError(f"k: each must lie between 1 and samples = {samples} (got {tuple(k)})")
    if batch_size < 1:
        raise ValueError(f"batch_size: must be at least 1 (got {batch_size})")
    rewards = np.zeros((len(problems), samples))
    distinct = np.zeros(len(problems))
    entropy = tokens = truncated = 0.0
    at_once = max(1, batch_size // samples)
    for first in range(0, len(problems), at_once):
        batch = problems[first : first + at_once]
        rollouts = draw(
            model,
            task,
            [problem for problem in batch for _ in range(samples)],
            temperature=temperature,
            generator=generator,
            activation=activation,
        )
        for row, problem in enumerate(batch):
            completions = rollouts.completions[row * samples : (row + 1) * samples]
            rewards[first + row] = [task.reward(problem, completion) for completion in completions]
            solved = rewards[first + row] >= correct
            distinct[first + row] = len({text for text, right in zip(completions, solved, strict=True) if right})
        entropy += float(rollouts.entropy.double().sum())
        tokens += int(rollouts.mask.sum())
        ended = (rollouts.completion_ids == model.tokenizer.eos_id) & rollouts.mask
        truncated += len(rollouts) - int(ended.any(1).sum())
        if progress is not None:
            progress(min(first + at_once, len(problems)), len(problems))
    by_k = {one: pass_at_k(samples, (rewards >= correct).sum(1), one) for one in k}
    return Evaluation(
        pass_at_k={one: float(values.mean()) for one, values in by_k.items()},
        pass_at_k_standard_error={one: _standard_error(values) for one, values in by_k.items()},
        reward=float(rewards.mean()),
        reward_standard_error=_standard_error(rewards.mean(1)),
        entropy=entropy / tokens,
        length=tokens / rewards.size,
        truncated=truncated / rewards.size,
        distinct_correct=float(distinct.mean()),
        problems=len(problems),
        samples=samples,
        temperature=temperature,
        rewards=rewards,
    )


def _standard_error(values: np.ndarray) -> float:
    """Of the mean; not a number for a single value, which tells nothing about its spread."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
