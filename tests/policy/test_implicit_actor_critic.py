import math

import pytest
import torch
from batches import make_batch, with_current

from isentrope.policy import recipes
from isentrope.policy.implicit_actor_critic import ImplicitActorCritic, class_weights, classification

EIGHT = torch.tensor([1.0, 0, 0, 1, 0, 0, 0, 0]).double()
ONE_GROUP = torch.zeros(8, dtype=torch.long)


def test_fresh_rollouts_score_nothing_and_lose_the_logarithm_of_two():
    result = classification(torch.zeros(8).double(), EIGHT, ONE_GROUP)
    assert not result.score.any()
    assert float(result.loss.mean()) == pytest.approx(math.log(2))


def test_class_weights_make_labels_count_the_same():
    assert class_weights(EIGHT, ONE_GROUP).tolist() == pytest.approx([2, 2 / 3, 2 / 3, 2, 2 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert class_weights(torch.ones(3).double(), torch.zeros(3, dtype=torch.long)).tolist() == [1, 1, 1]
    two_groups = class_weights(torch.tensor([1.0, 0, 0, 1, 1]).double(), torch.tensor([5, 2, 5, 2, 5]))
    assert two_groups.tolist() == pytest.approx([0.75, 1, 1.5, 1, 0.75])


def test_scores_cancel_over_a_group_and_the_advantage_is_the_exact_derivative():
    generator = torch.Generator().manual_seed(0)
    groups = torch.tensor([0, 1, 0, 1, 1, 0, 1, 2])
    evidence = torch.randn(8, generator=generator).double().requires_grad_()
    result = classification(evidence, EIGHT, groups)
    for group in (0, 1):
        assert float(result.score[groups == group].sum().detach()) == pytest.approx(0, abs=1e-12)
    gradient = torch.autograd.grad(result.loss.sum(), evidence)[0]
    torch.testing.assert_close(-gradient, result.advantage.detach())


def whole_loss(batch, logits, beta, balanced, mean=False):
    """The paper's loss, written with a loop over the other responses of a group."""
    log_probs = with_current(batch, logits).log_probs
    if mean:
        evidence = beta * torch.where(batch.mask, log_probs, 0).sum(-1) / batch.lengths
    else:
        evidence = beta * torch.where(batch.mask, log_probs - batch.old_log_probs, 0).sum(-1)
    losses = []
    for i in range(len(evidence)):
        mates = batch.group_ids == batch.group_ids[i]
        others = mates & (torch.arange(len(evidence)) != i)
        score = evidence[i] - evidence[others].mean()
        label = batch.rewards[i]
        labels = batch.rewards[mates]
        weight = 1.0
        if balanced and len(labels.unique()) > 1:
            weight = len(labels) / (2 * int((labels == label).sum()))
        losses.append(-weight * (label * score.sigmoid().log() + (1 - label) * (-score).sigmoid().log()))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("implicit_reward", ["log_ratio", "mean_log_prob"])
@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_the_gradient_is_that_of_the_whole_loss_in_any_split(implicit_reward, balanced, size):
    batch, logits = make_batch(rows=8, seed=1)
    live = logits.clone().requires_grad_()
    exact = torch.autograd.grad(whole_loss(batch, live, 1.5, balanced, implicit_reward == "mean_log_prob"), live)[0]
    objective = recipes.pacs(1.5, balanced, implicit_reward)
    state = objective.start()
    now = with_current(batch, logits)
    prepared, _ = objective.prepare(batch.with_(log_probs=now.log_probs, entropy=now.entropy), state)
    window = prepared.with_totals()
    live = logits.clone().requires_grad_()
    for start in range(0, 8, size):
        rows = slice(start, start + size)
        objective.loss(with_current(window.rows(rows), live[rows]), state)[0].backward()
    torch.testing.assert_close(live.grad, exact)


def test_on_fresh_rollouts_and_unweighted_it_is_rloo():
    batch, _ = make_batch(rows=8, seed=2)
    for rewards in (batch.rewards, torch.rand(8, generator=torch.Generator().manual_seed(0)).double()):
        paper, baseline = recipes.pacs(balanced=False), recipes.rloo()
        given = batch.with_(rewards=rewards)
        ours, theirs = (each.prepare(given, each.start())[0].advantages for each in (paper, baseline))
        torch.testing.assert_close(ours, theirs)


def test_a_response_that_is_classified_right_stops_teaching():
    evidence = torch.tensor([6.0, -6, -6, 6]).double()
    labels = torch.tensor([1.0, 0, 0, 1]).double()
    learned = classification(evidence, labels, torch.zeros(4, dtype=torch.long)).advantage
    fresh = classification(torch.zeros(4).double(), labels, torch.zeros(4, dtype=torch.long)).advantage
    assert (learned.abs() < 1e-2 * fresh.abs()).all()


def test_rewards_must_be_labels():
    batch, _ = make_batch()
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got -1.0 to 1.0"):
        recipes.pacs().prepare(batch.with_(rewards=2 * batch.rewards - 1), recipes.pacs().start())
    with pytest.raises(ValueError, match="implicit_reward must be"):
        ImplicitActorCritic(implicit_reward="ratio")
