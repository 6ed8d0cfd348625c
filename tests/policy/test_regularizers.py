import math

import pytest
import torch
from batches import make_batch, with_current

from isentrope.policy import TokenBatch, recipes
from isentrope.policy.regularizers import EntropyBonus, HighProbabilityAdvantage, KLPenalty

P = torch.tensor([0.5, 0.3, 0.2]).double()
Q = torch.tensor([0.4, 0.4, 0.2]).double()


def every_action(logits):
    """One row for each action of a softmax over three, so that expectations are exact sums."""
    log_probs = logits.log_softmax(-1)
    return TokenBatch(
        mask=torch.ones(3, 1, dtype=torch.bool),
        rewards=torch.zeros(3).double(),
        group_ids=torch.zeros(3, dtype=torch.long),
        old_log_probs=P.log()[:, None],
        reference_log_probs=Q.log()[:, None],
        log_probs=log_probs[:, None],
    )


@pytest.mark.parametrize(
    ("estimator", "value", "gradient"),
    [
        ("k1", 0.025267, [0, 0, 0]),
        ("k2", 0.024862, [0.09894, -0.09388, -0.00505]),
        ("k3", 0.025267, [0.1, -0.1, 0]),
        ("k3+", 0.025267, [0.09894, -0.09388, -0.00505]),
    ],
)
def test_kl_estimators_have_the_published_values_and_gradients(estimator, value, gradient):
    logits = P.log().clone().requires_grad_()
    terms = KLPenalty(1.0, estimator)(every_action(logits)).squeeze(-1)
    expectation = (P * terms).sum()
    assert expectation.item() == pytest.approx(value, abs=1e-6)
    torch.testing.assert_close(
        torch.autograd.grad(expectation, logits)[0], torch.tensor(gradient).double(), atol=1e-5, rtol=0
    )


def test_k2_has_the_gradient_of_the_divergence_itself():
    logits = P.log().clone().requires_grad_()
    log_probs = logits.log_softmax(-1)
    exact = torch.autograd.grad((log_probs.exp() * (log_probs - Q.log())).sum(), logits)[0]
    estimate = torch.autograd.grad((P * KLPenalty(1.0, "k2")(every_action(logits)).squeeze(-1)).sum(), logits)[0]
    torch.testing.assert_close(estimate, exact)


def test_entropy_bonus_raises_entropy_with_its_exact_gradient():
    batch, logits = make_batch()
    logits.requires_grad_()
    gradient = torch.autograd.grad(EntropyBonus(0.5)(with_current(batch, logits)).sum(), logits)[0]
    p = logits.softmax(-1)
    entropy = -(p * p.log()).sum(-1, keepdim=True)
    torch.testing.assert_close(gradient, 0.5 * p * (p.log() + entropy))


def prepared_term(alpha, denominator, ratios, advantages, probs):
    batch = TokenBatch(
        mask=torch.ones(1, 3, dtype=torch.bool),
        rewards=torch.zeros(1).double(),
        group_ids=torch.zeros(1, dtype=torch.long),
        old_log_probs=torch.tensor([probs]).double().log(),
        advantages=torch.tensor([advantages]).double(),
    )
    part = HighProbabilityAdvantage(alpha, threshold=0.9, denominator=denominator)
    chosen = part.prepare(batch.with_(log_probs=batch.old_log_probs), torch.Generator())
    current = batch.with_(
        log_probs=batch.old_log_probs + torch.tensor([ratios]).double().log(), totals={"selected": chosen.sum()}
    )
    return chosen, part(current, chosen)


def test_high_probability_advantage_by_hand():
    chosen, term = prepared_term(0.5, "selected", [1, 2, 1], [1, -3, 4], [0.95, 0.99, 0.5])
    assert chosen.tolist() == [[True, True, False]]
    assert term.item() == pytest.approx(-0.5 * (1 + 2 * 3) / 2)
    _, term = prepared_term(0.5, "all", [1, 2, 1], [1, -3, 4], [0.95, 0.99, 0.5])
    torch.testing.assert_close(term, torch.tensor([[-0.5, -3, 0]]).double())


def test_alpha_one_silences_negative_and_doubles_positive_tokens():
    probs, advantages = [0.95, 0.97, 0.99], [2.0, -1.0, 3.0]
    log_probs = torch.tensor([probs]).double().log().requires_grad_()
    batch = TokenBatch(
        mask=torch.ones(1, 3, dtype=torch.bool),
        rewards=torch.zeros(1).double(),
        group_ids=torch.zeros(1, dtype=torch.long),
        old_log_probs=log_probs.detach(),
        log_probs=log_probs,
        advantages=torch.tensor([advantages]).double(),
    )
    extra = HighProbabilityAdvantage(1.0, 0.9, "all")(batch, torch.ones(1, 3, dtype=torch.bool))
    loss = recipes.grpo().surrogate(batch) + extra
    torch.testing.assert_close(torch.autograd.grad(loss.sum(), log_probs)[0], torch.tensor([[-4.0, 0, -6]]).double())


@pytest.mark.parametrize(("alpha", "sign"), [(-0.5, 1), (0.5, -1)])
def test_the_sign_of_alpha_moves_entropy_the_stated_way(alpha, sign):
    logits = torch.tensor([math.log(0.97), math.log(0.02), math.log(0.01)]).double().requires_grad_()
    log_probs = logits.log_softmax(-1)
    batch = TokenBatch(
        mask=torch.ones(1, 1, dtype=torch.bool),
        rewards=torch.zeros(1).double(),
        group_ids=torch.zeros(1, dtype=torch.long),
        old_log_probs=log_probs[:1, None].detach(),
        log_probs=log_probs[:1, None],
        advantages=torch.ones(1, 1).double(),
    )
    term = HighProbabilityAdvantage(alpha, 0.9, "all")(batch, torch.ones(1, 1, dtype=torch.bool))
    stepped = (logits - 1e-3 * torch.autograd.grad(term.sum(), logits)[0]).detach()

    def entropy(z):
        return -(z.softmax(-1) * z.log_softmax(-1)).sum()

    assert torch.sign(entropy(stepped) - entropy(logits.detach())) == sign
