import json
from itertools import permutations

import pytest
import torch
from batches import make_batch
from hypothesis import given
from hypothesis import strategies as st

from isentrope.policy import State, TokenBatch, recipes
from isentrope.policy.advantages import GroupCentered, LeaveOneOut
from isentrope.policy.conditional_advantage import ConditionalAdvantage
from isentrope.policy.controllers import CosineRestarts


def measured(rewards, entropies, groups=None):
    rewards, entropies = (torch.as_tensor(x, dtype=torch.float64) for x in (rewards, entropies))
    return TokenBatch(
        mask=torch.ones(len(rewards), 2, dtype=torch.bool),
        rewards=rewards,
        group_ids=torch.zeros(len(rewards), dtype=torch.long) if groups is None else torch.as_tensor(groups),
        old_log_probs=torch.zeros(len(rewards), 2, dtype=torch.float64),
        old_entropy=entropies[:, None].expand(-1, 2),
    )


def by_sorting(rewards, metric, weight, down=1.0, up=1.0):
    """The advantages of one group whose metric decides everything, as the definition has them."""
    order = sorted(range(len(rewards)), key=lambda i: metric[i])
    middle = len(rewards) // 2
    low, high = order[:middle], order[middle:]

    def mean(rows):
        return sum(rewards[i] for i in rows) / len(rows) if rows else 0.0

    out = [0.0] * len(rewards)
    for i in low:
        out[i] = weight * (down * rewards[i] - up * mean(high)) + (1 - weight) * (rewards[i] - mean(low))
    for i in high:
        out[i] = weight * (up * rewards[i] - down * mean(low)) + (1 - weight) * (rewards[i] - mean(high))
    return out


