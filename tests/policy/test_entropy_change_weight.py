import math

import pytest
import torch
from batches import make_batch, with_current
from toy_bench import bandit

from isentrope.policy import recipes
from isentrope.policy.entropy_change_weight import EntropyChangeWeight


def prepared_batch(seed=0, rows=6):
    batch, logits = make_batch(rows=rows, seed=seed)
    current = with_current(batch, logits)
    p, log_p = logits.softmax(-1), logits.log_softmax(-1)
    covariance = (p**2 * (log_p + current.entropy[..., None])).sum(-1)
    advantages = torch.randn(batch.mask.shape, generator=torch.Generator().manual_seed(seed)).double()
    return current.with_(advantages=advantages, extras={"probability_covariance": covariance}), logits


def weights(part, batch):
    return part(batch, part.prepare(batch, torch.Generator()))


def changes_by_finite_differences(batch, logits, advantages):
    """The change of the entropy at each position by a small policy-gradient step on its token, per unit of the step."""

    def entropy(z):
        return -(z.softmax(-1) * z.log_softmax(-1)).sum(-1)

    step = torch.nn.functional.one_hot(batch.token_ids, logits.shape[-1]) - logits.softmax(-1)
    step = step * (advantages * (batch.log_probs - batch.old_log_probs).exp())[..., None]
    return (entropy(logits + 1e-6 * step) - entropy(logits - 1e-6 * step)) / 2e-6


def test_exact_weights_are_those_of_the_measured_change_of_entropy():
    batch, logits = prepared_batch()
    sizes = torch.where(batch.mask, changes_by_finite_differences(batch, logits, batch.advantages).abs(), 0)
    expected = (math.log(0.3) * sizes / sizes.max()).exp()
    torch.testing.assert_close(weights(EntropyChangeWeight(0.3, "exact"), batch), expected, rtol=1e-6, atol=1e-6)


def test_first_order_weights_follow_the_exact_ones_more_closely_than_the_published_ones():
    correlations = {"first_order": [], "published": []}
    for seed in range(20):
        logits = 2 * torch.randn(50, generator=torch.Generator().manual_seed(seed)).double()
        p, log_p = logits.softmax(-1), logits.log_softmax(-1)
        entropy = -(p * log_p).sum()
        score = p * (log_p + entropy)
        exact = score - (p * score).sum()
        forms = {"first_order": score * (1 - p), "published": (1 - p) * (log_p + entropy)}
        for name, value in forms.items():
            covariance = torch.cov(torch.stack([exact, value]), correction=0, aweights=p)
            correlations[name].append(float(covariance[0, 1] / (covariance[0, 0] * covariance[1, 1]).sqrt()))
    assert sum(correlations["first_order"]) / 20 == pytest.approx(0.999, abs=0.002)
    assert sum(correlations["published"]) / 20 == pytest.approx(0.73, abs=0.04)


@pytest.mark.parametrize("form", ["first_order", "exact", "published"])
def test_the_largest_change_gets_the_lowest_weight(form):
    batch, _ = prepared_batch(seed=1)
    part = EntropyChangeWeight(0.4, form)
    sizes = part._sizes(batch)
    found = weights(part, batch)
    assert sizes.max() > 0.02
    assert float(found.flatten()[sizes.argmax()]) == pytest.approx(0.4)
    assert float(found[batch.mask].min()) == pytest.approx(0.4)
    faint = batch.with_(advantages=batch.advantages * (0.01 / sizes.max()))
    assert float(weights(part, faint)[batch.mask].min()) == pytest.approx(0.4**0.5)
    torch.testing.assert_close(weights(part, faint.with_(advantages=0 * batch.advantages)), torch.ones_like(sizes))


def test_published_form_by_hand():
    p, old, entropy = 0.6, 0.5, 0.9
    batch, _ = make_batch(rows=1, width=2)
    batch = batch.with_(
        mask=torch.ones(1, 2, dtype=torch.bool),
        log_probs=torch.tensor([[p, 0.2]]).double().log(),
        old_log_probs=torch.tensor([[old, 0.2]]).double().log(),
        entropy=torch.tensor([[entropy, 1.0]]).double(),
        advantages=torch.tensor([[-0.5, 3.0]]).double(),
    )
    omega = [-0.5 / old * p * (1 - p) * (math.log(p) + entropy), 3.0 / 0.2 * 0.2 * 0.8 * (math.log(0.2) + 1.0)]
    most = max(map(abs, omega))
    expected = [math.exp(math.log(0.8) * abs(value) / most) for value in omega]
    assert weights(EntropyChangeWeight(0.8, "published"), batch)[0].tolist() == pytest.approx(expected)
    linear = EntropyChangeWeight(0.8, "published", mapping="linear", highest=1.2)
    assert weights(linear, batch)[0].tolist() == pytest.approx([1.2, 0.8])
    same = batch.with_(**{name: getattr(batch, name)[:, :1].expand(1, 2) for name in (
        "log_probs", "old_log_probs", "entropy", "advantages")})  # fmt: skip
    assert weights(linear, same)[0].tolist() == pytest.approx([1.0, 1.0])


def test_a_uniform_policy_keeps_every_weight():
    batch, _ = make_batch()
    flat = with_current(batch, torch.zeros(*batch.mask.shape, 5).double())
    flat = flat.with_(old_log_probs=flat.log_probs, advantages=torch.ones_like(flat.log_probs))
    for form in ("first_order", "published"):
        torch.testing.assert_close(weights(EntropyChangeWeight(0.1, form), flat), torch.ones_like(flat.log_probs))


def test_extremes_are_those_of_the_whole_batch():
    batch, _ = prepared_batch(seed=2)
    part = EntropyChangeWeight(0.5)
    whole, ends = weights(part, batch), part.prepare(batch, torch.Generator())
    parts = [part(batch.rows(slice(i, i + 1)), ends[i : i + 1]) for i in range(len(batch.mask))]
    torch.testing.assert_close(torch.cat(parts), whole)
    assert not torch.allclose(weights(part, batch.rows(slice(0, 1))), whole[:1])


def test_toy_bench_ends_with_more_entropy_the_lower_the_weight():
    def end(part=None):
        objective = recipes.grpo() if part is None else recipes.grpo().with_(token_weight=part)
        return bandit(objective, 400, 1.0)[-20:, 0].mean()

    plain = end()
    published = end(EntropyChangeWeight(0.5, "published"))
    # Four seeds: 0.185 and 0.118 nats against 0.086 without weights.
    assert published / plain == pytest.approx(2.2, abs=0.3)
    assert 1.1 < end(EntropyChangeWeight(0.5)) / plain < published / plain


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lowest": 0.0}, "lowest must lie in"),
        ({"form": "second_order"}, "form must be"),
        ({"mapping": "cubic"}, "mapping must be"),
        ({"floor": 0.0}, "floor must be positive"),
        ({"highest": 0.5}, "highest must be at least 1"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        EntropyChangeWeight(**settings)


def test_the_exact_form_names_what_is_missing():
    batch, _ = prepared_batch()
    with pytest.raises(ValueError, match=r"extras\['probability_covariance'\]"):
        EntropyChangeWeight(form="exact").prepare(batch.with_(extras={}), torch.Generator())
