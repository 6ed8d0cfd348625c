import pytest
import torch
from toy_bench import bandit

from isentrope.policy import TokenBatch, recipes
from isentrope.policy.tempered_gradient import TemperedGradient


def every_action(logits, rewards):
    """One row for each action, so that expectations over the policy are exact sums."""
    count = len(logits)
    log_probs = logits.log_softmax(-1)
    return TokenBatch(
        mask=torch.ones(count, 1, dtype=torch.bool),
        rewards=torch.tensor(rewards).double(),
        group_ids=torch.zeros(count, dtype=torch.long),
        old_log_probs=log_probs.detach()[:, None],
        log_probs=log_probs[:, None],
        token_ids=torch.arange(count)[:, None],
        logits=lambda: logits.expand(count, 1, count),
    )


def logits_of(seed=0):
    return torch.randn(6, generator=torch.Generator().manual_seed(seed)).double().requires_grad_()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_mean_gradient_is_that_of_correct_actions_at_the_other_temperature(temperature):
    logits = logits_of()
    rewards = [1.0, 0, 1, 0, 0, 1]
    batch = every_action(logits, rewards)
    term = TemperedGradient(0.3, temperature)(batch, batch.rewards)
    policy = logits.detach().softmax(-1)
    gradient = torch.autograd.grad((policy * term.squeeze(-1)).sum(), logits)[0]
    tempered = (logits.detach() / temperature).softmax(-1)
    correct = torch.tensor(rewards).double()
    expected = torch.autograd.grad((-0.3 * tempered * correct * logits.log_softmax(-1)).sum(), logits)[0]
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize(("temperature", "sign"), [(1.5, 1), (0.7, -1)])
def test_hot_flattens_and_cold_sharpens(temperature, sign):
    logits = logits_of(1)
    batch = every_action(logits, [1.0] * 6)
    term = TemperedGradient(1.0, temperature)(batch, batch.rewards).squeeze(-1)
    gradient = torch.autograd.grad((logits.detach().softmax(-1) * term).sum(), logits)[0]

    def entropy(z):
        return -(z.softmax(-1) * z.log_softmax(-1)).sum()

    assert torch.sign(entropy(logits.detach() - 1e-3 * gradient) - entropy(logits.detach())) == sign


def test_on_policy_it_is_the_published_mixture_up_to_the_length_of_the_step():
    logits, rewards, distance = logits_of(2), [1.0, 0, 0, 1, 0, 0], 0.07
    objective = recipes.dcpo(target=0.5)
    batch = every_action(logits, rewards)
    state = objective.control(objective.start(), {"entropy": 0.5 + distance})
    prepared, _ = objective.prepare(batch.with_(log_probs=None, logits=None), state)
    current = prepared.with_totals().with_(log_probs=batch.log_probs, logits=batch.logits)
    gradient = torch.autograd.grad(objective.loss(current, state)[0], logits, retain_graph=True)[0]

    correct = torch.tensor(rewards).double()
    x = distance / correct.mean()
    share = x / (1 + x)
    tempered = (logits.detach() / 0.8).log_softmax(-1)
    mixed = (1 - share) * prepared.advantages[:, 0] + share * correct * (tempered - batch.old_log_probs[:, 0]).exp()
    published = torch.autograd.grad(-(mixed * batch.log_probs[:, 0]).mean(), logits)[0]
    torch.testing.assert_close((1 - share) * gradient, published)


def test_without_a_correct_response_nothing_is_added():
    logits = logits_of(3)
    part = TemperedGradient(1.0, 1.2)
    batch = every_action(logits, [0.0] * 6)
    assert not part(batch, part.prepare(batch, torch.Generator())).any()


def test_toy_bench_the_published_bounds_hold_nothing_and_wider_ones_do():
    published = bandit(recipes.dcpo(1.5), 80, 3.0)[-20:, 0].mean()
    wide = bandit(recipes.dcpo(1.5, hot=2.0, cold=0.5, largest=0.5), 80, 3.0)[-20:, 0].mean()
    assert published < 0.4
    assert wide == pytest.approx(1.31, abs=0.1)