@given(
    st.lists(st.floats(-2, 2), min_size=2, max_size=9),
    st.floats(0, 1),
    st.floats(0, 2),
    st.floats(0, 2),
    st.randoms(use_true_random=False),
)
def test_advantages_are_those_of_sorted_halves(rewards, weight, down, up, random):
    metric = random.sample(range(100), len(rewards))
    advantages = ConditionalAdvantage("entropy", weight, down, up)(measured(rewards, metric))
    expected = torch.tensor(by_sorting(rewards, metric, weight, down, up), dtype=torch.float64)
    torch.testing.assert_close(advantages, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("metric", [[1, 1, 1, 1], [0, 1, 1, 2], [1, 1, 1, 2], [0, 0, 1, 1, 1], [0, 1, 1], [2, 2]])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_ties_at_the_cut_are_averaged_over_all_ways_to_break_them(metric, weight):
    rewards = torch.randn(len(metric), generator=torch.Generator().manual_seed(len(metric))).double().tolist()
    broken = [
        by_sorting(rewards, [m + 0.01 * o for m, o in zip(metric, order, strict=True)], weight, 0.5, 2.0)
        for order in permutations(range(len(metric)))
    ]
    expected = torch.tensor(broken, dtype=torch.float64).mean(0)
    advantages = ConditionalAdvantage("entropy", weight, 0.5, 2.0)(measured(rewards, metric))
    torch.testing.assert_close(advantages, expected)


def test_the_mean_of_both_comparisons_is_dr_grpo_for_equal_halves():
    batch, _ = make_batch(rows=12, group_size=6, seed=3)
    torch.testing.assert_close(ConditionalAdvantage(inter_weight=0.5)(batch), GroupCentered()(batch))


def test_comparisons_sum_to_zero_over_a_group_of_equal_halves():
    batch, _ = make_batch(rows=8, group_size=8, seed=4)
    batch = batch.with_(rewards=torch.randn(8, generator=torch.Generator().manual_seed(4)).double())
    for weight in (0.0, 1.0):
        advantages = ConditionalAdvantage(inter_weight=weight)(batch)
        assert float(advantages.sum()) == pytest.approx(0, abs=1e-12)
        assert float(advantages.abs().sum()) > 1


def test_a_half_that_is_all_right_doubles_the_signal():
    batch = measured([1, 1, 0, 0], [4, 3, 2, 1])
    assert ConditionalAdvantage(inter_weight=1.0)(batch).tolist() == [1, 1, -1, -1]
    assert ConditionalAdvantage(inter_weight=0.0)(batch).tolist() == [0, 0, 0, 0]
    assert GroupCentered()(batch).tolist() == [0.5, 0.5, -0.5, -0.5]


def test_halves_of_equal_means_are_dr_grpo_either_way():
    batch = measured([1, 0, 0, 1], [4, 3, 2, 1])
    for weight in (0.0, 1.0):
        torch.testing.assert_close(ConditionalAdvantage(inter_weight=weight)(batch), GroupCentered()(batch))


def test_no_direction_of_the_metric_is_preferred():
    batch, _ = make_batch(rows=8, group_size=4, seed=5)
    part = ConditionalAdvantage(inter_weight=0.7)
    torch.testing.assert_close(part(batch.with_(old_entropy=3 - batch.old_entropy)), part(batch))


def test_a_metric_that_says_nothing_leaves_one_out():
    batch = measured([1, 0, 0, 1, 1, 0], [2] * 6)
    torch.testing.assert_close(ConditionalAdvantage()(batch), LeaveOneOut()(batch))


def test_emphasis_below_one_disfavours_its_half():
    batch = measured([1, 0, 1, 0], [4, 3, 2, 1])
    # high: r - .8 * .5; low: .8 r - .5
    torch.testing.assert_close(
        ConditionalAdvantage(low_emphasis=0.8)(batch), torch.tensor([0.6, -0.4, 0.3, -0.5]).double()
    )
    torch.testing.assert_close(
        ConditionalAdvantage(high_emphasis=0.8)(batch), torch.tensor([0.3, -0.5, 0.6, -0.4]).double()
    )


def test_groups_may_be_split_by_length():
    mask = torch.arange(4) < torch.tensor([4, 1, 3, 2])[:, None]
    batch = measured([1, 0, 1, 0], [0, 0, 0, 0]).with_(
        mask=mask, old_log_probs=torch.zeros(4, 4).double(), old_entropy=None
    )
    part = ConditionalAdvantage("length")
    assert part.needs == frozenset()
    assert part(batch).tolist() == [1, -1, 1, -1]


def test_the_weight_may_follow_accuracy():
    batch = measured([1, 1, 1, 0], [4, 3, 2, 1])
    for name, weight in (("accuracy", 0.75), ("error", 0.25)):
        torch.testing.assert_close(
            ConditionalAdvantage(inter_weight=name)(batch), ConditionalAdvantage(inter_weight=weight)(batch)
        )
    with pytest.raises(ValueError, match=r"needs rewards in \[0, 1\], got -1.0 to 1.0"):
        ConditionalAdvantage(inter_weight="accuracy")(measured([1, -1], [1, 2]))


def test_the_published_schedules_of_the_weight():
    # Intra weight .6 -> 0 in three cycles after a warm-up from 0, and 1 less a cosine from 1 to .4.
    intra_first = CosineRestarts(0.4, 1.0, cycle=40, warm_up=30, warm_up_value=1.0)
    inter_first = CosineRestarts(1.0, 0.4, cycle=40, warm_up=30)
    assert [1 - intra_first.at({}, t) for t in (0, 29, 30, 50, 70)] == pytest.approx([0.02, 0.6, 0.6, 0.3, 0.6])
    assert [1 - inter_first.at({}, t) for t in (0, 29, 30, 50, 70)] == pytest.approx([29 / 30, 0, 0, 0.3, 0])


def test_a_schedule_may_stand_for_the_weight_and_survives_a_checkpoint():
    batch, _ = make_batch(rows=8, seed=6)
    objective = recipes.canon(inter_weight=CosineRestarts(1.0, 0.0, cycle=4))
    state = objective.start()
    for step in range(3):
        assert objective.at(state).advantage.inter_weight == pytest.approx((1.0, 0.853553, 0.5)[step])
        prepared, _ = objective.prepare(batch, state)
        state = State.from_dict(json.loads(json.dumps(state.next_step().to_dict())))
    torch.testing.assert_close(prepared.advantages[:, 0], GroupCentered()(batch))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": "depth"}, "metric must be 'entropy' or 'length'"),
        ({"inter_weight": "reward"}, "inter_weight must be"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConditionalAdvantage(**arguments)
