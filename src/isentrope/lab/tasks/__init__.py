"""Tasks with verifiable rewards."""

from isentrope.lab.tasks.addition import Addition
from isentrope.lab.tasks.calculator import Calculator
from isentrope.lab.tasks.countdown import Countdown
from isentrope.lab.tasks.lookup import TASK_NAMES, task
from isentrope.lab.tasks.problem import HasAnswers, HasPhases, HasPlans, Problem, Split, Task, UsesTool, split_of
from isentrope.lab.tasks.reasoning_gym import ReasoningGym

__all__ = [
    "TASK_NAMES",
    "Addition",
    "Calculator",
    "Countdown",
    "HasAnswers",
    "HasPhases",
    "HasPlans",
    "Problem",
    "ReasoningGym",
    "Split",
    "Task",
    "UsesTool",
    "split_of",
    "task",
]
