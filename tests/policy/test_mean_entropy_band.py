import math

import pytest
import torch
from batches import make_batch, with_current
from toy_bench import bandit, entropy_of

from isentrope.policy import TokenBatch, recipes
from isentrope.policy.mean_entropy_band import MeanEntropyBand


def term(part, batch, logits):
    """The loss that a part adds, and its gradient, over the whole batch."""
    logits = logits.clone().requires_grad_()
    objective = recipes.dr_grpo(length=1).with_(regularizers=part, surrogate=lambda b: 0 * b.log_probs)
    state = objective.start()
    prepared, _ = objective.prepare(batch, state)
    loss, _ = objective.loss(with_current(prepared.with_totals(), logits), state)
    return float(loss.detach()), torch.autograd.grad(loss, logits)[0]


def mean_entropy(logits, mask):
    return entropy_of(logits)[mask].mean()


@pytest.mark.parametrize("side", ["above", "below"])
def test_outside_the_band_the_term_is_the_distance_of_the_mean_entropy(side):
    batch, logits = make_batch(seed=2)
    now = float(mean_entropy(logits, batch.mask))
    low, high = (0.0, now - 0.3) if side == "above" else (now + 0.3, 9.0)
    value, gradient = term(MeanEntropyBand(low, high, 0.5), batch, logits)
    assert value == pytest.approx(0.5 * 0.3)
    live = logits.clone().requires_grad_()
    exact = torch.autograd.grad(0.5 * mean_entropy(live, batch.mask), live)[0]
    torch.testing.assert_close(gradient, exact if side == "above" else -exact)


def test_inside_the_band_nothing_happens():
    batch, logits = make_batch(seed=2)
    value, gradient = term(MeanEntropyBand(0.01, 5.0, 0.5), batch, logits)
    assert value == 0
    assert not gradient.any()


def test_tasks_have_their_own_bands():
    batch, logits = make_batch(seed=2)
    rows = torch.tensor([0, 1, 1, 0, 0, 1, 0, 1])
    batch = batch.with_(extras={"task": rows})
    value, gradient = term(MeanEntropyBand(0.0, 0.2, 0.5, task=1), batch, logits)
    mine = batch.mask & (rows == 1)[:, None]
    assert value == pytest.approx(0.5 * (float(mean_entropy(logits, mine)) - 0.2))
    assert not gradient[rows == 0].any()
    with pytest.raises(ValueError, match=r"needs extras\['task'\]"):
        term(MeanEntropyBand(0.0, 0.2, task=1), batch.with_(extras={}), logits)


def test_the_published_estimator_has_a_gradient_of_mean_zero():
    probs = torch.tensor([0.7, 0.2, 0.1]).double()
    expected = {}
    for estimator in ("nll", "full"):
        live = probs.log().requires_grad_()
        log_probs = live.log_softmax(-1)
        batch = TokenBatch(
            mask=torch.ones(3, 1, dtype=torch.bool),
            rewards=torch.zeros(3).double(),
            group_ids=torch.zeros(3, dtype=torch.long),
            old_log_probs=log_probs[:, None].detach(),
            log_probs=log_probs[:, None],
            entropy=entropy_of(live).expand(3, 1),
            totals={"selected": torch.tensor(1)},
        )
        part = MeanEntropyBand(0.0, 0.1, 1.0, estimator=estimator)
        # One row an action, weighted with its probability: an exact expectation.
        terms = [part(batch.rows(slice(i, i + 1)), part.prepare(batch, torch.Generator())[i : i + 1]) for i in range(3)]
        total = sum(p * t for p, t in zip(probs, terms, strict=True))
        assert float(total.detach()) == pytest.approx(float(entropy_of(live.detach())) - 0.1)
        expected[estimator] = torch.autograd.grad(total, live)[0]
    torch.testing.assert_close(expected["nll"], torch.zeros(3).double(), atol=1e-12, rtol=0)
    assert expected["full"].abs().max() > 0.05


def test_toy_bench_the_band_holds_only_with_the_full_entropy():
    base = recipes.grpo()
    full = bandit(base.adding(regularizers=MeanEntropyBand(1.4, 1.6, 0.5)), 400, 1.0)[-100:, 0].mean()
    sampled = bandit(base.adding(regularizers=MeanEntropyBand(1.4, 1.6, 0.5, estimator="nll")), 400, 1.0)[
        -100:, 0
    ].mean()
    assert 1.3 < full < 1.7
    assert sampled < 0.6


def test_ends_must_be_in_order():
    with pytest.raises(ValueError, match=r"low must not exceed high, got 2\.0 and 1\.0"):
        MeanEntropyBand(2.0, 1.0)
    with pytest.raises(ValueError, match="estimator must be 'full' or 'nll'"):
        MeanEntropyBand(0.1, estimator="sampled")
    assert MeanEntropyBand(0.1).high == math.inf
