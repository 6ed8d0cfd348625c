from dataclasses import replace

import pytest
import torch

from isentrope.lab import Addition, Calculator, TinyTransformer, Trainer, TrainerSettings, score
from isentrope.lab.checkpoint import load_policy, restore, save_checkpoint
from isentrope.lab.collection import turns
from isentrope.lab.replay import ReplayBuffer
from isentrope.policy import RolloutPlan, recipes
from isentrope.policy.replay import Replay

SETTINGS = TrainerSettings(prompts_per_step=4, group_size=4, learning_rate=1e-2, probe_every=0)
SPEAR = recipes.spear(replayed=4, imitation_steps=3, maximum_age=2, baselines=6, fraction=0.2, low=0.0)


class Rewarded(Addition):
    """Addition whose reward is the share of digits, so that an untrained policy sees some."""

    def reward(self, problem, completion):
        return sum(c.isdigit() for c in completion) / self.max_new_tokens


def trainer(objective=SPEAR, **changes):
    model = TinyTransformer(width=16, layers=1, heads=2, seed=1)
    return Trainer(model, Rewarded(), objective, replace(SETTINGS, **changes))


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def same_buffer(first, second):
    ours, theirs = first.to_tensors(), second.to_tensors()
    assert ours[1] == theirs[1]
    assert ours[0].keys() == theirs[0].keys()
    for name in ours[0]:
        assert torch.equal(ours[0][name], theirs[0][name]), name


def test_what_is_stored_was_better_than_its_group_and_carries_the_sampler_s_numbers():
    one = trainer(recipes.spear(replayed=1000))
    one.step()
    stored, rollouts = one.replay.rollouts, one.last_rollouts
    rewards = one.last_rewards.view(4, 4)
    spread = rewards.std(1)
    varied = spread >= spread.sort(descending=True).values[2]
    better = ((rewards > rewards.mean(1, keepdim=True)) & varied[:, None]).flatten()
    assert stored.completions == [text for text, good in zip(rollouts.completions, better, strict=True) if good]
    assert torch.equal(stored.log_probs, rollouts.log_probs[better])
    torch.testing.assert_close(one.replay.rewards, one.last_rewards[better])
    assert sorted(one.replay.means) == pytest.approx(sorted(rewards.mean(1).tolist()))


def test_the_rewards_that_are_stored_hold_the_pay_for_tool_calls():
    class RewardedCalculator(Calculator):
        def reward(self, problem, completion):
            return sum(map(ord, completion)) % 10 / 10

    model = TinyTransformer(width=16, layers=1, heads=2, seed=1)
    settings = replace(SETTINGS, prompts_per_step=8, group_size=12)
    one = Trainer(model, RewardedCalculator(), recipes.spear(replayed=1000, tool_weight=0.75), settings)
    one.step()
    stored = one.replay.rollouts
    calls = turns(stored).amax(-1)
    assert calls.any()
    plain = torch.tensor([sum(map(ord, text)) % 10 / 10 for text in stored.completions])
    torch.testing.assert_close(one.replay.rewards, plain + 0.75 * (0.1 * calls).clamp(max=1.0))


def test_only_what_is_above_the_baseline_is_imitated(monkeypatch):
    one, imitated = trainer(SPEAR.with_(rollout=Replay(1.0, size=1))), []
    one.step()
    rewards = torch.where(torch.arange(len(one.replay)) % 2 == 0, 10.0, -10.0) + torch.arange(len(one.replay))
    assert len(rewards) >= 4
    one.replay = replace(one.replay, rewards=rewards)
    monkeypatch.setattr(one, "_imitate", lambda chosen, *_: imitated.append(chosen))
    row = one.step()
    (chosen,) = imitated
    assert -10 < chosen.baseline < 10
    assert chosen.rewards.tolist() == rewards[::2].tolist()
    assert row["replay_trained"] == len(chosen)


def test_the_baseline_is_that_of_the_last_groups():
    buffer = ReplayBuffer().seen([0.1, 0.2, 0.9], at_most=2)
    assert buffer.means == (0.2, 0.9)
    assert buffer.seen([0.4], at_most=2).means == (0.9, 0.4)
    assert buffer.seen([0.4], at_most=3).baseline == 0.4


