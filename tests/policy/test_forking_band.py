import numpy as np
import pytest
import torch
from batches import make_batch, with_current

from isentrope.policy import recipes
from isentrope.policy.forking_band import ForkingEntropyBand, OnSelected
from isentrope.policy.regularizers import KLPenalty


def prepared_spine(batch, **settings):
    objective = recipes.spine(**settings)
    state = objective.start()
    return objective, state, objective.prepare(batch, state)[0]


def test_term_against_a_slow_one_over_the_forks_of_each_response():
    batch, logits = make_batch(rows=8, width=12, seed=2)
    objective, state, prepared = prepared_spine(
        batch, fraction=0.5, high_weight=0.3, low_weight=0.7, kl_coefficient=0.0
    )
    current = with_current(prepared.with_totals(), logits.clone().requires_grad_())
    total, forks = 0.0, 0
    for i in range(8):
        old = batch.old_entropy[i][batch.mask[i]].numpy()
        fork = old >= np.quantile(old, 0.5)
        low, high = np.quantile(old[fork], [0.1, 0.5])
        now = current.entropy[i][batch.mask[i]].detach().numpy()[fork]
        total += (0.3 * np.maximum(now - high, 0) + 0.7 * np.maximum(low - now, 0)).sum()
        forks += fork.sum()
    base = objective.with_(regularizers=())
    loss, plain = (o.loss(current, state)[0].item() for o in (objective, base))
    assert loss - plain == pytest.approx(total / forks)
    assert total > 0


def test_gradient_points_back_into_the_band_and_is_zero_inside():
    batch, _ = make_batch(rows=1, width=5, group_size=1)
    entropy = torch.tensor([[0.1, 0.5, 0.9, 1.0, 2.0]]).double().requires_grad_()
    batch = batch.with_(mask=torch.ones(1, 5, dtype=torch.bool), entropy=entropy)
    edges = torch.tensor([[0.3, 1.0]]).double()
    term = ForkingEntropyBand(0.2, 0.4)(batch.with_totals(), edges)
    assert term.item() == pytest.approx((0.4 * 0.2 + 0.2 * 1.0) / 5)
    gradient = torch.autograd.grad(term, entropy)[0]
    torch.testing.assert_close(gradient, torch.tensor([[-0.4, 0, 0, 0, 0.2]]).double() / 5)


def test_kl_acts_on_forks_alone():
    batch, logits = make_batch(rows=6, width=12, group_size=3, seed=3)
    _, _, prepared = prepared_spine(batch, fraction=0.3)
    current = with_current(prepared.with_totals(), logits)
    forks = prepared.loss_mask
    assert 0 < forks.sum() < batch.mask.sum()
    assert OnSelected(KLPenalty(0.5))(current).item() == pytest.approx(float(KLPenalty(0.5)(current)[forks].mean()))


def test_equal_answers_leave_only_band_and_divergence():
    batch, logits = make_batch(rows=4, seed=4)
    same = batch.with_(extras={"answer": torch.ones(4, dtype=torch.long)})
    for settings, moved in (({"high_weight": 0.0, "low_weight": 0.0, "kl_coefficient": 0.0}, False), ({}, True)):
        objective, state, prepared = prepared_spine(same, **settings)
        live = logits.clone().requires_grad_()
        loss, _ = objective.loss(with_current(prepared.with_totals(), live), state)
        assert bool(torch.autograd.grad(loss, live)[0].any()) == moved


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="0 <= low_quantile <= high_quantile <= 1"):
        ForkingEntropyBand(low_quantile=0.6)
    with pytest.raises(ValueError, match="term must work from the batch alone"):
        OnSelected(ForkingEntropyBand())
