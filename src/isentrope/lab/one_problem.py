"""The one problem that a policy is trained on alone: where it is right now and then wrong."""

import numpy as np
from jaxtyping import Float


def most_varied(rewards: Float[np.ndarray, "problems samples"]) -> int:
    """The index of the problem whose rewards vary most over the samples, ``argmax_i Var_k r_ik``; the first of equals.

    For rewards 0 and 1 that is the problem whose accuracy is nearest to one half.

    Args:
        rewards: such as `Evaluation.rewards`, ``[problems, samples]``.

    Returns:
        An index of the first axis.

    Raises:
        ValueError: if the shape is another, or no problem's rewards vary.

    References:
        Gao et al., One-shot Entropy Minimization, arXiv 2505.20282.

    Examples:
        >>> most_varied(np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]]))
        1
    """
    rewards = np.asarray(rewards, dtype=float)
    if rewards.ndim != 2 or not rewards.size:
        raise ValueError(f"rewards: must be of shape [problems, samples], got {rewards.shape}")
    variance = rewards.var(axis=1)
    if not variance.max() > 0:
        raise ValueError(
            f"rewards: each of the {len(rewards)} problems is always rewarded alike; give more problems, more samples, "
            "or another policy"
        )
    return int(variance.argmax())
