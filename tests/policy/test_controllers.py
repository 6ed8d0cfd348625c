import itertools
import math

import pytest
import torch
from toy_bench import bandit

from isentrope.policy import recipes
from isentrope.policy.controllers import (
    Cosine,
    DeadBand,
    DualVariable,
    FractionOfInitial,
    Linear,
    ProportionalIntegral,
    StepTowards,
)


def outputs(controller, entropies):
    memory, values = controller.start(), []
    for step, entropy in enumerate(entropies):
        memory = controller.update(memory, {"entropy": entropy}, step)
        values.append(controller.at(memory, step))
    return values


def test_proportional_integral_uses_the_integral_before_its_update():
    controller = ProportionalIntegral(target=1.0, proportional=0.5, integral=0.1, low=-10, high=10)
    assert outputs(controller, [2.0, 1.5, 0.0]) == pytest.approx([0.5, 0.25 + 0.1, -0.5 + 0.1 * 1.5])


def test_saturation_and_windup():
    published = ProportionalIntegral(target=0.0, proportional=0.0, integral=1.0, anti_windup=False)
    ours = ProportionalIntegral(target=0.0, proportional=0.0, integral=1.0)
    course = [1.0] * 10 + [-1.0] * 10
    assert max(outputs(published, course)) == 1.0
    # Ten errors one way take ten the other way to unwind in the published form, one in ours.
    assert outputs(published, course)[11] == 1.0
    assert outputs(ours, course)[11] == 0.0


def test_negative_gains_give_a_coefficient_that_rises_below_the_target():
    controller = ProportionalIntegral(target=1.0, proportional=-0.1, integral=-0.01, low=0.0, high=0.2)
    assert outputs(controller, [0.5]) == [pytest.approx(0.05)]
    assert outputs(controller, [1.5]) == [0.0]
    assert controller.start()["output"] == 0.0


def test_step_towards_follows_the_skywork_rule():
    controller = StepTowards(target=1.0, delta=0.1, high=0.25)
    assert outputs(controller, [0.5, 0.5, 0.5, 1.5, 0.9]) == pytest.approx([0.1, 0.2, 0.25, 0.0, 0.25])
    always = StepTowards(target=1.0, delta=0.1, only_below=False)
    assert outputs(always, [0.5, 1.5, 1.0]) == pytest.approx([0.1, 0.0, 0.0])


@pytest.mark.parametrize("schedule", [Linear(2.0, -1.0, steps=10), Cosine(2.0, -1.0, steps=10)])
def test_schedules_start_end_and_fall_monotonically(schedule):
    values = [schedule.at({}, step) for step in range(15)]
    assert values[0] == 2.0
    assert values[10:] == [-1.0] * 5
    assert values[5] == pytest.approx(0.5)
    assert all(a > b for a, b in itertools.pairwise(values[:11]))


def test_missing_metric_is_named():
    with pytest.raises(ValueError, match="no metric 'entropy' to follow; there are loss"):
        ProportionalIntegral(1.0).update({"integral": 0.0, "output": 0.0}, {"loss": 1.0}, 1)


def test_metrics_that_are_not_numbers_are_refused_before_they_are_remembered():
    with pytest.raises(ValueError, match="the metric 'entropy' is nan"):
        ProportionalIntegral(1.0).update({"integral": 0.0, "output": 0.0}, {"entropy": float("nan")}, 1)


def test_a_schedule_needs_a_step():
    with pytest.raises(ValueError, match="Linear: steps must be at least 1, got 0"):
        Linear(1.0, 0.0, steps=0)


def test_the_dead_band_follows_the_published_recursion():
    controller = DeadBand(0.4, 0.6, rate=0.1, initial=0.05, smallest=0.02, largest=0.07, warm_up=2)
    course = [0.0, 0.0, 0.3, 0.5, 0.4, 0.6, 0.9, 5.0, 0.0, 0.1]
    assert outputs(controller, course) == pytest.approx(
        [0.05, 0.05, 0.06, 0.06, 0.06, 0.06, 0.03, 0.02, 0.06, 0.07], abs=1e-12
    )
    with pytest.raises(ValueError, match="initial must lie between smallest"):
        DeadBand(initial=1.0)
    with pytest.raises(ValueError, match=r"low must not exceed high, got 0\.5 and 0\.2"):
        DeadBand(low=0.5, high=0.2)


def test_the_dual_variable_moves_by_factors_and_stays_in_its_bounds():
    controller = DualVariable(target=1.0, rate=2.0, initial=0.1, low=0.01, high=0.5)
    values = outputs(controller, [0.9, 1.1, 1.0, -1e9, 1e9])
    assert values == pytest.approx([0.1 * math.exp(0.2), 0.1, 0.1, 0.5, 0.01])
    # The gradient of -log(c) (m - target) by log(c), stepped against.
    log_coefficient = torch.tensor(math.log(0.1), dtype=torch.float64, requires_grad=True)
    (log_coefficient * (0.3 - 1.0)).backward()
    assert log_coefficient.grad is not None
    stepped = math.exp(math.log(0.1) - 0.05 * float(log_coefficient.grad))
    assert outputs(DualVariable(1.0, rate=0.05, initial=0.1), [0.3]) == pytest.approx([stepped])
    with pytest.raises(ValueError, match="0 < low <= initial <= high"):
        DualVariable(1.0, low=0.0)


def test_fraction_of_initial_anchors_at_the_first_value():
    controller = FractionOfInitial(fraction=0.5, rate=0.1, largest=0.06)
    assert outputs(controller, [4.0, 3.0, 2.0, 1.5, 1.9, 3.0, 0.0]) == pytest.approx(
        [0, 0, 0, 0.05, 0.06, 0, 0.06], abs=1e-12
    )
    with pytest.raises(ValueError, match=r"fraction must lie in \(0, 1\], got 2"):
        FractionOfInitial(fraction=2)


def test_toy_bench_the_dual_variable_finds_its_coefficient():
    curve = bandit(recipes.dual_entropy(1.5, rate=0.2), 400, 1.0)
    assert curve[-200:, 0].mean() == pytest.approx(1.5, abs=0.15)
