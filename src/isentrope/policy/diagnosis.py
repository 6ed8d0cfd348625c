"""A diagnosis in plain language: what the entropy of a run did, what drove it, and what that costs.

It reads the metrics of a run, whichever trainer wrote them, and says only what they support: a sentence whose numbers
are missing, or too few, is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from isentrope.policy.law import fit_reward_entropy_law

_HALF_LIFE_SHARE = 0.75
"""Steps in which three quarters of a fall happened are named, when they are few."""


@dataclass(frozen=True)
class Diagnosis:
    """Sentences for a person and the numbers in them for a script."""

    sentences: tuple[str, ...]
    numbers: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join(self.sentences)

    def to_dict(self) -> dict:
        """A JSON-ready form."""
        return {"sentences": list(self.sentences), "numbers": dict(self.numbers)}


def diagnose(metrics: Mapping[str, np.ndarray]) -> Diagnosis:
    """Explain a run's entropy from its metrics.

    Args:
        metrics: columns of one length, NaN where a step has no value. Read, where present: ``step``, ``entropy``
            (nats per token), ``reward``, ``target_entropy``, ``covariance``, ``fall_concentration`` (fraction of tokens
            that carries 80% of the predicted fall), ``entropy_change_predicted`` and ``entropy_change_measured``,
            ``covariance/<part>``, ``clip_fraction_high`` and ``clip_fraction_low``, ``coefficient/<slot>``, ``pass@1``.

    References:
        The covariance and the law ``R = -a exp(H) + b``: arXiv 2505.22617.

    Examples:
        >>> import numpy as np
        >>> diagnose({"step": np.arange(41), "entropy": np.linspace(1.0, 0.5, 41)}).sentences[0]
        'Entropy fell 49%, from 0.99 to 0.51 nats per token, in 40 steps.'
    """
    columns = {name: np.asarray(values, dtype=float) for name, values in metrics.items()}
    if "entropy" not in columns or not np.isfinite(columns["entropy"]).any():
        return Diagnosis(("No entropy was recorded, so there is nothing to diagnose.",))
    seen = np.isfinite(columns["entropy"])
    columns = {name: values[seen] for name, values in columns.items()}
    sentences: list[str] = []
    numbers: dict[str, float] = {}
    for part in (_course, _reward, _target, _drivers, _prediction, _law, _advice):
        part(columns, sentences, numbers)
    return Diagnosis(tuple(sentences), numbers)


def _ends(values: np.ndarray) -> tuple[float, float]:
    """Start and end of a noisy curve: the means of its first and last steps (5% of them, at least one)."""
    width = max(1, len(values) // 20)
    return float(values[:width].mean()), float(values[-width:].mean())


def _course(columns, sentences, numbers) -> None:
    entropy = columns["entropy"]
    steps = columns.get("step", np.arange(len(entropy), dtype=float))
    start, end = _ends(entropy)
    change = (end - start) / start if start > 0 else 0.0
    numbers |= {"entropy_start": start, "entropy_end": end, "entropy_change": change}
    span = int(steps[-1] - steps[0])
    if len(entropy) < 2:
        sentences.append(f"Entropy is {start:.2f} nats per token; one step is too few to follow it.")
        return
    if abs(change) < 0.1:
        sentences.append(f"Entropy stayed near {start:.2f} nats per token over {span} steps (now {end:.2f}).")
        return
    verb = "fell" if change < 0 else "rose"
    sentence = f"Entropy {verb} {abs(change):.0%}, from {start:.2f} to {end:.2f} nats per token, in {span} steps"
    # The first step by which three quarters of the change were done, on a curve smoothed like its ends.
    width = max(1, len(entropy) // 20)
    smooth = np.convolve(entropy, np.ones(width) / width, mode="valid")
    done = (smooth - start) / (end - start)
    early = int(np.argmax(done >= _HALF_LIFE_SHARE))
    if done.max() >= _HALF_LIFE_SHARE and early < len(smooth) / 3 and span >= 20:
        sentence += f"; {_HALF_LIFE_SHARE:.0%} of that within the first {max(1, int(steps[early] - steps[0]))}"
    sentences.append(sentence + ".")


def _reward(columns, sentences, numbers) -> None:
    reward = columns.get("reward")
    # Equal means over batches are no proof: advantages that covary with anything come from rewards that differ.
    if np.nan_to_num(columns.get("covariance", np.zeros(1))).any():
        return
    if reward is not None and np.isfinite(reward).any() and np.nanmax(reward) == np.nanmin(reward):
        sentences.append(
            f"Every response of the run earned the same reward, {np.nanmax(reward):g}, so there was no advantage to learn "
            "from: take an easier task, more samples a prompt, or teach the policy the form of an answer first."
        )


def _target(columns, sentences, numbers) -> None:
    target = columns.get("target_entropy")
    if target is None or not np.isfinite(target).any() or len(target) < 4:
        return
    half = slice(len(target) // 2, None)
    entropy, wanted = columns["entropy"][half], target[half]
    offset = float(np.nanmean(entropy - wanted) / np.nanmean(wanted))
    distance = float(np.nanmean(np.abs(entropy - wanted)))
    numbers |= {"target_offset": offset, "target_distance": distance}
    verdict = "held" if abs(offset) <= 0.1 else "missed"
    sentences.append(
        f"The target of {np.nanmean(wanted):.2f} nats was {verdict}: over the second half entropy was {offset:+.1%} off "
        f"on average, with a mean distance of {distance:.3f} nats."
    )
    for name, values in columns.items():
        if name.startswith("coefficient/") and np.isfinite(values).any():
            later = values[half]
            saturated = float(
                np.nanmean(
                    np.isclose(np.abs(later), np.nanmax(np.abs(values))) & (np.nanmax(values) > np.nanmin(values))
                )
            )
            if abs(offset) > 0.1 and saturated > 0.5:
                sentences.append(
                    "The controller stood at its limit for most of that time: give it a wider range, or a part that acts "
                    "on more tokens."
                )


def _drivers(columns, sentences, numbers) -> None:
    concentration = columns.get("fall_concentration")
    if concentration is not None and np.isfinite(concentration).any():
        value = float(np.nanmedian(concentration))
        numbers["fall_concentration"] = value
        sentences.append(f"Typically {value:.1%} of the tokens carry 80% of a step's predicted fall.")
    covariance = columns.get("covariance")
    if covariance is not None and np.isfinite(covariance).sum() >= 5:
        value = float(np.nanmean(covariance))
        numbers["covariance"] = value
        if value > 0:
            sentences.append(
                f"Advantage and log-probability covary positively (mean {value:+.3f}): likely tokens are rewarded, which "
                "lowers entropy."
            )
        else:
            sentences.append(
                f"Advantage and log-probability covary negatively (mean {value:+.3f}): unlikely tokens are rewarded, "
                "which raises entropy."
            )
    parts = {
        name.removeprefix("covariance/"): float(np.nanmean(values))
        for name, values in columns.items()
        if name.startswith("covariance/") and np.isfinite(values).any()
    }
    if parts:
        numbers |= {f"covariance/{name}": value for name, value in parts.items()}
        largest = max(parts, key=lambda name: abs(parts[name]))
        kind, effect = largest.replace("_", " "), "down" if parts[largest] > 0 else "up"
        sentences.append(f"The largest share comes from {kind} tokens, which pull entropy {effect}.")


def _prediction(columns, sentences, numbers) -> None:
    predicted, measured = (columns.get(f"entropy_change_{kind}") for kind in ("predicted", "measured"))
    if predicted is None or measured is None:
        return
    both = np.isfinite(predicted) & np.isfinite(measured)
    if both.sum() < 5 or np.ptp(predicted[both]) == 0 or np.ptp(measured[both]) == 0:
        return
    correlation = float(np.corrcoef(predicted[both], measured[both])[0, 1])
    slope = float((predicted[both] @ measured[both]) / (predicted[both] @ predicted[both]))
    numbers |= {"prediction_correlation": correlation, "prediction_slope": slope}
    sentences.append(
        f"The first-order prediction of each step's entropy change agrees with the measured one: correlation "
        f"{correlation:.2f}, measured = {slope:.2f} x predicted, over {int(both.sum())} steps."
        if correlation > 0.5
        else f"The first-order prediction explains little of the measured entropy changes (correlation {correlation:.2f} "
        f"over {int(both.sum())} steps): steps are too large, or too noisy, for it."
    )


def _law(columns, sentences, numbers) -> None:
    reward = columns.get("reward")
    target = columns.get("target_entropy")
    if reward is None or (target is not None and np.isfinite(target).any()):
        return
    both = np.isfinite(reward)
    entropy = columns["entropy"][both]
    if both.sum() < 20 or np.ptp(entropy) < 0.1:
        return
    law = fit_reward_entropy_law(entropy, reward[both])
    numbers |= {
        "law_a": law.a,
        "law_b": law.b,
        "law_r_squared": law.r_squared,
        "reward_ceiling": law.ceiling,
        "reward_ceiling_stderr": law.ceiling_stderr,
    }
    if law.a > 0 and law.r_squared > 0.5:
        sentences.append(
            f"Reward followed R = {law.b:.2f} - {law.a:.2f} exp(H) (R² = {law.r_squared:.2f}); spending all entropy "
            f"predicts a ceiling of reward of {law.ceiling:.2f}±{law.ceiling_stderr:.2f}."
        )
    else:
        sentences.append(
            f"Reward did not follow the law R = b - a exp(H) here (a = {law.a:.2f}, R² = {law.r_squared:.2f}), so no "
            "ceiling is predicted."
        )


def _advice(columns, sentences, numbers) -> None:
    target = columns.get("target_entropy")
    if target is not None and np.isfinite(target).any():
        return
    if numbers.get("entropy_change", 0) < -0.5:
        sentences.append(
            "This is entropy collapse: hold the entropy at a target (recipes entropic or entropy_target), or restrain the "
            "tokens that drive it (clip_cov, kl_cov)."
        )
    elif numbers.get("entropy_change", 0) > 0.5:
        sentences.append(
            "Entropy is growing: look for a bonus that is too large, clip-higher with many steps a batch, or a learning "
            "rate that destroys the policy; a target with a two-sided controller stops it."
        )
