import matplotlib as mpl
import numpy as np
import pytest

mpl.use("agg")
import matplotlib.pyplot as plt
from matplotlib.colors import to_hex

from isentrope.report import plot_entropy, plot_entropy_change, plot_pass_at_k, plot_reward, plot_token_entropy
from isentrope.report.palette import SERIES


@pytest.fixture(autouse=True)
def figure():
    figure = plt.figure(figsize=(6, 4))
    yield figure
    plt.close("all")


def test_entropy_is_drawn_as_recorded_with_target_and_band(make_run):
    run = make_run("entropic", target=0.6)
    ax = plot_entropy(run)
    curve, target = ax.get_lines()
    np.testing.assert_array_equal(curve.get_ydata(), run.metrics()["entropy"])
    assert set(target.get_ydata()) == {0.6}
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(0.54)
    assert heights.max() == pytest.approx(0.66)
    assert ax.get_xlabel() == "training step"
    assert ax.get_ylabel() == "entropy (nats per token)"
    assert ax.get_ylim()[0] == 0


def test_several_recipes_have_a_colour_and_a_name_each_and_seeds_a_band(make_run):
    runs = [make_run(recipe, seed, steps=30) for recipe in ("grpo", "dapo") for seed in (0, 1, 2)]
    ax = plot_reward(runs)
    lines = ax.get_lines()
    assert [to_hex(line.get_color()) for line in lines] == list(SERIES[:2])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["grpo", "dapo"]
    rewards = np.stack([run.metrics()["reward"] for run in runs[3:]])
    np.testing.assert_allclose(lines[1].get_ydata(), rewards.mean(0))
    corners = ax.collections[1].get_paths()[0].vertices
    top = rewards[:, 10].mean() + rewards[:, 10].std(ddof=1) / np.sqrt(3)
    assert corners[corners[:, 0] == 10, 1].max() == pytest.approx(top)


def test_pass_at_k_is_ordered_by_k_with_bars_of_one_standard_error():
    nan = np.nan
    run = {
        "step": np.arange(4),
        "pass@8": np.array([0.5, nan, nan, 0.7]),
        "pass@1": np.array([0.1, nan, nan, 0.4]),
        "pass@1_stderr": np.array([0.01, nan, nan, 0.03]),
    }
    ax = plot_pass_at_k(run)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["pass@1", "pass@8"]
    assert [line.get_ydata().tolist() for line in ax.get_lines()] == [[0.1, 0.4], [0.5, 0.7]]
    (bars,) = ax.collections
    np.testing.assert_allclose([segment[:, 1] for segment in bars.get_segments()], [[0.09, 0.11], [0.37, 0.43]])


def test_entropy_change_is_predicted_across_and_measured_up_with_its_correlation():
    predicted = np.array([np.nan, -0.3, 0.1, 0.2, 0.0])
    measured = np.array([0.5, -0.1, np.nan, 0.3, 0.1])
    ax = plot_entropy_change(
        {"step": np.arange(5), "entropy_change_predicted": predicted, "entropy_change_measured": measured}
    )
    (points,) = ax.collections
    np.testing.assert_array_equal(points.get_offsets(), [[-0.3, -0.1], [0.2, 0.3], [0.0, 0.1]])
    # By hand: deviations (-4, 7, 1)/30 and (-2, 2, 0)/10 about the means -1/30 and 1/10.
    deviations = np.array([-0.3 + 1 / 30, 0.2 + 1 / 30, 1 / 30]), np.array([-0.2, 0.2, 0.0])
    r = deviations[0] @ deviations[1] / np.sqrt((deviations[0] @ deviations[0]) * (deviations[1] @ deviations[1]))
    assert ax.get_legend().get_texts()[0].get_text() == f"r = {r:.2f}"
    (identity,) = ax.get_lines()
    assert identity.get_slope() == 1


def test_tokens_are_written_in_order_and_darker_with_entropy():
    tokens = ["3", "*", "$5$", " so\n", "done"]
    ax = plot_token_entropy(tokens, [0.0, 0.5, 1.0, 2.0, 0.25])
    assert [text.get_text() for text in ax.texts] == ["3", "*", "$5$", " so⏎", "done"]
    rows = [text.get_position()[1] for text in ax.texts]
    assert len(set(rows[:4])) == 1
    assert rows[4] > rows[3], "a newline starts a new line, and the axis runs downward"
    blue = [patch.get_facecolor()[2] for patch in ax.patches]
    assert blue[0] == 1.0
    assert blue[0] > blue[4] > blue[1] > blue[2] > blue[3]
    places = [text.get_position()[0] for text in ax.texts[:4]]
    assert np.diff(places)[2] == pytest.approx(3 * np.diff(places)[0])


def test_long_completions_wrap_within_the_axes():
    ax = plot_token_entropy(["word "] * 60, np.full(60, 0.5), maximum=1.0)
    right = max(patch.get_x() + patch.get_width() for patch in ax.patches)
    assert right <= ax.get_xlim()[1]
    assert len({text.get_position()[1] for text in ax.texts}) > 3


def test_it_draws_on_the_axes_it_is_given(figure, make_run):
    left, right = figure.subplots(1, 2)
    assert plot_reward(make_run(steps=3), right) is right
    assert not left.lines


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_entropy({"step": np.arange(2), "reward": np.ones(2)}), "none has a finite value of 'entropy'"),
        (lambda: plot_reward([]), "none has a finite value of 'reward'"),
        (lambda: plot_reward({"reward": np.ones(2)}), "needs 'step'; mapping 0 has reward"),
        (lambda: plot_entropy({"step": np.arange(3), "entropy": np.ones(2)}), "'entropy' of mapping 0 has shape .2,.; 'step' has .3,."),
        (lambda: plot_entropy_change({"step": np.arange(2)}), "none has entropy_change_predicted"),
        (lambda: plot_token_entropy(["a"], [0.1, 0.2]), "one for each of the 1 tokens"),
        (lambda: plot_token_entropy(["a", "b"], [0.1, -0.2]), "got -0.2 at index 1"),
        (lambda: plot_token_entropy(["a"], [0.1], maximum=0.0), "maximum: must be positive"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
