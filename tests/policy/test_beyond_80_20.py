import pytest
import torch
from batches import make_batch, with_current

from isentrope.policy import TokenBatch, recipes
from isentrope.policy.selection import TopEntropy
from isentrope.policy.weights import KeepOnly


def step(objective, batch, logits):
    """The gradient of one optimiser step."""
    state = objective.start()
    prepared, _ = objective.prepare(batch, state)
    live = logits.clone().requires_grad_()
    loss, _ = objective.loss(with_current(prepared.with_totals(), live), state)
    return torch.autograd.grad(loss, live)[0], prepared


def test_the_two_denominators_differ_by_the_kept_share():
    batch, logits = make_batch(rows=16, seed=3)
    over_all, _ = step(recipes.beyond_80_20(0.3), batch, logits)
    over_kept, prepared = step(recipes.beyond_80_20(0.3, "selected"), batch, logits)
    totals = prepared.with_totals().totals
    torch.testing.assert_close(over_kept * int(totals["loss_tokens"]) / int(totals["tokens"]), over_all)
    assert int(totals["loss_tokens"]) == int(0.3 * int(totals["tokens"]))


def test_only_the_tokens_of_highest_entropy_get_a_gradient():
    batch, logits = make_batch(rows=16, seed=4)
    batch = batch.with_(old_entropy=torch.where(batch.mask, batch.old_entropy, 100.0))
    gradient, prepared = step(recipes.beyond_80_20(0.25), batch, logits)
    kept = prepared.prepared["token_weight[0]"]
    assert not gradient[~kept].any()
    assert batch.old_entropy[kept].min() >= batch.old_entropy[prepared.mask & ~kept].max()
    least, prepared = step(recipes.beyond_80_20(1e-9), batch, logits)
    assert int((least != 0).any(-1).sum()) == 1
    assert prepared.prepared["token_weight[0]"].flatten()[torch.where(prepared.mask, batch.old_entropy, -1.0).argmax()]


def planted(objective, steps=60, width=10, rows=64):
    """Two of ten tokens decide the reward (both must be 1), the others follow almost surely: the success at the end."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([6.0, 0.0]).double().repeat(width, 1)
    logits[[2, 7]] = 0.0
    for _ in range(steps):
        p = logits.softmax(-1)
        tokens = torch.multinomial(p, rows, replacement=True, generator=generator).T
        log_probs = logits.log_softmax(-1)
        entropy = -(p * log_probs).sum(-1)
        batch = TokenBatch(
            mask=torch.ones_like(tokens, dtype=torch.bool),
            rewards=((tokens[:, 2] == 1) & (tokens[:, 7] == 1)).double(),
            group_ids=torch.arange(rows) // 8,
            old_log_probs=log_probs.gather(-1, tokens.T).T,
            old_entropy=entropy.expand(rows, width),
            token_ids=tokens,
        )
        gradient, _ = step(objective, batch, logits.expand(rows, width, 2))
        logits = logits - 5.0 * gradient.sum(0)
    return float(logits[[2, 7]].softmax(-1)[:, 1].prod())


def lowest_entropy(batch):
    return ~TopEntropy(0.2)(batch) & batch.mask


def test_forks_alone_learn_a_planted_task_as_fast_as_all_tokens_and_followers_do_not():
    full, forks = planted(recipes.dapo()), planted(recipes.beyond_80_20(0.2))
    followers = planted(recipes.dapo().with_(token_weight=KeepOnly(lowest_entropy)))
    assert full > 0.9
    assert forks == pytest.approx(full, abs=0.03)
    assert followers == pytest.approx(0.25, abs=0.01)


def test_an_unknown_denominator_is_refused():
    with pytest.raises(ValueError, match="denominator must be 'all' or 'selected', got 'kept'"):
        recipes.beyond_80_20(denominator="kept")
