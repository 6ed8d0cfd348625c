from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from isentrope.lab import Countdown, EntropyProbe, TinyTransformer, Trainer, TrainerSettings, score
from isentrope.policy import recipes
from isentrope.policy.controllers import Linear, ProportionalIntegral, Stateful
from isentrope.policy.regularizers import EntropyBonus, KLPenalty
from isentrope.policy.rollout import Tempered
from isentrope.policy.selection import TopEntropy

SETTINGS = TrainerSettings(prompts_per_step=4, group_size=4, learning_rate=1e-2, probe_every=1, probe_rows=8)


class Rewarded(Countdown):
    """Countdown whose reward is the share of digits, so that an untrained policy sees some."""

    def reward(self, problem, completion):
        return sum(c.isdigit() for c in completion) / self.max_new_tokens


def trainer(objective=None, **changes):
    model = TinyTransformer(width=16, layers=1, heads=2, seed=1)
    reference = TinyTransformer(width=16, layers=1, heads=2, seed=2)
    return Trainer(model, Rewarded(), objective or recipes.grpo(), replace(SETTINGS, **changes), reference)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


@pytest.mark.parametrize(
    "objective",
    [
        recipes.grpo(),
        recipes.dapo().with_(selection=TopEntropy(0.3)),
        recipes.entropy_target(target=1.0).adding(regularizers=KLPenalty(0.1)),
        recipes.clip_cov(fraction=0.1, low=0.01),
        recipes.entropic(target=1.0, threshold=0.1),
    ],
    ids=lambda objective: objective.name,
)
def test_micro_batches_change_memory_not_results(objective):
    # Plain descent: Adam's first step is the gradient's sign, in which rounding of tiny gradients would show.
    whole, split = trainer(objective), trainer(objective, micro_batch_size=3)
    for each in (whole, split):
        each.optimizer = torch.optim.SGD(each.parameters, lr=0.1)
    for _ in range(2):
        first, second = whole.step(), split.step()
    torch.testing.assert_close(weights(split), weights(whole), rtol=0, atol=2e-6)
    for name in ("loss", "gradient_norm", "entropy", "covariance", "entropy_change_predicted"):
        assert second[name] == pytest.approx(first[name], rel=1e-3, abs=1e-6)


def test_the_first_optimiser_step_is_exactly_on_policy():
    metrics = trainer().step()
    assert metrics["ratio_deviation"] == 0.0
    assert metrics["clip_fraction_high"] == metrics["clip_fraction_low"] == 0.0


def test_later_optimiser_steps_are_off_policy_and_cover_every_row_once():
    metrics = trainer(epochs=2, windows=2).step()
    assert metrics["ratio_deviation"] > 0
    one = trainer(windows=4)
    seen = []
    update = one._update
    one._update = lambda window, rollouts, rows, plan, first: (
        seen.extend(rows.tolist()), update(window, rollouts, rows, plan, first)
    )[1]  # fmt: skip
    one.step()
    assert sorted(seen) == list(range(16))
    assert one.state.step == 4
    assert one.step_count == 1


def test_current_statistics_choose_by_the_policy_as_it_is():
    objective = recipes.kl_cov(fraction=0.1)
    stale, fresh = trainer(objective, epochs=3), trainer(objective, epochs=3, statistics="current")
    stale.step()
    fresh.step()
    assert not torch.equal(weights(stale), weights(fresh))


def test_steps_repeat_themselves():
    first, second = trainer(), trainer()
    for _ in range(2):
        rows = [first.step(), second.step()]
    timing = {"seconds", "seconds_sampling", "tokens_per_second", "memory_mb"}
    assert {k: v for k, v in rows[0].items() if k not in timing} == {
        k: v for k, v in rows[1].items() if k not in timing
    }
    assert torch.equal(weights(first), weights(second))


def test_the_prediction_of_entropy_change_becomes_exact_for_small_steps():
    errors = []
    for rate in (1e-3, 1e-4):
        metrics = trainer(learning_rate=rate).step()
        predicted, measured = metrics["entropy_change_predicted"], metrics["entropy_change_measured"]
        errors.append(abs(predicted - measured) / abs(predicted))
    # float32 forward passes leave about 1e-7 of entropy undecided.
    assert errors[1] < 0.05
    assert errors[1] < errors[0]


def test_a_probe_sees_no_change_where_there_is_none():
    one = trainer(probe_every=0)
    one.step()
    probe = EntropyProbe(one.model, one.last_rollouts, micro_batch_size=5)
    assert probe.changes()["entropy_change_predicted"] == 0.0
    assert abs(probe.changes()["entropy_change_measured"]) < 1e-7


