import itertools
import math

import pytest
import torch
from batches import make_batch, with_current
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_bench import entropy_of

from isentrope.policy import TokenBatch, recipes
from isentrope.policy.entropy_minimization import TemperedEntropy


def loss_and_gradient(objective, batch, logits):
    state = objective.start()
    prepared, metrics = objective.prepare(batch, state)
    state = objective.control(state, metrics.means())
    live = logits.clone().requires_grad_()
    loss, tally = objective.loss(with_current(prepared.with_totals(), live), state)
    return loss, torch.autograd.grad(loss, live)[0], tally.means()


def test_the_loss_is_the_mean_entropy_of_the_tokens_and_its_gradient_the_exact_one():
    batch, logits = make_batch(seed=1)
    loss, gradient, _ = loss_and_gradient(recipes.em_ft(), batch, logits)
    total, expected = 0.0, torch.zeros_like(logits)
    for i, t in batch.mask.nonzero().tolist():
        p = torch.tensor([math.exp(z) for z in logits[i, t]]).double()
        p = p / p.sum()
        entropy = -sum(float(q) * math.log(float(q)) for q in p)
        total += entropy
        expected[i, t] = -p * (p.log() + entropy)
    tokens = int(batch.mask.sum())
    assert float(loss.detach()) == pytest.approx(total / tokens)
    torch.testing.assert_close(gradient, expected / tokens)


def test_it_looks_at_no_reward_and_at_no_token_that_was_drawn():
    batch, logits = make_batch(seed=2)
    loss, gradient, _ = loss_and_gradient(recipes.em_ft(), batch, logits)
    other = batch.with_(rewards=1 - batch.rewards, token_ids=(batch.token_ids + 1) % 5)
    other_loss, other_gradient, _ = loss_and_gradient(recipes.em_ft(), other, logits)
    assert torch.equal(other_loss, loss)
    assert torch.equal(other_gradient, gradient)


@pytest.mark.parametrize("objective", [recipes.em_ft(), recipes.one_shot_em(0.5, 1.0)], ids=lambda o: o.name)
def test_uniform_distributions_are_stationary(objective):
    batch, logits = make_batch(vocabulary=7)
    loss, gradient, _ = loss_and_gradient(objective, batch, torch.zeros_like(logits))
    assert float(loss.detach()) == pytest.approx(math.log(7))
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("objective", [recipes.em_ft(), recipes.one_shot_em(0.5, 1.0)], ids=lambda o: o.name)
def test_a_batch_without_a_token_has_no_loss(objective):
    batch, logits = make_batch()
    loss, gradient, _ = loss_and_gradient(objective, batch.with_(mask=torch.zeros_like(batch.mask)), logits)
    assert float(loss.detach()) == 0.0
    assert not gradient.any()


def tempered(logits, temperature):
    logits = torch.as_tensor(logits).double().view(1, 1, -1)
    one = torch.ones(1, 1, dtype=torch.bool)
    batch = TokenBatch(
        mask=one, rewards=torch.ones(1), group_ids=torch.zeros(1).long(), old_log_probs=torch.zeros(1, 1),
        logits=lambda: logits,
    )  # fmt: skip
    return float(TemperedEntropy(-1.0, temperature)(batch)[0])


def test_the_entropy_at_another_temperature_in_closed_form():
    # Odds of e at temperature 1 are e^2 at one half.
    p = math.e**2 / (1 + math.e**2)
    assert tempered([1.0, 0.0], 0.5) == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p))


@settings(max_examples=30)
@given(st.lists(st.floats(-8, 8), min_size=2, max_size=6))
def test_sharper_distributions_have_less_entropy(logits):
    assert tempered(logits, 0.5) <= tempered(logits, 1.0) + 1e-12
    assert tempered(logits, 1.0) == pytest.approx(float(entropy_of(torch.tensor(logits).double())), abs=1e-12)


def test_controllers_may_follow_the_tempered_entropy():
    batch, logits = make_batch()
    loss, _, metrics = loss_and_gradient(recipes.one_shot_em(0.5, 1.0), batch, logits)
    assert metrics["tempered_entropy"] == pytest.approx(float(loss.detach()))


def test_the_recipe_measures_where_it_samples_unless_told_otherwise():
    same, other = recipes.one_shot_em(), recipes.one_shot_em(temperature=0.5, sampling_temperature=1.0)
    assert same.needs == {"entropy_grad"}
    assert same.rollout[0].temperature == 0.5
    assert other.regularizers[0].temperature == 0.5
    with pytest.raises(ValueError, match="temperature must be positive, got -1"):
        TemperedEntropy(temperature=-1)


@pytest.mark.parametrize(("right", "rises"), [(2, True), (0, False)])
def test_on_a_bandit_the_entropy_vanishes_and_only_a_right_first_guess_becomes_better(right, rises):
    logits = torch.tensor([0.3, 0.0, 0.6]).double()
    before = float(logits.softmax(-1)[right])
    entropies = [float(entropy_of(logits))]
    for _ in range(400):
        live = logits.clone().requires_grad_()
        batch = TokenBatch(
            mask=torch.ones(4, 1, dtype=torch.bool), rewards=torch.zeros(4), group_ids=torch.zeros(4).long(),
            old_log_probs=torch.zeros(4, 1).double(), token_ids=torch.zeros(4, 1).long(),
            old_entropy=entropy_of(logits).expand(4, 1),
        )  # fmt: skip
        _, gradient, _ = loss_and_gradient(recipes.em_ft(), batch, live.detach().expand(4, 1, 3))
        logits = logits - 1.0 * gradient.sum((0, 1))
        entropies.append(float(entropy_of(logits)))
    assert all(later < earlier for earlier, later in itertools.pairwise(entropies))
    assert entropies[-1] < 0.05
    after = float(logits.softmax(-1)[right])
    assert after > 0.95 if rises else after < before / 10
