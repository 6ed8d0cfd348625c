"""What of verl the trainer stands on, and the check that it is still there."""

import inspect
from collections.abc import Callable
from importlib.metadata import version

from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.workers.engine_workers import ActorRolloutRefWorker
from verl.workers.utils.padding import no_padding_2_padding, response_to_nested

MADE_FOR = "0.9.1"

_SIGNATURES: dict[Callable, tuple[str, ...]] = {
    PPOTrainer.__init__: ("self", "config"),
    PPOTrainer._setup: ("self",),
    PPOTrainer._compute_advantage: ("self", "batch", "metrics"),
    PPOTrainer._update_actor: ("self", "batch", "metrics"),
    PPOTrainer._load_checkpoint: ("self",),
    PPOTrainer._save_checkpoint: ("self",),
    PPOTrainer.fit: ("self", "agent_loop_manager"),
    ActorRolloutRefWorker.set_loss_fn: ("self", "loss_fn"),
    no_padding_2_padding: ("tensor", "data"),
    response_to_nested: ("tensor", "response_mask"),
}


def check_surface() -> None:
    """Refuse a verl whose inner surface is another one than was tested.

    Raises:
        ImportError: naming the version found, and what differs.
    """
    found = version("verl")
    changed = [
        function.__qualname__
        for function, wanted in _SIGNATURES.items()
        if tuple(inspect.signature(function).parameters) != wanted
    ]
    if changed or found != MADE_FOR:
        differs = f"; changed in it: {', '.join(changed)}" if changed else ""
        raise ImportError(
            f"isentrope.integrations.verl is made for verl {MADE_FOR}, found {found}{differs}: "
            f"pip install verl=={MADE_FOR}"
        )