def test_an_entropy_bonus_raises_entropy_above_plain_grpo():
    plain, paid = trainer(), trainer(recipes.entropy_bonus(1.0))
    for _ in range(8):
        end = plain.step()["entropy"], paid.step()["entropy"]
    assert end[1] > end[0] + 0.05


def test_rollout_parts_set_the_temperature_of_sampling_and_scoring():
    metrics = trainer(recipes.grpo().with_(rollout=Tempered(0.25)), probe_every=0).step()
    assert metrics["temperature"] == 0.25
    assert metrics["entropy"] < trainer(probe_every=0).step()["entropy"] - 0.5
    assert metrics["ratio_deviation"] == 0.0


def test_an_output_activation_is_what_the_policy_is_scored_with():
    doubled = recipes.grpo().with_(output_activation=lambda logits: 2 * logits)
    one = trainer(doubled, probe_every=0)
    one.step()
    plain = score(one.model, one.last_rollouts, temperature=0.5).entropy
    activated = score(one.model, one.last_rollouts, temperature=1.0, activation=doubled.output_activation).entropy
    torch.testing.assert_close(activated, plain)


def test_an_output_activation_is_what_the_policy_samples_and_is_evaluated_with():
    doubled = trainer(recipes.grpo().with_(output_activation=lambda logits: 2 * logits))
    cold = trainer(recipes.grpo().with_(rollout=Tempered(0.5)), temperature=0.5)
    problems = doubled.task.problems("test", 4)
    for _ in range(2):
        first, second = doubled.step(), cold.step()
        assert doubled.last_rollouts.completions == cold.last_rollouts.completions
        assert first["entropy"] == pytest.approx(second["entropy"], rel=1e-5)
    torch.testing.assert_close(weights(doubled), weights(cold), rtol=0, atol=1e-4)
    assert doubled.evaluate(problems, 4, (1,)).entropy == pytest.approx(
        cold.evaluate(problems, 4, (1,)).entropy, rel=1e-3
    )


def test_an_activated_policy_is_on_policy_with_itself_at_every_update():
    doubled = recipes.grpo().with_(output_activation=lambda logits: 2 * logits)
    metrics = trainer(doubled, epochs=2, learning_rate=1e-9, probe_every=0).step()
    assert metrics["ratio_deviation"] < 1e-4
    # The entropy that is reported and controlled is that of the policy that is trained.
    assert metrics["entropy"] < trainer(probe_every=0).step()["entropy"] - 0.1


def test_rewards_may_be_counted_in_integers_or_truth_values():
    class Counted(Countdown):
        def reward(self, problem, completion):
            return completion[:1].isdigit()

    model = TinyTransformer(width=16, layers=1, heads=2, seed=1)
    one = Trainer(model, Counted(), recipes.grpo(), SETTINGS)
    assert one.step()["loss"] == pytest.approx(0, abs=1e-5)
    assert one.last_rewards.dtype == torch.float32


def test_reported_coefficients_and_targets_are_those_that_acted():
    scheduled = recipes.grpo().adding(regularizers=EntropyBonus(Linear(1.0, 0.0, steps=2)))
    one = trainer(scheduled, probe_every=0)
    assert [one.step()["coefficient/regularizers[0].coefficient"] for _ in range(3)] == [1.0, 0.5, 0.0]
    falling = trainer(recipes.entropy_target(target=Linear(2.0, 1.0, steps=2)), probe_every=0)
    assert [falling.step()["target_entropy"] for _ in range(3)] == [2.0, 1.5, 1.0]


def test_controllers_survive_a_window_that_a_filter_emptied():
    class Hopeless(Countdown):
        def reward(self, problem, completion):
            return 0.0

    objective = recipes.dapo().adding(regularizers=EntropyBonus(ProportionalIntegral(target=1.0)))
    one = Trainer(TinyTransformer(width=16, layers=1, heads=2), Hopeless(), objective, replace(SETTINGS, windows=2))
    one.step()
    assert one.step_count == 1


def test_windows_are_never_empty():
    sizes = []
    one = trainer(prompts_per_step=5, windows=4, probe_every=0)
    update = one._update
    one._update = lambda window, rollouts, rows, plan, first: (
        sizes.append(len(rows)), update(window, rollouts, rows, plan, first)
    )[1]  # fmt: skip
    one.step()
    assert sum(sizes) == 20
    assert min(sizes) == 4