def test_an_activation_decided_on_the_batch_leaves_replayed_ratios_alone(monkeypatch):
    objective = recipes.era(low=10.0, high=20.0).with_(rollout=Replay(1.0, size=1))
    one, ratios = trainer(objective, learning_rate=1e-12), []
    update = one._update

    def watched(*arguments):
        result = update(*arguments)
        if len(arguments) > 5:
            ratios.append(result[1].means()["ratio_deviation"])
        return result

    monkeypatch.setattr(one, "_update", watched)
    for _ in range(3):
        one.step()
    assert ratios
    assert max(ratios) < 1e-4


def test_rows_of_several_steps_score_as_they_were_drawn():
    one = trainer(recipes.spear(replayed=1000), learning_rate=1e-12)
    for _ in range(3):
        one.step()
    assert sorted(set(one.replay.steps.tolist())) == [0, 1, 2]
    again = score(one.model, one.replay.rollouts, temperature=1.0)
    torch.testing.assert_close(again.log_probs, one.replay.rollouts.log_probs, atol=1e-5, rtol=1e-4)


def test_the_store_is_bounded_by_age_and_the_baseline_by_its_length():
    one = trainer(recipes.spear(replayed=1000, maximum_age=2, baselines=6))
    for step in range(8):
        one.step()
        assert min(one.replay.steps.tolist()) >= step - 2
        assert len(one.replay) <= 3 * 16
        assert len(one.replay.means) == min(6, 4 * (step + 1))


def test_it_imitates_once_enough_is_above_the_baseline_and_then_starts_anew():
    one = trainer(SPEAR)
    rows = [one.step() for _ in range(8)]
    trained = [row["replay_trained"] for row in rows]
    assert trained[0] == 0
    assert sum(count > 0 for count in trained) >= 2
    for row in rows:
        assert row["replay_trained"] == 0 or row["replay_trained"] > 1.5 * 4
        assert row["replay_trained"] == 0 or row["replay_stored"] <= 16


def test_imitation_raises_the_likelihood_of_what_was_good():
    one = trainer(recipes.spear(replayed=1000, imitation_steps=1, fraction=0.0))
    one.step()
    one.step()
    stored = one.replay

    def likelihood():
        values = score(one.model, stored.rollouts, temperature=1.0, outputs=("log_probs",)).log_probs.sum(-1)
        return values.detach()

    usable = stored.kept(stored.rewards > stored.baseline)
    before = likelihood()[stored.rewards > stored.baseline].mean()
    one._imitate(usable, 1.0, RolloutPlan(group_size=4), 16)
    assert likelihood()[stored.rewards > stored.baseline].mean() > before + 0.05


def test_without_weight_or_stored_rows_it_is_the_objective_alone():
    plain = recipes.spear(coefficient=0.0, replayed=1).with_(rollout=())
    first, second = trainer(recipes.spear(coefficient=0.0, replayed=1)), trainer(plain)
    for _ in range(4):
        first.step()
        second.step()
    assert torch.equal(weights(first), weights(second))
    assert len(first.replay)


def test_a_checkpoint_brings_the_store_back_and_the_run_goes_on_alike(tmp_path):
    whole = trainer()
    for _ in range(3):
        whole.step()
    path = save_checkpoint(tmp_path, whole)
    assert len(whole.replay)
    again = Trainer(load_policy(path, TinyTransformer), Rewarded(), SPEAR, SETTINGS)
    restore(path, again)
    same_buffer(again.replay, whole.replay)
    trained = 0
    for _ in range(4):
        first, second = whole.step(), again.step()
        trained += first["replay_trained"]
        assert first["loss"] == second["loss"]
    assert trained
    assert torch.equal(weights(again), weights(whole))
    same_buffer(again.replay, whole.replay)


def test_a_damaged_store_is_named(tmp_path):
    one = trainer()
    one.step()
    path = save_checkpoint(tmp_path, one)
    (path / "replay.safetensors").unlink()
    with pytest.raises(ValueError, match=r"checkpoint .*step-000001 is damaged .*replay\.safetensors"):
        restore(path, trainer())


def test_an_empty_store_survives_too():
    tensors, values = ReplayBuffer().seen([0.5], 3).to_tensors()
    back = ReplayBuffer.from_tensors(tensors, values)
    assert (len(back), back.baseline) == (0, 0.5)
    with pytest.raises(ValueError, match="no baseline before a group was seen"):
        _ = ReplayBuffer().baseline
