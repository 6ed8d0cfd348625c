import math

import pytest
import torch
from batches import make_batch, with_current

from isentrope.policy import recipes
from isentrope.policy.distillation import (
    ImportantTokens,
    InQuadrants,
    JensenShannon,
    Overconfidence,
    SampledTokens,
    SoftOr,
    Uncertainty,
    forward_kl,
    quadrants,
    reverse_kl,
    top_share_of_rows,
    unit_range,
)


def shown(seed=0, **sizes):
    """A batch with the student's entropy and its teacher, and the student's logits."""
    batch, logits = make_batch(seed=seed, **sizes)
    return with_current(batch, logits), logits


def by_hand(batch, logits, divergence):
    """The divergence of each valid token, summed outcome by outcome."""
    values = torch.zeros(batch.mask.shape).double()
    for i, t in batch.mask.nonzero().tolist():
        s, q = (z[i, t].softmax(-1).tolist() for z in (logits, batch.extras["teacher_logits"]))
        match divergence:
            case "reverse":
                values[i, t] = sum(a * math.log(a / b) for a, b in zip(s, q, strict=True))
            case "forward":
                values[i, t] = sum(b * math.log(b / a) for a, b in zip(s, q, strict=True))
            case float():
                m = [divergence * b + (1 - divergence) * a for a, b in zip(s, q, strict=True)]
                values[i, t] = divergence * sum(b * math.log(b / c) for b, c in zip(q, m, strict=True))
                values[i, t] += (1 - divergence) * sum(a * math.log(a / c) for a, c in zip(s, m, strict=True))
    return values


@pytest.mark.parametrize(
    ("measure", "name"),
    [(reverse_kl, "reverse"), (forward_kl, "forward"), (JensenShannon(), 0.5), (JensenShannon(0.2), 0.2)],
)
def test_divergences_are_those_of_the_whole_vocabulary(measure, name):
    batch, logits = shown(1)
    torch.testing.assert_close(batch.against_teacher(measure, batch.mask), by_hand(batch, logits, name))


def trained(objective, batch, logits):
    state = objective.start()
    prepared, _ = objective.prepare(batch, state)
    live = logits.clone().requires_grad_()
    loss, _ = objective.loss(with_current(prepared.with_totals(), live), state)
    return prepared, float(loss.detach()), torch.autograd.grad(loss, live)[0]


def test_the_loss_is_the_mean_reverse_divergence_of_the_selected_tokens_with_its_exact_gradient():
    batch, logits = shown(2)
    prepared, loss, gradient = trained(recipes.tip(), batch, logits)
    delta, chosen = by_hand(batch, logits, "reverse"), prepared.loss_mask
    assert loss == pytest.approx(float(delta[chosen].mean()))
    # d KL(S || T) / dz_i = S_i (log S_i / T_i - KL).
    s, q = logits.log_softmax(-1), batch.extras["teacher_logits"].log_softmax(-1)
    expected = s.exp() * (s - q - delta[..., None]) * chosen[..., None] / int(chosen.sum())
    torch.testing.assert_close(gradient, expected)


def test_a_student_that_is_its_teacher_has_nothing_to_learn_and_is_ranked_by_its_entropy():
    batch, logits = make_batch(seed=3)
    batch = batch.with_(extras={**batch.extras, "teacher_logits": logits})
    same = with_current(batch, logits)
    _, loss, gradient = trained(recipes.tip(), same, logits)
    assert loss == pytest.approx(0, abs=1e-12)
    assert gradient.abs().max() < 1e-12
    torch.testing.assert_close(SoftOr()(same), unit_range(same.entropy, same.mask, 0.98), atol=1e-6, rtol=0)


