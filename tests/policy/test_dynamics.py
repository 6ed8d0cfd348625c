import numpy as np
import pytest
import torch
from batches import make_batch, with_current
from toy_bench import bandit, entropy_of

from isentrope.policy import fit_reward_entropy_law, recipes
from isentrope.policy.dynamics import (
    concentration,
    covariance_contributions,
    covariance_parts,
    entropy_change,
    token_entropy_change,
)


def test_entropy_change_is_the_derivative():
    generator = torch.Generator().manual_seed(0)
    logits, step = torch.randn(2, 7, 20, generator=generator).double()
    epsilon = 1e-6
    finite = (entropy_of(logits + epsilon * step) - entropy_of(logits - epsilon * step)) / (2 * epsilon)
    torch.testing.assert_close(entropy_change(logits, step), finite, atol=1e-8, rtol=1e-6)


def test_entropy_change_is_minus_a_covariance():
    logits, step = torch.randn(2, 9, generator=torch.Generator().manual_seed(1)).double()
    p, log_p = logits.softmax(-1), logits.log_softmax(-1)
    covariance = (p * log_p * step).sum() - (p * log_p).sum() * (p * step).sum()
    torch.testing.assert_close(entropy_change(logits, step), -covariance)


def test_banned_tokens_do_not_spoil_the_change():
    logits = torch.tensor([0.0, 1.0, -torch.inf]).double()
    change = entropy_change(logits, torch.tensor([0.1, 0.0, 5.0]).double())
    torch.testing.assert_close(change, entropy_change(logits[:2], torch.tensor([0.1, 0.0]).double()))


def test_token_change_is_that_of_a_policy_gradient_step_on_the_token():
    logits = torch.randn(6, generator=torch.Generator().manual_seed(2)).double()
    p = logits.softmax(-1)
    entropy = entropy_of(logits).expand(6)
    expected_score = (p**2 * (p.log() + entropy)).sum().expand(6)
    weight = torch.full((6,), 0.3).double()
    steps = weight[:, None] * (torch.eye(6).double() - p)
    exact = entropy_change(logits.expand(6, 6), steps)
    torch.testing.assert_close(token_entropy_change(p.log(), entropy, weight, expected_score), exact)
    # On-policy the mean over tokens vanishes, and the sign is that of p_k - exp(-H) up to the centring.
    assert abs(float((p * exact).sum())) < 1e-12


def test_published_example_of_two_actions():
    p = torch.tensor([0.8, 0.2]).double()
    entropy = torch.full((2,), 0.500402).double()
    changes = token_entropy_change(p.log(), entropy, torch.ones(2).double(), torch.full((2,), 0.133084).double())
    torch.testing.assert_close(
        changes, torch.tensor([0.133084 - 0.221807, 0.133084 + 0.221807]).double(), atol=2e-6, rtol=0
    )


def test_cheap_token_change_ranks_like_the_exact_one():
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(50, generator=generator).double()
    p = logits.softmax(-1)
    entropy = entropy_of(logits).expand(50)
    ones = torch.ones(50).double()
    exact = token_entropy_change(p.log(), entropy, ones, (p**2 * (p.log() + entropy)).sum().expand(50))
    cheap = token_entropy_change(p.log(), entropy, ones)
    centred = [x - (p * x).sum() for x in (exact, cheap)]
    correlation = (p * centred[0] * centred[1]).sum() / torch.stack([(p * c**2).sum().sqrt() for c in centred]).prod()
    assert correlation > 0.99


def test_contributions_average_to_the_sample_covariance():
    batch, logits = make_batch()
    current = with_current(batch, logits)
    advantages = torch.randn(batch.mask.shape, generator=torch.Generator().manual_seed(4)).double()
    shares = covariance_contributions(current.log_probs, advantages, batch.mask)
    valid = np.stack([current.log_probs[batch.mask], advantages[batch.mask]])
    assert shares.sum().item() / int(batch.mask.sum()) == pytest.approx(np.cov(valid, ddof=0)[0, 1], rel=1e-5)
    parts = covariance_parts(current.log_probs, current.entropy, advantages, batch.mask)
    assert sum(parts) == pytest.approx(np.cov(valid, ddof=0)[0, 1], rel=1e-4)


def test_constant_advantage_or_log_probability_gives_no_covariance():
    mask = torch.ones(2, 3, dtype=torch.bool)
    varied = torch.randn(2, 3)
    assert covariance_contributions(varied, torch.full((2, 3), 0.7), mask).abs().max() < 1e-7
    assert covariance_contributions(torch.full((2, 3), -1.3), varied, mask).abs().max() < 1e-7


def test_concentration_counts_the_fewest_tokens():
    changes = torch.tensor([[-1.0] * 10 + [3.0] * 10])
    mask = torch.ones(1, 20, dtype=torch.bool)
    assert concentration(changes, mask) == 8 / 20
    assert np.isnan(concentration(changes.abs(), mask))


def test_law_recovers_planted_parameters_within_their_errors():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        entropy = np.linspace(1.5, 0.2, 80) + rng.normal(0, 0.02, 80)
        noise = np.convolve(rng.normal(0, 0.02, 84), np.ones(5) / 5**0.5, mode="valid")
        law = fit_reward_entropy_law(entropy, 0.9 - 0.15 * np.exp(entropy) + noise, rng=rng)
        hits += abs(law.ceiling - 0.75) < 2 * law.ceiling_stderr
    # A 95% interval: fewer than 45 of 60 would mean errors that ignore the correlation of the noise.
    assert hits >= 48
    assert law.a == pytest.approx(0.15, abs=0.02)
    assert law.reward(0.0) == pytest.approx(law.ceiling)


@pytest.mark.parametrize(
    ("entropy", "reward", "message"),
    [
        ([1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 0, 1], "the same at every step"),
        ([1, 2, 3], [1, 2, 3], "5 steps or more"),
        ([1, 2, 3, 4, np.nan], [1, 2, 3, 4, 5], "must be finite"),
        ([1, 2, 3, 4, 5], [1, 2, 3, 4], "of one length"),
    ],
)
def test_law_refuses_what_it_cannot_fit(entropy, reward, message):
    with pytest.raises(ValueError, match=message):
        fit_reward_entropy_law(np.array(entropy, float), np.array(reward, float))


def test_toy_bench_grpo_collapses_and_obeys_the_law():
    curve = bandit(recipes.grpo(), 400, 1.0)
    assert curve[-1, 0] == pytest.approx(0.11, abs=0.04)
    assert curve[-50:, 1].mean() == pytest.approx(0.798, abs=0.015)
    law = fit_reward_entropy_law(curve[:, 0], curve[:, 1])
    assert law.a > 0
    assert law.ceiling == pytest.approx(0.8, abs=0.03)


def test_toy_bench_fixed_bonus_keeps_entropy_up():
    assert bandit(recipes.entropy_bonus(0.1), 400, 1.0)[-50:, 0].mean() == pytest.approx(1.55, abs=0.15)


def test_toy_bench_entropic_holds_its_target_only_with_the_mask():
    held = bandit(recipes.entropic(target=1.5, threshold=0.2), 400, 0.5)[-100:, 0].mean()
    unmasked = bandit(recipes.entropic(target=1.5, threshold=1e-9), 400, 0.5)[-100:, 0].mean()
    assert held == pytest.approx(1.5, abs=0.15)
    assert unmasked < 1.25


def test_toy_bench_entropy_target_holds_its_target():
    curve = bandit(recipes.entropy_target(target=1.5), 400, 1.0)
    assert curve[-200:, 0].mean() == pytest.approx(1.5, abs=0.1)
