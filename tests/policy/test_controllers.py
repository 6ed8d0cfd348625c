import itertools

import pytest

from isentrope.policy.controllers import Cosine, Linear, ProportionalIntegral, StepTowards


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
