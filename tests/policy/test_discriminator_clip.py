import math

import pytest
import torch
from batches import make_batch, with_current
from toy_bench import bandit, entropy_of

from isentrope.policy import recipes
from isentrope.policy.discriminator_clip import (
    BatchDiscriminatorClip,
    VocabularyDiscriminatorClip,
    entropy_discriminator,
)


def random_policy(seed=0, size=12):
    logits = torch.randn(size, generator=torch.Generator().manual_seed(seed)).double() * 2
    return logits, logits.softmax(-1), entropy_of(logits)


def test_the_discriminator_sums_to_nothing_and_has_the_sign_of_likelihood():
    _, p, entropy = random_policy()
    score = entropy_discriminator(p.log(), entropy)
    assert float(score.sum()) == pytest.approx(0, abs=1e-12)
    assert torch.equal(score > 0, p > (-entropy).exp())


def test_the_discriminator_is_minus_the_derivative_of_entropy_by_the_logit():
    logits, p, entropy = random_policy(1)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(entropy_of(logits), logits)
    torch.testing.assert_close(entropy_discriminator(p.log(), entropy), -gradient)


def scored(seed=0, rows=40):
    batch, logits = make_batch(rows=rows, seed=seed)
    current = with_current(batch, logits)
    p, log_p = logits.softmax(-1), logits.log_softmax(-1)
    advantages = (
        torch.randn(rows, generator=torch.Generator().manual_seed(seed)).double()[:, None].expand_as(batch.mask)
    )
    covariance = (p**2 * (log_p + current.entropy[..., None])).sum(-1)
    return current.with_(advantages=advantages, extras={"probability_covariance": covariance}), logits


def test_clip_b_drops_punished_tokens_far_below_the_mean_one_by_one():
    batch, _ = scored()
    kept = BatchDiscriminatorClip((-0.5, math.inf))(batch)
    scores = [
        (batch.log_probs[i, t].exp() * (batch.log_probs[i, t] + batch.entropy[i, t])).item()
        for i, t in batch.mask.nonzero().tolist()
    ]
    mean = sum(scores) / len(scores)
    deviation = math.sqrt(sum((s - mean) ** 2 for s in scores) / len(scores))
    dropped = 0
    for (i, t), score in zip(batch.mask.nonzero().tolist(), scores, strict=True):
        goes = batch.advantages[i, t] < 0 and score - mean < -0.5 * deviation
        dropped += bool(goes)
        assert bool(kept[i, t]) is not bool(goes)
    assert 3 < dropped < len(scores) / 2
    assert not kept[~batch.mask].any()


def test_clip_b_may_hold_rewarded_tokens_too():
    batch, _ = scored()
    positive, negative = batch.advantages > 0, batch.advantages < 0
    mirrored = batch.with_(advantages=-batch.advantages)
    interval = (-0.5, 1.0)
    first = BatchDiscriminatorClip(interval, interval)(batch)
    assert not first[positive & batch.mask].all()
    assert not first[negative & batch.mask].all()
    assert torch.equal(BatchDiscriminatorClip(interval, interval)(mirrored), first)


@pytest.mark.parametrize(
    "part", [BatchDiscriminatorClip((-math.inf, math.inf)), VocabularyDiscriminatorClip(math.inf, maximum_fraction=1.0)]
)
def test_an_infinite_threshold_keeps_all(part):
    batch, _ = scored()
    assert torch.equal(part(batch), batch.mask)


@pytest.mark.parametrize(
    "part", [BatchDiscriminatorClip((-0.1, math.inf)), VocabularyDiscriminatorClip(0.1, maximum_fraction=1.0)]
)
def test_rewarded_tokens_stay_by_default_and_equal_scores_drop_nothing(part):
    batch, _ = scored()
    assert torch.equal(part(batch.with_(advantages=batch.advantages.abs())), batch.mask)
    assert not torch.equal(part(batch), batch.mask)
    flat = batch.with_(
        log_probs=torch.full_like(batch.log_probs, -1.0),
        entropy=torch.ones_like(batch.entropy),
        extras={"probability_covariance": torch.zeros_like(batch.entropy)},
    )
    assert torch.equal(part(flat), batch.mask)


def test_clip_v_takes_the_largest_predicted_falls_of_entropy():
    batch, logits = scored(seed=3)
    step = torch.nn.functional.one_hot(batch.token_ids, 5) - logits.softmax(-1)
    # Punishing a token: a step against it.
    change = (entropy_of(logits - 1e-6 * step) - entropy_of(logits + 1e-6 * step)) / 2e-6
    change = torch.where(batch.mask, change, torch.nan)
    count = int(batch.mask.sum())
    kept = VocabularyDiscriminatorClip(1.0, maximum_fraction=5 / count)(batch)
    dropped = batch.mask & ~kept
    assert int(dropped.sum()) == 5
    punished = batch.mask & (batch.advantages < 0)
    worst = change[punished].sort().values[:5]
    torch.testing.assert_close(change[dropped].sort().values, worst)
    assert (worst < 0).all()
    assert int((batch.mask & ~VocabularyDiscriminatorClip(1.0)(batch)).sum()) == 1


def test_clip_v_threshold_is_on_the_discriminator_itself():
    batch, _ = scored(seed=4)
    excess = batch.extras["probability_covariance"] - entropy_discriminator(batch.log_probs, batch.entropy)
    deviation = excess[batch.mask].std(correction=0)
    expected = batch.mask & ~((excess > 0.7 * deviation) & (batch.advantages < 0))
    assert torch.equal(VocabularyDiscriminatorClip(0.7, maximum_fraction=1.0)(batch), expected)


def test_clip_v_of_the_reference_code_also_drops_neutral_tokens():
    batch, _ = scored(seed=4)
    neutral = batch.with_(advantages=0 * batch.advantages)
    assert torch.equal(VocabularyDiscriminatorClip(0.7, 1.0)(neutral), batch.mask)
    assert not torch.equal(VocabularyDiscriminatorClip(0.7, 1e-4, neutral_too=True)(neutral), batch.mask)


def test_dropped_tokens_leave_the_denominator():
    batch, _ = make_batch(rows=16, seed=2)
    objective = recipes.clip_b(threshold=0.3)
    prepared, _ = objective.prepare(batch, objective.start())
    totals = prepared.with_totals().totals
    assert 0 < int(totals["loss_tokens"]) < int(totals["tokens"])


def test_toy_bench_keeps_more_entropy_the_more_punished_tokens_are_dropped():
    ends = [bandit(recipes.clip_b(threshold=mu), 400, 1.0)[-20:, 0].mean() for mu in (math.inf, 2.5, 1.0)]
    assert ends[0] < 0.15
    assert ends[1] == pytest.approx(0.55, abs=0.1)
    assert ends[2] == pytest.approx(1.5, abs=0.2)


@pytest.mark.parametrize("ends", [(1.0, -1.0), (1.0,)])
def test_bad_intervals_are_refused(ends):
    with pytest.raises(ValueError, match="punished must be"):
        BatchDiscriminatorClip(ends)


def test_missing_statistics_and_bad_shares_are_named():
    batch, _ = scored()
    with pytest.raises(ValueError, match=r"extras\['probability_covariance'\]"):
        VocabularyDiscriminatorClip()(batch.with_(extras={}))
    with pytest.raises(ValueError, match="maximum_fraction must lie"):
        VocabularyDiscriminatorClip(maximum_fraction=2.0)
