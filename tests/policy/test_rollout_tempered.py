import pytest
import torch
from toy_bench import bandit

from isentrope.policy import RolloutPlan, TokenBatch, recipes
from isentrope.policy.advantages import GroupNormalized
from isentrope.policy.tempered_groups import ImitateTempered, TemperedGroups, failed_when_tempered


def responses(rewards, groups, tempered):
    return TokenBatch(
        mask=torch.ones(len(rewards), 2, dtype=torch.bool),
        rewards=torch.tensor(rewards).double(),
        group_ids=torch.tensor(groups),
        old_log_probs=torch.zeros(len(rewards), 2).double(),
        extras={"tempered": torch.tensor(tempered)},
    )


# A plain group, a mixed tempered group, and a tempered group that is all right.
BATCH = responses([1.0, 0, 0, 1, 1, 0, 1, 1], [0, 0, 0, 1, 1, 1, 2, 2], [False] * 3 + [True] * 5)


def test_tempered_responses_count_if_right_where_others_are_wrong():
    advantages = ImitateTempered(GroupNormalized())(BATCH)
    torch.testing.assert_close(advantages[:3], GroupNormalized()(BATCH)[:3])
    assert advantages[3:].tolist() == [1, 1, 0, 0, 0]
    prepared = BATCH.with_(advantages=advantages[:, None].expand(8, 2))
    assert failed_when_tempered(prepared).tolist() == [True] * 5 + [False] * 3


def test_a_share_bounds_how_many_count():
    advantages = ImitateTempered(GroupNormalized(), share=1 / 8)(BATCH)
    assert advantages[3:5].tolist() == pytest.approx([0.5, 0.5])
    assert ImitateTempered(GroupNormalized(), share=0.0)(BATCH)[3:].tolist() == [0] * 5


def test_only_tempered_groups_without_success_leave_a_plain_step():
    batch = responses([1.0, 0, 0, 0], [0, 0, 1, 1], [False, False, True, True])
    objective = recipes.aepo_arbitrary(target=0.5)
    prepared, _ = objective.prepare(batch, objective.start())
    assert prepared.mask.any(-1).tolist() == [True, True, False, False]


def test_the_temperature_and_the_share_follow_the_entropy():
    objective = recipes.aepo_arbitrary(target=0.5, hot=1.3, cold=0.7, prompts=0.2, responses=0.1)
    state, seen = objective.start(), []
    for entropy in (None, 0.4, 0.5, 0.6):
        state = state if entropy is None else objective.control(state, {"entropy": entropy})
        plan = objective.rollout_plan(RolloutPlan(8), state)
        seen.append((plan.tempered_share, plan.tempered_at, objective.at(state).advantage.share))
    hot, cold = (0.2, 1.3, 0.1), (0.2, 0.7, 0.05)
    assert seen == [hot, hot, hot, cold]


@pytest.mark.parametrize(("share", "temperature"), [(-0.1, 1.0), (1.1, 1.0), (0.5, 0.0), (0.5, float("inf"))])
def test_bad_plans_are_refused(share, temperature):
    with pytest.raises(ValueError, match=r"TemperedGroups: (share|temperature) must"):
        TemperedGroups(share, temperature)(RolloutPlan(8))


def trained(objective, steps):
    """The toy bench's entropy at the end."""
    return bandit(objective, steps, learning_rate=0.5)[-50:, 0].mean()


@pytest.mark.parametrize(("target", "hot", "cold"), [(0.8, 1.2, 0.8), (1.5, 2.0, 0.5)])
def test_half_a_batch_of_tempered_groups_holds_the_entropy_at_its_target(target, hot, cold):
    held = trained(recipes.aepo_arbitrary(target, hot, cold, prompts=0.5, responses=1.0), steps=500)
    assert held == pytest.approx(target, abs=0.1)


def test_authority_grows_with_the_share_and_the_temperature():
    weak = trained(recipes.aepo_arbitrary(1.5, prompts=0.5, responses=1.0), steps=500)
    weaker = trained(recipes.aepo_arbitrary(1.5, prompts=0.25, responses=1.0), steps=500)
    assert weaker + 0.3 < weak < 1.3
