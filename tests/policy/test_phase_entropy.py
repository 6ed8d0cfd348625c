import pytest
import torch

from isentrope.policy import TokenBatch, recipes
from isentrope.policy.phase_entropy import PhaseEntropyPenalty


def phased(rewards, entropy, thinking, mask=None):
    entropy = torch.tensor(entropy, dtype=torch.float64)
    return TokenBatch(
        mask=torch.ones_like(entropy, dtype=torch.bool) if mask is None else torch.tensor(mask, dtype=torch.bool),
        rewards=torch.tensor(rewards, dtype=torch.float64),
        group_ids=torch.zeros(len(rewards), dtype=torch.long),
        old_log_probs=torch.zeros_like(entropy),
        old_entropy=entropy,
        extras={"thinking": torch.tensor(thinking, dtype=torch.bool)},
    )


def test_right_answers_pay_for_the_excess_of_the_thinking_phase():
    batch = phased([1, 0, 1], [[0.5, 0.3, 0.1]] * 2 + [[0.1, 0.1, 0.4]], [[1, 1, 0]] * 3)
    assert PhaseEntropyPenalty()(batch).tolist() == pytest.approx([1 - (0.4 - 0.1), 0, 1])
    assert PhaseEntropyPenalty(alpha=2.0)(batch).tolist() == pytest.approx([1 - (0.4 - 0.2), 0, 1])
    assert PhaseEntropyPenalty(alpha=0.0)(batch).tolist() == pytest.approx([0.6, 0, 0.9])
    assert PhaseEntropyPenalty(weight=0.5)(batch).tolist() == pytest.approx([0.85, 0, 1])


def test_a_response_that_never_stops_thinking_is_charged_for_all():
    batch = phased([1, 1], [[0.5, 0.3]] * 2, [[1, 1], [0, 0]])
    assert PhaseEntropyPenalty()(batch).tolist() == pytest.approx([0.6, 1])


def test_padding_is_not_read_and_repeating_every_token_changes_nothing():
    short = phased([1], [[0.6, 0.2, 9.0]], [[1, 0, 1]], mask=[[1, 1, 0]])
    long = phased([1], [[0.6, 0.6, 0.2, 0.2]], [[1, 1, 0, 0]])
    assert PhaseEntropyPenalty()(short).tolist() == pytest.approx([0.6])
    torch.testing.assert_close(PhaseEntropyPenalty()(short), PhaseEntropyPenalty()(long))


def test_the_reward_falls_with_thinking_entropy_and_does_not_fall_with_answer_entropy():
    batch = phased([1], [[0.6, 0.4, 0.2, 0.1]], [[1, 1, 0, 0]])
    entropy = batch.old_entropy.clone().requires_grad_()
    gradient = torch.autograd.grad(PhaseEntropyPenalty()(batch.with_(old_entropy=entropy)).sum(), entropy)[0]
    torch.testing.assert_close(gradient, torch.tensor([[-0.5, -0.5, 0.5, 0.5]]).double())


def test_a_floor_keeps_right_above_wrong():
    batch = phased([1, 0], [[3.0, 0.1]] * 2, [[1, 0]] * 2)
    assert PhaseEntropyPenalty()(batch)[0] < 0
    assert PhaseEntropyPenalty(floor=0.1)(batch).tolist() == pytest.approx([0.1, 0])


def test_a_group_that_is_all_right_is_ranked_by_its_entropies():
    batch = phased([1, 1, 1], [[0.9, 0.1], [0.3, 0.1], [0.5, 0.1]], [[1, 0]] * 3)
    objective = recipes.pear()
    prepared, _ = objective.prepare(batch, objective.start())
    assert prepared.advantages[:, 0].argsort().tolist() == [0, 2, 1]


def test_a_host_that_knows_no_phases_is_told_so():
    with pytest.raises(ValueError, match=r"needs extras\['thinking'\], which the host did not give"):
        PhaseEntropyPenalty()(phased([1], [[0.1]], [[1]]).with_(extras={}))
