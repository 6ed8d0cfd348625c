import pytest
import torch
from batches import make_batch

from isentrope.policy import recipes
from isentrope.policy.forking_tokens import ForkingTokens
from isentrope.policy.selection import row_quantile


@pytest.mark.parametrize("level", [0.0, 0.1, 0.5, 0.7, 0.8, 1.0])
def test_quantiles_of_ragged_rows_are_those_of_each_row(level):
    batch, _ = make_batch(rows=30, width=12)
    mask = batch.mask.clone()
    mask[3] = False
    found = row_quantile(batch.old_entropy, mask, level)
    for i in range(30):
        if mask[i].any():
            torch.testing.assert_close(found[i], batch.old_entropy[i][mask[i]].quantile(level))
    assert found[3] == 0


def test_each_response_keeps_its_own_forks():
    batch, _ = make_batch(rows=20, width=11)
    batch = batch.with_(entropy=torch.where(batch.mask, batch.old_entropy, torch.nan))
    chosen = ForkingTokens(0.3)(batch)
    assert not chosen[~batch.mask].any()
    for i in range(20):
        length = int(batch.mask[i].sum())
        count = int(chosen[i].sum())
        # At or above the 0.7 quantile of n distinct values lie the n - ceil(0.7 (n - 1)) largest.
        assert count == length - -(-7 * (length - 1) // 10)
        largest = batch.old_entropy[i][batch.mask[i]].topk(count).values
        torch.testing.assert_close(batch.old_entropy[i][chosen[i]].sort(descending=True).values, largest)


def test_padding_never_sets_the_threshold():
    batch, _ = make_batch(rows=6, width=8)
    high = batch.with_(entropy=torch.where(batch.mask, batch.old_entropy, 100.0))
    low = batch.with_(entropy=torch.where(batch.mask, batch.old_entropy, -100.0))
    assert torch.equal(ForkingTokens()(high), ForkingTokens()(low))


def test_ties_stay():
    batch, _ = make_batch()
    flat = batch.with_(entropy=torch.ones_like(batch.old_entropy))
    assert torch.equal(ForkingTokens(0.2)(flat), batch.mask)


def test_the_mean_is_over_forks_alone():
    batch, _ = make_batch(rows=8, width=8, seed=1)
    objective = recipes.dapo().with_(selection=ForkingTokens(0.3))
    prepared, _ = objective.prepare(batch, objective.start())
    totals = prepared.with_totals().totals
    assert int(totals["loss_tokens"]) == int(prepared.loss_mask.sum()) < int(totals["tokens"])


def test_bad_shares_are_refused():
    with pytest.raises(ValueError, match="fraction must lie"):
        ForkingTokens(0.0)
    with pytest.raises(ValueError, match="level must lie"):
        row_quantile(torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool), 1.1)
