"""ERA for language models: which tokens it touches, its gradient, and where it pins the entropy."""

import math

import numpy as np
import pytest
import torch
from batches import make_batch
from toy_bench import bandit

from isentrope.policy import recipes
from isentrope.policy.entropy_activation import EntropyActivation


def test_only_rewarded_tokens_of_responses_outside_the_bounds_are_scaled():
    batch, _ = make_batch(rows=3, width=10)
    entropy = torch.full((3, 10), 0.1).double()
    entropy[0, :2] = 0.3  # mean of the two largest of ten: below
    entropy[1, :2] = torch.tensor([0.3, 0.7])  # between
    entropy[2, :2] = 4.0  # above
    batch = batch.with_(
        mask=torch.ones(3, 10, dtype=torch.bool), old_entropy=entropy, advantages=torch.ones(3, 10).double()
    )
    batch.advantages[:, 5:] = -1
    scale = EntropyActivation(low=0.45, high=3.0, factor=2.0).prepare(batch, None).exp()
    assert scale[:, 0].tolist() == [2.0, 1.0, 0.5]
    assert torch.equal(scale[:, 5:], torch.ones(3, 5).double())


def test_the_entropy_of_a_short_response_is_that_of_its_most_uncertain_token():
    batch, _ = make_batch(rows=1, width=4)
    batch = batch.with_(
        mask=torch.tensor([[True, True, True, False]]),
        old_entropy=torch.tensor([[0.1, 0.5, 0.1, 9.0]]).double(),
        advantages=torch.ones(1, 4).double(),
    )
    assert EntropyActivation(low=0.6).prepare(batch, None)[0].tolist() == [math.log(2)] * 3 + [0]
    assert not EntropyActivation(low=0.4).prepare(batch, None).any()


@pytest.mark.parametrize(("low", "high", "factor"), [(9.0, 9.0, 3.0), (-1.0, 0.0, 3.0)])
def test_the_gradient_is_that_against_the_scaled_policy(low, high, factor):
    """A' grad_z log softmax(s z)_a = A (e_a - softmax(s z)), with s = k below the bounds and 1/k above."""
    objective = recipes.era(low, high, factor)
    batch, logits = make_batch(rows=8)
    prepared, _ = objective.prepare(batch, objective.start())
    prepared = prepared.with_totals()
    live = logits.clone().requires_grad_()
    where = prepared.mask.nonzero(as_tuple=True)
    scored = live.index_put(where, objective.activation(objective.start(), prepared)(live[where]))
    log_probs = scored.log_softmax(-1).gather(-1, batch.token_ids[..., None])[..., 0]
    loss, _ = objective.loss(prepared.with_(log_probs=log_probs, old_log_probs=log_probs.detach()), objective.start())
    loss.backward()
    advantages = recipes.grpo().advantage(batch)[:, None, None]
    strength = factor if low > 1 else 1 / factor
    scale = torch.where(advantages > 0, strength, 1.0)
    chosen = torch.nn.functional.one_hot(batch.token_ids, logits.shape[-1])
    expected = -advantages * (chosen - (scale * logits).softmax(-1)) / batch.mask.sum()
    torch.testing.assert_close(live.grad, torch.where(batch.mask[..., None], expected, 0))


def test_inside_the_bounds_nothing_changes():
    objective = recipes.era(low=0.0, high=9.0)
    batch, _ = make_batch()
    prepared, _ = objective.prepare(batch, objective.start())
    assert not prepared.prepared["output_activation"].any()
    assert torch.equal(prepared.advantages, recipes.grpo().prepare(batch, recipes.grpo().start())[0].advantages)


@pytest.mark.parametrize(("low", "expected", "spread"), [(0.0, 0.127, 0.05), (1.0, 0.997, 0.03), (1.5, 1.498, 0.03)])
def test_the_toy_policy_comes_to_rest_at_the_lower_bound(low, expected, spread):
    ends = [bandit(recipes.era(low=low, high=9.0), 400, 1.0, seed)[-20:, 0].mean() for seed in range(2)]
    assert np.mean(ends) == pytest.approx(expected, abs=spread)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": 4.0}, "low must not exceed high"),
        ({"factor": 0.0}, "factor must be positive"),
        ({"share": 0.0}, "share"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        EntropyActivation(**settings)
