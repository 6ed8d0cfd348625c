"""Synthetic runs that look like real ones: entropy falls or is held, reward rises, evaluations come now and then."""

import numpy as np
import pytest

from isentrope.report import RunStore


def synthetic_run(root, recipe, seed, steps=200, target=None, finished=True, planned=None, **config):
    rng = np.random.default_rng([seed, sum(map(ord, recipe))])
    papers = {
        "grpo": ["grpo"],
        "dapo": ["dapo"],
        "clip_cov": ["clip-cov-kl-cov", "grpo"],
        "entropic": ["grpo", "entropic"],
    }
    run = RunStore.create(
        root,
        f"{recipe}-s{seed}",
        {
            "model": "tiny",
            "task": "countdown",
            "recipe": recipe,
            "objective": f"Objective(name={recipe!r}, surrogate=ClippedRatio(low=0.2, high=0.2, dual_clip=None), "
            "aggregation=SequenceMean(), regularizers=(), controllers=())",
            "seed": seed,
            "steps": planned or steps,
            "temperature": 1.0,
            "target_entropy": target,
            "prompts_per_step": 32,
            "group_size": 8,
            "learning_rate": 1e-3,
            "papers": papers.get(recipe, []),
            "command": f"isentrope train --recipe {recipe} --seed {seed}",
            **config,
        },
    )
    entropy, reward, coefficient = 1.05 + 0.03 * rng.normal(), 0.18 + 0.02 * rng.normal(), 0.0
    fall = {"grpo": 0.022, "dapo": 0.012, "clip_cov": 0.008}.get(recipe, 0.02)
    for step in range(steps):
        push = -fall * entropy * (0.6 + 0.8 * rng.random())
        if target is not None:
            coefficient = np.clip(coefficient + 0.08 * (target - entropy), -0.5, 1.0)
            push = 0.22 * (target - entropy) + 0.02 * rng.normal()
        predicted = push * 0.9 + 0.006 * rng.normal()
        entropy = max(0.02, entropy + push)
        reward += (0.93 - reward) * 0.011 * (1 + 0.3 * rng.normal())
        row = {
            "step": step,
            "reward": float(np.clip(reward + 0.035 * rng.normal(), 0, 1)),
            "entropy": entropy + 0.012 * rng.normal() * entropy,
            "target_entropy": target,
            "loss": 0.02 * rng.normal(),
            "gradient_norm": float(np.exp(-0.5 + 0.3 * rng.normal())),
            "learning_rate": 1e-3 * min(1, (step + 1) / 10),
            "completion_length": 11 - 2 * step / steps + 0.4 * rng.normal(),
            "clip_fraction_low": 0.004 + 0.002 * rng.random(),
            "clip_fraction_high": 0.012 + 0.006 * rng.random(),
            "covariance": 0.04 * entropy * (1 + 0.5 * rng.normal()),
            "ratio_deviation": 0.02 + 0.005 * rng.random(),
            "tokens_per_second": 9000 + 600 * rng.normal(),
            "seconds": 0.31 + 0.02 * rng.random(),
            "memory_mb": 512 + 0.05 * step,
            "fall_concentration": 0.05 + 0.01 * rng.random(),
        }
        if target is not None:
            row["coefficient/regularizers"] = float(coefficient)
        if step % 5 == 0:
            row |= {"entropy_change_predicted": predicted, "entropy_change_measured": push}
        if step % 25 == 0 or step == steps - 1:
            for k, boost in ((1, 0.0), (8, 0.45)):
                p = min(0.97, reward + boost * min(1, entropy))
                row |= {f"pass@{k}": p + 0.01 * rng.normal(), f"pass@{k}_stderr": float(np.sqrt(p * (1 - p) / 256))}
            run.add_samples(_samples(rng, step, entropy))
        run.append(row)
    run.flush()
    if finished:
        metrics = run.metrics()
        run.write_json(
            "diagnosis",
            {
                "sentences": [
                    f"Entropy fell {1 - entropy / 1.05:.0%}, from 1.05 to {entropy:.2f} nats per token, in {steps - 1} steps.",
                    "Advantage and log-probability covary positively (mean +0.021): likely tokens are rewarded, which "
                    "lowers entropy.",
                    "The first-order prediction explains the measured change of entropy (r = 0.94).",
                ],
                "numbers": {"entropy_start": 1.05, "entropy_end": entropy},
            },
        )
        run.write_json("summary", {"seconds": float(metrics["seconds"].sum()), "pass@1": float(metrics["pass@1"][-1])})
    return run


def _samples(rng, step, entropy):
    prompts = ["3 5 7>22=", "2 4 9>17=", "6 6 8>44="]
    answers = [list("3*5+7"), list("9+4*2"), list("6*6+8")]
    return [
        {
            "step": step,
            "prompt": prompt,
            "completion": "".join(answer),
            "tokens": [*answer, "\n"],
            "entropies": np.abs(rng.gamma(1.2, entropy, size=len(answer) + 1)).tolist(),
            "reward": float(rng.random() < 0.5),
        }
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


@pytest.fixture
def make_run(tmp_path):
    """`synthetic_run` in this test's folder."""

    def make(recipe="grpo", seed=0, **settings):
        return synthetic_run(tmp_path / "runs", recipe, seed, **settings)

    return make
