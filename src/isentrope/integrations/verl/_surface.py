"""What of verl the trainer stands on, and the check that it is still there."""

from verl.trainer.ppo.v1 import trainer_base
from verl.workers import engine_workers
from verl.workers.utils import padding

from isentrope.integrations._surface import refuse_another

_SURFACE = (
    (trainer_base, "PPOTrainer.__init__", ("config",)),
    (trainer_base, "PPOTrainer._setup", ()),
    (trainer_base, "PPOTrainer._compute_advantage", ("batch", "metrics")),
    (trainer_base, "PPOTrainer._update_actor", ("batch", "metrics")),
    (trainer_base, "PPOTrainer._load_checkpoint", ()),
    (trainer_base, "PPOTrainer._save_checkpoint", ()),
    (trainer_base, "PPOTrainer.fit", ("agent_loop_manager",)),
    (engine_workers, "ActorRolloutRefWorker.set_loss_fn", ("loss_fn",)),
    (padding, "no_padding_2_padding", ("tensor", "data")),
    (padding, "response_to_nested", ("tensor", "response_mask")),
)


def check_surface() -> None:
    """Refuse a verl whose inner surface is another one than was tested.

    Raises:
        ImportError: naming the version found, and what differs.
    """
    refuse_another("verl", "0.9.1", "verl==0.9.1", _SURFACE)
