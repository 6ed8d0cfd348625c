import math

import pytest
import torch

from isentrope.policy import TokenBatch
from isentrope.policy.aggregation import Denominators, SequenceSumOver, sequence_mean, sequence_sum, token_mean
from isentrope.policy.surrogates import ClippedRatio, SequenceRatio, UnclippedRatio, importance_ratio


def tokens(ratios, advantages, mask=None):
    ratios, advantages = torch.tensor(ratios).double(), torch.tensor(advantages).double()
    mask = torch.ones(ratios.shape, dtype=torch.bool) if mask is None else torch.tensor(mask)
    return TokenBatch(
        mask=mask,
        rewards=torch.zeros(len(ratios)).double(),
        group_ids=torch.zeros(len(ratios), dtype=torch.long),
        old_log_probs=torch.zeros(ratios.shape).double(),
        log_probs=ratios.log().requires_grad_(),
        advantages=advantages,
    )


def test_clipped_ratio_hand_cases():
    batch = tokens([[1.5, 1.5, 0.5, 0.5, 1.1]], [[1, -1, 1, -1, 2]])
    loss = ClippedRatio(0.2, 0.28)(batch)
    torch.testing.assert_close(loss, torch.tensor([[-1.28, 1.5, -0.5, 0.8, -2.2]]).double())
    gradient = torch.autograd.grad(loss.sum(), batch.log_probs)[0]
    # A clipped token has no gradient, every other -A rho.
    torch.testing.assert_close(gradient, torch.tensor([[0, 1.5, -0.5, 0, -2.2]]).double())
    assert ClippedRatio(0.2, 0.28).clipped(batch).tolist() == [[True, False, False, True, False]]


def test_dual_clip_bounds_negative_advantages_only():
    batch = tokens([[5.0, 5.0]], [[-1, 1]])
    torch.testing.assert_close(ClippedRatio(dual_clip=3.0)(batch), torch.tensor([[3.0, -1.2]]).double())


@pytest.mark.parametrize("surrogate", [ClippedRatio(), UnclippedRatio(), SequenceRatio()])
def test_on_policy_gradient_is_minus_advantage_times_score(surrogate):
    batch = tokens([[1.0, 1.0], [1.0, 1.0]], [[2, 2], [-3, -3]])
    gradient = torch.autograd.grad(surrogate(batch).sum(), batch.log_probs)[0]
    torch.testing.assert_close(gradient, -batch.advantages)


def test_sequence_ratio_is_the_geometric_mean_over_valid_tokens():
    batch = tokens([[2.0, 8.0, 100.0]], [[1, 1, 0]], mask=[[True, True, False]])
    wide = SequenceRatio(low=1, high=9)
    torch.testing.assert_close(wide(batch)[0, :2], torch.tensor([-4.0, -4.0]).double())
    gradient = torch.autograd.grad(wide(batch)[0, :2].sum(), batch.log_probs)[0]
    torch.testing.assert_close(gradient, torch.tensor([[-4.0, -4.0, 0]]).double())
    assert SequenceRatio().clipped(batch)[0, :2].all()


def test_ratio_is_cut_at_e_to_the_twenty():
    batch = tokens([[1.0]], [[1]]).with_(log_probs=torch.tensor([[700.0]]).double())
    assert importance_ratio(batch).item() == pytest.approx(math.exp(20))


def test_aggregations_by_hand():
    matrix = torch.tensor([[1.0, 2, torch.inf], [4, torch.nan, 6], [torch.nan, 1, 1]]).double()
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    window = Denominators(torch.tensor(3), torch.tensor(2), torch.tensor(3))
    assert token_mean(matrix, mask, window).item() == pytest.approx(7 / 3)
    assert sequence_mean(matrix, mask, window).item() == pytest.approx((1.5 + 4) / 2)
    assert sequence_sum(matrix, mask, window).item() == pytest.approx(7 / 2)
    assert SequenceSumOver(5)(matrix, mask, window).item() == pytest.approx(7 / 10)
    assert SequenceSumOver()(matrix, mask, window).item() == pytest.approx(7 / 6)


def test_the_dual_clip_counts_as_a_clip_because_it_removes_the_gradient():
    batch = tokens([[5.0, 2.0]], [[-1, -1]])
    surrogate = ClippedRatio(dual_clip=3.0)
    gradient = torch.autograd.grad(surrogate(batch).sum(), batch.log_probs)[0]
    assert (gradient == 0).tolist() == surrogate.clipped(batch).tolist() == [[True, False]]
