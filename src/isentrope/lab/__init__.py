"""The laboratory: small policies, verifiable tasks and a trainer, to compare interventions on one footing."""

from isentrope._threads import settle_threads

settle_threads()

from isentrope.lab.collection import collect  # noqa: E402
from isentrope.lab.comparison import compare, table  # noqa: E402
from isentrope.lab.evaluation import Evaluation, evaluate, pass_at_k  # noqa: E402
from isentrope.lab.experiment import Experiment, initial_policy, run  # noqa: E402
from isentrope.lab.hugging_face import HuggingFaceModel  # noqa: E402
from isentrope.lab.key_token import KeyTokenEnvironment, KeyTokenPolicy, train_key_tokens  # noqa: E402
from isentrope.lab.loading import load_model  # noqa: E402
from isentrope.lab.models import LanguageModel, OutputHead  # noqa: E402
from isentrope.lab.probe import EntropyProbe  # noqa: E402
from isentrope.lab.rollouts import Rollouts, Scores, join, sample, score  # noqa: E402
from isentrope.lab.tasks import Addition, Calculator, Countdown, Problem, ReasoningGym, Task, task  # noqa: E402
from isentrope.lab.tasks.templated import Templated  # noqa: E402
from isentrope.lab.tiny import TinyTransformer  # noqa: E402
from isentrope.lab.tokenizer import CharacterTokenizer, Tokenizer  # noqa: E402
from isentrope.lab.trainer import Trainer, TrainerSettings  # noqa: E402
from isentrope.lab.warm_start import warm_start  # noqa: E402

__all__ = [
    "Addition",
    "Calculator",
    "CharacterTokenizer",
    "Countdown",
    "EntropyProbe",
    "Evaluation",
    "Experiment",
    "HuggingFaceModel",
    "KeyTokenEnvironment",
    "KeyTokenPolicy",
    "LanguageModel",
    "OutputHead",
    "Problem",
    "ReasoningGym",
    "Rollouts",
    "Scores",
    "Task",
    "Templated",
    "TinyTransformer",
    "Tokenizer",
    "Trainer",
    "TrainerSettings",
    "collect",
    "compare",
    "evaluate",
    "initial_policy",
    "join",
    "load_model",
    "pass_at_k",
    "run",
    "sample",
    "score",
    "table",
    "task",
    "train_key_tokens",
    "warm_start",
]
