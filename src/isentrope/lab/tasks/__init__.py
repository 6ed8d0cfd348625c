"""Tasks with verifiable rewards."""

from isentrope.lab.tasks.countdown import Countdown
from isentrope.lab.tasks.problem import Problem, Task, split_of

__all__ = ["Countdown", "Problem", "Task", "split_of"]
