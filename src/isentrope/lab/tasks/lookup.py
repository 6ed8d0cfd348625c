"""From a task's name, as typed on a command line, to the task."""

import difflib

from isentrope.lab.tasks.addition import Addition
from isentrope.lab.tasks.calculator import Calculator
from isentrope.lab.tasks.countdown import Countdown
from isentrope.lab.tasks.problem import Task
from isentrope.lab.tasks.reasoning_gym import ReasoningGym
from isentrope.lab.tasks.templated import Templated

TASK_NAMES = ("addition", "calculator", "countdown", "reasoning_gym:DATASET", "templated:TASK")


def task(name: str) -> Task:
    """The task of that name, with its default settings.

    Args:
        name: ``"countdown"``, ``"addition"``, ``"calculator"``, ``"reasoning_gym:"`` and the name of a dataset, or
            ``"templated:"`` and the name of another task.

    Returns:
        The task.

    Raises:
        ValueError: if there is no such task; the message names the nearest.
        ImportError: if the package ``reasoning-gym`` is needed and missing.

    Examples:
        >>> task("countdown")
        Countdown(count=3, ...)
        >>> task("countdwn")
        Traceback (most recent call last):
        ValueError: name: there is no task 'countdwn'; did you mean 'countdown'? (tasks: addition,
        calculator, countdown, reasoning_gym:DATASET, templated:TASK)
    """
    if name == "countdown":
        return Countdown()
    if name == "addition":
        return Addition()
    if name == "calculator":
        return Calculator()
    library, _, dataset = name.partition(":")
    if library == "reasoning_gym" and dataset:
        return ReasoningGym(dataset)
    if name.startswith("templated:"):
        return Templated(task(name.removeprefix("templated:")))
    close = difflib.get_close_matches(name, TASK_NAMES, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"name: there is no task {name!r}{hint} (tasks: {', '.join(TASK_NAMES)})")
