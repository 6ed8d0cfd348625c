"""The law that trades entropy for reward: ``R = -a exp(H) + b``.

Over a run of uncontrolled policy optimisation the reward has been found to follow the entropy along this curve. Read at
``H = 0`` it gives the ceiling ``b - a`` that the policy can reach by spending all of its entropy.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class RewardEntropyLaw:
    """A fitted law ``R = -a exp(H) + b``.

    Attributes:
        a: price of entropy.
        b: offset.
        ceiling: ``b - a``, the reward at zero entropy.
        a_stderr: standard error of ``a``.
        ceiling_stderr: standard error of the ceiling.
        r_squared: share of the reward's variance that the law explains.
        entropy_range: smallest and largest entropy seen, in nats; the ceiling is an extrapolation from there.
    """

    a: float
    b: float
    ceiling: float
    a_stderr: float
    ceiling_stderr: float
    r_squared: float
    entropy_range: tuple[float, float]

    def reward(self, entropy: float) -> float:
        """The reward at this entropy."""
        return self.b - self.a * float(np.exp(entropy))


def fit_reward_entropy_law(
    entropy: Float[np.ndarray, "steps"],
    reward: Float[np.ndarray, "steps"],
    *,
    block_length: int | None = None,
    n_resamples: int = 500,
    rng: int | np.random.Generator | None = 0,
) -> RewardEntropyLaw:
    """Least-squares fit of ``R = -a exp(H) + b`` to the steps of a run.

    ``R`` is linear in ``exp(H)``, so the fit is closed. Neighbouring steps share their policy, so residuals are
    correlated; the standard errors come from a circular block bootstrap of the residuals.

    Args:
        entropy: nats per token at each step.
        reward: mean reward at each step.
        block_length: steps in a block; ``ceil(n ** (1/2))`` if not given.
        n_resamples: bootstrap samples.
        rng: seed or generator of the bootstrap.

    Raises:
        ValueError: with fewer than 5 steps, values that are not finite, or an entropy that never changes.

    References:
        Cui et al., The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models, arXiv 2505.22617.

    Examples:
        >>> import numpy as np
        >>> H = np.linspace(1.2, 0.1, 40)
        >>> law = fit_reward_entropy_law(H, 0.9 - 0.2 * np.exp(H))
        >>> round(law.a, 6), round(law.ceiling, 6)
        (0.2, 0.7)
    """
    entropy, reward = np.asarray(entropy, dtype=np.float64), np.asarray(reward, dtype=np.float64)
    if entropy.shape != reward.shape or entropy.ndim != 1:
        raise ValueError(
            f"fit_reward_entropy_law: entropy and reward must be 1-d and of one length, got {entropy.shape} and {reward.shape}"
        )
    if not (np.isfinite(entropy).all() and np.isfinite(reward).all()):
        raise ValueError("fit_reward_entropy_law: entropy and reward must be finite; drop the steps without a value")
    if len(entropy) < 5:
        raise ValueError(f"fit_reward_entropy_law: 5 steps or more are needed, got {len(entropy)}")
    if np.ptp(entropy) < 1e-9:
        raise ValueError("fit_reward_entropy_law: entropy is the same at every step, so its price cannot be known")
    design = np.stack([-np.exp(entropy), np.ones_like(entropy)], axis=1)
    solve = np.linalg.pinv(design)
    coefficients = solve @ reward
    fitted = design @ coefficients
    residuals = reward - fitted
    spread = ((reward - reward.mean()) ** 2).sum()

    n = len(entropy)
    length = block_length or int(np.ceil(np.sqrt(n)))
    generator = np.random.default_rng(rng)
    starts = generator.integers(0, n, size=(n_resamples, -(-n // length)))
    index = (starts[..., None] + np.arange(length)).reshape(n_resamples, -1)[:, :n] % n
    # Two parameters are fitted; the factor makes up for the variance that they take from the residuals.
    resampled = fitted + np.sqrt(n / (n - 2)) * residuals[index]
    a, b = solve @ resampled.T
    return RewardEntropyLaw(
        a=float(coefficients[0]),
        b=float(coefficients[1]),
        ceiling=float(coefficients[1] - coefficients[0]),
        a_stderr=float(a.std(ddof=1)),
        ceiling_stderr=float((b - a).std(ddof=1)),
        r_squared=float(1 - (residuals**2).sum() / spread) if spread > 0 else 0.0,
        entropy_range=(float(entropy.min()), float(entropy.max())),
    )