def test_what_is_sure_and_wrong_scores_high_although_its_entropy_is_almost_nothing():
    batch, _ = make_batch(rows=4, vocabulary=5, seed=4)
    # A student that is uncertain everywhere but at one token, of which the teacher thinks otherwise.
    student = torch.randn((*batch.mask.shape, 5), generator=torch.Generator().manual_seed(0)).double() / 10
    teacher = student.clone()
    student[0, 0] = torch.tensor([12.0, 0, 0, 0, 0])
    teacher[0, 0] = torch.tensor([0, 12.0, 0, 0, 0])
    batch = with_current(batch.with_(extras={**batch.extras, "teacher_logits": teacher}), student)
    assert float(unit_range(Uncertainty()(batch), batch.mask)[0, 0]) < 0.01
    assert float(SoftOr()(batch)[0, 0]) > 0.99
    assert int(Overconfidence()(batch).argmax()) == 0
    assert bool(ImportantTokens(0.2)(batch)[0, 0])
    if int(batch.mask[0].sum()) > 1:
        assert not bool(ImportantTokens(0.2, Uncertainty())(batch)[0, 0])


def test_no_function_of_the_entropy_alone_tells_right_from_wrong():
    batch, logits = make_batch(rows=4, seed=5)
    right = with_current(batch.with_(extras={**batch.extras, "teacher_logits": logits}), logits)
    wrong = with_current(batch.with_(extras={**batch.extras, "teacher_logits": logits.roll(1, -1)}), logits)
    assert torch.equal(Uncertainty()(right), Uncertainty()(wrong))
    assert (SoftOr()(wrong) - SoftOr()(right))[batch.mask].max() > 0.5


def test_all_tokens_are_the_full_loss():
    batch, logits = shown(6)
    _, loss, gradient = trained(recipes.tip(fraction=1.0), batch, logits)
    assert loss == pytest.approx(float(by_hand(batch, logits, "reverse")[batch.mask].mean()))
    assert (gradient[batch.mask].abs().amax(-1) > 0).all()


def test_shares_are_taken_row_by_row():
    batch, _ = shown(7, rows=16)
    for fraction in (0.2, 0.5, 1.0):
        chosen = ImportantTokens(fraction)(batch)
        assert chosen.sum(-1).tolist() == [max(1, math.floor(fraction * n + 1e-9)) for n in batch.lengths.tolist()]
        score = SoftOr()(batch)
        for row in range(16):
            inside, outside = score[row][chosen[row]], score[row][batch.mask[row] & ~chosen[row]]
            assert not len(outside) or inside.min() >= outside.max()
    ties = torch.ones(1, 5)
    assert top_share_of_rows(ties, ties.bool(), 0.4).tolist() == [[True, True, False, False, False]]


def test_ranges_are_those_of_the_valid_values():
    values = torch.tensor([[2.0, 4.0, 6.0, 100.0], [8.0, 102.0, -9.0, 2.0]])
    mask = torch.tensor([[True, True, True, False], [True, True, False, True]])
    expected = torch.tensor([[0, 2, 4, 0], [6, 100, 0, 0]]) / 100
    torch.testing.assert_close(unit_range(values, mask), expected)
    # Of the six values 2, 2, 4, 6, 8, 102 the quantile 0.8 is 8.
    cut = torch.tensor([[0, 2, 4, 0], [6, 6, 0, 0]]) / 6
    torch.testing.assert_close(unit_range(values, mask, 0.8), cut)
    assert not unit_range(torch.full((2, 2), 3.0), torch.ones(2, 2, dtype=torch.bool)).any()
    assert not unit_range(values, torch.zeros_like(mask)).any()


def test_quadrants_divide_the_batch_at_its_medians():
    batch, _ = shown(8, rows=32)
    delta = batch.against_teacher(reverse_kl, batch.mask)
    kind = quadrants(batch.entropy, delta, batch.mask)
    assert not kind[~batch.mask].any()
    uncertain = (kind == 1) | (kind == 2)
    assert batch.entropy[uncertain].min() > batch.entropy[batch.mask & ~uncertain].max()
    far = (kind == 1) | (kind == 3)
    assert delta[far].min() > delta[batch.mask & ~far].max()
    half = int(batch.mask.sum()) // 2
    assert int(uncertain.sum()) == int(far.sum()) == half
    assert torch.equal(InQuadrants((1, 2, 3))(batch), batch.mask & (kind != 4))
    assert torch.equal(InQuadrants((1, 2, 3, 4))(batch), batch.mask)


