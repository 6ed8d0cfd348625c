import pytest
import torch
from batches import make_batch

from isentrope.policy import TokenBatch
from isentrope.policy.advantage_scaling import Bounded, ScaledByCertainty


def uncertain(entropies, groups=None, advantages=1.0):
    entropies = torch.tensor(entropies, dtype=torch.float64)[:, None]
    return TokenBatch(
        mask=torch.ones_like(entropies, dtype=torch.bool),
        rewards=torch.zeros(len(entropies)).double(),
        group_ids=torch.zeros(len(entropies), dtype=torch.long) if groups is None else torch.tensor(groups),
        old_log_probs=torch.zeros_like(entropies),
        old_entropy=entropies,
        advantages=torch.full_like(entropies, advantages),
    )


def test_weights_by_hand():
    assert ScaledByCertainty()(uncertain([1, 2, 3])).view(-1).tolist() == pytest.approx([1.5, 1, 0.5])
    assert ScaledByCertainty(0.5)(uncertain([1, 2, 3], advantages=-2.0)).view(-1).tolist() == pytest.approx(
        [-2.5, -2, -1.5]
    )


def test_weights_average_to_one_in_each_group_unless_cut_off():
    batch, _ = make_batch(rows=12, group_size=4, seed=1)
    batch = batch.with_(advantages=torch.ones_like(batch.old_log_probs))
    scaled = ScaledByCertainty(0.3)(batch)[:, 0]
    for group in range(3):
        assert float(scaled[batch.group_ids == group].mean()) == pytest.approx(1)


def test_a_response_more_than_twice_as_uncertain_is_left_out_not_reversed():
    # The mean is 3: 2 - 8/3 would be negative.
    assert ScaledByCertainty()(uncertain([0.5, 0.5, 8])).view(-1)[-1] == 0


def test_equal_or_no_entropy_changes_nothing():
    for entropies in ([0.7, 0.7, 0.7], [0.0, 0.0, 0.0]):
        assert ScaledByCertainty()(uncertain(entropies)).view(-1).tolist() == [1, 1, 1]


def test_rows_that_a_filter_dropped_do_not_count():
    batch = uncertain([1, 2, 3, 100.0])
    batch = batch.with_(mask=batch.mask & (torch.arange(4) < 3)[:, None])
    assert ScaledByCertainty()(batch).view(-1)[:3].tolist() == pytest.approx([1.5, 1, 0.5])


def test_bounds_cut_both_signs():
    batch = uncertain([1.0, 1, 1])
    batch = batch.with_(advantages=torch.tensor([[-5.0], [0.5], [3.0]]).double())
    assert Bounded(2.0)(batch).view(-1).tolist() == [-2, 0.5, 2]
