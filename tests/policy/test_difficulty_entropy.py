import math

import pytest
import torch
from batches import make_batch, with_current
from toy_bench import bandit

from isentrope.policy import recipes
from isentrope.policy.controllers import FractionOfInitial
from isentrope.policy.difficulty_entropy import BelowPivot, DifficultyEntropyBonus


def test_hard_prompts_get_the_bonus_and_solved_ones_none():
    batch, logits = make_batch(rows=12, group_size=4)
    batch = batch.with_(rewards=torch.tensor([0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 1]).double())
    bonus = DifficultyEntropyBonus(0.3, BelowPivot(0.5))
    weights = bonus.prepare(batch, torch.Generator())
    torch.testing.assert_close(weights, torch.tensor([1.0] * 4 + [0.5] * 4 + [0.0] * 4).double())
    live = logits.clone().requires_grad_()
    current = with_current(batch, live)
    torch.testing.assert_close(bonus(current, weights), -0.3 * weights[:, None] * current.entropy)
    gradient = torch.autograd.grad(bonus(current, weights).sum(), live)[0]
    assert not gradient[8:].any()
    assert gradient[:8].abs().amax((1, 2)).min() > 0


def test_accuracy_is_that_of_the_rewards_before_shaping():
    batch, _ = make_batch(rows=4, group_size=4)
    batch = batch.with_(rewards=torch.full((4,), -1.0).double(), raw_rewards=torch.tensor([1, 1, 0, 0]).double())
    bonus = DifficultyEntropyBonus(1.0, BelowPivot(1.0))
    assert bonus.prepare(batch, torch.Generator()).tolist() == [0.5] * 4


def test_before_the_target_is_reached_it_is_grpo():
    objective = recipes.aer(fraction=0.5, rate=0.1)
    state = objective.start()
    state = objective.control(state, {"entropy": 2.0})
    state = objective.control(state, {"entropy": 1.1})
    assert objective.coefficients(state) == {"regularizers[0].coefficient": 0.0}
    state = objective.control(state, {"entropy": 0.8})
    assert objective.coefficients(state) == {"regularizers[0].coefficient": pytest.approx(0.02)}


def test_a_pivot_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"pivot must lie in \(0, 1\], got 0"):
        BelowPivot(0)


def test_toy_bench_equal_weights_hold_the_target_and_a_pivot_that_is_passed_loses_it():
    bonus = DifficultyEntropyBonus(FractionOfInitial(0.5, rate=0.01, largest=1.0), torch.ones_like)
    held = bandit(recipes.grpo().adding(regularizers=bonus), 400, 1.0)[-100:, 0]
    assert held.mean() == pytest.approx(0.5 * math.log(20), abs=0.06)
    lost = bandit(recipes.aer(0.5, rate=0.03, largest=1.0, pivot=0.5), 100, 3.0)[-1, 0]
    assert lost < 0.3
