import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isentrope.report import RunStore
from isentrope.report._series import Curve, group_runs, moving_mean, smoothing_window, thin


@pytest.fixture
def make(tmp_path):
    def make(seed=0, values=(), metric="entropy", **config):
        run = RunStore.create(tmp_path, "x", {"seed": seed, **config})
        for step, value in enumerate(values):
            run.append({"step": step, metric: value})
        return run

    return make


def test_runs_that_differ_only_in_their_seed_are_one_group(make):
    runs = [make(seed, recipe=recipe) for seed in (0, 1) for recipe in ("grpo", "dapo")]
    groups = group_runs(runs)
    assert [(group.label, len(group.runs)) for group in groups] == [("grpo", 2), ("dapo", 2)]


def test_another_setting_is_another_group_and_is_named(make):
    runs = [make(seed, recipe="grpo", learning_rate=rate, note=[1]) for seed in (0, 1) for rate in (1e-3, 1e-4)]
    assert [group.label for group in group_runs(runs)] == ["grpo, learning rate 0.001", "grpo, learning rate 0.0001"]


def test_a_seed_run_twice_is_not_averaged(make):
    groups = group_runs([make(0, recipe="grpo"), make(0, recipe="grpo"), make(1, recipe="grpo")])
    assert [len(group.runs) for group in groups] == [1, 1, 1]
    assert len({group.label for group in groups}) == 3


def test_nested_settings_and_what_a_run_derives_from_them_do_not_part_seeds(make):
    def nested(seed, share, found):
        settings = {"seed": seed, "learning_rate": 1e-3}
        start = f"runs/start/countdown-s{seed}"
        experiment = {"recipe": "entropic", "target_entropy": share, "start": start, "settings": settings}
        return make(
            seed, experiment=experiment, target_entropy=found, objective=f"Objective({found})", entropy_before=found
        )

    same = group_runs([nested(0, "80%", 0.81), nested(1, "80%", 0.79)])
    assert [(group.label, len(group.runs)) for group in same] == [("entropic", 2)]
    apart = group_runs([nested(0, "80%", 0.81), nested(1, "50%", 0.5)])
    assert [group.label for group in apart] == ["entropic, target entropy 80%", "entropic, target entropy 50%"]


def test_addresses_in_an_objective_do_not_part_seeds(make):
    objectives = [f"Objective(aggregation=<function token_mean at 0x7f{seed}a>, papers=())" for seed in range(2)]
    (group,) = group_runs([make(seed, objective=objective) for seed, objective in enumerate(objectives)])
    assert group.settings["objective"] == "Objective(aggregation=token_mean, papers=())"


def test_the_mean_has_the_standard_error_over_seeds_and_only_steps_all_seeds_have(make):
    values = [(1.0, 2.0, None, 4.0, 9.0), (3.0, 6.0, 5.0, 1.0), (2.0, 1.0, 6.0, 1.0)]
    (group,) = group_runs([make(seed, own, recipe="grpo") for seed, own in enumerate(values)])
    curve = group.curve("entropy")
    assert curve.steps.tolist() == [0, 1, 3]
    np.testing.assert_allclose(curve.values, [2.0, 3.0, 2.0], rtol=1e-15)
    np.testing.assert_allclose(curve.stderr, [1 / np.sqrt(3), np.sqrt(7 / 3), 1.0], rtol=1e-14)


def test_one_run_keeps_its_gaps_but_not_the_steps_before_and_after_it_was_measured(make):
    (group,) = group_runs([make(0, (None, 1.0, None, 3.0, 4.0, 5.0, 6.0, None))])
    curve = group.curve("entropy")
    assert curve.steps.tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(curve.values, [1.0, np.nan, 3.0, 4.0, 5.0, 6.0])
    assert not curve.sparse
    assert group.curve("reward") is None
    assert Curve(np.arange(4.0), np.array([1, np.nan, np.nan, 2.0])).sparse


def test_the_target_is_the_recorded_one_before_the_configured_one(make):
    (configured,) = group_runs([make(0, (1.0, 0.9), target_entropy=0.5)])
    assert configured.target().values.tolist() == [0.5, 0.5]
    run = make(0, (1.0,), target_entropy=0.5)
    run.append({"step": 1, "entropy": 0.9, "target_entropy": 0.7})
    assert group_runs([run])[0].target().values.tolist() == [0.7]
    assert group_runs([make(0, (1.0,))])[0].target() is None


@given(st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=1, max_size=400), st.integers(8, 60))
def test_thinning_keeps_ends_and_extremes_in_order(values, points):
    curve = Curve(np.arange(len(values), dtype=float), np.array(values))
    drawn = thin(curve, points)
    assert len(drawn.steps) <= max(points, 3 * (points // 2) + 2)
    assert drawn.steps[0] == 0
    assert drawn.steps[-1] == len(values) - 1
    assert (np.diff(drawn.steps) > 0).all()
    np.testing.assert_array_equal(drawn.values, curve.values[drawn.steps.astype(int)])
    if np.isfinite(curve.values).any():
        assert np.nanmax(drawn.values) == np.nanmax(curve.values)
        assert np.nanmin(drawn.values) == np.nanmin(curve.values)
    assert np.isnan(curve.values).any() == np.isnan(drawn.values).any(), "a gap stays visible"


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=80), st.sampled_from([3, 5, 9]))
def test_the_moving_mean_is_the_mean_of_the_values_around(values, window):
    smoothed = moving_mean(Curve(np.arange(len(values), dtype=float), np.array(values)), window)
    for index in range(len(values)):
        near = [value for place, value in enumerate(values) if abs(place - index) <= window // 2]
        assert smoothed.values[index] == pytest.approx(np.mean(near), abs=1e-9)


def test_a_straight_line_is_its_own_moving_mean_within_and_short_curves_are_left_alone():
    steps = np.arange(200.0)
    line = Curve(steps, 3 - 0.5 * steps)
    window = smoothing_window(line)
    assert window == 7
    np.testing.assert_allclose(moving_mean(line, window).values[3:-3], line.values[3:-3], atol=1e-10)
    assert smoothing_window(Curve(steps[:59], steps[:59])) == 1
