"""What of TRL's private surface the trainer stands on, and the check that it is still there."""

from trl.trainer import utils
from trl.trainer.grpo_trainer import GRPOTrainer

from isentrope.integrations._surface import refuse_another

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

_SURFACE = (
    (GRPOTrainer, "_calculate_rewards", ("inputs", "prompts", "completions", "completion_ids_list")),
    (GRPOTrainer, "_generate_and_score_completions", ("inputs",)),
    (
        GRPOTrainer, "_generate_single_turn",
        ("prompt_ids", "images", "multimodal_fields", "num_generations", "has_tool_images"),
    ),
    (
        GRPOTrainer, "_get_per_token_logps_and_entropies",
        (
            "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy",
            "compute_aux_loss", *MULTIMODAL,
        ),
    ),
    (GRPOTrainer, "_compute_loss", ("model", "inputs")),
    (GRPOTrainer, "_save_checkpoint", ("model", "trial")),
    (GRPOTrainer, "_load_optimizer_and_scheduler", ("checkpoint",)),
    (utils, "maybe_gather_lm_head_ctx", ("params",)),
    (
        utils, "FusedCausalLMOutput",
        ("loss", "log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1", "label_mask", "aux_loss"),
    ),
)  # fmt: skip


def check_surface() -> None:
    """Refuse a TRL whose private surface is another one than was tested.

    Raises:
        ImportError: naming the version found, and what differs.
    """
    scaled = getattr(GRPOTrainer, "loss_is_scaled_for_ga", False)
    refuse_another("trl", "1.16", "trl>=1.16,<1.17", _SURFACE, () if scaled else ("loss_is_scaled_for_ga",))