def test_parts_get_the_statistics_that_they_need_in_both_stages():
    seen = []

    @dataclass(frozen=True)
    class Weigh:
        needs: ClassVar[frozenset[str]] = frozenset({"varentropy"})

        def prepare(self, batch, generator):
            seen.append(batch.extras["varentropy"])
            return batch.mask

        def __call__(self, batch, prepared):
            assert batch.extras["varentropy"].requires_grad
            seen.append(batch.extras["varentropy"].detach())
            return torch.ones_like(batch.old_log_probs)

    trainer(recipes.grpo().adding(token_weight=Weigh()), probe_every=0).step()
    torch.testing.assert_close(seen[0], seen[1], atol=1e-5, rtol=1e-4)
    assert seen[0].max() > 0.01


def test_a_batch_without_anything_to_learn_changes_nothing():
    class Hopeless(Countdown):
        def reward(self, problem, completion):
            return 0.0

    model = TinyTransformer(width=16, layers=1, heads=2, seed=1)
    one = Trainer(model, Hopeless(), recipes.dapo(), SETTINGS)
    before = weights(one)
    metrics = one.step()
    assert metrics["loss"] == 0.0
    assert torch.equal(weights(one), before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_size": 0}, "group_size must be at least 1, got 0"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"windows": 5}, "windows must not exceed prompts_per_step"),
        ({"micro_batch_size": 0}, "micro_batch_size must be at least 1, or None, got 0"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"statistics": "curent"}, "must be 'rollout' or 'current'"),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **changes)


def test_a_reference_is_asked_for():
    with pytest.raises(ValueError, match="needs a reference model"):
        Trainer(TinyTransformer(width=16, layers=1, heads=2), Countdown(), recipes.grpo(kl_coefficient=0.1), SETTINGS)


def test_an_activation_decided_on_the_whole_batch_binds_the_sampling_policy_too():
    """From the second optimiser step on, ratios compare the policy with the sampling one under the same activation."""
    objective = recipes.era(low=9.0, high=9.0)
    still = TrainerSettings(prompts_per_step=2, group_size=4, epochs=2, learning_rate=1e-12, probe_every=0)
    model = TinyTransformer(width=16, layers=1, heads=2)
    step = Trainer(model, Countdown(), objective, still).step()
    assert step["ratio_deviation"] < 1e-4
    with pytest.raises(ValueError, match="settled once a batch"):
        Trainer(model, Countdown(), objective, replace(still, statistics="current"))


@dataclass(frozen=True)
class Recorder(Stateful):
    """A coefficient of 0 that remembers the entropies it was shown."""

    def start(self):
        return {"seen": []}

    def at(self, memory, step):
        return 0.0

    def update(self, memory, metrics, step):
        return {"seen": [*memory["seen"], metrics["entropy"]]}


def seen(trainer):
    return trainer.state.memory["regularizers[0].coefficient"]["seen"]


def test_controllers_of_later_steps_on_a_batch_see_what_the_steps_before_left():
    recorded = recipes.entropy_bonus(Recorder())
    once, thrice = trainer(recorded, probe_every=0), trainer(recorded, epochs=3, probe_every=0)
    drawn = once.step()["entropy"]
    thrice.step()
    left = score(once.model, once.last_rollouts, temperature=1.0, outputs=("entropy",)).entropy
    assert seen(thrice)[0] == pytest.approx(drawn)
    # The first step finds the policy that sampled, the second what the first made of it.
    assert seen(thrice)[1] == pytest.approx(drawn, abs=1e-6)
    mean = float(left[once.last_rollouts.mask].mean().detach())
    assert abs(mean - drawn) > 1e-3
    assert seen(thrice)[2] == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("changes", [{"windows": 2}, {"epochs": 2}])
def test_rows_that_a_filter_leaves_out_do_not_move_what_controllers_see(changes):
    @dataclass(frozen=True)
    class Surest:
        needs: ClassVar[frozenset[str]] = frozenset({"old_entropy"})

        def __call__(self, batch):
            sums = torch.where(batch.mask, batch.entropy, 0).sum(-1)
            return sums < sums.median()

    filtered = recipes.entropy_bonus(Recorder()).with_(row_filter=Surest())
    one = trainer(filtered, probe_every=0, learning_rate=1e-12, **changes)
    drawn = one.step()["entropy"]
    assert seen(one) == pytest.approx([drawn, drawn], abs=1e-5)
