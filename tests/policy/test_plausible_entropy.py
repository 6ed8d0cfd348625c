import math

import pytest
import torch
from batches import make_batch, with_current
from toy_bench import bandit

from isentrope.policy import recipes
from isentrope.policy.plausible_entropy import ClampedEntropyBonus, clamped_entropy, nucleus_entropy


def entropy_of(probs):
    return float(-(probs * probs.log()).sum())


def slow_clamped(logits, removed):
    kept = sorted(logits.tolist())[math.floor(removed * len(logits)) :]
    return entropy_of(torch.tensor(kept).double().softmax(-1))


def slow_nucleus(logits, mass, include_crossing):
    probs = sorted(logits.double().softmax(-1).tolist(), reverse=True)
    kept, total = [], 0.0
    for p in probs:
        if not include_crossing and total + p >= mass:
            break
        kept.append(p)
        total += p
        if total >= mass:
            break
    kept = torch.tensor(kept).double()
    return entropy_of(kept / kept.sum()) if len(kept) else 0.0


def random_logits(seed=0, count=30, vocabulary=13):
    return 2 * torch.randn(count, vocabulary, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("removed", [0.0, 0.2, 0.3, 0.95])
def test_clamped_entropy_against_a_slow_one(removed):
    logits = random_logits()
    expected = torch.tensor([slow_clamped(row, removed) for row in logits]).double()
    torch.testing.assert_close(clamped_entropy(logits, removed), expected)
    assert (clamped_entropy(logits, removed) <= math.log(13 - math.floor(removed * 13)) + 1e-12).all()


@pytest.mark.parametrize("include_crossing", [True, False])
@pytest.mark.parametrize("mass", [0.3, 0.8, 0.99])
def test_nucleus_entropy_against_a_slow_one(mass, include_crossing):
    logits = random_logits(seed=1)
    expected = torch.tensor([slow_nucleus(row, mass, include_crossing) for row in logits]).double()
    torch.testing.assert_close(nucleus_entropy(logits, mass, include_crossing), expected)


def test_published_cases_of_uniform_tokens():
    uniform = torch.zeros(10).double()
    assert nucleus_entropy(uniform, 0.75).item() == pytest.approx(math.log(8))
    assert nucleus_entropy(uniform, 0.75, include_crossing=False).item() == pytest.approx(math.log(7))
    assert clamped_entropy(torch.zeros(50), 0.3).item() == pytest.approx(math.log(35))
    # One token above the mass: nothing is left to be uncertain about.
    sure = torch.tensor([9.0, 0, 0])
    assert nucleus_entropy(sure, 0.8).item() == nucleus_entropy(sure, 0.8, include_crossing=False).item() == 0


@pytest.mark.parametrize("measure", [lambda z: clamped_entropy(z, 0.0), lambda z: nucleus_entropy(z, 1.0)])
def test_the_whole_vocabulary_gives_the_ordinary_entropy(measure):
    logits = random_logits(seed=2)
    log_probs = logits.log_softmax(-1)
    torch.testing.assert_close(measure(logits), -(log_probs.exp() * log_probs).sum(-1))
    torch.testing.assert_close(measure(logits + 7.0), measure(logits))


@pytest.mark.parametrize(
    ("measure", "kept"),
    [
        (lambda z: clamped_entropy(z, 0.4), lambda z: z >= z.sort().values[5]),
        (lambda z: nucleus_entropy(z, 0.7), lambda z: z >= z.sort().values[-5]),
    ],
)
def test_gradient_is_that_of_the_renormalised_policy_and_zero_on_removed_tokens(measure, kept):
    logits = torch.linspace(0, 3, 13).double()[torch.randperm(13, generator=torch.Generator().manual_seed(0))]
    chosen = kept(logits)
    live = logits.clone().requires_grad_()
    gradient = torch.autograd.grad(measure(live), live)[0]
    q = torch.where(chosen, logits, -torch.inf).softmax(-1)
    entropy = entropy_of(q[chosen])
    expected = torch.where(chosen, -q * (q.clamp_min(1e-300).log() + entropy), 0)
    torch.testing.assert_close(gradient, expected)
    assert 0 < chosen.sum() < 13


def test_bonus_averages_over_tokens_and_counts_its_metric():
    batch, logits = make_batch(seed=3)
    current = with_current(batch, logits)
    term, tally = ClampedEntropyBonus(0.5, removed=0.4)(current)
    entropy = clamped_entropy(logits, 0.4)
    torch.testing.assert_close(term, torch.where(batch.mask, -0.5 * entropy, 0))
    assert tally.means()["clamped_entropy"] == pytest.approx(float(entropy[batch.mask].mean()))


def test_what_padding_holds_is_never_looked_at():
    batch, logits = make_batch(seed=4)
    spoilt = torch.where(batch.mask[..., None], logits, torch.nan).requires_grad_()
    term, _ = ClampedEntropyBonus(0.5)(with_current(batch, logits).with_(logits=lambda: spoilt))
    assert torch.autograd.grad(term.sum(), spoilt)[0].isfinite().all()


def test_all_of_the_vocabulary_cannot_be_removed():
    with pytest.raises(ValueError, match=r"removed must lie in \[0, 1\), got 1.0"):
        ClampedEntropyBonus(0.1, removed=1.0)


def test_toy_bench_the_dead_band_holds_the_entropy():
    objective = recipes.aent(1.4, 1.6, removed=0.0, rate=0.01, initial=0.0, smallest=0.0, largest=1.0, warm_up=0)
    assert bandit(objective, 400, 1.0)[-100:, 0].mean() == pytest.approx(1.6, abs=0.1)
