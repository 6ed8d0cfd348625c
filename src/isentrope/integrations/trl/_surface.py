"""What of TRL's private surface the trainer stands on, and the check that it is still there."""

import inspect
from importlib.metadata import version

from trl.trainer import utils
from trl.trainer.grpo_trainer import GRPOTrainer

MULTIMODAL = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)
"""Inputs of a scoring pass beyond tokens, which travel with the rows of a batch."""

_METHODS = {
    "_calculate_rewards": ("inputs", "prompts", "completions", "completion_ids_list"),
    "_generate_and_score_completions": ("inputs",),
    "_get_per_token_logps_and_entropies": (
        "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy", "compute_aux_loss",
        *sorted(MULTIMODAL),
    ),
    "_compute_loss": ("model", "inputs"),
    "_save_checkpoint": ("model", "trial"),
    "_load_optimizer_and_scheduler": ("checkpoint",),
}  # fmt: skip
_FUNCTIONS = {
    "maybe_gather_lm_head_ctx": ("params",),
    "FusedCausalLMOutput": (
        "loss", "log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1", "label_mask", "aux_loss"
    ),
}  # fmt: skip


def check_surface() -> None:
    """Refuse a TRL whose private surface is another one than was tested.

    Raises:
        ImportError: naming the version found, and what differs.
    """
    found = version("trl")
    wrong = [name for name, wanted in _METHODS.items() if _parameters(GRPOTrainer, name) != sorted(wanted)]
    wrong += [name for name, wanted in _FUNCTIONS.items() if _parameters(utils, name) != sorted(wanted)]
    if not getattr(GRPOTrainer, "loss_is_scaled_for_ga", False):
        wrong.append("loss_is_scaled_for_ga")
    if wrong or not found.startswith("1.16."):
        changed = f"; changed in it: {', '.join(wrong)}" if wrong else ""
        raise ImportError(
            f"isentrope.integrations.trl is made for TRL 1.16, found {found}{changed}: pip install 'trl>=1.16,<1.17'"
        )


def _parameters(owner: object, name: str) -> list[str]:
    """Names of the parameters, without order: all of them are passed by name or stand first."""
    member = getattr(owner, name, None)
    if member is None:
        return []
    return sorted(parameter for parameter in inspect.signature(member).parameters if parameter != "self")
