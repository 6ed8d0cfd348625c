import json
import math

import pytest
import torch
from batches import make_batch, with_current

from isentrope.policy import recipes
from isentrope.policy.difficulty_kl import DifficultyKL, DifficultyKLTerm
from isentrope.policy.window_entropy import WindowsAbove


def after(part, divergences, name="kl_easy"):
    memory = part.start()
    for step, divergence in enumerate(divergences):
        memory = json.loads(json.dumps(part.update(memory, {name: divergence}, step)))
    return memory


def test_coefficient_rises_above_the_target_falls_below_and_rests_near_it():
    part = DifficultyKL(target=0.01)
    assert after(part, [0.02])["betas"] == pytest.approx([math.exp(0.05 * 0.2), 1, 1])
    assert after(part, [0.0])["betas"] == pytest.approx([math.exp(-0.05 * 0.2), 1, 1])
    for divergence in (0.01019, 0.00981):
        assert after(part, [divergence])["betas"] == [1, 1, 1]
    assert after(part, [0.0103], "kl_hard")["betas"] == pytest.approx([1, 1, math.exp(0.05 * 0.03)])


def test_divergence_is_smoothed_and_the_coefficient_bounded():
    memory = after(DifficultyKL(decay=0.9), [0.01, 0.03])
    assert memory["divergences"][0] == pytest.approx(0.012)
    assert math.log(memory["betas"][0]) == pytest.approx(0.05 * 0.2)
    fast = DifficultyKL(rate=10.0)
    assert after(fast, [1.0] * 5)["betas"][0] == pytest.approx(100)
    assert after(fast, [0.0] * 9)["betas"][0] == pytest.approx(1e-4)


def test_published_coefficient_needs_thousands_of_calls_to_double():
    part = DifficultyKL(smooth_error=True, interval=100)
    memory, calls = part.start(), 0
    while memory["betas"][0] < 2:
        memory, calls = part.update(memory, {"kl_easy": 0.02}, calls), calls + 1
    assert calls == 7300
    assert after(DifficultyKL(), [0.02] * 70)["betas"][0] > 2


def test_term_and_divergences_by_hand():
    batch, logits = make_batch(rows=6, width=8, group_size=3, seed=2)
    batch = batch.with_(rewards=torch.tensor([1.0, 1, 0, 0, 0, 0]).double())
    part = DifficultyKLTerm(0.5, WindowsAbove(1.3, window=1), betas=(2.0, 3.0, 5.0), relax=0.25, relax_from=0.1)
    soft = part.counter(batch).excess
    prepared = part.prepare(batch, torch.Generator())
    current = with_current(batch, logits)
    term, tally = part(current, prepared)
    per_row = []
    for i in range(6):
        ratio = (batch.reference_log_probs - current.log_probs)[i]
        k3 = ratio.exp() - 1 - ratio
        beta = 2.0 if i < 3 else 5.0
        if i == 2 and soft[i] >= 0.1:
            beta = beta / 4
        torch.testing.assert_close(term[i][batch.mask[i]], (0.5 * beta * k3)[batch.mask[i]])
        per_row.append(float(k3[batch.mask[i]].mean()))
    assert tally.means() == pytest.approx({"kl_easy": sum(per_row[:3]) / 3, "kl_hard": sum(per_row[3:]) / 3})


def test_only_wrong_uncertain_answers_to_easy_prompts_are_held_less():
    batch, _ = make_batch(rows=6, width=8, group_size=3, seed=2)
    batch = batch.with_(
        mask=torch.ones_like(batch.mask),
        old_entropy=torch.ones_like(batch.old_entropy).index_fill(0, torch.tensor([1]), 0.0),
        rewards=torch.tensor([1.0, 1, 0, 1, 0, 0]).double(),
    )
    part = DifficultyKLTerm(1.0, WindowsAbove(0.5, window=1))
    assert part.prepare(batch, torch.Generator())[:, 1].tolist() == [1, 1, 0.67, 1, 1, 1]
    calm = batch.with_(old_entropy=torch.full_like(batch.old_entropy, 0.55))  # seven windows, 0.35 nats of excess
    assert part.prepare(calm, torch.Generator())[:, 1].tolist() == [1] * 6


def test_divergence_of_the_last_loss_moves_the_coefficient_of_the_next_step():
    batch, logits = make_batch(rows=8, seed=1)
    objective = recipes.ares(window=1, kl_coefficient=0.1)
    state = objective.start()
    betas = []
    for _ in range(3):
        prepared, metrics = objective.prepare(batch, state)
        state = objective.control(state, metrics.means())
        betas.append(state.memory["regularizers[0]"]["betas"])
        _, tally = objective.loss(with_current(prepared.with_totals(), logits), state)
        state = state.next_step(tally.means())
    assert betas[0] == [1, 1, 1]
    seen = [f"kl_{name}" in state.loss_metrics for name in ("easy", "medium", "hard")]
    assert any(seen)
    for index, present in enumerate(seen):
        # The toy's divergence is far above a hundredth of a nat.
        assert betas[2][index] == (pytest.approx(math.exp(2 * 0.05 * 0.2)) if present else 1)


def test_bad_settings_are_refused():
    for settings, message in (
        ({"target": 0.0}, "target must be positive"),
        ({"decay": 1.0}, r"decay must lie in \[0, 1\)"),
        ({"interval": 0}, "interval must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            DifficultyKL(**settings)
