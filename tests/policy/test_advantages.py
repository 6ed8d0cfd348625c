import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isentrope.policy import TokenBatch
from isentrope.policy.advantages import BatchWhitened, GroupCentered, GroupNormalized, LeaveOneOut, group_moments
from isentrope.policy.rewards import LengthTrapezoid, OverlongPenalty


def rewarded(rewards, groups, mask=None, **fields):
    rewards = torch.tensor(rewards, dtype=torch.float64)
    mask = torch.ones(len(rewards), 3, dtype=torch.bool) if mask is None else mask
    return TokenBatch(
        mask=mask,
        rewards=rewards,
        group_ids=torch.tensor(groups),
        old_log_probs=fields.pop("old_log_probs", torch.zeros(mask.shape, dtype=torch.float64)),
        **fields,
    )


def test_hand_case_of_one_group():
    batch = rewarded([1, 0, 0, 1], [3, 3, 3, 3])
    half = 0.5 / (1 / 3) ** 0.5
    torch.testing.assert_close(GroupNormalized(epsilon=0)(batch), torch.tensor([half, -half, -half, half]).double())
    torch.testing.assert_close(GroupCentered()(batch), torch.tensor([0.5, -0.5, -0.5, 0.5]).double())
    torch.testing.assert_close(LeaveOneOut()(batch), torch.tensor([2 / 3, -2 / 3, -2 / 3, 2 / 3]).double())


def test_epsilon_is_added_to_the_standard_deviation():
    batch = rewarded([1, 0], [0, 0])
    torch.testing.assert_close(
        GroupNormalized(epsilon=0.1)(batch)[0], torch.tensor(0.5 / (0.5**0.5 + 0.1), dtype=torch.float64)
    )


@pytest.mark.parametrize("estimator", [GroupNormalized(), GroupCentered(), LeaveOneOut()])
def test_equal_rewards_give_exactly_zero_and_a_group_of_one_its_reward(estimator):
    batch = rewarded([0.1, 0.1, 0.1, 0.7], [0, 0, 0, 9])
    assert estimator(batch).tolist() == [0, 0, 0, 0.7]


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.integers(-3, 3)), min_size=1, max_size=20),
    st.randoms(use_true_random=False),
)
def test_group_laws(rows, random):
    rewards, groups = zip(*rows, strict=True)
    batch = rewarded(rewards, groups)
    centred, out = GroupCentered()(batch), LeaveOneOut()(batch)
    for group in set(groups):
        members = torch.tensor(groups) == group
        size = int(members.sum())
        if size > 1:
            assert abs(float(centred[members].sum())) < 1e-9
            torch.testing.assert_close(out[members], centred[members] * size / (size - 1))
            others = [batch.rewards[members].sum() - r for r in batch.rewards[members]]
            expected = batch.rewards[members] - torch.stack(others) / (size - 1)
            torch.testing.assert_close(out[members], expected, atol=1e-9, rtol=1e-9)
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = rewarded([rewards[i] for i in order], [groups[i] for i in order])
    torch.testing.assert_close(GroupNormalized()(shuffled), GroupNormalized()(batch)[order], atol=1e-6, rtol=1e-6)


def test_group_moments_match_a_loop():
    generator = torch.Generator().manual_seed(1)
    values, ids = torch.randn(50, generator=generator).double(), torch.randint(-4, 5, (50,), generator=generator)
    mean, std, size = group_moments(values, ids)
    for i in range(50):
        members = values[ids == ids[i]]
        torch.testing.assert_close(mean[i], members.mean())
        assert int(size[i]) == len(members)
        if len(members) > 1:
            torch.testing.assert_close(std[i], members.std())


def test_batch_whitened_is_the_discounted_return_to_go_whitened_over_valid_tokens():
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0]], dtype=torch.bool)
    generator = torch.Generator().manual_seed(2)
    old, reference = torch.randn(2, 3, 3, generator=generator).double()
    batch = rewarded([1, 0, 0.5], [0, 0, 1], mask, old_log_probs=old, reference_log_probs=reference)
    beta, gamma = 0.1, 0.9
    returns = torch.zeros(3, 3).double()
    for i in range(3):
        last = int(mask[i].sum()) - 1
        for t in range(last + 1):
            for s in range(t, last + 1):
                reward = batch.rewards[i] if s == last else 0.0
                returns[i, t] += gamma ** (s - t) * (reward - beta * (old[i, s] - reference[i, s]))
    valid = returns[mask]
    expected = torch.where(mask, (returns - valid.mean()) / (valid.var(correction=0) + 1e-8).sqrt(), 0)
    torch.testing.assert_close(BatchWhitened(beta, gamma)(batch), expected)


def test_batch_whitened_skips_tool_output_inside_a_response():
    gap = torch.tensor([[1, 0, 1], [1, 1, 0]], dtype=torch.bool)
    advantages = BatchWhitened(discount=0.5)(rewarded([1, 0], [0, 1], gap))
    # Returns to go are .5 (one policy token before the last), 1, 0, 0.
    returns = torch.tensor([0.5, 1, 0, 0]).double()
    expected = (returns - returns.mean()) / (returns.var(correction=0) + 1e-8).sqrt()
    torch.testing.assert_close(advantages[gap], expected)
    assert advantages[0, 1] == 0


def test_group_baseline_subtracts_the_group_mean_first():
    batch = rewarded([1, 0, 5, 4], [0, 0, 1, 1])
    advantages = BatchWhitened(group_baseline=True)(batch)[:, 0]
    torch.testing.assert_close(advantages, torch.tensor([1.0, -1, 1, -1]).double(), atol=1e-6, rtol=0)


def test_overlong_penalty_has_the_three_pieces_of_dapo():
    mask = torch.arange(12) < torch.tensor([6, 8, 10, 12])[:, None]
    batch = rewarded([1, 1, 1, 1], [0, 0, 0, 0], mask)
    assert OverlongPenalty(maximum_length=10, cache=4)(batch).tolist() == [1, 0.5, 0, 0]


def test_overlong_penalty_needs_a_slope():
    with pytest.raises(ValueError, match="cache must lie between 1 and maximum_length = 4, got 0"):
        OverlongPenalty(4, 0)


def test_length_trapezoid_has_a_plateau_two_slopes_and_a_task():
    mask = torch.arange(12) < torch.tensor([1, 3, 4, 7, 9, 11, 12])[:, None]
    batch = rewarded([1.0] * 7, [0] * 7, mask)
    assert LengthTrapezoid(2, 4, 7, 11)(batch).tolist() == [1, 1.5, 2, 2, 1.5, 1, 1]
    # Slopes of no width are steps, with the plateau's ends inside.
    assert LengthTrapezoid(4, 4, 7, 7, weight=0.5)(batch).tolist() == [1, 1, 1.5, 1.5, 1, 1, 1]
    tasks = batch.with_(extras={"task": torch.tensor([0, 1, 0, 1, 0, 1, 0])})
    assert LengthTrapezoid(2, 4, 7, 11, task=1)(tasks).tolist() == [1, 1.5, 1, 2, 1, 1, 1]
    with pytest.raises(ValueError, match=r"extras\['task'\]"):
        LengthTrapezoid(2, 4, 7, 11, task=1)(batch)
    with pytest.raises(ValueError, match="must be increasing and not negative, got 4, 2, 7, 11"):
        LengthTrapezoid(4, 2, 7, 11)
