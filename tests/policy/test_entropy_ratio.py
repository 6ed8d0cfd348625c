import pytest
import torch
from batches import make_batch, with_current

from isentrope.policy import TokenBatch, recipes
from isentrope.policy.entropy_ratio import EntropyRatioGate
from isentrope.policy.gradient_preserving import GradientPreservingClip
from isentrope.policy.surrogates import ClippedRatio, UnclippedRatio


def tokens(entropy, old_entropy):
    return TokenBatch(
        mask=torch.ones(1, len(entropy), dtype=torch.bool),
        rewards=torch.zeros(1).double(),
        group_ids=torch.zeros(1, dtype=torch.long),
        old_log_probs=torch.full((1, len(entropy)), -1.0).double(),
        log_probs=torch.full((1, len(entropy)), -1.0).double().requires_grad_(),
        advantages=torch.ones(1, len(entropy)).double(),
        entropy=torch.tensor([entropy]).double().requires_grad_(),
        old_entropy=torch.tensor([old_entropy]).double(),
    )


def gradient(surrogate, batch):
    return torch.autograd.grad(surrogate(batch).sum(), batch.log_probs)[0]


def test_a_token_is_gated_by_its_distribution_though_its_own_ratio_is_one():
    batch = tokens([1.06, 1.0, 0.94, 0.96], [1.0, 1.0, 1.0, 1.0])
    gate = EntropyRatioGate()
    assert gradient(gate, batch).tolist() == [[0.0, -1.0, 0.0, -1.0]]
    assert gate(batch).tolist() == [[-1.0] * 4]
    assert gate.clipped(batch).tolist() == [[True, False, True, False]]
    # No gradient reaches the entropy.
    assert torch.autograd.grad(gate(batch).sum(), batch.entropy, allow_unused=True)[0] is None


def test_almost_certain_tokens_are_not_gated_by_noise():
    batch = tokens([1e-10, 3e-10, 0.0], [3e-10, 1e-10, 0.0])
    assert (gradient(EntropyRatioGate(), batch) == -1).all()


@pytest.mark.parametrize("inner", [ClippedRatio(0.2, 0.28, 10.0), GradientPreservingClip(), UnclippedRatio()])
def test_an_open_gate_is_the_inner_surrogate_and_a_shut_one_silent(inner):
    batch, logits = make_batch()
    advantages = torch.randn(batch.mask.shape, generator=torch.Generator().manual_seed(0)).double()
    live = logits.clone().requires_grad_()
    current = with_current(batch, live).with_(advantages=advantages)
    base = inner(current)
    opened, shut = (EntropyRatioGate(*band, inner)(current) for band in ((0, torch.inf), (1, 1)))
    torch.testing.assert_close(opened, base)
    torch.testing.assert_close(shut[batch.mask], base[batch.mask])
    expected = torch.autograd.grad(base[batch.mask].sum(), live, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(opened[batch.mask].sum(), live, retain_graph=True)[0], expected)
    assert not shut[batch.mask].requires_grad or not torch.autograd.grad(shut[batch.mask].sum(), live)[0].any()


def test_nothing_is_gated_on_fresh_rollouts():
    batch, logits = make_batch(seed=2)
    log_probs = logits.log_softmax(-1)
    fresh = batch.with_(
        old_log_probs=log_probs.gather(-1, batch.token_ids[..., None]).squeeze(-1),
        old_entropy=-(log_probs.exp() * log_probs).sum(-1),
    )
    losses = []
    for objective in (recipes.erc(), recipes.dapo()):
        state = objective.start()
        prepared, _ = objective.prepare(fresh, state)
        live = logits.clone().requires_grad_()
        loss, _ = objective.loss(with_current(prepared.with_totals(), live), state)
        losses.append(torch.autograd.grad(loss, live)[0])
    torch.testing.assert_close(*losses)
    assert losses[0].any()


def test_bad_bands_and_missing_entropies_are_refused():
    with pytest.raises(ValueError, match=r"low <= high must hold, got 1\.2 and 0\.8"):
        EntropyRatioGate(1.2, 0.8)
    with pytest.raises(ValueError, match="must carry entropy and old_entropy"):
        EntropyRatioGate()(tokens([1.0], [1.0]).with_(old_entropy=None))
