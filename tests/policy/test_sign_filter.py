import json
from itertools import pairwise

import pytest
import torch
from batches import make_batch, with_current
from toy_bench import bandit

from isentrope.policy import State, recipes
from isentrope.policy.controllers import Linear
from isentrope.policy.sign_filter import EqualPrompts, SignFilter


def kept_rows(objective, batch):
    prepared, _ = objective.prepare(batch, objective.start())
    return prepared.mask.any(-1), prepared


@pytest.mark.parametrize(("band", "sign"), [((10.0, 11.0), -1), ((0.0, 0.1), 1), ((0.0, 10.0), 0)])
def test_outside_the_band_only_advantages_of_one_sign_stay(band, sign):
    batch, _ = make_batch(rows=16, seed=1)
    baseline, _ = recipes.grpo().prepare(batch, recipes.grpo().start())
    kept, prepared = kept_rows(recipes.entrocraft(band=band), batch)
    advantages = baseline.advantages[:, 0]
    assert torch.equal(kept, sign * advantages >= 0)
    assert torch.equal(prepared.advantages[kept], baseline.advantages[kept])
    assert kept.any()


def test_the_entropy_is_the_mean_over_responses():
    batch, _ = make_batch(rows=4, group_size=2, seed=2)
    # Long responses that are sure and short ones that are not: the mean over tokens would lie below the band.
    entropy = torch.tensor([0.0, 0.0, 2.0, 2.0])[:, None].expand(4, 6).double()
    lengths = torch.tensor([6, 6, 1, 1])[:, None]
    batch = batch.with_(
        mask=torch.arange(6) < lengths, old_entropy=entropy, rewards=torch.tensor([1.0, 0.0, 1.0, 0.0]).double()
    )
    assert kept_rows(recipes.entrocraft(band=(0.9, 1.1)), batch)[0].all()
    assert kept_rows(recipes.entrocraft(band=(0.25, 0.35)), batch)[0].tolist() == [True, False, True, False]


def test_the_band_follows_its_schedule():
    objective = recipes.entrocraft(band=(0.6, 0.7), final_band=(0.1, 0.2), steps=10)
    state, bands = objective.start(), []
    for _ in range(12):
        part = objective.at(state).row_filter[0]
        bands.append((part.low, part.high))
        state = objective.control(state, {"entropy": 1.0}).next_step()
    assert State.from_dict(json.loads(json.dumps(state.to_dict()))) == state
    assert bands[0] == (0.6, 0.7)
    assert bands[5] == pytest.approx((0.35, 0.45))
    assert bands[10] == bands[11] == pytest.approx((0.1, 0.2))
    assert all(later[0] <= earlier[0] for earlier, later in pairwise(bands))


def test_exceptions_are_as_frequent_as_asked_and_seeded():
    batch, _ = make_batch(rows=400, seed=3)
    batch = batch.with_(advantages=torch.ones_like(batch.old_log_probs), entropy=batch.old_entropy)
    part = SignFilter(10.0, 11.0, exceptions=0.3)
    first = part.prepare(batch, torch.Generator().manual_seed(1))
    assert torch.equal(first, part.prepare(batch, torch.Generator().manual_seed(1)))
    # Three standard errors of a binomial share.
    assert float(first.double().mean()) == pytest.approx(0.3, abs=3 * (0.3 * 0.7 / 400) ** 0.5)
    assert not SignFilter(10.0, 11.0).prepare(batch, torch.Generator()).any()


def test_prompts_weigh_the_same_however_many_responses_stay():
    batch, logits = make_batch(rows=8, group_size=4, seed=4)
    rewards = torch.tensor([1.0, 0, 0, 0, 1, 1, 1, 0]).double()
    objective = recipes.entrocraft(band=(10.0, 11.0))
    state = objective.start()
    prepared, _ = objective.prepare(batch.with_(rewards=rewards), state)
    assert prepared.mask.any(-1).tolist() == [False, True, True, True, False, False, False, True]
    current = with_current(prepared.with_totals(), logits)
    loss, _ = objective.loss(current, state)
    ratio = (current.log_probs - current.old_log_probs).exp()
    token_loss = torch.maximum(-current.advantages * ratio, -current.advantages * ratio.clamp(0.8, 1.2))
    rows = [token_loss[i][batch.mask[i]].mean() for i in range(8)]
    torch.testing.assert_close(loss, (sum(rows[1:4]) / 3 + rows[7]) / 2)


def test_equal_prompts_do_nothing_to_whole_groups():
    batch, _ = make_batch(rows=8)
    assert EqualPrompts().prepare(batch, torch.Generator()).tolist() == [1.0] * 8


def test_the_reference_code_takes_raw_rewards_of_one_sign_and_keeps_the_rows():
    batch, _ = make_batch(rows=4, group_size=2)
    batch = batch.with_(rewards=torch.tensor([1.0, -1.0, 0.5, -2.0]).double())
    expected = {(10.0, 11.0): [0, -1, 0, -2], (0.0, 0.1): [1, 0, 0.5, 0]}
    for band, advantages in expected.items():
        kept, prepared = kept_rows(recipes.entrocraft(band=band, published=True), batch)
        assert prepared.advantages[:, 0].tolist() == advantages
        assert kept.all()
    inside, _ = recipes.grpo().prepare(batch, recipes.grpo().start())
    prepared = kept_rows(recipes.entrocraft(band=(0.0, 10.0), published=True), batch)[1]
    assert torch.equal(prepared.advantages, inside.advantages)


@pytest.mark.slow
def test_it_holds_up_the_entropy_of_the_toy_bench_through_several_steps_a_batch():
    # Over six seeds 0.42 nats, with a standard error of 0.11, against 0.02.
    plain, filtered = (
        bandit(o, 400, 0.5, inner_steps=8)[-100:, 0].mean()
        for o in (recipes.grpo(), recipes.entrocraft(band=(1.5, 1.6)))
    )
    assert plain < 0.05
    assert filtered > 0.3


@pytest.mark.parametrize(
    ("settings", "message"), [((0.7, 0.6), "low must not exceed"), ((0.1, 0.2, 1.5), "exceptions must lie")]
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SignFilter(*settings)
    SignFilter(Linear(0.7, 0.6, 3), 0.5)
