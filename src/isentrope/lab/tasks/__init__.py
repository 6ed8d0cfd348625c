"""Tasks with verifiable rewards."""

from isentrope.lab.tasks.addition import Addition
from isentrope.lab.tasks.countdown import Countdown
from isentrope.lab.tasks.lookup import TASK_NAMES, task
from isentrope.lab.tasks.problem import Problem, Split, Task, split_of
from isentrope.lab.tasks.reasoning_gym import ReasoningGym

__all__ = [
    "TASK_NAMES",
    "Addition",
    "Countdown",
    "Problem",
    "ReasoningGym",
    "Split",
    "Task",
    "split_of",
    "task",
]
