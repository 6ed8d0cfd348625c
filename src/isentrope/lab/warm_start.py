"""The supervised warm start: a short imitation of random correct answers.

Reinforcement learning needs a policy that is sometimes right. Demonstrations are drawn at random among the correct
answers of a problem, so the policy learns to be right in many ways and starts with entropy to spend.
"""

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from isentrope.lab.models import LanguageModel
from isentrope.lab.tasks.problem import Problem, Task
from isentrope.lab.tasks.templated import tool_of
from isentrope.lab.tokenizer import Tokenizer


def warm_start(
    model: LanguageModel,
    task: Task,
    *,
    steps: int = 600,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.01,
    seed: int = 0,
    progress: Callable[[int, int, float], None] | None = None,
) -> list[float]:
    """Train `model` in place on random demonstrations of training problems.

    The loss is the mean cross-entropy of the completion's tokens, end token included; what a tool writes in a
    demonstration is read, but not learnt. AdamW; the learning rate rises
    linearly over the first twentieth of the steps and falls to zero along a cosine.

    Args:
        model: the model to train.
        task: where problems and demonstrations come from.
        steps: optimiser steps.
        batch_size: demonstrations a step.
        learning_rate: its largest value.
        weight_decay: of AdamW.
        seed: seed of problems and demonstrations.
        progress: called with (steps done, `steps`, loss) after each step.

    Returns:
        The loss at each step, in nats per token.

    Raises:
        ValueError: if `steps` or `batch_size` is not positive, or a demonstration contradicts the task's tool.

    Examples:
        >>> from isentrope.lab.tasks import Countdown
        >>> from isentrope.lab.tiny import TinyTransformer
        >>> model = TinyTransformer(width=32, layers=1, heads=2)
        >>> losses = warm_start(model, Countdown(), steps=20, batch_size=16)
        >>> losses[-1] < losses[0]
        True
    """
    if steps < 1 or batch_size < 1:
        name, value = ("steps", steps) if steps < 1 else ("batch_size", batch_size)
        raise ValueError(f"{name}: must be at least 1 (got {value})")
    rng = np.random.default_rng(seed)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True
    )
    warmup = max(1, steps // 20)
    losses = []
    training = model.training
    model.train()
    problems = task.problems("train", steps * batch_size, seed)
    for step in range(steps):
        done = step - warmup
        factor = (step + 1) / warmup if done < 0 else 0.5 * (1 + math.cos(math.pi * done / max(1, steps - warmup)))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * factor
        batch = problems[step * batch_size : (step + 1) * batch_size]
        loss = _imitation_loss(model, [_demonstrated(model.tokenizer, task, problem, rng) for problem in batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        if progress is not None:
            progress(step + 1, steps, losses[-1])
    model.train(training)
    return losses


def _demonstrated(
    tokenizer: Tokenizer, task: Task, problem: Problem, rng: np.random.Generator
) -> tuple[list[int], list[bool]]:
    """The tokens of a prompt and a demonstration, and which of them are to be learnt."""
    token_ids = list(tokenizer.encode_prompt(problem.prompt))
    learnt = [False] * len(token_ids)
    for text, own in _by_writer(task, problem, task.demonstration(problem, rng)):
        ids = tokenizer.encode(text)
        token_ids += ids
        learnt += [own] * len(ids)
    return [*token_ids, tokenizer.eos_id], [*learnt, True]


def _by_writer(task: Task, problem: Problem, demonstration: str) -> Iterator[tuple[str, bool]]:
    """The stretches of a demonstration, in order, and whether each is the policy's, not the tool's."""
    tool, start, end = tool_of(task), 0, 0
    while tool is not None and end < len(demonstration):
        end += 1
        answer = tool(problem, demonstration[:end])
        if answer:
            if not demonstration.startswith(answer, end):
                raise ValueError(
                    f"task: the demonstration {demonstration!r} of {task.name} has not what its tool writes after "
                    f"{demonstration[:end]!r}, {answer!r}"
                )
            yield demonstration[start:end], True
            yield answer, False
            start = end = end + len(answer)
    yield demonstration[start:], True


def _imitation_loss(model: LanguageModel, texts: list[tuple[list[int], list[bool]]]) -> Tensor:
    """Mean cross-entropy of the tokens to be learnt, in nats."""
    length = max(len(ids) for ids, _ in texts)

    # Padded on the right: causal attention then needs no mask.
    def padded(rows: Iterable[list], fill: int | bool) -> Tensor:
        return torch.tensor([row + [fill] * (length - len(row)) for row in rows], device=model.device)

    token_ids = padded((ids for ids, _ in texts), model.tokenizer.pad_id)
    learnt = padded((own for _, own in texts), False)[:, 1:]
    attention_mask = padded(([True] * len(ids) for ids, _ in texts), False)
    hidden = model.hidden(token_ids[:, :-1], attention_mask[:, :-1])
    return functional.cross_entropy(model.head().logits(hidden[learnt]), token_ids[:, 1:][learnt])
