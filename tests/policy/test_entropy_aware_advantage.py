import pytest
import torch
from batches import make_batch

from isentrope.policy.entropy_aware_advantage import EntropyAwareAdvantage


def test_hand_case_with_the_unbiased_deviation():
    batch, _ = make_batch(rows=1, width=3)
    batch = batch.with_(
        mask=torch.tensor([[True, True, False]]),
        entropy=torch.tensor([[0.0, 2.0, torch.nan]]).double(),
        advantages=torch.tensor([[1.0, -3.0, 0.0]]).double(),
    )
    factors = EntropyAwareAdvantage(0.2)(batch)[0, :2] / torch.tensor([1.0, -3.0])
    torch.testing.assert_close(factors, torch.tensor([1 - 0.2 / 2**0.5, 1 + 0.2 / 2**0.5]).double())


def test_factors_average_to_one_over_the_whole_batch_and_grow_with_entropy():
    batch, _ = make_batch(rows=32)
    ones = batch.with_(entropy=batch.old_entropy, advantages=torch.ones_like(batch.old_entropy))
    factors = EntropyAwareAdvantage(0.5)(ones)
    assert float(factors[batch.mask].mean()) == pytest.approx(1)
    assert float(factors[batch.mask].std()) == pytest.approx(0.5)
    order = batch.old_entropy[batch.mask].argsort()
    assert (factors[batch.mask][order].diff() >= 0).all()


def test_equal_entropies_and_no_strength_change_nothing():
    batch, _ = make_batch()
    batch = batch.with_(advantages=batch.old_log_probs)
    equal = batch.with_(entropy=torch.full_like(batch.old_entropy, 0.1))
    assert torch.equal(EntropyAwareAdvantage()(equal), batch.advantages)
    assert torch.equal(EntropyAwareAdvantage(0.0)(batch.with_(entropy=batch.old_entropy)), batch.advantages)
