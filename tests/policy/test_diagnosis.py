import numpy as np
import pytest

from isentrope.policy import diagnose


def run(steps=60, **columns):
    t = np.arange(steps, dtype=float)
    return {"step": t, "entropy": 0.2 + 0.8 * np.exp(-t / 8)} | columns


def test_collapse_is_named_with_its_numbers():
    entropy = run()["entropy"]
    diagnosis = diagnose(run(reward=0.8 - 0.15 * np.exp(entropy), fall_concentration=np.full(60, 0.021)))
    text = str(diagnosis)
    assert "Entropy fell 78%, from 0.91 to 0.20 nats per token, in 59 steps" in text
    assert "75% of that within the first" in text
    assert "2.1% of the tokens carry 80%" in text
    assert "predicts a ceiling of reward of 0.65±0.00" in text
    assert "entropy collapse" in text
    assert diagnosis.numbers["reward_ceiling"] == pytest.approx(0.65)


def test_a_target_is_judged_over_the_second_half():
    held = diagnose(run(target_entropy=np.full(60, 0.21)))
    assert "The target of 0.21 nats was held" in str(held)
    missed = diagnose(
        run(target_entropy=np.full(60, 0.6), **{"coefficient/regularizers[0]": np.minimum(np.arange(60) / 10, 1.0)})
    )
    assert "was missed" in str(missed)
    assert "stood at its limit" in str(missed)
    assert "collapse" not in str(missed)


def test_a_controller_at_its_lower_limit_is_named_too():
    coefficient = np.maximum(-np.arange(60) / 10, -0.5)
    missed = diagnose(run(target_entropy=np.full(60, 0.05), **{"coefficient/regularizers[0]": coefficient}))
    assert "stood at its limit" in str(missed)


def test_predictions_that_do_not_agree_are_said_so():
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=60)
    good = diagnose(run(entropy_change_predicted=predicted, entropy_change_measured=0.5 * predicted))
    assert "correlation 1.00, measured = 0.50 x predicted, over 60 steps" in str(good)
    bad = diagnose(run(entropy_change_predicted=predicted, entropy_change_measured=rng.normal(size=60)))
    assert "explains little" in str(bad)


def test_a_run_without_advantages_is_named():
    assert "earned the same reward, 0, so there was no advantage" in str(diagnose(run(reward=np.zeros(60))))


def test_a_law_that_does_not_hold_predicts_nothing():
    noise = np.random.default_rng(1).normal(size=60)
    diagnosis = diagnose(run(reward=noise))
    assert "did not follow the law" in str(diagnosis)


def test_missing_and_short_columns_are_left_out_rather_than_guessed():
    assert diagnose({"reward": np.ones(5)}).sentences[0].startswith("No entropy was recorded")
    assert len(diagnose({"entropy": np.array([0.5])}).sentences) == 1
    sparse = diagnose(run(entropy_change_predicted=np.full(60, np.nan), entropy_change_measured=np.full(60, np.nan)))
    assert "prediction" not in str(sparse)


def test_steady_and_growing_entropy():
    t = np.arange(40.0)
    assert "stayed near 0.50" in str(diagnose({"step": t, "entropy": np.full(40, 0.5)}))
    growing = str(diagnose({"step": t, "entropy": 0.5 + 0.05 * t}))
    assert "Entropy rose" in growing
    assert "Entropy is growing" in growing
