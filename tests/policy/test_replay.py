import math

import pytest
import torch
from batches import make_batch, with_current

from isentrope.policy import RolloutPlan, State, TokenBatch, recipes
from isentrope.policy.controllers import Cosine
from isentrope.policy.regularizers import EntropyBonus
from isentrope.policy.replay import KeepVariedGroups, Replay, ToolCallBonus, self_imitation


def test_the_two_cosines():
    objective = recipes.spear(coefficient=0.7, imitation_steps=200, tool_steps=100)
    for step in (0, 1, 50, 100, 150, 200, 300):
        state = State(step=step, memory=objective.start().memory)
        now = objective.at(state)
        gamma = 0.7 * (1 - math.cos(math.pi * step / 200)) / 2 if step <= 200 else 0.7
        mu = (1 + math.cos(math.pi * step / 100)) / 2 if step <= 100 else 0.0
        assert objective.rollout_plan(RolloutPlan(8), state).replay.weight == pytest.approx(gamma)
        assert now.reward[0].weight == pytest.approx(mu)


def test_tool_calls_are_paid_up_to_the_most_whatever_the_outcome():
    turns = torch.tensor([[0, 0, 0, 0], [0, -1, 1, -1], [0, 3, -1, 7], [12, 13, -1, -1]])
    batch = TokenBatch(
        mask=torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0]]).bool(),
        rewards=torch.tensor([0.0, 0.0, 1.0, 1.0]), group_ids=torch.zeros(4).long(), old_log_probs=torch.zeros(4, 4),
        extras={"turn": turns},
    )  # fmt: skip
    torch.testing.assert_close(ToolCallBonus(0.5)(batch), torch.tensor([0.0, 0.05, 1.15, 1.5]))
    assert torch.equal(ToolCallBonus(0.0)(batch), batch.rewards)


def test_the_groups_of_least_spread_are_dropped_and_ties_stay():
    groups = torch.tensor([3, 3, 1, 1, 2, 2, 0, 0])
    rewards = torch.tensor([1.0, 0, 0.5, 0.5, 0.9, 0.1, 0, 1])
    batch = TokenBatch(
        mask=torch.ones(8, 1, dtype=torch.bool), rewards=rewards, group_ids=groups, old_log_probs=torch.zeros(8, 1)
    )
    kept = {share: set(groups[KeepVariedGroups(share)(batch)].tolist()) for share in (0, 0.25, 0.5, 0.75, 1)}
    assert kept == {0: {0, 3}, 0.25: {0, 3}, 0.5: {0, 3}, 0.75: {0, 2, 3}, 1: {0, 1, 2, 3}}
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(KeepVariedGroups(0.5)(batch.rows(order)), KeepVariedGroups(0.5)(batch)[order])


def imitated(objective, batch, logits, baseline, weight):
    replayed = self_imitation(objective, objective.start(), baseline, weight)
    state = replayed.start(seed=5)
    prepared, _ = replayed.prepare(with_current(batch, logits), state)
    live = logits.clone().requires_grad_()
    loss, _ = replayed.loss(with_current(prepared.with_totals(width=6), live), state)
    return prepared, float(loss.detach()), torch.autograd.grad(loss, live)[0]


def test_the_loss_of_what_is_replayed_by_hand():
    batch, logits = make_batch(rows=4, seed=3)
    batch = batch.with_(rewards=torch.tensor([0.9, 0.5, 1.2, 0.75]).double())
    _, loss, _ = imitated(recipes.spear(fraction=0), batch, logits, baseline=0.5, weight=0.3)
    now, expected = with_current(batch, logits), 0.0
    for i, t in batch.mask.nonzero().tolist():
        ratio = math.exp(float(now.log_probs[i, t] - batch.old_log_probs[i, t]))
        advantage = float(batch.rewards[i]) - 0.5
        expected += 0.3 * max(-advantage * ratio, -advantage * min(max(ratio, 0.8), 1.28)) / (4 * 6)
    assert loss == pytest.approx(expected)


def test_as_the_level_rises_the_same_response_counts_for_less():
    batch, logits = make_batch(rows=4, seed=4)
    batch = batch.with_(rewards=torch.full((4,), 0.8, dtype=torch.double))
    advantages = [
        float(imitated(recipes.spear(), batch, logits, baseline, 1.0)[0].advantages[0, 0])
        for baseline in (0.2, 0.5, 0.8)
    ]
    assert advantages == pytest.approx([0.6, 0.3, 0.0])


def test_the_mask_of_covariance_acts_on_what_is_replayed_and_keeps_the_denominator():
    batch, logits = make_batch(rows=8, seed=5)
    batch = batch.with_(rewards=torch.rand(8, generator=torch.Generator().manual_seed(0)).double())
    spear = recipes.spear(fraction=1.0, low=0.02, high=40.0)
    prepared, _, gradient = imitated(spear, batch, logits, 0.0, 1.0)
    dropped = prepared.prepared["token_weight[0]"]
    assert dropped.any()
    assert not gradient[dropped].any()
    assert int(prepared.with_totals().totals["loss_tokens"]) == int(batch.mask.sum())
    # As published, one token is dropped however small the fraction, if there is a candidate at all.
    few, _, _ = imitated(recipes.spear(fraction=1e-9, low=0.02), batch, logits, 0.0, 1.0)
    assert int(few.prepared["token_weight[0]"].sum()) == 1
    none, loss, _ = imitated(recipes.spear(fraction=1.0, low=1e6, high=1e7), batch, logits, 0.0, 1.0)
    assert not none.prepared["token_weight[0]"].any()
    assert loss == imitated(recipes.spear(fraction=0.0), batch, logits, 0.0, 1.0)[1]


def test_rewards_filters_and_regularizers_are_for_fresh_responses():
    fresh = recipes.spear().adding(regularizers=EntropyBonus(Cosine(1.0, 0.0, 5)), shaping=lambda b: b.advantages + 1)
    replayed = self_imitation(fresh, fresh.start(), 0.25, 0.5)
    assert (replayed.reward, replayed.row_filter, replayed.shaping, replayed.regularizers) == ((), (), (), ())
    assert replayed.start().memory == {}
    assert (replayed.surrogate, replayed.aggregation) == (fresh.surrogate, fresh.aggregation)


def test_an_activation_decided_on_the_whole_batch_is_for_fresh_responses_and_another_stays():
    era = recipes.era(low=1.5)
    assert era.activation(era.start()) is None
    replayed = self_imitation(era, era.start(), 0.25, 0.5)
    assert (replayed.output_activation, replayed.shaping) == (None, ())
    halved = recipes.grpo().with_(output_activation=lambda logits: logits / 2)
    assert self_imitation(halved, halved.start(), 0.25, 0.5).output_activation is halved.output_activation


def test_sizes_are_checked():
    for name in ("size", "maximum_age", "baselines"):
        with pytest.raises(ValueError, match=f"Replay: {name} must be at least 1, got 0"):
            Replay(**{name: 0})
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\], got 2"):
        KeepVariedGroups(2)
