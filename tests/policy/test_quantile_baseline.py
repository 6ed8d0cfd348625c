import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_bench import bandit

from isentrope.policy import TokenBatch, recipes
from isentrope.policy.advantages import GroupNormalized, group_moments
from isentrope.policy.quantile_baseline import QuantileBaseline, group_quantile


def rewarded(rewards, groups=None):
    rewards = torch.as_tensor(rewards, dtype=torch.float64)
    return TokenBatch(
        mask=torch.ones(len(rewards), 1, dtype=torch.bool),
        rewards=rewards,
        group_ids=torch.zeros(len(rewards), dtype=torch.long) if groups is None else torch.as_tensor(groups),
        old_log_probs=torch.zeros(len(rewards), 1, dtype=torch.float64),
    )


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 2.5, -3.0]), st.integers(-2, 2)), min_size=1, max_size=25),
    st.sampled_from([0.1, 0.3, 0.4, 0.5, 0.7, 0.9]),
)
def test_quantiles_are_those_of_numpy_in_each_group(rows, quantile):
    values, groups = (np.array(x) for x in zip(*rows, strict=True))
    for method in ("inverted_cdf", "linear"):
        ours = group_quantile(torch.tensor(values), torch.tensor(groups), quantile, method)
        for group in np.unique(groups):
            members = groups == group
            # Exact arithmetic: numpy too rounds 0.7 * 10 up, one value too far.
            expected = np.quantile(values[members], quantile - 1e-12, method=method)
            np.testing.assert_allclose(ours[torch.tensor(members)], expected, atol=1e-9)


@pytest.mark.parametrize("quantile", [0.4, 0.6, 0.8])
@pytest.mark.parametrize("size", [5, 8, 10])
def test_binary_rewards_learn_from_the_minority_alone(quantile, size):
    for right in range(size + 1):
        advantages = QuantileBaseline(quantile)(rewarded([1.0] * right + [0.0] * (size - right)))
        hits, misses = advantages[:right], advantages[right:]
        if right in (0, size):
            assert (advantages == 0).all()
        elif right * 10 <= size * (10 - round(quantile * 10)):
            assert (hits > 0).all()
            assert (misses == 0).all()
        else:
            assert (misses < 0).all()
            assert (hits == 0).all()


def test_the_size_of_an_advantage_is_one_over_the_standard_deviation():
    rewards = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    sigma = (8 / 7 * 0.25 * 0.75) ** 0.5
    assert float(QuantileBaseline(0.4, epsilon=0)(rewarded(rewards))[0]) == pytest.approx(1 / sigma)
    flipped = [1 - r for r in rewards]
    assert float(QuantileBaseline(0.4, epsilon=0)(rewarded(flipped))[0]) == pytest.approx(-1 / sigma)


def test_the_published_interpolation_differs_at_a_boundary_count():
    five_of_eight = rewarded([1.0] * 5 + [0.0] * 3)
    linear = QuantileBaseline(0.4, method="linear")(five_of_eight)
    baseline = 1 - float(linear[0]) * (
        float(group_moments(five_of_eight.rewards, five_of_eight.group_ids).std[0]) + 1e-6
    )
    assert baseline == pytest.approx(0.8)
    assert linear[-1] < 0 < linear[0]
    assert QuantileBaseline(0.4)(five_of_eight)[0] == 0


def test_an_outlier_does_not_move_the_baseline():
    rewards = [0.1, 0.2, 0.3, 0.4, 0.5]
    calm, wild = rewarded(rewards), rewarded([*rewards[:-1], 1e3])
    for batch in (calm, wild):
        assert float(group_quantile(batch.rewards, batch.group_ids, 0.4)[0]) == 0.2
    # The mean baseline turns every ordinary reward into a punishment.
    assert (GroupNormalized()(wild)[:4] < 0).all()
    assert (QuantileBaseline(0.4)(wild)[1:4] >= 0).all()


def test_positive_affine_maps_of_the_rewards_change_nothing():
    rewards = torch.randn(12, generator=torch.Generator().manual_seed(0)).double()
    groups = torch.arange(12) // 4
    part = QuantileBaseline(0.5, epsilon=0)
    torch.testing.assert_close(part(rewarded(3 * rewards - 7, groups)), part(rewarded(rewards, groups)))


def test_half_of_symmetric_rewards_is_the_median():
    batch = rewarded([-2.0, -1.0, 0.0, 1.0, 2.0])
    torch.testing.assert_close(QuantileBaseline(0.5)(batch), GroupNormalized()(batch))


@pytest.mark.parametrize("quantile", [0.0, 1.0, -0.4])
def test_quantiles_outside_the_unit_interval_are_refused(quantile):
    with pytest.raises(ValueError, match="quantile must lie strictly between 0 and 1, or be None"):
        QuantileBaseline(quantile)


@pytest.mark.parametrize("quantile", [0.4, 0.6, 0.8])
def test_toy_bench_most_responses_get_no_gradient(quantile):
    shares = []

    def watch(batch):
        shares.append(float((batch.advantages != 0).double().mean()))
        return batch.advantages

    # Counted over all groups, those of equal rewards included, as in the spread of 0.8 right and 0.2 wrong at the end.
    objective = recipes.qae(quantile).with_(row_filter=()).adding(shaping=watch)
    curve = bandit(objective, 400, 1.0)
    assert np.mean(shares[-50:]) == pytest.approx(0.2, abs=0.04)
    assert curve[-50:, 1].mean() > 0.75
