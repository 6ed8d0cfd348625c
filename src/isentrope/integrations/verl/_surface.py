"""What of verl the trainer stands on, and the check that it is still there."""

import inspect
from importlib.metadata import version
from operator import attrgetter
from typing import Any

from verl.trainer.ppo.v1 import trainer_base
from verl.workers import engine_workers
from verl.workers.utils import padding

MADE_FOR = "0.9.1"

_SIGNATURES: tuple[tuple[Any, str, tuple[str, ...]], ...] = (
    (trainer_base, "PPOTrainer.__init__", ("self", "config")),
    (trainer_base, "PPOTrainer._setup", ("self",)),
    (trainer_base, "PPOTrainer._compute_advantage", ("self", "batch", "metrics")),
    (trainer_base, "PPOTrainer._update_actor", ("self", "batch", "metrics")),
    (trainer_base, "PPOTrainer._load_checkpoint", ("self",)),
    (trainer_base, "PPOTrainer._save_checkpoint", ("self",)),
    (trainer_base, "PPOTrainer.fit", ("self", "agent_loop_manager")),
    (engine_workers, "ActorRolloutRefWorker.set_loss_fn", ("self", "loss_fn")),
    (padding, "no_padding_2_padding", ("tensor", "data")),
    (padding, "response_to_nested", ("tensor", "response_mask")),
)


def check_surface() -> None:
    """Refuse a verl whose inner surface is another one than was tested.

    Raises:
        ImportError: naming the version found, and what differs.
    """
    found = version("verl")
    changed = [name for module, name, wanted in _SIGNATURES if _parameters(module, name) != wanted]
    if changed or found != MADE_FOR:
        differs = f"; changed in it: {', '.join(changed)}" if changed else ""
        raise ImportError(
            f"isentrope.integrations.verl is made for verl {MADE_FOR}, found {found}{differs}: "
            f"pip install verl=={MADE_FOR}"
        )


def _parameters(module: Any, name: str) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(attrgetter(name)(module)).parameters)
    except AttributeError:
        return ()
