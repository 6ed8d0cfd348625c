"""The laboratory: small policies, verifiable tasks and a trainer, to compare interventions on one footing."""

from isentrope._threads import settle_threads

settle_threads()

from isentrope.lab.evaluation import Evaluation, evaluate, pass_at_k  # noqa: E402
from isentrope.lab.models import LanguageModel, OutputHead  # noqa: E402
from isentrope.lab.probe import EntropyProbe  # noqa: E402
from isentrope.lab.rollouts import Rollouts, Scores, sample, score  # noqa: E402
from isentrope.lab.tasks import Countdown, Problem, Task  # noqa: E402
from isentrope.lab.tiny import TinyTransformer  # noqa: E402
from isentrope.lab.tokenizer import CharacterTokenizer, Tokenizer  # noqa: E402
from isentrope.lab.trainer import Trainer, TrainerSettings  # noqa: E402
from isentrope.lab.warm_start import warm_start  # noqa: E402

__all__ = [
    "CharacterTokenizer",
    "Countdown",
    "EntropyProbe",
    "Evaluation",
    "LanguageModel",
    "OutputHead",
    "Problem",
    "Rollouts",
    "Scores",
    "Task",
    "TinyTransformer",
    "Tokenizer",
    "Trainer",
    "TrainerSettings",
    "evaluate",
    "pass_at_k",
    "sample",
    "score",
    "warm_start",
]
