import pytest
import torch
from batches import make_batch, with_current
from toy_bench import bandit

from isentrope.policy import Tally, recipes
from isentrope.policy.anchored_entropy import AnchoredPeakEntropy
from isentrope.policy.plausible_entropy import nucleus_entropy


def peak_entropy(logits, mask, mass, quantile):
    """The mean over responses of the mean over peaks, row by row."""
    entropy, total = nucleus_entropy(logits, mass), 0.0
    for row, valid in zip(entropy, mask, strict=True):
        values = row[valid]
        above = values[values > values.detach().quantile(quantile)] if quantile else values
        total = total + (above.mean() if len(above) else 0.0)
    return total / int(mask.any(-1).sum())


def step(objective, batch, logits, state, size=3):
    """One optimiser step: the gradient of the whole loss, and the state after it."""
    prepared, metrics = objective.prepare(batch, state)
    state = objective.control(state, metrics.means())
    live = logits.clone().requires_grad_()
    window, total, tally = prepared.with_totals(), 0.0, Tally()
    for start in range(0, len(logits), size):
        rows = slice(start, start + size)
        loss, part = objective.loss(with_current(window.rows(rows), live[rows]), state)
        total, tally = total + loss, tally + part
    return total.detach(), torch.autograd.grad(total, live)[0], state.next_step(tally.means())


def test_gradient_is_that_of_the_square_of_the_windows_mean_for_any_split():
    first, first_logits = make_batch(seed=1)
    batch, logits = make_batch(seed=2)
    objective, base = recipes.siren(0.7, mass=0.9, quantile=0.3), recipes.siren(0.0, mass=0.9, quantile=0.3)
    anchor = peak_entropy(first_logits, first.mask, 0.9, 0.3)
    live = logits.clone().requires_grad_()
    square = 0.7 * (peak_entropy(live, batch.mask, 0.9, 0.3) - anchor) ** 2
    exact = torch.autograd.grad(square, live)[0]
    for size in (1, 3, 8):
        _, _, state = step(objective, first, first_logits, objective.start(), size)
        assert state.loss_metrics["peak_entropy"] == pytest.approx(float(anchor), rel=1e-6)
        # The same batch twice, so that the value of the step before is the present one and nothing lags.
        _, _, state = step(objective, batch, logits, state, size)
        loss, gradient, _ = step(objective, batch, logits, state, size)
        plain_loss, plain, _ = step(base, batch, logits, state, size)
        torch.testing.assert_close(gradient - plain, exact, rtol=1e-6, atol=1e-12)
        assert float(loss - plain_loss) == pytest.approx(float(square.detach()), rel=1e-6)
    assert exact.abs().max() > 0


def test_the_first_two_steps_are_the_baseline():
    batch, logits = make_batch(seed=3)
    objective, base = recipes.siren(10.0), recipes.siren(0.0)
    state, plain_state = objective.start(), base.start()
    for _ in range(2):
        loss, gradient, state = step(objective, batch, logits, state)
        plain_loss, plain, plain_state = step(base, batch, logits, plain_state)
        assert loss == plain_loss
        assert torch.equal(gradient, plain)


def test_a_lower_entropy_than_the_anchor_is_pulled_up():
    batch, logits = make_batch(seed=4)
    objective = recipes.siren(1.0, mass=1.0, quantile=0.0).with_(advantage=lambda b: 0 * b.rewards)
    _, _, state = step(objective, batch, 0.2 * logits, objective.start())
    _, _, state = step(objective, batch, logits, state)
    _, gradient, _ = step(objective, batch, logits, state)
    before = peak_entropy(logits, batch.mask, 1.0, 0.0)
    assert before < state.memory["regularizers[0]"]["anchor"]
    assert peak_entropy(logits - 1e-3 * gradient, batch.mask, 1.0, 0.0) > before


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"mass must lie in \(0, 1\], got 0"):
        AnchoredPeakEntropy(mass=0)
    with pytest.raises(ValueError, match=r"quantile must lie in \[0, 1\), got 1"):
        AnchoredPeakEntropy(quantile=1)


def test_toy_bench_the_anchor_keeps_entropy_near_its_first_value():
    objective = recipes.grpo().adding(regularizers=AnchoredPeakEntropy(0.5, mass=1.0, quantile=0.0))
    curve = bandit(objective, 80, 3.0)[:, 0]
    assert curve[-20:].mean() == pytest.approx(2.65, abs=0.03)
    # The lag of one step makes nothing swing.
    assert curve[-20:].std() < 0.03