def test_draws_are_in_proportion_to_the_entropy():
    batch, _ = make_batch(rows=1, width=4, seed=0)
    batch = batch.with_(mask=torch.ones(1, 4, dtype=torch.bool), entropy=torch.tensor([[0.1, 0.2, 0.3, 0.4]]).double())
    generator, count = torch.Generator().manual_seed(0), 4000
    first = sum(SampledTokens(0.25).prepare(batch, generator).long() for _ in range(count)) / count
    for share, expected in zip(first[0].tolist(), (0.1, 0.2, 0.3, 0.4), strict=True):
        assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / count)
    # Two of four without replacement: p_i + sum_{j != i} p_j p_i / (1 - p_j).
    p = [0.1, 0.2, 0.3, 0.4]
    both = sum(SampledTokens(0.5).prepare(batch, generator).long() for _ in range(count)) / count
    for i, share in enumerate(both[0].tolist()):
        expected = p[i] + sum(p[j] * p[i] / (1 - p[j]) for j in range(4) if j != i)
        assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / count)
    assert SampledTokens(1.0).prepare(batch, generator).all()


def test_draws_may_weigh_the_divergence_too():
    batch, _ = shown(9, rows=16)
    distance = batch.against_teacher(JensenShannon(), batch.mask)
    generator = torch.Generator().manual_seed(0)
    drawn = SampledTokens(0.3, alpha=0.0, gamma=40.0).prepare(batch, generator)
    assert int(drawn.sum()) == int(0.3 * int(batch.mask.sum()))
    # With so large an exponent it is nearly always the largest divergence that wins.
    assert distance[drawn].mean() > 1.5 * distance[batch.mask].mean()
    assert SampledTokens(gamma=0.0).needs == {"old_entropy"}


def students(seed):
    """Separate distributions for many contexts; half of each row is sure and agrees with the teacher already."""
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(32, 8, 10, generator=generator).double()
    teacher = 2 * torch.randn(32, 8, 10, generator=generator).double()
    planted = torch.rand(32, 8, generator=generator).argsort(-1) < 4
    agreed = torch.nn.functional.one_hot(torch.randint(10, (32, 8), generator=generator), 10).double() * 8
    student[planted] = agreed[planted]
    teacher[planted] = agreed[planted] + 0.1 * torch.randn(int(planted.sum()), 10, generator=generator).double()
    return student, teacher, planted


@pytest.mark.parametrize("seed", range(3))
def test_the_upper_half_teaches_and_the_lower_half_does_not(seed):
    student, teacher, planted = students(seed)
    batch, _ = make_batch(rows=32, width=8, vocabulary=10)
    batch = batch.with_(mask=torch.ones(32, 8, dtype=torch.bool), extras={**batch.extras, "teacher_logits": teacher})

    def distance(logits):
        return float(with_current(batch, logits).against_teacher(reverse_kl, batch.mask).mean())

    def distilled(objective):
        logits = student
        for _ in range(40):
            logits = logits - 100 * trained(objective, with_current(batch, logits), logits)[2]
        return distance(logits)

    soft_or = SoftOr()
    upper = distilled(recipes.tip(0.5))
    lower = distilled(recipes.tip().with_(selection=ImportantTokens(0.5, lambda b: -soft_or(b))))
    assert upper < 0.5 * distance(student)
    assert lower > 0.6 * distance(student)
    chosen = ImportantTokens(0.5)(with_current(batch, student))
    assert float((chosen & planted).sum()) < 0.05 * float(chosen.sum())


def test_what_is_missing_or_impossible_is_named():
    batch, _ = make_batch()
    with pytest.raises(ValueError, match="compares with a teacher, which the host did not give"):
        recipes.tip().prepare(batch.with_(teacher=None), recipes.tip().start())
    with pytest.raises(ValueError, match="score must be one of soft_or, entropy, overconfidence, got 'best'"):
        recipes.tip(score="best")
    with pytest.raises(ValueError, match=r"fraction must lie in \(0, 1\], got 0"):
        ImportantTokens(0)
    with pytest.raises(ValueError, match=r"teacher_share must lie in \(0, 1\), got 1"):
        JensenShannon(1)
    with pytest.raises(ValueError, match=r"quadrants from 1 to 4, got \(0, 1\)"):
        InQuadrants((0, 1))
